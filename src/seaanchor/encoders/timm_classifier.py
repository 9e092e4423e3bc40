"""A timm model's own classifier, taken off so that the model gives what the classifier reads.

Legend: B batch, C classes, D embedding dimension, H W pixels.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seaanchor.data.names import imagenet_names
from seaanchor.types import Head, NamedHead

ROUNDING = 1e-5  # relative, of logits of the same layer computed twice


@dataclass(frozen=True)
class TakenOff:
    """What became of a classifier.

    Attributes:
        named: it, None where the model has none, or none that is a linear layer of the embedding.
        layer: its name in the model, such as `head.fc`.
        shape: of its weight in the model; a convolution's has two more dimensions.
        why: why there is none, in words.
    """

    named: NamedHead | None = None
    layer: str = ""
    shape: tuple[int, ...] = ()
    why: str = ""


def take_classifier(model: Any, side: int, names: bool = True) -> TakenOff:
    """Take the classifier off a timm model, which afterwards gives embeddings (B, D).

    Args:
        model: in eval mode, on the CPU.
        side: H and W of its images, for a forward that shows whether the classifier is a linear layer of what is left.
        names: whether the model's configuration is that of its weights, and so may name the classes. For weights from a
            file it is the architecture's default, which knows nothing of their classes.
    """
    layer: Any = model.get_classifier() if model.num_classes else None
    name = next((name for name, module in model.named_modules() if module is layer), "") if layer is not None else ""
    why = _refused(model, layer)
    if why:
        model.reset_classifier(0)
        return TakenOff(why=why)
    head = Head(
        layer.weight.detach().clone().flatten(1),
        bias_C=None if layer.bias is None else layer.bias.detach().clone(),
        unit=False,
        kind="classifier",
    )
    shape = tuple(layer.weight.shape)
    if not _reads_the_embedding(model, head, side):
        return TakenOff(why="its classifier reads something else than the embedding")
    class_names = _class_names(model.pretrained_cfg, len(head.weight_CD)) if names else None
    return TakenOff(NamedHead(head, class_names), name, shape)


def _refused(model: Any, layer: Any) -> str:
    """Why a classifier is not taken; empty where it may be."""
    if layer is None:
        return "its weights come without a classifier"
    if isinstance(layer, tuple | list):
        return f"it has {len(layer)} classifiers, whose answers it averages"
    pointwise = type(layer) is nn.Conv2d and layer.kernel_size == (1, 1)
    if not pointwise and (not isinstance(layer, nn.Linear) or list(layer.children())):
        return f"its classifier is a {type(layer).__name__}, no plain linear layer"
    return "" if hasattr(model, "forward_head") else "its classifier cannot be told from the rest of it"


@torch.no_grad()
def _reads_the_embedding(model: Any, head: Head, side: int) -> bool:
    """Whether the head gives the model's logits from the embeddings that are left; takes the classifier off."""
    channels = int(model.pretrained_cfg.get("input_size", (3,))[0])
    pixels_BCHW = torch.rand(2, channels, side, side, generator=torch.Generator().manual_seed(0))
    features: Tensor = model.forward_features(pixels_BCHW)
    logits_BC = model.forward_head(features)
    model.reset_classifier(0)
    embedding_BD = model.forward_head(features)
    if embedding_BD.dim() != 2 or embedding_BD.shape[1] != head.weight_CD.shape[1]:
        return False
    ours_BC = F.linear(embedding_BD, head.weight_CD, head.bias_C)
    return logits_BC.shape == ours_BC.shape and bool((ours_BC - logits_BC).abs().max() <= ROUNDING * _size(logits_BC))


def _size(logits_BC: Tensor) -> float:
    return max(1.0, float(logits_BC.abs().max()))


def _class_names(config: dict[str, Any], count: int) -> tuple[str, ...] | None:
    """Names that the model's folder gives, or those of ImageNet where the weights are timm's own, trained on it."""
    names, words = config.get("label_names"), config.get("label_descriptions")
    if isinstance(names, list | tuple) and len(names) == count and all(isinstance(name, str | int) for name in names):
        described = words if isinstance(words, dict) else {}
        return tuple(str(described.get(name, name)) for name in names)
    if isinstance(words, list | tuple) and len(words) == count:
        return tuple(map(str, words))
    on_imagenet = "in1k" in str(config.get("tag", "")) and count == 1000
    return tuple(imagenet_names()) if on_imagenet else None
