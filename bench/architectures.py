"""Steps counted on fourteen towers of five libraries' making, beside what closed forms say (`bench.towers`).

Towers have shapes and no weights, and nothing is computed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from bench import towers
from bench.frame import Bar, Measurement
from seaanchor.config.assemble import assemble
from seaanchor.config.recipes import dpo, fare, lore
from seaanchor.config.schema import RunConfig
from seaanchor.encoders.encoder import Encoder
from seaanchor.profiling.cost_model import step_work
from seaanchor.profiling.flops import Tower, least_operations

IMAGES = 2  # of a step; its operations are a multiple of them


@dataclass(frozen=True)
class Architecture:
    """A tower as its library makes it, and its closed form.

    Attributes:
        make: the tower; called where tensors have no contents.
        closed: its operations on paper.
        dim: of its embedding.
        image_size: side of its images.
    """

    make: Callable[[], nn.Module]
    closed: Tower
    dim: int
    image_size: int = 224

    def encoder(self) -> Encoder:
        """The tower with memory that is never touched."""
        with torch.device("meta"):
            tower = self.make()
        return Encoder(tower.to_empty(device="cpu"), self.image_size, self.dim).eval()


def _timm(name: str, closed: Tower, dim: int, image_size: int = 224, **options: object) -> Architecture:
    def make() -> nn.Module:
        import timm

        return timm.create_model(name, num_classes=0, **options)

    return Architecture(make, closed, dim, image_size)


def _open_clip(name: str, closed: Tower, dim: int) -> Architecture:
    def make() -> nn.Module:
        import open_clip
        from open_clip.model import _build_vision_tower

        config = open_clip.get_model_config(name)
        return _build_vision_tower(config["embed_dim"], config["vision_cfg"])

    return Architecture(make, closed, dim)


def _hugging_face() -> Architecture:
    def make() -> nn.Module:
        from transformers import Dinov2Config, Dinov2Model

        sizes = {"hidden_size": 384, "num_attention_heads": 6, "image_size": 224, "patch_size": 14}
        return _Pooled(Dinov2Model(Dinov2Config(**sizes)))

    return Architecture(make, towers.vit(12, 257, 384, 14), 384)


class _Pooled(nn.Module):
    """A transformer of Hugging Face whose embedding is its first token."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        return self.model(pixels_BCHW).last_hidden_state[:, 0]


ARCHITECTURES = {
    "ViT-B-32": _open_clip("ViT-B-32", towers.vit(12, 50, 768, 32, extra=768 * 512, class_token="queries"), 512),
    "RN50": _open_clip("RN50", towers.clip_resnet50(), 1024),
    "vit_small_patch16_224": _timm(
        "vit_small_patch16_224", towers.vit(12, 197, 384, 16, class_token="projections"), 384
    ),
    "vit_base_patch16_siglip_224": _timm("vit_base_patch16_siglip_224", towers.siglip_base(), 768),
    "vit_small_patch14_reg4_dinov2": _timm(
        "vit_small_patch14_reg4_dinov2", towers.vit(12, 261, 384, 14, class_token="projections"), 384, img_size=224
    ),
    "deit_tiny_distilled_patch16_224": _timm("deit_tiny_distilled_patch16_224", towers.vit(12, 198, 192, 16), 192),
    "eva02_tiny_patch14_224": _timm("eva02_tiny_patch14_224", towers.vit(12, 257, 192, 14, hidden=3 * 512 // 2), 192),
    "Dinov2Model": _hugging_face(),
    "convnext_tiny": _timm("convnext_tiny", towers.convnext_tiny(), 768),
    "swin_tiny_patch4_window7_224": _timm("swin_tiny_patch4_window7_224", towers.swin_tiny(), 768),
    "resnet50": _timm("resnet50", towers.resnet50(), 2048),
    "tf_efficientnet_lite0": _timm("tf_efficientnet_lite0", towers.efficientnet_lite0(128), 1280, 128),
    "mobilenetv3_large_100": _timm("mobilenetv3_large_100", towers.mobilenet_v3_large(), 1280),
    "regnetx_002": _timm("regnetx_002", towers.regnet_x_200mf(), 368),
}
RECIPES: dict[str, Callable[[], RunConfig]] = {"FARE": fare, "LORE": lore, "DPO": dpo}


def counted(architecture: Architecture, recipe: RunConfig) -> tuple[float, int]:
    """Operations of a step, an image: counted, and by formula."""
    encoder, config = architecture.encoder(), replace(recipe, batch_size=IMAGES)
    method = assemble(config, encoder.dim, ("one", "another"), encoder.image_size)
    formula = least_operations(config, method.needs, True, architecture.closed)
    assert formula is not None, "the recipes train the whole tower"
    return step_work(config, encoder, method, 2, cached=True).total / IMAGES, formula


def architectures() -> Measurement:
    """The largest factor between count and formula."""
    details = {}
    for name, architecture in ARCHITECTURES.items():
        for recipe, make in RECIPES.items():
            count, formula = counted(architecture, make())
            details[f"{name}, {recipe}"] = {"GFLOP": count / 1e9, "formula": formula / 1e9, "ratio": count / formula}
    off = {name: max(row["ratio"], 1 / row["ratio"]) for name, row in details.items()}
    worst = max(off, key=off.__getitem__)
    note = f"{len(ARCHITECTURES)} towers, {', '.join(RECIPES)}; furthest off: {worst}"
    return Measurement(off[worst], details=details, note=note)


BARS = [
    Bar(
        "architectures-flops",
        "steps on fourteen towers: FLOPs counted / formula, off by a factor of",
        architectures,
        at_most=1.03,
        aim=1.01,
    )
]
