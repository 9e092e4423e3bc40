"""Tokens: each family's, held against what its own library gives, and against what one patch of pixels can reach."""

import open_clip.transformer
import pytest
import timm
import torch
import transformers
from torch import nn

from seaanchor.encoders.encoder import Encoder, with_library_embedding, with_tokens
from seaanchor.encoders.huggingface import towers
from seaanchor.encoders.load import load_model
from seaanchor.encoders.own_module import from_encoder
from seaanchor.errors import SeaAnchorError

HF = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}
SMALL = {"img_size": 32, "patch_size": 8, "depth": 1, "embed_dim": 16, "num_heads": 2, "num_classes": 0}


def open_clip_vit(**changes):
    torch.manual_seed(0)
    sizes = {"image_size": 32, "patch_size": 8, "width": 16, "layers": 1, "heads": 2, "mlp_ratio": 2, "output_dim": 12}
    return open_clip.transformer.VisionTransformer(**sizes | changes).eval()


def timm_vit(name="vit_tiny_patch16_224", **changes):
    torch.manual_seed(0)
    return timm.create_model(name, **SMALL | changes).eval()


def huggingface_vit(kind, **changes):
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**HF | changes)
    return getattr(transformers, f"{kind}Model")(config).eval()


def huggingface_classifier(kind):
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**HF)
    return getattr(transformers, f"{kind}ForImageClassification")(config).eval()


VITS = {
    "open_clip": open_clip_vit,
    "timm": timm_vit,
    "timm registers": lambda: timm_vit(reg_tokens=4),
    "timm without class token": lambda: timm_vit("vit_base_patch16_siglip_224"),
    "eva": lambda: timm_vit("eva02_tiny_patch14_224", depth=1),
    "clip": lambda: huggingface_vit("CLIPVision"),
    "siglip": lambda: huggingface_vit("SiglipVision"),
    "dinov2": lambda: huggingface_vit("Dinov2"),
    "dinov2 registers": lambda: huggingface_vit("Dinov2WithRegisters"),
    "dinov3": lambda: huggingface_vit("DINOv3ViT"),
    "vit": lambda: huggingface_vit("ViT"),
    "siglip2": lambda: towers.Packed(huggingface_vit("Siglip2Vision", num_patches=16), 8),
    "clip projected": lambda: towers.Projected(huggingface_vit("CLIPVision"), nn.Linear(16, 4)),
    "vit class token": lambda: towers.ClassToken(huggingface_vit("ViT")),
    "vit classifier": lambda: towers.ClassifierInput(huggingface_classifier("ViT")),
    "dinov2 classifier": lambda: towers.ClassifierInput(huggingface_classifier("Dinov2")),
}


def images(side=32, count=2):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def without_mixing(tower: nn.Module) -> nn.Module:
    """The tower with every block's output at 0, so that a token knows its own patch alone."""
    for name, module in tower.named_modules():
        if isinstance(module, nn.Linear) and not any(kept in name for kept in ("head", "pool", "patch_embedding")):
            module.weight.zero_()
    for name, parameter in tower.named_parameters():
        if "in_proj_weight" in name:
            parameter.zero_()
    return tower


