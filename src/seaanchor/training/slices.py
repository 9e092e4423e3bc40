"""A step in slices: the images of a micro-batch that go through the tower at once, for the same gradients in less
memory.

Losses are per sample and their mean is taken once, so that the gradients of slices, each with its share of the images
as weight, add up to that of the whole. Legend: B batch.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from seaanchor.config.schema import RunConfig
from seaanchor.distributed.sharding import is_sharded
from seaanchor.method import Encode, Method
from seaanchor.training.batches import MicroBatch
from seaanchor.types import Batch, Embeddings, Preference, Targets

R = TypeVar("R", Batch, Preference, Targets)
Pair = tuple[MicroBatch, Batch]
"""Clean images and the perturbed ones."""


@dataclass(frozen=True)
class Slicing:
    """Images at once, and slices that every micro-batch must have.

    Attributes:
        size: at most so many; None leaves a micro-batch whole.
        rounds: where weights are sharded, all processes must call a tower equally often: a micro-batch with fewer
            images is filled up with its first one as padding.
    """

    size: int | None = None
    rounds: int = 1

    def of(self, images: int) -> list[slice]:
        """Rows of each slice, as even as can be.

        >>> Slicing(4).of(9)
        [slice(0, 3, None), slice(3, 6, None), slice(6, 9, None)]
        """
        count = 1 if self.size is None else max(self.rounds, math.ceil(images / self.size))
        ends = [images * (i + 1) // count for i in range(count)]
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False) if start < end]


def slicings(config: RunConfig, method: Method, encoder: nn.Module) -> tuple[Slicing, Slicing]:
    """How attack and updates take a micro-batch. An update passes clean images as well where the method needs those;
    the attack, which keeps less of each, takes as many through the tower as that."""
    size = config.slice_size
    if size is None:
        return Slicing(), Slicing()
    sharded = is_sharded(encoder)
    sizes = (size * (2 if method.needs.clean else 1), size)
    attack, update = (Slicing(n, math.ceil(config.batch_size / n) if sharded else 1) for n in sizes)
    return attack, update


def sliced(whole: MicroBatch, slicing: Slicing) -> list[MicroBatch]:
    """The micro-batch as slices, views of its tensors."""
    rows = slicing.of(len(whole.batch.index_B))
    if len(rows) == 1 == slicing.rounds:
        return [whole]
    slices = [replace(whole, batch=rows_of(whole.batch, r), targets=rows_of(whole.targets, r)) for r in rows]
    first = slice(0, 1)
    image = rows_of(whole.batch, first), rows_of(whole.targets, first)
    padding = replace(whole, batch=image[0], targets=image[1], is_padding=True)
    return slices + [padding] * (slicing.rounds - len(slices))


def sliced_pair(pair: Pair, slicing: Slicing) -> list[Pair]:
    """The same with the perturbed images."""
    clean, hard = pair
    slices = sliced(clean, slicing)
    rows = slicing.of(len(hard.index_B))
    rows += [slice(0, 1)] * (len(slices) - len(rows))
    return [(part, hard if part is clean else rows_of(hard, r)) for part, r in zip(slices, rows, strict=True)]


def rows_of(record: R, rows: slice) -> R:
    """Some images of a record: of all its tensors (B, ...); a head and other values for all images stay as they are."""
    changed: dict[str, Any] = {name: value[rows] for name, value in _tensors(record)}
    return replace(record, **changed | {name: rows_of(value, rows) for name, value in _preferences(record)})


def joined(records: Sequence[R]) -> R:
    """The images of several slices in one record."""
    first = records[0]
    if len(records) == 1:
        return first
    changed: dict[str, Any] = {name: torch.cat([getattr(r, name) for r in records]) for name, _ in _tensors(first)}
    return replace(
        first, **changed | {name: joined([getattr(r, name) for r in records]) for name, _ in _preferences(first)}
    )


def _tensors(record: R) -> Iterator[tuple[str, Tensor]]:
    values = ((f.name, getattr(record, f.name)) for f in fields(record))
    yield from ((name, value) for name, value in values if isinstance(value, Tensor) and value.dim() > 0)


def _preferences(record: R) -> Iterator[tuple[str, Preference]]:
    values = ((f.name, getattr(record, f.name)) for f in fields(record))
    yield from ((name, value) for name, value in values if isinstance(value, Preference))


@torch.no_grad()
def with_baseline(method: Method, encode: Encode, policy: nn.Module, slices: Sequence[Pair]) -> Sequence[Pair]:
    """The slices of a micro-batch with what the objective reads of all its images, such as the baseline of KTO; as they
    are where it reads nothing of the kind. It takes one more forward of the clean images.

    Args:
        method: whose objective may have a `baseline`, one number for each image.
        encode: the policy as updates call it.
        policy: the module behind it.
        slices: of one micro-batch.
    """
    baseline: Callable[[Embeddings, Targets], Tensor] | None = getattr(method.objective, "baseline", None)
    if baseline is None or len(slices) == 1:
        return slices
    found = []
    for clean, _ in slices:
        clean_BD = encode(clean.batch.pixels_BCHW).float()
        seen = Embeddings(clean_BD, clean_BD, method.adapter.head(policy, clean.targets.head))
        found.append(baseline(seen, clean.targets))
    counted = [kl_B for kl_B, (clean, _) in zip(found, slices, strict=True) if not clean.is_padding]
    mean = torch.cat(counted or found).mean()
    return [(replace(clean, targets=replace(clean.targets, baseline=mean)), hard) for clean, hard in slices]
