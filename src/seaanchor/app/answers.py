"""What a model answers: its likeliest classes with their shares.

Legend: B images, C channels or classes, H W pixels, D embedding dimension.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from seaanchor.app.models import Player, loading
from seaanchor.app.settings import MOST_CLASSES, default_class_names
from seaanchor.encoders.classifiers import kind_of, own_classifier
from seaanchor.encoders.heads import build_head
from seaanchor.errors import SeaAnchorError
from seaanchor.types import Head

SHOWN = 5  # answers of a model


@dataclass(frozen=True)
class Answer:
    """A class and its share of the softmax, in [0, 1]."""

    name: str
    share: float


@dataclass(frozen=True)
class Classifier:
    """A model with its classes: called with pixels (B, C, H, W) in [0, 1] it gives logits (B, C)."""

    player: Player
    head: Head
    class_names: tuple[str, ...]
    map_DD: Tensor | None = None

    def __call__(self, pixels_BCHW: Tensor) -> Tensor:
        """Logits (B, C) in fp32."""
        embedding_BD = self.player.model.encoder(pixels_BCHW).float()
        return self.head(embedding_BD if self.map_DD is None else embedding_BD @ self.map_DD.T)


def class_names(text: str) -> tuple[str, ...]:
    """Names from a text with one on each line, or with commas between them; those of the embedded photos if it is
    empty.

    Raises:
        SeaAnchorError: more than 1,000 names.

    >>> class_names("cat, dog\\n\\n a red fox ")
    ('cat', 'dog', 'a red fox')
    """
    names = tuple(name for line in text.splitlines() for part in line.split(",") if (name := " ".join(part.split())))
    if len(names) > MOST_CLASSES:
        raise SeaAnchorError(f"a list of {len(names)} classes", f"at most {MOST_CLASSES} on this page", "shorten it")
    return names or default_class_names()


def classifier(player: Player, names: Sequence[str], t: float = 1.0) -> Classifier:
    """The model as a classifier of these names; of a model with a linear head instead of a text tower, of its own
    classes.

    Args:
        player: the model.
        names: at least two, all different.
        t: exponent of its linear map, if it has one.

    Raises:
        SeaAnchorError: names that are no classes, a model that has neither texts nor a head, or a t out of range.
    """
    head, own_names = _head(player, tuple(names))
    if player.spectrum is None:
        return Classifier(player, head, own_names)
    map_DD = player.spectrum.without_rotation(t).to(player.device)
    turned = replace(head, weight_CD=F.normalize(head.weight_CD @ map_DD.T, dim=-1))
    return Classifier(player, turned, own_names, map_DD)


@torch.no_grad()
def answers(seen: Classifier, pixels_1CHW: Tensor) -> tuple[Answer, ...]:
    """The likeliest classes of an image (1, C, H, W), the likeliest first."""
    return ranked(seen(pixels_1CHW), seen.class_names)


def ranked(logits_1C: Tensor, names: Sequence[str]) -> tuple[Answer, ...]:
    """The likeliest classes by logits (1, C).

    >>> [answer.name for answer in ranked(torch.tensor([[0.0, 2.0, 1.0]]), ("a", "b", "c"))]
    ['b', 'c', 'a']
    """
    top = logits_1C[0].double().softmax(-1).topk(min(SHOWN, len(names)))
    rows = zip(top.values.tolist(), top.indices.tolist(), strict=True)
    return tuple(Answer(names[number], share) for share, number in rows)


@lru_cache(maxsize=64)
def _head(player: Player, names: tuple[str, ...]) -> tuple[Head, tuple[str, ...]]:
    model, kind = player.model, kind_of(player.model, None)
    with loading:
        if kind == "text":
            return build_head(model, names).to(player.device), names
    named = own_classifier(model) if kind == "classifier" or model.stored_head is None else model.stored_head
    numbers = tuple(f"class {number}" for number in range(len(named.head.weight_CD)))
    return named.head.to(player.device), named.class_names or numbers
