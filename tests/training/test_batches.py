"""Which images each process takes in each step, and the reference embeddings that are computed beforehand."""

import pytest
import torch

from seaanchor.config.recipes import fare
from seaanchor.data.loader import SkipLog
from seaanchor.errors import SeaAnchorError
from seaanchor.training.batches import caches_reference, load_batches, load_steps, reference_cache
from seaanchor.training.setup import prepare


def test_each_epoch_sees_every_image_once_in_a_new_order(tiny_run):
    setup = prepare(tiny_run(fare(), batch_size=5, epochs=2))
    batches = [b.index_B.tolist() for b in load_batches(setup, 0, 0, 1, SkipLog(setup.images))]
    assert [len(b) for b in batches] == [5, 5, 2] * 2
    epochs = [[i for batch in part for i in batch] for part in (batches[:3], batches[3:])]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(12)) and epochs[0] != epochs[1]
    for step in range(6):
        assert [b.index_B.tolist() for b in load_batches(setup, step, 0, 1, SkipLog(setup.images))] == batches[step:]


def test_processes_split_an_epoch(tiny_run):
    setup = prepare(tiny_run(fare(), batch_size=2, epochs=2), world=3)
    shares = [[b.index_B.tolist() for b in load_batches(setup, 0, rank, 3, SkipLog(setup.images))] for rank in range(3)]
    assert setup.total_steps == 4 and all([len(b) for b in share] == [2] * 4 for share in shares)
    for epoch in (0, 1):
        assert sorted(i for share in shares for b in share[2 * epoch : 2 * epoch + 2] for i in b) == list(range(12))
    with pytest.raises(SeaAnchorError, match="at least one for each of 13 processes"):
        prepare(tiny_run(fare()), world=13)


def test_the_images_of_a_step_do_not_depend_on_the_number_of_processes(tiny_run):
    """One process with 8, two with 4, four with 2, one with 2 four times over; also in the short last batch of 4, and
    on going on."""

    def images_of_steps(batch_size: int, world: int, accumulation: int, step: int = 0) -> list[list[int]]:
        setup = prepare(tiny_run(fare(), batch_size=batch_size, grad_accumulation=accumulation, epochs=2), world=world)
        streams = [list(load_steps(setup, step, rank, world, SkipLog(setup.images))) for rank in range(world)]
        assert {len(stream) for stream in streams} == {setup.total_steps - step} and setup.identity[
            "global_batch_size"
        ] == 8
        steps = [[pair for stream in streams for pair in stream[i]] for i in range(setup.total_steps - step)]
        assert all(0 < len(batch.index_B) <= batch_size for pairs in steps for batch, _ in pairs)
        return [
            sorted(i for batch, is_padding in pairs if not is_padding for i in batch.index_B.tolist())
            for pairs in steps
        ]

    plain = images_of_steps(8, 1, 1)
    assert [len(batch) for batch in plain] == [8, 4, 8, 4] and sorted(plain[0] + plain[1]) == list(range(12))
    for parts in ((4, 2, 1), (2, 4, 1), (2, 1, 4), (2, 2, 2), (1, 8, 1), (1, 2, 4)):
        assert images_of_steps(*parts) == plain
    assert images_of_steps(4, 2, 1, step=3) == plain[3:]


def test_the_reference_is_computed_beforehand_where_that_pays(tiny_run):
    once, twice = prepare(tiny_run(fare())), prepare(tiny_run(fare(), epochs=2))
    assert not caches_reference(once, 1) and caches_reference(twice, 1)
    assert caches_reference(prepare(tiny_run(fare(), epochs=2), world=2), 2)
    assert reference_cache(once, 1) is None
    table = reference_cache(twice, 1)
    for batch in load_batches(twice, 0, 0, 1, SkipLog(twice.images)):
        assert torch.allclose(table[batch.index_B], twice.reference(batch.pixels_BCHW), atol=1e-6)
