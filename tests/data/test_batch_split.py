"""Every image goes to one process once in a pass, whatever the numbers are."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seaanchor.data.batch_split import BatchSplit
from seaanchor.data.sources import open_images
from seaanchor.data.webdataset.write import build_shards


@pytest.mark.parametrize("count", [1, 2, 3, 7, 12, 13, 64])
def test_every_image_goes_to_one_process(count):
    order = [3 * i for i in range(count)]
    for batch_size, world, accumulation in itertools.product((1, 2, 3, 8), (1, 2, 3, 4), (1, 2, 3)):
        split = BatchSplit(count, batch_size, world, accumulation)
        seen: list[int] = []
        for number in range(split.per_epoch):
            ranks = [split.for_rank(order, number, rank) for rank in range(world)]
            assert (
                len({len(mine) for mine in ranks}) == 1 <= len(ranks[0]) <= accumulation
            )  # all processes take part equally often
            flat = [pair for mine in ranks for pair in mine]
            assert all(0 < len(images) <= batch_size for images, _ in flat)
            counts = [len(images) for images, is_padding in flat if not is_padding]
            assert max(counts) - min(counts) <= 1  # as evenly as can be
            batch = [i for images, is_padding in flat if not is_padding for i in images]
            assert sorted(batch) == sorted(
                order[number * split.global_batch_size : (number + 1) * split.global_batch_size]
            )
            seen += batch
        assert sorted(seen) == order


def test_shards_are_split_by_image(image_folder, tmp_path):
    """Three processes on WebDataset shards: each image is read by one of them, whichever shard it lies in."""
    build_shards(open_images(str(image_folder)), tmp_path / "wds", shard_size=5)
    images = open_images(str(tmp_path / "wds" / "test"))
    assert len({item.shard for item in images.paths}) == 3
    split = BatchSplit(len(images.paths), 2, world=3)
    order = list(range(len(images.paths)))
    names = [
        [
            images.paths[i].name
            for number in range(split.per_epoch)
            for indices, is_padding in split.for_rank(order, number, rank)
            for i in indices
            if not is_padding
        ]
        for rank in range(3)
    ]
    assert sorted(name for mine in names for name in mine) == sorted(item.name for item in images.paths)
    assert all(len({name.split("/")[0] for name in mine}) > 1 for mine in names)


@settings(derandomize=True, deadline=None, max_examples=150, database=None)
@given(st.integers(1, 400), st.integers(1, 40), st.integers(1, 9), st.integers(1, 5), st.randoms(use_true_random=False))
def test_any_split_gives_every_image_once_and_sizes_that_fit(count, batch_size, world, accumulation, random):
    order = list(range(count))
    random.shuffle(order)
    split = BatchSplit(count, batch_size, world, accumulation)
    seen: list[int] = []
    for number in range(split.per_epoch):
        ranks = [split.for_rank(order, number, rank) for rank in range(world)]
        step = [i for mine in ranks for images, is_padding in mine if not is_padding for i in images]
        last = number == split.per_epoch - 1
        assert len(step) == (count - number * split.global_batch_size if last else split.global_batch_size)
        assert {len(mine) for mine in ranks} == {len(ranks[0])} and 1 <= len(ranks[0]) <= accumulation
        assert all(1 <= len(images) <= batch_size for mine in ranks for images, _ in mine)
        assert all(
            len(images) == 1 and images[0] in step for mine in ranks for images, is_padding in mine if is_padding
        )
        seen += step
    assert sorted(seen) == list(range(count))


@settings(derandomize=True, deadline=None, max_examples=60, database=None)
@given(st.integers(1, 200), st.integers(1, 8), st.integers(1, 4))
def test_a_step_holds_the_same_images_however_it_is_put_together(count, batch_size, parts):
    """More processes or more micro-batches: the global batch of a step is the same."""

    def steps(split: BatchSplit) -> list[list[int]]:
        order = range(count)
        return [
            sorted(
                i
                for rank in range(split.world)
                for images, is_padding in split.for_rank(order, number, rank)
                if not is_padding
                for i in images
            )
            for number in range(split.per_epoch)
        ]

    alone = steps(BatchSplit(count, batch_size * parts))
    assert steps(BatchSplit(count, batch_size, world=parts)) == alone
    assert steps(BatchSplit(count, batch_size, accumulation=parts)) == alone
