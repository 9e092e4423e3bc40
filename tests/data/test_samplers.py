"""Loaders whose images can be told, and loaders that drop or repeat some."""

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from seaanchor.data.dataset import from_dataset
from seaanchor.errors import SeaAnchorError


class Numbers(Dataset):
    """Ten grey images whose value is their number."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.full((3, 4, 4), index, dtype=torch.uint8)


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.zeros(3, 4, 4)


DATA = Numbers()


def values(images) -> list[int]:
    return [int(item.pixels(4)[0, 0, 0]) for item in images.paths]


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 3},
        {"batch_size": 3, "shuffle": True},
        {"batch_size": None},
        {"batch_size": 5, "drop_last": True},
        {"batch_size": 2, "sampler": SequentialSampler(DATA), "num_workers": 2},
    ],
)
def test_all_images_of_a_loader_in_the_order_of_the_data_set(settings, caplog):
    assert values(from_dataset(DataLoader(DATA, **settings))) == list(range(10))
    assert caplog.text == ""


def test_a_subset_sampler_is_respected():
    assert values(from_dataset(DataLoader(DATA, sampler=SubsetRandomSampler([7, 2, 5])))) == [2, 5, 7]


def test_what_the_loader_would_do_beside_is_noted(caplog):
    images = from_dataset(DataLoader(DATA, batch_size=4, drop_last=True, collate_fn=torch.stack))
    assert values(images) == list(range(10))
    assert "drops the last 2 images of an epoch (drop_last); here all images are used" in caplog.text
    assert "collate_fn is not used" in caplog.text


class Own(SequentialSampler):
    """A sampler that leaves out the last image."""

    def __len__(self) -> int:
        return 9

    def __iter__(self):
        return iter(range(9))


class OwnBatches(BatchSampler):
    """Batches of its own."""


@pytest.mark.parametrize(
    ("loader", "found"),
    [
        (DataLoader(DATA, sampler=WeightedRandomSampler([1.0] * 10, 10)), "a WeightedRandomSampler"),
        (DataLoader(DATA, sampler=RandomSampler(DATA, replacement=True)), "replacement=True and num_samples=10 of 10"),
        (DataLoader(DATA, sampler=RandomSampler(DATA, num_samples=4)), "replacement=False and num_samples=4 of 10"),
        (DataLoader(DATA, sampler=SubsetRandomSampler([1, 2, 1])), "names 1 images twice"),
        (DataLoader(DATA, sampler=Own(DATA)), "sampler is a Own"),
        (DataLoader(DATA, sampler=[0, 1, 2]), "sampler is a list"),
        (
            DataLoader(DATA, batch_sampler=OwnBatches(SequentialSampler(DATA), 2, False)),
            "a batch sampler of its own, OwnBatches",
        ),
        (DataLoader(Stream()), "Stream is an IterableDataset"),
    ],
)
def test_loaders_that_drop_or_repeat_images_are_refused(loader, found):
    with pytest.raises(SeaAnchorError, match=found) as caught:
        from_dataset(loader)
    assert (
        "Subset(dataset, indices)" in caught.value.change
        or "repeated" in caught.value.change
        or ("open_images" in caught.value.change)
    )
