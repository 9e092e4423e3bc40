"""Partial fine-tuning: which weights move, in which order blocks run, and what is refused."""

import json

import pytest
import torch
from torch import nn

from seaanchor.adapters.blocks import ordered_blocks
from seaanchor.adapters.last_blocks import LastBlocks
from seaanchor.config.recipes import fare
from seaanchor.config.schema import AdapterConfig
from seaanchor.config.validation import check
from seaanchor.encoders.encoder import Encoder
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError, note
from seaanchor.testing import check_adapter


def timm_encoder(name, size, **changes):
    import timm

    torch.manual_seed(0)
    return Encoder(timm.create_model(name, num_classes=0, **changes).eval(), size)


SMALL_VIT = {"img_size": 32, "patch_size": 16, "embed_dim": 24, "depth": 3, "num_heads": 2}
SMALL_CONVNEXT = {"depths": (1, 2, 1, 2), "dims": (8, 8, 16, 16)}


def moved(encoder, count):
    """Names of what moves, without the tower's own."""
    chosen = {id(p) for p in LastBlocks(count).trainable(encoder)}
    assert chosen == {id(p) for p in encoder.parameters() if p.requires_grad}
    return {name.removeprefix("tower.") for name, p in encoder.named_parameters() if id(p) in chosen}


def under(encoder, *parts):
    """Names of all weights that lie in one of these parts."""
    names = {name.removeprefix("tower.") for name, _ in encoder.named_parameters()}
    return {name for name in names if name in parts or name.startswith(tuple(f"{part}." for part in parts))}


TIMM = {
    "vit": ("vit_tiny_patch16_224", SMALL_VIT, ["blocks.1", "blocks.2", "norm"]),
    "convnext": ("convnext_atto", SMALL_CONVNEXT, ["stages.3.blocks.0", "stages.3.blocks.1", "head.norm"]),
    "resnet": ("resnet10t", {}, ["layer3", "layer4"]),
    "efficientnet": ("tf_efficientnet_lite0", {}, ["blocks.5.3", "blocks.6.0", "conv_head", "bn2"]),
    "regnet": ("regnety_002", {}, ["s4.b6", "s4.b7"]),
}


@pytest.mark.parametrize(("name", "changes", "parts"), TIMM.values(), ids=TIMM)
def test_the_last_two_blocks_of_timm_towers_and_what_comes_after_them_move(name, changes, parts):
    encoder = timm_encoder(name, 32, **changes)
    assert moved(encoder, 2) == under(encoder, *parts)


def test_what_lies_between_two_trained_blocks_moves_as_well():
    encoder = timm_encoder("convnext_atto", 32, **SMALL_CONVNEXT)
    wanted = under(encoder, "stages.2.blocks", "stages.3", "head.norm")  # the last stage with its downsampling
    assert moved(encoder, 3) == wanted and "stages.3.downsample.1.weight" in wanted


def test_blocks_of_open_clip(clip_folder, cut_vocabulary_folder, caplog):
    note.cache_clear()
    encoder = load_model(str(clip_folder)).encoder
    assert moved(encoder, 1) == under(encoder, "transformer.resblocks.1", "ln_post", "proj")
    said = "the last 1 of 2 blocks (2 ResidualAttentionBlock), from tower.transformer.resblocks.1 to"
    assert said in caplog.text and "and what comes after (tower.ln_post, tower.proj): 13,280 of" in caplog.text
    wrapped = load_model(str(cut_vocabulary_folder)).encoder
    assert moved(wrapped, 1) == under(wrapped, "trunk.layer4", "head")
    everything = moved(encoder, 2)
    assert everything == under(encoder, "transformer", "ln_post", "proj") and "conv1.weight" not in everything


def hugging_face(kind):
    import transformers as hf

    from seaanchor.encoders.huggingface.towers import Pooled, Projected

    small = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    small |= {"image_size": 32, "patch_size": 16}
    torch.manual_seed(0)
    if kind == "clip":
        vision = hf.CLIPVisionModel(hf.CLIPVisionConfig(**small))
        return Projected(vision, nn.Linear(24, 16, bias=False)), ["vision_model.post_layernorm", "projection"]
    if kind == "siglip":
        return Pooled(hf.SiglipVisionModel(hf.SiglipVisionConfig(**small))), ["post_layernorm", "head"]
    return Pooled(hf.Dinov2Model(hf.Dinov2Config(**small, mlp_ratio=1))), ["vision_model.layernorm"]


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2"])
def test_blocks_of_hugging_face(kind):
    pytest.importorskip("transformers")
    tower, after = hugging_face(kind)
    encoder = Encoder(tower.eval(), 32)
    blocks = ordered_blocks(encoder)
    assert len(blocks) == 3 and [name.rpartition(".")[-1] for name in blocks] == ["0", "1", "2"]
    names = moved(encoder, 1)
    block = blocks[-1].removeprefix("tower.")
    assert {name for name in names if name.startswith(f"{block}.")} == under(encoder, block)
    others = {name for name in names if not name.startswith(f"{block}.")}
    assert others and all(any(f"{part}." in name for part in after) for name in others)


