"""Which models of transformers are known, by the class in `architectures` and by `model_type`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from seaanchor.encoders.huggingface.towers import ClassifierInput, ClassToken, Packed, Pooled, Projected
from seaanchor.errors import SeaAnchorError


@dataclass(frozen=True)
class Family:
    """How one class of transformers becomes an encoder.

    Attributes:
        model_type: of its configuration.
        tower: its image tower, of the model.
        texts: how its text side reads: `end` up to the end token, `padded` all tokens with the padding.
        any_size: whether it takes images of other sizes without being told how.
        unread: parts of the names of weights that no embedding passes.
    """

    model_type: str
    tower: Callable[[Any], nn.Module]
    texts: Literal["end", "padded"] | None = None
    any_size: bool = False
    unread: tuple[str, ...] = ()

    @property
    def classifies(self) -> bool:
        """Whether it has a classifier of its own."""
        return self.tower is ClassifierInput


MASK = ("embeddings.mask_token",)  # stands for patches that pre-training hides
FAMILIES = {
    "CLIPModel": Family("clip", lambda model: Projected(model.vision_model, model.visual_projection), "end"),
    "CLIPVisionModel": Family("clip_vision_model", Pooled),
    "CLIPVisionModelWithProjection": Family(
        "clip_vision_model", lambda model: Projected(model.vision_model, model.visual_projection)
    ),
    "SiglipModel": Family("siglip", lambda model: Pooled(model.vision_model), "padded"),
    "SiglipVisionModel": Family("siglip_vision_model", Pooled),
    "Siglip2Model": Family(
        "siglip2", lambda model: Packed(model.vision_model, model.config.vision_config.patch_size), "padded", True
    ),
    "Siglip2VisionModel": Family(
        "siglip2_vision_model", lambda model: Packed(model, model.config.patch_size), any_size=True
    ),
    "Dinov2Model": Family("dinov2", Pooled, any_size=True, unread=MASK),
    "Dinov2WithRegistersModel": Family("dinov2_with_registers", Pooled, any_size=True, unread=MASK),
    "DINOv3ViTModel": Family("dinov3_vit", Pooled, any_size=True, unread=MASK),
    "ViTModel": Family("vit", ClassToken),
    "ViTForImageClassification": Family("vit", ClassifierInput),
    "DeiTForImageClassification": Family("deit", ClassifierInput),
    "Dinov2ForImageClassification": Family("dinov2", ClassifierInput, any_size=True, unread=MASK),
    "Dinov2WithRegistersForImageClassification": Family(
        "dinov2_with_registers", ClassifierInput, any_size=True, unread=MASK
    ),
    "CLIPForImageClassification": Family("clip", ClassifierInput, unread=("vision_model.post_layernorm.",)),
    "SiglipForImageClassification": Family("siglip", ClassifierInput, unread=("vision_model.head.",)),
    "ConvNextForImageClassification": Family("convnext", ClassifierInput, any_size=True),
    "ConvNextV2ForImageClassification": Family("convnextv2", ClassifierInput, any_size=True),
    "ResNetForImageClassification": Family("resnet", ClassifierInput, any_size=True),
    "SwinForImageClassification": Family("swin", ClassifierInput),
    "Swinv2ForImageClassification": Family("swinv2", ClassifierInput),
}

DEFAULTS = {
    family.model_type: name for name, family in reversed(FAMILIES.items()) if not family.classifies
}  # of a configuration that names no class


def family_of(name: str, config: dict[str, Any]) -> tuple[str, Family]:
    """The class in transformers and what is known of it.

    Args:
        name: of the model, for the message.
        config: its `config.json`.

    Raises:
        SeaAnchorError: another model_type or class, called by its name.
    """
    model_type, classes = config["model_type"], list(config.get("architectures") or [])
    if not classes and model_type in DEFAULTS:
        classes = [DEFAULTS[model_type]]
    known = [each for each in classes if each in FAMILIES and FAMILIES[each].model_type == model_type]
    if len(known) == 1 and len(classes) == 1:
        return known[0], FAMILIES[known[0]]
    near = sorted(each for each, family in FAMILIES.items() if family.model_type == model_type)
    types = ", ".join(sorted({family.model_type for family in FAMILIES.values()}))
    raise SeaAnchorError(
        f"model_type of {name} is {model_type!r}, architectures {', '.join(map(str, classes)) or 'not given'}",
        f"one of {', '.join(near)}" if near else f"one of {types}",
        "save the model in such a class, or load it with transformers and pass its image tower to seaanchor.Encoder",
    )