@pytest.mark.parametrize("name", VITS)
def test_token_t_is_the_patch_of_row_and_column_t(name):
    tower = without_mixing(VITS[name]())
    encoder = Encoder(tower, 32, tokens="patches")
    assert encoder.grid == (4, 4) and encoder.dim == tower_width(encoder)
    with torch.no_grad():
        before = encoder(images())
        for row, column in ((0, 0), (1, 2), (3, 1)):
            changed = images()
            changed[:, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 0.5 * torch.rand(2, 3, 8, 8)
            moved = (encoder(changed) - before).abs().amax((0, 2)) > 1e-6
            assert moved.nonzero().flatten().tolist() == [4 * row + column]


def tower_width(encoder):
    return encoder(images()).shape[-1]


@pytest.mark.parametrize("name", VITS)
def test_the_mean_is_that_of_the_patches(name):
    tower = VITS[name]()
    with torch.no_grad():
        patches, mean = (Encoder(tower, 32, tokens=tokens)(images()) for tokens in ("patches", "mean"))
    assert patches.shape[:2] == (2, 16)
    assert torch.equal(mean, patches.mean(1))


def test_open_clip_gives_the_same_tokens():
    tower = open_clip_vit()
    with torch.no_grad():
        ours = {tokens: Encoder(tower, 32, tokens=tokens)(images()) for tokens in ("class", "patches")}
        assert torch.equal(ours["class"] @ tower.proj, tower(images()))
        tower.output_tokens = True
        assert torch.equal(ours["patches"], tower(images())[1])


def test_open_clip_with_its_norm_after_pooling():
    tower = open_clip_vit(final_ln_after_pool=True)
    with torch.no_grad():
        assert torch.allclose(Encoder(tower, 32, tokens="class")(images()) @ tower.proj, tower(images()), atol=1e-6)


@pytest.mark.parametrize(
    "name",
    ["timm", "timm registers", "clip", "dinov2", "dinov2 registers", "dinov3", "vit class token", "vit classifier"],
)
def test_the_class_token_is_the_librarys_own_embedding(name):
    tower = VITS[name]()
    with torch.no_grad():
        theirs = tower(images())
        theirs = theirs if isinstance(theirs, torch.Tensor) else theirs.pooler_output
        assert torch.equal(Encoder(tower, 32, tokens="class")(images()), theirs)


def test_timm_dinov3_pools_its_patches():
    tower = timm_vit("vit_small_patch16_dinov3")
    with torch.no_grad():
        assert torch.allclose(Encoder(tower, 32, tokens="mean")(images()), tower(images()), atol=1e-6)


@pytest.mark.parametrize("name", ["resnet10t", "tf_efficientnet_lite0", "swin_tiny_patch4_window7_224"])
def test_the_mean_of_a_map_is_what_such_towers_pool(name):
    sizes = {"img_size": 64, "embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2), "window_size": 8}
    torch.manual_seed(0)
    tower = timm.create_model(name, num_classes=0, **sizes if "swin" in name else {}).eval()
    encoder = Encoder(tower, 64, tokens="patches")
    with torch.no_grad():
        cells = encoder(images(64))
        assert torch.allclose(cells.mean(1), tower(images(64)), atol=1e-5)
        found = tower.forward_features(images(64))
    rows, columns = encoder.grid
    theirs = found if "swin" in name else found.permute(0, 2, 3, 1)
    assert torch.allclose(cells.unflatten(1, (rows, columns)), theirs, atol=1e-6)


def test_open_clips_resnet():
    torch.manual_seed(0)
    tower = open_clip.modified_resnet.ModifiedResNet((1, 1, 1, 1), 8, 2, image_size=64, width=8).eval()
    encoder = Encoder(tower, 64, tokens="patches")
    with torch.no_grad():
        map_BCHW = encoder(images(64)).transpose(1, 2).unflatten(2, encoder.grid)
        assert torch.allclose(tower.attnpool(map_BCHW), tower(images(64)), atol=1e-6)


@pytest.mark.parametrize("name", ["resnet10t", "vit_base_patch16_siglip_224"])
def test_a_class_token_that_is_not_there_is_refused_by_name(name):
    tower = timm.create_model(name, num_classes=0) if "resnet" in name else timm_vit(name)
    with pytest.raises(SeaAnchorError, match=f"{type(tower).__name__} has no class token.*\n.*mean or patches"):
        Encoder(tower, 32, tokens="class")


def test_towers_whose_tokens_are_not_known_are_refused_by_name():
    torch.manual_seed(0)
    levit = timm.create_model("levit_128s", num_classes=0)
    coca = open_clip_vit(attentional_pool=True, attn_pooler_heads=2, output_dim=16)
    mobile = huggingface_vit("Dinov2")
    mobile.__class__ = type("OtherModel", (transformers.PreTrainedModel,), {})
    resnet = towers.ClassifierInput(
        transformers.ResNetForImageClassification(
            transformers.ResNetConfig(hidden_sizes=[8, 8], depths=[1, 1], embedding_size=8)
        )
    )
    with pytest.raises(SeaAnchorError, match="not known where ResNetModel"):
        Encoder(resnet, 32, tokens="patches")
    for tower, name, side in ((levit, "Levit", 224), (coca, "VisionTransformer", 32), (mobile, "OtherModel", 32)):
        with pytest.raises(SeaAnchorError, match=f"not known where {name}"):
            Encoder(tower, side, tokens="patches")
    with pytest.raises(SeaAnchorError, match="not known where Sequential"):
        Encoder(nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), 2, tokens="mean")
    with pytest.raises(SeaAnchorError, match=r"'cls'.*\n.*class, mean, patches"):
        Encoder(timm_vit(), 32, tokens="cls")


class Grid(nn.Module):
    """Returns its patch tokens itself."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 5, 4, 4)

    def forward(self, pixels):
        return self.embed(pixels).flatten(2).transpose(1, 2)


def test_a_module_that_returns_tokens_itself(tmp_path):
    from seaanchor.encoders.own_module import load_encoder
    from seaanchor.export.folder import export_model

    torch.manual_seed(0)
    encoder = Encoder(Grid(), 8, tokens="patches")
    assert encoder.grid == (2, 2) and encoder.dim == 5
    model = from_encoder(encoder)
    export_model(model, tmp_path)
    again = load_encoder(tmp_path, Grid())
    assert again.tokens == "patches" and torch.equal(again(images(8)), encoder(images(8)))
    with pytest.raises(SeaAnchorError, match="has no class token"):
        Encoder(Grid(), 8, tokens="class")
    with pytest.raises(SeaAnchorError, match="patch tokens and has encode_texts"):
        from_encoder(encoder, encode_texts=lambda texts: torch.zeros(len(texts), 5))


@pytest.fixture(params=["open_clip", "hf", "embedded"])
def name(request):
    if request.param == "embedded":
        return "seaanchor-tiny"
    folder = request.getfixturevalue("clip_folder" if request.param == "open_clip" else "hf_folder")
    return f"hf:{folder}" if request.param == "hf" else str(folder)


def test_a_loaded_model_keeps_weights_and_gives_tokens(name):
    plain, dense = load_model(name), load_model(name, tokens="patches")
    assert dense.encoder.tokens == "patches" and dense.encode_texts is None and plain.encode_texts is not None
    pixels = images(dense.encoder.image_size)
    with torch.no_grad():
        assert dense.encoder(pixels).shape == (2, dense.encoder.grid[0] * dense.encoder.grid[1], dense.encoder.dim)
        back = with_library_embedding(dense)
        assert back.encoder.tokens is None and torch.equal(back.encoder(pixels), plain.encoder(pixels))
    assert with_tokens(plain, None) is plain
    ours = {id(parameter) for parameter in dense.encoder.parameters()}
    assert ours <= {
        id(parameter) for parameter in dense.module.parameters()
    }  # one set of weights, trained and exported


def test_weights_that_are_not_read_ask_for_no_gradient(clip_folder):
    encoder = load_model(str(clip_folder), tokens="patches").encoder
    encoder.requires_grad_(True)
    asleep = {name for name, parameter in encoder.named_parameters() if not parameter.requires_grad}
    assert asleep == {"tower.tower.proj"}
    encoder(images()).square().sum().backward()
    assert {name for name, parameter in encoder.named_parameters() if parameter.grad is None} == asleep


def test_embeddings_of_length_one_are_so_for_each_token():
    encoder = Encoder(timm_vit(), 32, tokens="patches")
    encoder.unit = True
    assert torch.allclose(encoder(images()).norm(dim=-1), torch.ones(2, 16), atol=1e-6)