def test_position_biases_that_all_blocks_share_stay_frozen(caplog):
    shared = timm_encoder("vit_relpos_small_patch16_224", 32, **SMALL_VIT, shared_rel_pos=True)
    note.cache_clear()
    names = moved(shared, 2)
    assert names == under(shared, "blocks.1", "blocks.2", "fc_norm") and "which earlier blocks use, too" in caplog.text


def test_statistics_of_batch_normalisation_do_not_move_and_neither_does_the_rest():
    encoder = timm_encoder("resnet10t", 32)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    optimizer = torch.optim.SGD(LastBlocks(1).trainable(encoder), lr=0.1)
    encoder.train()
    encoder(torch.rand(2, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    changed = {
        name.removeprefix("tower.")
        for name, value in encoder.state_dict().items()
        if not torch.equal(value, before[name])
    }
    # no gradient moves the weights before a norm whose scale starts at 0
    assert changed and changed <= {name for name in under(encoder, "layer4") if "running" not in name}


def test_a_sequential_of_ones_own_and_the_contract():
    for count in (1, 2):
        check_adapter(LastBlocks(count))
    tower = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
    assert moved(Encoder(tower, 32), 1) == {"3.weight", "3.bias"}


class Branches(nn.Module):
    def __init__(self, kind) -> None:
        super().__init__()
        self.stem, self.kind = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.Flatten()), kind
        self.blocks = nn.ModuleList(nn.Linear(128, 128) for _ in range(2))

    def forward(self, pixels):
        x, (first, second) = self.stem(pixels), self.blocks
        return {
            "around": lambda: second(first(x)) + x,
            "twice": lambda: second(first(first(x))),
            "order": lambda: first(second(x)),
            "left": lambda: first(x),
        }[self.kind]()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("around", "in Branches the image reaches the embedding around tower.blocks.1"),
        ("twice", "tower.blocks.0 runs 2 times"),
        ("order", "they run in another order"),
        ("left", "tower.blocks.1 runs 0 times"),
    ],
)
def test_a_tower_whose_blocks_are_no_chain_is_refused_by_name(kind, said):
    encoder = Encoder(Branches(kind), 32)
    asked = [p.requires_grad for p in encoder.parameters()]
    with pytest.raises(SeaAnchorError, match=said):
        LastBlocks(1).trainable(encoder)
    assert [p.requires_grad for p in encoder.parameters()] == asked


def test_unknown_towers_and_wrong_numbers_are_refused():
    with pytest.raises(SeaAnchorError, match="not known where DenseNet has its blocks"):
        LastBlocks(1).trainable(timm_encoder("densenet121", 32))
    with pytest.raises(SeaAnchorError, match="last_blocks is 5, but VisionTransformer has 3 blocks"):
        LastBlocks(5).trainable(timm_encoder("vit_tiny_patch16_224", 32, **SMALL_VIT))
    for count in (None, 0, -1):
        with pytest.raises(SeaAnchorError, match="at least 1"):
            LastBlocks(count)


def test_the_number_alone_is_enough_and_goes_with_no_other_adapter(tiny_run):
    assert AdapterConfig(last_blocks=2) == AdapterConfig("last_blocks", last_blocks=2)
    check(tiny_run(fare(), adapter=AdapterConfig(last_blocks=2)))
    for kind in ("lora", "linear"):
        with pytest.raises(SeaAnchorError, match=f"last_blocks 2 with adapter {kind}|adapter linear with"):
            check(tiny_run(fare(), adapter=AdapterConfig(kind, last_blocks=2)))
    with pytest.raises(SeaAnchorError, match=r"adapter\.last_blocks is 0"):
        check(tiny_run(fare(), adapter=AdapterConfig(last_blocks=0)))
    with pytest.raises(SeaAnchorError, match="last_blocks with no blocks"):
        check(tiny_run(fare(), adapter=AdapterConfig("last_blocks")))


def test_a_run_exports_the_whole_model_and_resumes(run, tiny_run, clip_folder, tmp_path):
    """By the command line: the export loads as an OpenCLIP folder, and only the last block and what follows changed."""
    from safetensors.torch import load_file

    data = tiny_run(fare()).train_data
    common = [
        "train",
        "lore",
        "--model",
        clip_folder,
        "--train-data",
        data,
        "--adapter.last-blocks",
        1,
        "--batch-size",
        3,
    ]
    common += ["--perturbation.num-steps", 1, "--lr", 0.01, "--device", "cpu", "--log-every", 1, "--save-every", 1]
    code, _, errors = run(*common, "--output", tmp_path / "whole")
    assert code == 0 and "trains the last 1 of 2 blocks" in errors
    before = load_file(clip_folder / "open_clip_model.safetensors")
    after = load_file(tmp_path / "whole/export/open_clip_model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(
        name.startswith(("visual.transformer.resblocks.1.", "visual.ln_post.", "visual.proj")) for name in changed
    )
    rows = [json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == len(rows)
    for late in sorted((tmp_path / "whole/checkpoints").glob("*"))[2:]:
        late.unlink()
    code, _, _ = run(*common, "--output", tmp_path / "whole", "--resume", "auto")
    assert code == 0
    again = load_file(tmp_path / "whole/export/open_clip_model.safetensors")
    assert all(torch.equal(again[name], after[name]) for name in after)
