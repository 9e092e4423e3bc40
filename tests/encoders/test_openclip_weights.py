"""OpenCLIP weights from files of other people's code, and an image tower's file over another's text side."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from seaanchor.encoders.load import load_model
from seaanchor.encoders.openclip_tags import quick_gelu_of_file, tag_values
from seaanchor.encoders.pretrained import Pretrained, brings_weights, split_pretrained
from seaanchor.errors import SeaAnchorError, note

TOWERS = ("tiny-vit", "tiny-quickgelu", "tiny-custom", "tiny-resnet")
CASES = [*TOWERS[:2], *(pytest.param(name, marks=pytest.mark.exhaustive) for name in TOWERS[2:])]
PIXELS = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
TEXTS = ["a cat", "two dogs"]


@pytest.fixture(autouse=True)
def _fresh_notes():
    note.cache_clear()


def model_of(name: str, seed: int):
    import open_clip

    torch.manual_seed(seed)
    return open_clip.create_model(name).eval()


def fare(model, path: Path) -> None:
    """As RobustVLM's training writes its checkpoints: the image tower's state dict, and nothing else."""
    torch.save(model.visual.state_dict(), path)


class Prompter(nn.Module):
    """Tokens that the image tower is prompted with; of length 0 where none are."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.prompt = nn.Parameter(torch.randn(1, length, 768))


def tecoa(model, path: Path, prompts: int = 0) -> None:
    """As TeCoA's training writes its checkpoints: two prompters in data-parallel wrappers, the image tower, the best
    accuracy as numpy's mean, and the optimizer."""
    optimizer = torch.optim.SGD(model.visual.parameters(), 0.1, momentum=0.9)
    sum(p.sum() for p in model.visual.parameters()).backward()
    optimizer.step()
    optimizer.zero_grad()
    state = {
        "epoch": 1,
        "state_dict": nn.DataParallel(nn.Identity()).state_dict(),
        "add_prompter": nn.DataParallel(Prompter(prompts)).state_dict(),
        "vision_encoder_state_dict": model.visual.state_dict(),
        "best_acc1": np.mean([1.0, 2.0]),
        "optimizer": optimizer.state_dict(),
    }
    torch.save(state, path)


def visual_keys(model, path: Path) -> None:
    torch.save({k: v for k, v in model.state_dict().items() if k.startswith("visual.")}, path)


def wrapped(model, path: Path) -> None:
    torch.save({"model": {f"module.{k}": v for k, v in model.visual.state_dict().items()}}, path)


def compiled(model, path: Path) -> None:
    save_file({f"_orig_mod.visual.{k}": v.contiguous() for k, v in model.visual.state_dict().items()}, path)


IMAGE_FILES = {"fare.pt": fare, "tecoa.pth.tar": tecoa, "visual.pt": visual_keys, "wrapped.pt": wrapped}
IMAGE_FILES["compiled.safetensors"] = compiled


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("file", IMAGE_FILES)
def test_an_image_towers_file_over_the_named_text_side(architectures, tmp_path, name, file, caplog):
    base, hardened = model_of(name, 1), model_of(name, 2)
    torch.save(base.state_dict(), tmp_path / "base.pt")
    IMAGE_FILES[file](hardened, tmp_path / file)
    found = load_model(name, f"{tmp_path / 'base.pt'}+{tmp_path / file}")
    base.visual.load_state_dict(hardened.visual.state_dict())  # as the authors' own evaluation does
    import open_clip

    with torch.no_grad():
        normalised = (PIXELS - found.encoder.mean) / found.encoder.std
        torch.testing.assert_close(found.encoder(PIXELS), base.encode_image(normalised), rtol=1e-5, atol=1e-6)
        texts = base.encode_text(open_clip.get_tokenizer(name)(TEXTS))
    torch.testing.assert_close(found.encode_texts(TEXTS), texts, rtol=1e-5, atol=1e-6)
    assert f"the image tower is that of {tmp_path / file}, the text side that of {tmp_path / 'base.pt'}" in caplog.text


