"""A table is the same to the last bit however it came about: in any batches, in several processes, and after a kill."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from seaanchor.data.folder import list_images
from seaanchor.data.loader import ImageDataset
from seaanchor.distributed.launch import open_group
from seaanchor.distributed.process_group import ProcessGroup
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation import embeddings, measure, table
from seaanchor.evaluation.attacks import AttackPlan
from seaanchor.evaluation.run import Protocol, evaluate
from seaanchor.evaluation.table import ExecutionOptions, collect

PROTOCOL = Protocol((AttackPlan("apgd", "linf", (1 / 255, 4 / 255), 2),), suites=("drift", "noise", "retrieval"))


@pytest.fixture
def dataset(image_folder) -> ImageDataset:
    (image_folder / "red_fox" / "0.jpg").write_bytes(b"no image")
    return ImageDataset(list_images(image_folder), 8)


# frozen
def work(folder: Path, batch_size: int = 3, workers: int = 0, group: ProcessGroup = ProcessGroup()) -> ExecutionOptions:  # noqa: B008
    return ExecutionOptions(batch_size, workers, torch.device("cpu"), group, folder / ".partial")


def means(batch):
    """One number an image."""
    return {"mean": batch.pixels_BCHW.mean((1, 2, 3)), "label": batch.label_B}


def same(a, b) -> bool:
    return set(a) == set(b) and all(torch.equal(a[column], b[column]) for column in a)


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (5, 0), (5, 2), (50, 0)])
def test_every_readable_image_is_one_row_in_order(dataset, tmp_path, batch_size, workers):
    table, skipped = collect("test", "images", dataset, means, work(tmp_path, batch_size, workers))
    assert table["index"].tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]
    assert table["label"].tolist() == [0] * 4 + [1] * 3 + [2] * 4
    assert skipped.startswith("1 of 12 images")
    first = next(iter(torch.utils.data.DataLoader(dataset, batch_size=None))).pixels_CHW
    assert table["mean"][0].item() == pytest.approx(first.float().mean().item() / 255)


def test_what_was_measured_before_is_not_measured_again(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(table, "FLUSH_IMAGES", 3)
    whole = collect("test", "images", dataset, means, work(tmp_path / "whole"))
    seen = []

    def stopping(batch):
        if len(seen) >= 6:
            raise KeyboardInterrupt
        seen.extend(batch.index_B.tolist())
        return means(batch)

    with pytest.raises(KeyboardInterrupt):
        collect("test", "images", dataset, stopping, work(tmp_path))
    before = list(seen)
    seen.clear()
    for batch_size in (3, 2):  # the second finds all of it done
        again = collect(
            "test",
            "images",
            dataset,
            lambda batch: seen.extend(batch.index_B.tolist()) or means(batch),
            work(tmp_path, batch_size),
        )
        assert same(again[0], whole[0])
        assert again[1] == whole[1]  # what could not be read counts once, too
    assert (
        sorted(before[:3] + seen) == whole[0]["index"].tolist() or sorted(before + seen) == whole[0]["index"].tolist()
    )
    assert len(seen) < len(whole[0]["index"])
    other = collect(
        "test", "training", dataset, means, work(tmp_path)
    )  # another table's parts are not taken for its own
    assert same(other[0], whole[0])


@pytest.mark.parametrize("seed", range(5))
def test_a_damaged_part_is_measured_again(dataset, tmp_path, monkeypatch, caplog, seed):
    monkeypatch.setattr(table, "FLUSH_IMAGES", 6)
    whole = collect("test", "images", dataset, means, work(tmp_path))
    (first, second) = sorted((tmp_path / ".partial").iterdir())
    content, seen = bytearray(second.read_bytes()), []
    bit = random.Random(seed).randrange(8 * (len(content) - 40) if seed % 2 else 0, 8 * len(content))  # often a number
    content[bit // 8] ^= 1 << bit % 8
    second.write_bytes(content)
    first.write_bytes(first.read_bytes() if seed else first.read_bytes()[:-20])  # one is cut short, too
    again = collect(
        "test",
        "images",
        dataset,
        lambda batch: seen.extend(batch.index_B.tolist()) or means(batch),
        work(tmp_path),
    )
    assert same(again[0], whole[0]) and again[1] == whole[1]
    assert seen == ([9, 10, 11] if seed else [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11])
    assert second.name in caplog.text and "measured again" in caplog.text


def test_a_part_without_a_checksum_is_measured_again(dataset, tmp_path, monkeypatch, caplog):
    """As older versions wrote them: nothing tells whether its numbers are those that were measured."""
    monkeypatch.setattr(table, "FLUSH_IMAGES", 6)
    whole = collect("test", "images", dataset, means, work(tmp_path))
    first, *_ = sorted((tmp_path / ".partial").iterdir())
    with safe_open(first, framework="pt") as file:
        tensors, said = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    save_file({key: t + t.is_floating_point() for key, t in tensors.items()}, first, {"state": said["checked_state"]})
    assert same(collect("test", "images", dataset, means, work(tmp_path))[0], whole[0])
    assert first.name in caplog.text and "measured again" in caplog.text


def test_nothing_readable_is_an_error(dataset, tmp_path):
    for file in dataset.images.paths:
        file.write_bytes(b"")
    with pytest.raises(SeaAnchorError, match=r"no labelled image could be read: 12 of 12"):
        collect("test", "images", dataset, means, work(tmp_path))


def test_alone_there_is_nobody_to_wait_for():
    with open_group() as group:
        assert (group.rank, group.world, group.first) == (0, 1, True)
        assert group.agree("x") == "x"
        assert group.gather(3) == [3]


KILLED = """
import time, torch
from seaanchor.evaluation import embeddings, measure, table
torch.set_num_threads(1)
table.FLUSH_IMAGES = 3
real = measure.embed
measure.embed = embeddings.embed = lambda model, batch: time.sleep(0.5) or real(model, batch)
from tests.evaluation.test_table import PROTOCOL
from seaanchor.evaluation.run import evaluate
evaluate({model!r}, [{data!r}], PROTOCOL, __import__("pathlib").Path({output!r}), reference={model!r}, batch_size=3)
"""


def result_files(folder: Path) -> dict[str, bytes]:
    assert not list(folder.glob(".*")), "partial results are left over"
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def parts_of_the_second(folder: Path) -> int:
    """Parts of a result that is not written yet, while the first one is."""
    done = [file.stem for file in folder.glob("*.json")]
    return (
        sum(
            part.parent.name[1:].removesuffix(".partial") not in done
            for part in folder.glob(".*.partial/images-*.safetensors")
        )
        if done
        else 0
    )


@pytest.mark.slow
def test_killed_and_resumed_gives_the_same_bytes(clip_folder, image_folder, tmp_path, monkeypatch):
    """A real process, a real kill -9 between two parts of the second model; without the cache, which an earlier run may
    have filled with another number of threads, hence another rounding."""
    monkeypatch.setenv("SEAANCHOR_CACHE", "off")
    (image_folder / "red_fox" / "0.jpg").write_bytes(b"no image")
    settings = {"reference": str(clip_folder), "batch_size": 3}
    evaluate(str(clip_folder), [str(image_folder)], PROTOCOL, tmp_path / "whole", **settings)
    code = KILLED.format(model=str(clip_folder), data=str(image_folder), output=str(tmp_path / "killed"))
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    until = time.monotonic() + 240
    while parts_of_the_second(tmp_path / "killed") < 2:
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    measured = []
    real = measure.embed
    for module in (measure, embeddings):
        monkeypatch.setattr(
            module, "embed", lambda model, batch: measured.extend(batch.index_B.tolist()) or real(model, batch)
        )
    evaluate(str(clip_folder), [str(image_folder)], PROTOCOL, tmp_path / "killed", skip_existing=True, **settings)
    assert result_files(tmp_path / "killed") == result_files(tmp_path / "whole")
    assert (
        11 < len(measured) <= 2 * 11 - 5
    )  # the reference's embeddings, for the drift, and what was left of the second model's images


@pytest.mark.exhaustive
@pytest.mark.slow
def test_two_processes_give_the_bytes_of_one(clip_folder, image_folder, tmp_path):
    (image_folder / "red_fox" / "0.jpg").write_bytes(b"no image")
    evaluate(
        str(clip_folder), [str(image_folder)], PROTOCOL, tmp_path / "one", reference=str(clip_folder), batch_size=3
    )
    arguments = [
        "--model",
        str(clip_folder),
        "--reference",
        str(clip_folder),
        "--data",
        str(image_folder),
        "--output",
        str(tmp_path / "two"),
    ]
    arguments += [
        "--suite",
        "clean,apgd,drift,noise,retrieval",
        "--epsilon",
        "1/255,4/255",
        "--num-steps",
        "2",
        "--batch-size",
        "3",
    ]
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "seaanchor.cli",
        "evaluate",
    ]
    done = subprocess.run(
        [*launcher, *arguments], capture_output=True, text=True, timeout=280, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert result_files(tmp_path / "two") == result_files(tmp_path / "one")
    assert done.stdout.count("results: ") == 1  # the second process says nothing
    assert {json.loads(text)["clean"]["n"] for text in result_files(tmp_path / "two").values()} == {11}
