"""Every image goes to one process once in a pass, whatever the numbers are."""

import itertools

import pytest

from seaanchor.data.batch_split import BatchSplit
from seaanchor.data.sources import open_images
from seaanchor.data.webdataset.write import build_shards


@pytest.mark.parametrize("count", [1, 2, 3, 7, 12, 13, 64])
def test_every_image_is_dealt_once(count):
    order = [3 * i for i in range(count)]
    for batch_size, world, accumulation in itertools.product((1, 2, 3, 8), (1, 2, 3, 4), (1, 2, 3)):
        deal = BatchSplit(count, batch_size, world, accumulation)
        seen: list[int] = []
        for number in range(deal.per_epoch):
            hands = [deal.hands(order, number, rank) for rank in range(world)]
            assert (
                len({len(hand) for hand in hands}) == 1 <= len(hands[0]) <= accumulation
            )  # all processes take part equally often
            flat = [hand for rank in hands for hand in rank]
            assert all(0 < len(images) <= batch_size for images, _ in flat)
            counting = [len(images) for images, counts in flat if counts]
            assert max(counting) - min(counting) <= 1  # as evenly as can be
            batch = [i for images, counts in flat if counts for i in images]
            assert sorted(batch) == sorted(order[number * deal.whole : (number + 1) * deal.whole])
            seen += batch
        assert sorted(seen) == order


def test_shards_are_dealt_by_image(image_folder, tmp_path):
    """Three processes on WebDataset shards: each image is read by one of them, whichever shard it lies in."""
    build_shards(open_images(str(image_folder)), tmp_path / "wds", shard_size=5)
    images = open_images(str(tmp_path / "wds" / "test"))
    assert len({item.shard for item in images.paths}) == 3
    deal = BatchSplit(len(images.paths), 2, world=3)
    order = list(range(len(images.paths)))
    hands = [
        [hand for number in range(deal.per_epoch) for hand, counts in deal.hands(order, number, rank) if counts]
        for rank in range(3)
    ]
    shares = [[images.paths[i].name for hand in mine for i in hand] for mine in hands]
    assert sorted(name for share in shares for name in share) == sorted(item.name for item in images.paths)
    assert all(len({name.split("/")[0] for name in share}) > 1 for share in shares)