def test_an_image_tower_over_a_tag(architectures, tmp_path, monkeypatch):
    """What a tag gives is fetched as always; the file replaces its image tower alone, and QuickGELU is the tag's."""
    import open_clip

    base, hardened = model_of("tiny-quickgelu", 1), model_of("tiny-quickgelu", 2)
    fare(hardened, tmp_path / "fare.pt")
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda name: ["tag"])
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, tag: {"quick_gelu": True} if tag else {})
    real = open_clip.create_model

    def fetched(name, pretrained=None, **settings):
        model = real(name, **settings)
        if pretrained == "tag":
            model.load_state_dict(base.state_dict())
        return model

    monkeypatch.setattr(open_clip, "create_model", fetched)
    found = load_model("tiny-vit", f"tag+{tmp_path / 'fare.pt'}")
    with torch.no_grad():
        expected = hardened.encode_image((PIXELS - found.encoder.mean) / found.encoder.std)
    torch.testing.assert_close(found.encoder(PIXELS), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(found.module.token_embedding.weight, base.token_embedding.weight)
    with pytest.raises(SeaAnchorError) as caught:
        load_model("tiny-vit", str(tmp_path / "fare.pt"))
    assert "holds an image tower, and no text side" in caught.value.found
    assert f"--pretrained tag+{tmp_path / 'fare.pt'}" in caught.value.change


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("file", IMAGE_FILES)
def test_an_image_tower_alone_is_never_completed_at_random(architectures, tmp_path, name, file):
    IMAGE_FILES[file](model_of(name, 1), tmp_path / file)
    with pytest.raises(SeaAnchorError, match="holds an image tower, and no text side") as caught:
        load_model(name, str(tmp_path / file))
    assert f"TEXT_SIDE_FILE+{tmp_path / file}" in caught.value.change


def test_prompts_beside_an_image_tower_are_told(architectures, tmp_path, caplog):
    tecoa(model_of("tiny-vit", 1), tmp_path / "tecoa.pth.tar", prompts=5)
    load_model("tiny-vit", f"none+{tmp_path / 'tecoa.pth.tar'}")
    assert "took vision_encoder_state_dict, not add_prompter" in caplog.text


def test_an_image_tower_over_a_folder(clip_folder, tmp_path):
    base = load_model(str(clip_folder))
    state = {key: value + 0.01 for key, value in base.module.visual.state_dict().items()}
    torch.save(state, tmp_path / "fare.pt")
    found = load_model(str(clip_folder), f"+{tmp_path / 'fare.pt'}")
    assert all(torch.equal(found.module.visual.state_dict()[key], value) for key, value in state.items())
    assert torch.equal(found.encode_texts(TEXTS), base.encode_texts(TEXTS))


def test_an_image_tower_of_another_size_is_resampled_as_open_clip_does(architectures, tmp_path):
    import open_clip

    hardened = model_of("tiny-vit", 2)
    fare(hardened, tmp_path / "fare.pt")
    torch.save(hardened.state_dict(), tmp_path / "whole.pt")
    found = load_model("tiny-vit", f"none+{tmp_path / 'fare.pt'}", image_size=64)
    theirs = open_clip.create_model("tiny-vit", pretrained=str(tmp_path / "whole.pt"), force_image_size=64)
    assert all(
        torch.equal(a, b) for a, b in zip(found.module.visual.parameters(), theirs.visual.parameters(), strict=True)
    )


def test_weights_of_another_size_are_told_where_no_size_was_asked_for(architectures, tmp_path, caplog):
    import open_clip

    other = open_clip.create_model("tiny-vit", force_image_size=64)
    torch.save(other.state_dict(), tmp_path / "w.pt")
    load_model("tiny-vit", str(tmp_path / "w.pt"))
    assert "position embeddings resampled from 8 x 8 to 4 x 4" in caplog.text


def test_timm_towers_are_resized_when_their_weights_are_in(architectures, tmp_path):
    """Whole files and image towers' files alike, at the size that they were saved at, as open_clip does."""
    import open_clip

    name = "tiny-timm-vit"
    vision = {"timm_model_name": "test_vit", "timm_pool": "", "image_size": 160}
    text = {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
    (tmp_path / f"{name}.json").write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(tmp_path)
    torch.save(model_of(name, 2).state_dict(), tmp_path / "whole.pt")
    fare(model_of(name, 2), tmp_path / "fare.pt")
    theirs = open_clip.create_model(name, pretrained=str(tmp_path / "whole.pt"), force_image_size=80).eval()
    for weights in (str(tmp_path / "whole.pt"), f"none+{tmp_path / 'fare.pt'}"):
        found = load_model(name, weights, image_size=80)
        assert found.encoder.image_size == found.encoder.preprocessing.size == 80
        ours, expected = (m.state_dict() for m in (found.module.visual, theirs.visual))
        assert all(torch.equal(ours[key], value) for key, value in expected.items())


def test_the_logit_scale_comes_with_the_tower_where_the_file_has_one(architectures, tmp_path):
    model = model_of("tiny-vit", 2)
    state = {k: v for k, v in model.state_dict().items() if k.startswith("visual.")}
    torch.save(state | {"logit_scale": torch.tensor([3.0])}, tmp_path / "w.pt")
    assert load_model("tiny-vit", f"none+{tmp_path / 'w.pt'}").logit_scale == pytest.approx(np.exp(3.0))


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-custom"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_openai_like_weights_hold_sizes_and_a_text_tower_without_prefix(architectures, tmp_path, name, prefix):
    """OpenAI's state dict: sizes beside the weights, fp16, and no `text.` before the text tower's names."""
    plain = model_of("tiny-vit", 1)
    state = {prefix + key: value.half() for key, value in plain.state_dict().items()}
    sizes = {"input_resolution": 32, "context_length": 20, "vocab_size": 49408}
    torch.save(state | {prefix + key: torch.tensor(value) for key, value in sizes.items()}, tmp_path / "w.pt")
    found = load_model(name, str(tmp_path / "w.pt"))
    assert {p.dtype for p in found.module.parameters()} == {torch.float32}
    own = found.module.state_dict()
    for key, value in plain.state_dict().items():
        assert torch.equal(own.get(key, own.get(f"text.{key}")), value.half().float())


@pytest.mark.parametrize(
    "file",
    [
        "open_clip_model.safetensors",
        "open_clip_pytorch_model.bin",
        "model.safetensors",
        "pytorch_model.bin",
        "epoch_32.pt",
        "checkpoint.pth",
    ],
)
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_a_folders_weights_under_any_name_and_prefix(clip_folder, tmp_path, file, prefix):
    shutil.copy(clip_folder / "open_clip_config.json", tmp_path)
    base = load_model(str(clip_folder))
    state = {prefix + key: value.contiguous() for key, value in base.module.state_dict().items()}
    if file.endswith(".safetensors"):
        save_file(state, tmp_path / file)
    else:
        torch.save({"epoch": 32, "state_dict": state} if file.endswith(".pt") else state, tmp_path / file)
    assert torch.equal(load_model(str(tmp_path)).encoder(PIXELS), base.encoder(PIXELS))


def test_a_folder_of_several_files_is_not_guessed_from(clip_folder, tmp_path):
    shutil.copy(clip_folder / "open_clip_config.json", tmp_path)
    for name in ("epoch_1.pt", "epoch_2.pt"):
        torch.save(load_model(str(clip_folder)).module.state_dict(), tmp_path / name)
    with pytest.raises(SeaAnchorError, match=r"several files of weights: epoch_1.pt, epoch_2.pt") as caught:
        load_model(str(tmp_path))
    assert "rename the right one open_clip_model.pt" in caught.value.change
    (tmp_path / "epoch_2.pt").unlink()
    (tmp_path / "epoch_1.pt").rename(tmp_path / "open_clip_model.pt")
    load_model(str(tmp_path))


def test_a_folder_with_an_image_tower_alone(clip_folder, tmp_path):
    shutil.copy(clip_folder / "open_clip_config.json", tmp_path)
    fare(load_model(str(clip_folder)).module, tmp_path / "open_clip_pytorch_model.bin")
    with pytest.raises(SeaAnchorError, match="holds an image tower, and no text side") as caught:
        load_model(str(tmp_path))
    assert f"BASE+{tmp_path / 'open_clip_pytorch_model.bin'}" in caught.value.change


def test_a_folder_with_a_head_too_many_or_too_few(clip_folder, tmp_path):
    state = load_model(str(clip_folder)).module.state_dict()
    for changed, words in (
        ({k: v for k, v in state.items() if k != "text_projection"}, "1 of .* keys missing .text_projection."),
        (state | {"visual.extra.weight": torch.ones(2)}, "1 of .* keys that the model has not .visual.extra.weight."),
    ):
        shutil.copy(clip_folder / "open_clip_config.json", tmp_path)
        torch.save(changed, tmp_path / "open_clip_pytorch_model.bin")
        with pytest.raises(SeaAnchorError, match=words):
            load_model(str(tmp_path))


def test_what_would_be_ignored_is_refused(clip_folder, hf_folder, tmp_path):
    fare(load_model(str(clip_folder)).module, tmp_path / "fare.pt")
    for name in (str(clip_folder), "seaanchor-tiny", f"hf:{hf_folder}", f"local-dir:{clip_folder}"):
        for weights in ("openai", "none", str(tmp_path / "fare.pt")):
            with pytest.raises(SeaAnchorError, match="brings its own weights"):
                load_model(name, weights)
    with pytest.raises(SeaAnchorError, match="is not OpenCLIP's"):
        load_model("timm:resnet10t", f"none+{tmp_path / 'fare.pt'}")
    with pytest.raises(SeaAnchorError, match=r"missing.pt in pretrained='openai\+missing.pt' is no file"):
        load_model("ViT-B-32", "openai+missing.pt")


def test_base_and_file_are_parted_where_a_file_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a+b.pt", "c.pt", "d#e.pt"):
        Path(name).write_bytes(b"x")
    assert split_pretrained("a+b.pt") == Pretrained("a+b.pt")
    assert split_pretrained("openai+a+b.pt") == Pretrained("openai", "a+b.pt")
    assert split_pretrained("a+b.pt+c.pt") == Pretrained("a+b.pt", "c.pt")
    assert split_pretrained("openai+c.pt#model") == Pretrained("openai", "c.pt#model")
    assert split_pretrained("+c.pt") == Pretrained(None, "c.pt")
    assert split_pretrained(None) == Pretrained(None)
    assert brings_weights("hf:openai/clip") and brings_weights("seaanchor-tiny") and brings_weights(".")
    assert not brings_weights("ViT-B-32") and not brings_weights("timm:resnet10t")


QUICK = (
    ["RN50", "RN101", "RN50x4", "RN50x16", "RN50x64", "ViT-L-14-336", "ViT-H-14-378", "ViT-H-14-worldwide"],
    ["ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-H-14", "ViT-bigG-14"],
)


def test_quick_gelu_of_weights_from_a_file(caplog):
    """Of the 13 names with QuickGELU tags, 8 agree; for the others a line says what was assumed."""
    import open_clip

    found = {name for name in open_clip.list_models() if any(tag_values(name, "quick_gelu", False).of.values())}
    assert found >= {*QUICK[0], *QUICK[1]}
    assert all(quick_gelu_of_file(name) for name in QUICK[0])
    assert all(quick_gelu_of_file(f"{name}-quickgelu") for name in found if f"{name}-quickgelu" in found)
    assert not caplog.records
    assert not quick_gelu_of_file("ViT-SO400M-14-SigLIP")
    assert not caplog.records
    for name in QUICK[1]:
        assert not quick_gelu_of_file(name)
        assert f"name {name}-quickgelu for them" in caplog.text
    assert tag_values("no-such-model", "quick_gelu").agreed is None


def test_all_tags_quick_gelu_builds_the_tower_with_it(architectures, tmp_path, monkeypatch):
    import open_clip

    torch.save(model_of("tiny-vit", 1).state_dict(), tmp_path / "w.pt")
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda name: ["a", "b"])
    real = open_clip.get_pretrained_cfg("ViT-B-32", "openai")
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, tag: real | {"quick_gelu": True})
    found = load_model("tiny-vit", str(tmp_path / "w.pt"))
    assert found.export_config["model_cfg"]["quick_gelu"] is True
    assert "QuickGELU" in {type(module).__name__ for module in found.encoder.modules()}
    monkeypatch.undo()
    plain = load_model("tiny-quickgelu", str(tmp_path / "w.pt"))
    assert torch.equal(found.encoder(PIXELS), plain.encoder(PIXELS))


def test_a_blank_tokenizer_in_a_folder_is_refused(clip_folder, tmp_path):
    """transformers gives a tokenizer of two tokens for a folder without tokenizer files."""
    folder = tmp_path / "model"
    shutil.copytree(clip_folder, folder)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "."
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    with pytest.raises(SeaAnchorError, match=r"the tokenizer of .* the same tokens|the tokenizer of .* could not be"):
        load_model(str(folder))
