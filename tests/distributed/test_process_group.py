"""Who watches whom: a process that falls silent, raises, leaves or hangs. Real processes are in `test_distributed`."""

import time
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

import seaanchor.distributed.process_group as processes
from seaanchor.distributed.process_group import ProcessGroup, Watch, company, gathered
from seaanchor.errors import SeaAnchorError
from seaanchor.training.loggers import StepRecord
from seaanchor.types import Constraint


@pytest.fixture
def watched(monkeypatch):
    """Three processes' watches on one store, with a hundredth of the patience; what would have been ended, and why."""
    for name, seconds in {"BEAT": 0.02, "SILENCE": 0.6, "SUSPICION": 0.2, "GRACE": 0.2}.items():
        monkeypatch.setattr(processes, name, seconds)
    host = dist.TCPStore("127.0.0.1", 0, 3, True, timedelta(seconds=5), wait_for_workers=False)
    stores = [
        host,
        *(
            dist.TCPStore("127.0.0.1", host.port, 3, False, timedelta(seconds=5), wait_for_workers=False)
            for _ in range(2)
        ),
    ]
    ended: dict[int, str] = {}
    watches = [
        Watch(rank, 3, store, lambda verdict, rank=rank: ended.update({rank: verdict}))
        for rank, store in enumerate(stores)
    ]
    yield watches, ended
    for watch in watches:
        watch._over.set()
        watch._thread.join()


def until(condition, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_living_processes_say_nothing(watched):
    watches, ended = watched
    time.sleep(1.2)  # twice the silence that would be too long
    assert not any(watch.verdict for watch in watches) and not ended


def test_a_process_that_falls_silent_ends_those_that_hang(watched):
    """As where a device waits for a collective that never comes: nothing raises, and the process must be ended."""
    watches, ended = watched
    watches[2]._over.set()
    until(lambda: len(ended) == 2)
    assert set(ended) == {0, 1} and all(
        verdict.startswith("process 2 of 3 was lost: no sign of life for") for verdict in ended.values()
    )


def test_after_a_broken_connection_silence_is_noticed_sooner(watched):
    watches, _ = watched
    watches[2]._over.set()
    begun = time.monotonic()
    assert watches[1].explain().startswith("process 2 of 3 was lost")
    assert time.monotonic() - begun < 0.6  # SILENCE


def test_a_process_that_raises_tells_why(watched):
    watches, ended = watched
    watches[1].tell(SeaAnchorError("no image could be read", "images", "look"))
    watches[2].tell(ValueError("a second one\nwith a traceback"))
    assert watches[0].explain() == "process 1 of 3 ended: no image could be read"  # the first
    until(lambda: 0 in ended)
    assert set(ended) == {0}  # the others are ending by themselves


def test_a_process_that_is_done_is_not_lost(watched):
    watches, ended = watched
    watches[1].end()
    watches[2].end()
    time.sleep(1.2)
    assert not watches[0].verdict and not ended


def test_an_error_of_ones_own_is_no_loss(watched):
    assert watched[0][1].explain() is None


def test_alone_there_is_nothing_to_agree_on():
    record = StepRecord(torch.arange(3.0), None, None)
    with company() as alone:
        assert (alone.rank, alone.world, alone.first) == (0, 1, True)
        assert alone.total([2, 0.5]) == [2, 0.5] and alone.agree("x") == "x" and alone.gather(3) == [3]
        assert gathered(alone, record) is record
        alone.barrier()
    with pytest.raises(RuntimeError, match="mine"), company():
        raise RuntimeError("mine")


def test_records_of_several_processes_become_one(monkeypatch):
    """Also where one has no row that counts, and hence no constraint."""
    records = [
        [
            StepRecord(torch.tensor([1.0, 2.0]), Constraint(torch.tensor([3.0, 4.0]), torch.ones(2)), None),
            torch.zeros(2, 3),
        ],
        [StepRecord(torch.empty(0), None, None), torch.ones(0, 3)],
        [StepRecord(torch.tensor([5.0]), Constraint(torch.tensor([6.0]), torch.ones(1)), None), torch.ones(1, 3)],
    ]
    monkeypatch.setattr(ProcessGroup, "gather", lambda self, value: records)
    record, embedding = gathered(ProcessGroup(0, 3), records[0])
    assert (
        record.objective_B.tolist() == [1, 2, 5]
        and record.constraint.distance_B.tolist() == [3, 4, 6]
        and record.multiplier_B is None
    )
    assert embedding.shape == (3, 3)
