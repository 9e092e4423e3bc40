"""Every image goes to one process once in a pass, whatever the numbers are."""

import itertools

import pytest

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
