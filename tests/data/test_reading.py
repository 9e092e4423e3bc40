"""Images are read ahead by threads or processes, and come in one order whoever reads them and however long it takes."""

import os
import random
import signal
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from seaanchor.data import loader, reading
from seaanchor.data.dataset import from_dataset
from seaanchor.data.folder import list_images
from seaanchor.data.images import quiet_pillow
from seaanchor.data.loader import ImageDataset, SkipLog, chosen_batches
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.log import warn_once

LISTS = [[3, 1, 4], [15, 9, 2, 6], [], [5], list(range(20, 45))]


def slow(index: int) -> int:
    time.sleep(random.Random(index).random() / 200)
    return index


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
def test_order_is_what_was_asked_for_in_any_number_of_threads(threads):
    assert list(reading.by_threads(slow, LISTS, list, threads)) == LISTS


def test_pixels_and_order_are_the_same_whoever_reads(image_folder, monkeypatch):
    images = list_images(image_folder)
    lists = [[3, 1, 11], [7], [0, 2, 4, 5, 6], [8, 9, 10]]

    def read(workers: int, threads: int = 1):
        monkeypatch.setattr(loader, "reading_threads", lambda: threads)
        got = list(chosen_batches(ImageDataset(images, 8), lists, workers=workers, skip_log=SkipLog(images)))
        assert [batch.index_B.tolist() for batch in got] == lists
        return torch.cat([batch.pixels_BCHW for batch in got])

    alone = read(0, threads=0)
    for workers, threads in ((0, 1), (0, 3), (1, 1), (2, 1), (4, 1)):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This process")  # of forking beside threads, in newer Pythons
            assert torch.equal(read(workers, threads), alone)


def test_what_comes_next_is_read_meanwhile_and_no_more():
    begun, lists = set(), [[i] for i in range(9)]
    stream = reading.by_threads(lambda i: begun.add(i) or i, lists, list, 1)
    assert next(stream) == [0]
    until = time.monotonic() + 10
    while begun != {0, 1, 2} and time.monotonic() < until:
        time.sleep(0.01)
    assert begun == {0, 1, 2}  # while the first batch is worked on
    time.sleep(0.05)
    assert begun == {0, 1, 2}
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("seaanchor-images")]


def test_a_batch_alone_starts_no_thread():
    who: list[str] = []
    assert list(reading.by_threads(lambda i: who.append(threading.current_thread().name), [[1, 2]], len, 3)) == [2]
    assert set(who) == {threading.current_thread().name}


def test_an_error_comes_where_its_batch_would():
    stream = reading.by_threads(lambda i: 1 // (i - 5), LISTS, list, 2)
    assert [len(next(stream)) for _ in range(3)] == [3, 4, 0]
    with pytest.raises(ZeroDivisionError):
        next(stream)


def test_the_code_of_a_data_set_runs_in_no_other_thread():
    class Own(Dataset):
        def __len__(self) -> int:
            return 12

        def __getitem__(self, index: int) -> torch.Tensor:
            seen.add(threading.current_thread())
            return torch.full((3, 8, 8), index / 12)

    seen: set[threading.Thread] = set()
    images, lists = from_dataset(Own()), [[1, 2], [3, 4], [5]]
    got = list(chosen_batches(ImageDataset(images, 8), lists, workers=0, skip_log=SkipLog(images)))
    assert [batch.index_B.tolist() for batch in got] == lists and seen == {threading.current_thread()}


class Killed(Dataset):
    """A loading process that the system ends, as it does where memory runs out."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        if index == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return index


def test_a_killed_process_is_one_error():
    with pytest.raises(SeaAnchorError, match=r"(?s)a loading process ended .*fewer --workers") as caught:
        list(reading.by_processes(Killed(), [[1, 2], [5], [7]], list, 1))
    assert "\n" not in caught.value.found


@pytest.mark.parametrize("workers", [-1, 1.5, True, "2"])
def test_what_is_no_number_of_processes(image_folder, workers):
    images = list_images(image_folder)
    with pytest.raises(SeaAnchorError, match="workers is"):
        list(chosen_batches(ImageDataset(images, 8), [[1]], workers=workers, skip_log=SkipLog(images)))


def test_more_processes_than_cores_are_told_once(image_folder, monkeypatch, caplog):
    warn_once.cache_clear()
    monkeypatch.setattr(reading, "available_cores", lambda: 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)  # the loader's own warning is an error
    images = list_images(image_folder)

    def read(workers):
        return list(chosen_batches(ImageDataset(images, 8), [[1], [2, 3]], workers=workers, skip_log=SkipLog(images)))

    alone = read(0)
    for _ in range(2):
        for batch, wanted in zip(read(2), alone, strict=True):
            assert torch.equal(batch.index_B, wanted.index_B) and torch.equal(batch.pixels_BCHW, wanted.pixels_BCHW)
    assert caplog.text.count("2 loading processes share 1 available core:") == 1
    assert "use --workers 1 or fewer" in caplog.text


def test_as_many_threads_as_there_are_cores_to_spare(monkeypatch):
    assert torch.cuda.is_available() or reading.reading_threads() == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for cores, processes, threads in ((1, 1, 1), (2, 1, 1), (6, 1, 5), (64, 1, 8), (16, 4, 3)):
        monkeypatch.setattr(reading, "available_cores", lambda cores=cores: cores)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        assert reading.reading_threads() == threads


def test_threads_quieten_pillow_and_nobody_else():
    before, stop = list(warnings.filters), threading.Event()

    def read() -> None:
        while not stop.is_set():
            with quiet_pillow():
                warnings.warn_explicit("odd metadata", UserWarning, "x.py", 1, "PIL.TiffImagePlugin")

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    with pytest.raises(UserWarning, match="ours"):
        for _ in range(200):
            pass
        warnings.warn("ours", stacklevel=1)
    stop.set()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


def test_a_picture_with_an_odd_block_gives_no_warning(tmp_path: Path, monkeypatch):
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    images = list_images(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (batch,) = chosen_batches(ImageDataset(images, 8), [[0]], workers=0, skip_log=SkipLog(images))
    assert len(batch.index_B) == 1
