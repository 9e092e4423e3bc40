"""The images of every step: which of them this process takes, and what it takes with them.

Legend: B batch, N images of the data set, D embedding dimension.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from seaanchor.config.schema import RunConfig
from seaanchor.data.loader import ImageDataset, SkipLog, chosen_batches, to_float, training_order
from seaanchor.encoders.encoder import Encoder, Reference
from seaanchor.encoders.image_tables import clean_table
from seaanchor.method import Encode, Method
from seaanchor.training.setup import Setup, batch_split
from seaanchor.types import Batch, Preference, Targets

CACHE_LIMIT = 4e9  # bytes of reference embeddings at hand; ImageNet's of a ViT-B/32 are 2.6e9


@dataclass(frozen=True)
class MicroBatch:
    """Images that one process takes at once, on its device, pixels in [0, 1].

    Attributes:
        batch: the clean images.
        targets: what the losses compare them with.
        is_padding: the images belong to another process. They take part in every pass, because all processes must, and
            change nothing.
    """

    batch: Batch
    targets: Targets
    is_padding: bool = False

    @property
    def num_images(self) -> int:
        """Images of it that count: 0 for padding."""
        return 0 if self.is_padding else len(self.batch.index_B)


def load_steps(setup: Setup, step: int, rank: int, world: int, skip_log: SkipLog) -> Iterator[list[tuple[Batch, bool]]]:
    """What one process takes of every step from `step` on.

    The order is a pure function of seed, epoch and global batch size, so resuming needs no state and any number of
    processes sees the same steps.

    Args:
        setup: of the run.
        step: the first one.
        rank: number of this process.
        world: number of processes.
        skip_log: collects images that cannot be read.

    Yields:
        For every step, 8-bit batches, each with whether it is padding. A batch may be empty.
    """
    config, count = setup.config, len(setup.images.paths)
    split = batch_split(config, count, world)
    for epoch in range(step // split.per_epoch, config.epochs):
        order = training_order(count, epoch, config.seed)
        steps = [split.for_rank(order, number, rank) for number in range(step % split.per_epoch, split.per_epoch)]
        chunks = [images for micro_batches in steps for images, _ in micro_batches]
        stream: Iterator[Batch]
        if setup.table is not None:
            table = setup.table
            stream = (batch for images in chunks for batch in table.batches(images, len(images)))
        else:
            dataset = ImageDataset(setup.images, setup.model.encoder.preprocessing)
            stream = chosen_batches(dataset, chunks, workers=config.workers, skip_log=skip_log)
        for micro_batches in steps:
            yield [(next(stream), is_padding) for _, is_padding in micro_batches]
        step = (epoch + 1) * split.per_epoch


def load_batches(setup: Setup, step: int, rank: int, world: int, skip_log: SkipLog) -> Iterator[Batch]:
    """The batches of `load_steps` one after the other, with pixels in [0, 1]."""
    for micro_batches in load_steps(setup, step, rank, world, skip_log):
        yield from (replace(batch, pixels_BCHW=to_float(batch.pixels_BCHW)) for batch, _ in micro_batches)


def make_micro_batch(setup: Setup, batch: Batch, is_padding: bool, cache_ND: Tensor | None) -> MicroBatch:
    """A batch of `load_steps` on the device of the run, with its targets."""
    clean = to_device(batch, setup.device)
    return MicroBatch(clean, make_targets(setup, clean, cache_ND), is_padding)


def make_targets(setup: Setup, batch: Batch, cache_ND: Tensor | None) -> Targets:
    """The reference's embeddings of the batch, from the cache or in one forward of each slice, with labels and head,
    and the images' numbers where the method needs them."""
    if cache_ND is None:
        reference_BD = embed_in_slices(setup.reference, batch.pixels_BCHW, setup.config)
    else:
        reference_BD = cache_ND[batch.index_B]
    head = None if setup.head is None else setup.head.to(reference_BD.device)
    index_B = batch.index_B if setup.method.needs.index else None
    return Targets(reference_BD, batch.label_B, head, index_B=index_B)


def embed_in_slices(encode: Encode, pixels_BCHW: Tensor, config: RunConfig) -> Tensor:
    """Embeddings (B, D) of images of which as many go through a tower at once as the settings say; all of them where
    weights are sharded, for all processes must call it equally often."""
    size = len(pixels_BCHW) if config.shard else _at_once(config)
    return torch.cat([encode(part_BCHW) for part_BCHW in pixels_BCHW.split(size)])


def _at_once(config: RunConfig) -> int:
    return min(config.slice_size or config.batch_size, config.batch_size)


def caches_reference(setup: Setup, world: int) -> bool:
    """Whether all reference embeddings are computed beforehand: each is used more than once, and they fit in memory."""
    if setup.table is not None:
        return False
    count = len(setup.images.paths)
    visits = setup.total_steps * batch_split(setup.config, count, world).global_batch_size / count
    return visits > 1.5 and can_be_held(setup.model.encoder, count)


def can_be_held(encoder: Encoder, count: int) -> bool:
    """Whether the embeddings of so many images are kept at hand; those of patch tokens are computed anew each time."""
    return encoder.tokens != "patches" and 4 * count * encoder.dim <= CACHE_LIMIT


def reference_cache(setup: Setup, world: int) -> Tensor | None:
    """All reference embeddings (N, D), or None where `caches_reference` says that they do not pay."""
    if not caches_reference(setup, world):
        return None
    config, reference = setup.config, cast(Reference, setup.reference)
    return clean_table(reference, setup.model.family, setup.images, _at_once(config), config.workers, setup.device)


def only_cached(method: Method) -> bool:
    """Whether the reference is done with once it has embedded the clean images: perturbed ones are not shown to it, and
    no weights of the policy are shared with it."""
    needs = method.needs
    return needs.whole_tower and not needs.reference_perturbed


def let_reference_go(setup: Setup) -> None:
    """Free the reference's weights if nothing will ask for them again."""
    if only_cached(setup.method) and isinstance(setup.reference, Reference):
        setup.reference.release()


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on the device, pixels in [0, 1]. Nothing waits for a copy from pinned memory: whatever reads the pixels
    comes after it."""
    label_B = None if batch.label_B is None else batch.label_B.to(device)
    pair = batch.preference
    preference = None if pair is None else Preference(pair.chosen_B.to(device), pair.rejected_B.to(device))
    return Batch(
        to_float(batch.pixels_BCHW.to(device, non_blocking=True)), label_B, batch.index_B.to(device), preference
    )
