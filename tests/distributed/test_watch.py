"""Who watches whom: a process that falls silent, raises, leaves or hangs. Real processes are in `test_distributed`."""

import time
from datetime import timedelta

import pytest
import torch.distributed as dist

import seaanchor.distributed.watch as watch_module
from seaanchor.distributed.watch import Watch, watched_group
from seaanchor.errors import SeaAnchorError


@pytest.fixture
def watched(monkeypatch):
    """Three processes' watches on one store, with a hundredth of the patience; what would have been ended, and why."""
    for name, seconds in {"BEAT": 0.02, "SILENCE": 0.6, "SUSPICION": 0.2, "GRACE": 0.2}.items():
        monkeypatch.setattr(watch_module, name, seconds)
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
    assert watches[1].find_cause().startswith("process 2 of 3 was lost")
    assert time.monotonic() - begun < 0.6  # SILENCE


def test_a_process_that_raises_tells_why(watched):
    watches, ended = watched
    watches[1].announce(SeaAnchorError("no image could be read", "images", "look"))
    watches[2].announce(ValueError("a second one\nwith a traceback"))
    assert watches[0].find_cause() == "process 1 of 3 ended: no image could be read"  # the first
    until(lambda: 0 in ended)
    assert set(ended) == {0}  # the others are ending by themselves


def test_a_process_that_is_done_is_not_lost(watched):
    watches, ended = watched
    watches[1].end()
    watches[2].end()
    time.sleep(1.2)
    assert not watches[0].verdict and not ended


def test_an_error_of_ones_own_is_no_loss(watched):
    assert watched[0][1].find_cause() is None


def test_an_error_passes_through_where_there_is_one_process():
    with pytest.raises(RuntimeError, match="mine"), watched_group() as alone:
        assert (alone.rank, alone.world) == (0, 1)
        raise RuntimeError("mine")
