"""What a `DataLoader` says about which images are used. Sea Anchor orders and batches them itself."""

from collections.abc import Sized
from typing import Any

from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    default_collate,
)

from seaanchor.errors import SeaAnchorError, note

ONCE = "every image of the data set once in each epoch: Sea Anchor orders and batches the images itself"


def dataset_of(loader: DataLoader) -> Any:
    """The data set of a loader, or the part of it that a `SubsetRandomSampler` names.

    Batch size, workers and order are Sea Anchor's own settings. What else the loader would do and is not done here,
    a note says.

    Raises:
        SeaAnchorError: the loader leaves out or repeats images.
    """
    if isinstance(loader.dataset, IterableDataset):
        return loader.dataset  # refused where all such data sets are
    batching = loader.batch_sampler
    if batching is not None and type(batching) is not BatchSampler:
        raise SeaAnchorError(
            f"the DataLoader has a batch sampler of its own, {type(batching).__name__}",
            ONCE,
            "pass the data set itself, or torch.utils.data.Subset(dataset, indices) for a part of it",
        )
    left_over = len(loader.sampler) % (loader.batch_size or 1) if isinstance(loader.sampler, Sized) else 0
    if loader.drop_last and left_over:
        note(f"the DataLoader drops the last {left_over} images of an epoch (drop_last); here all images are used")
    if loader.collate_fn is not default_collate and batching is not None:
        note("the DataLoader's collate_fn is not used: Sea Anchor stacks the images itself")
    return _sampled(loader)


def _sampled(loader: DataLoader) -> Any:
    sampler, dataset = loader.sampler, loader.dataset
    count = len(dataset)  # type: ignore[arg-type] # a map-style data set has a length
    if isinstance(sampler, SubsetRandomSampler):
        indices = [int(index) for index in sampler.indices]
        if len(set(indices)) < len(indices):
            raise SeaAnchorError(
                f"the DataLoader's SubsetRandomSampler names {len(indices) - len(set(indices))} images twice",
                ONCE,
                "remove the repeated indices",
            )
        return Subset(dataset, sorted(indices))
    plain = isinstance(sampler, SequentialSampler) and len(sampler) == count
    if plain or (isinstance(sampler, RandomSampler) and not sampler.replacement and sampler.num_samples == count):
        return dataset
    found = f"the DataLoader's sampler is a {type(sampler).__name__}"
    if isinstance(sampler, RandomSampler):
        found += f" with replacement={sampler.replacement} and num_samples={sampler.num_samples} of {count} images"
    else:
        found += ", which may leave out or repeat images"
    raise SeaAnchorError(
        found, ONCE, "pass the data set itself, or torch.utils.data.Subset(dataset, indices) for a part of it"
    )
