"""What every format of an export shares: where it is written, its weights, and the model as its library loads it again.

Legend: B batch, N texts, C classes, D embedding dimension, S side of the square in pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seaanchor.encoders.encoder import LoadedModel
from seaanchor.types import NamedHead


@dataclass(frozen=True)
class Target:
    """Where an export goes.

    Attributes:
        folder: where it is written, and checked.
        home: where it lies afterwards.
        half: whether floats are stored in fp16.
    """

    folder: Path
    home: Path
    half: bool = False


@dataclass(frozen=True)
class Reloaded:
    """The export as its library sees it.

    Attributes:
        encode_image: normalised pixels → embeddings (B, D).
        mean, std: its normalisation of each channel.
        encode_texts: texts → embeddings (N, D); None for towers without texts.
        classify: normalised pixels → logits (B, C); None for models without a classifier.
        named: the head that should have given them; None without one.
        see: the library's own transform, a PIL picture → normalised pixels (3, S, S); None where that is compared when
            a model is loaded, or where there is none.
        rounds: whether that transform may resize with other rounding than the encoder's, and cut a pixel beside it.
    """

    encode_image: Callable[[Tensor], Tensor]
    mean: Sequence[float]
    std: Sequence[float]
    encode_texts: Callable[[Sequence[str]], Tensor] | None = None
    classify: Callable[[Tensor], Tensor] | None = None
    see: Callable[[Any], Tensor] | None = None
    rounds: bool = False
    named: NamedHead | None = None


@dataclass(frozen=True)
class Format:
    """One format of exports.

    Attributes:
        title: what it is, for people.
        write: the model into a folder.
        reload: what its own library makes of the folder.
        families: of models that have a place in it.
        tolerance: relative difference of embeddings that rounding may leave.
        photos: whether embeddings and answers are compared on photos, too.
    """

    title: str
    write: Callable[[LoadedModel, Target], None]
    reload: Callable[[LoadedModel, Path], Reloaded]
    families: tuple[str, ...]
    tolerance: float = 1e-5
    photos: bool = False


def weights_of(module: torch.nn.Module, half: bool) -> dict[str, Tensor]:
    """A copy of all weights on the CPU, floats in fp16 if asked for."""
    state = {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}
    return {k: v.half() if half and v.is_floating_point() else v for k, v in state.items()}
