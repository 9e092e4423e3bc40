"""Determinism and soak: the same bits again, and neither memory nor open files that grow."""

import gc
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from PIL import Image

from seaanchor.data.sources import open_images
from seaanchor.data.types import LabelledImages
from seaanchor.errors import SeaAnchorError
from tools.campaign.dying import KILLED, die, digest, in_child, trap
from tools.campaign.outcome import Options, Outcome, command, quiet

RUN = ("train", "lore-tiny", "--train-samples", 24, "--batch-size", 8, "--perturbation.num-steps", 2, "--log-every", 1)
STEPS = 6
SECONDS = 0.5  # between two looks at the process
MORE_MEMORY, MORE_FILES = 40e6, 4  # bytes and descriptors that a process may come to hold


def determinism(options: Options, folder: Path) -> Outcome:
    """The same seed gives the same weights, to the last bit: twice, in one thread and in two, with loading processes
    and without, after it was killed and resumed, and in two processes."""
    outcome = Outcome("determinism")
    once = _trained(folder / "once", 1)
    pairs = {
        "twice, one thread": lambda: (once, _trained(folder / "again", 1)),
        "twice, two threads": lambda: (_trained(folder / "two", 2), _trained(folder / "two_again", 2)),
        "with and without loading processes": lambda: (once, _trained(folder / "workers", 1, "--workers", 2)),
        "after a kill and --resume auto": lambda: (once, _resumed(folder / "resumed")),
        "after Ctrl-C and --resume auto": lambda: (once, _resumed(folder / "stopped", ask=True)),
        "twice, two processes": lambda: (_of_two(folder / "pair"), _of_two(folder / "pair_again")),
    }
    for name, make in list(pairs.items())[: options.count]:
        try:
            first, second = make()
            outcome.add(None if first and first == second else f"{name}: other weights")
        except (RuntimeError, SeaAnchorError) as error:
            outcome.add(f"{name}: {error}")
    other = _trained(folder / "other", 1, "--seed", 1)
    outcome.add(None if other != once else "another seed: the same weights")
    return outcome


def _arguments(output: Path, *more: object) -> tuple[object, ...]:
    return (*RUN, "--max-steps", STEPS, "--save-every", 2, "--device", "cpu", "--output", output, *more)


def _trained(output: Path, threads: int, *more: object) -> dict[str, str]:
    """What a run leaves."""

    def call() -> None:
        import torch

        torch.set_num_threads(threads)
        command(*_arguments(output, *more))()

    _must(in_child(call))
    return digest(output / "export", (".safetensors",))


def _resumed(output: Path, ask: bool = False) -> dict[str, str]:
    """What a run leaves that was killed, or asked to stop, as it wrote its second checkpoint, and resumed."""
    call = command(*_arguments(output, "--resume", "auto"))
    act = (lambda: os.kill(os.getpid(), signal.SIGINT)) if ask else die
    code = in_child(call, trap(output / "checkpoints", 6, act))
    if code not in (0, 2, KILLED, 130):
        raise RuntimeError(f"the interrupted run ended with {code}")
    _must(in_child(call))
    return digest(output / "export", (".safetensors",))


def _of_two(output: Path) -> dict[str, str]:
    """What two processes leave together."""
    codes = of_processes([_arguments(output)] * 2)
    if any(codes):
        raise RuntimeError(f"two processes ended with {codes}")
    return digest(output / "export", (".safetensors",))


def of_processes(commands: Sequence[Sequence[object]]) -> list[int]:
    """Exit codes of commands that run as the processes of one run, on this machine."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    codes = [0] * len(commands)

    def one(rank: int) -> None:
        def announce() -> None:
            world = {"WORLD_SIZE": len(commands), "LOCAL_WORLD_SIZE": len(commands), "RANK": rank, "LOCAL_RANK": rank}
            place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            os.environ.update({name: str(value) for name, value in (world | place).items()})

        codes[rank] = in_child(command(*commands[rank]), announce)

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(len(commands))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return codes


def processes_that_disagree(options: Options, folder: Path) -> Outcome:
    """Two processes with another seed, rate, data or option: both end with an error, and nothing is exported."""
    outcome = Outcome("processes that disagree")
    others = {
        "seed": ("--seed", 1),
        "rate": ("--lr", 1e-3),
        "data": ("--train-data", "photos-mini/test"),
        "option": ("--batch-size", 0),
    }
    for name, more in list(others.items())[: options.count]:
        output = folder / name
        codes = of_processes([_arguments(output), _arguments(output, *more)])
        ended = all(code not in (0, 124) for code in codes) and not (output / "export").exists()
        outcome.add(None if ended else f"another {name}: exit codes {codes}")
    return outcome


def _must(code: int) -> None:
    if code:
        raise RuntimeError(f"a run ended with {code}")


def soak(options: Options, folder: Path) -> Outcome:
    """A long run: what the process holds in its second fifth and in its fourth; its start and its end load models."""
    outcome, seen = Outcome("soak"), []
    run = ("train", "lore-tiny", "--max-steps", options.count, "--epochs", options.count, "--train-samples", 8)
    small = ("--batch-size", 2, "--perturbation.num-steps", 1, "--save-every", 200, "--log-every", 20)
    with quiet(), _watched(seen):
        command(*run, *small, "--device", "cpu", "--output", folder / "run")()
    _compare(outcome, seen, f"{options.count} steps")
    return outcome


class Again(Sequence[tuple[Image.Image, int]]):
    """The embedded photos again and again, as a data set of so many items."""

    def __init__(self, count: int) -> None:
        self.photos = open_images("photos-mini/test")
        assert isinstance(self.photos, LabelledImages)
        self.count, self.classes = count, list(self.photos.class_names)
        self.targets = [self.photos.labels[index % len(self.photos.paths)] for index in range(count)]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        with Image.open(self.photos.paths[index % len(self.photos.paths)]) as image:
            return image.convert("RGB"), self.targets[index]


def many_images(options: Options, folder: Path) -> Outcome:
    """An evaluation of many images: what the process holds early and late, as in `soak`."""
    import seaanchor

    outcome, seen = Outcome("many images"), []
    few, many = (seaanchor.data.from_dataset(Again(count), name=f"{count}") for count in (50, options.count))
    with quiet():
        seaanchor.evaluate("seaanchor-tiny", few)  # libraries are imported and memory is taken that stays
        with _watched(seen):
            found = seaanchor.evaluate("seaanchor-tiny", many, output=folder / "results", batch_size=50)
    outcome.add(None if found.clean and found.clean.n == options.count else f"{found.clean} of {options.count} images")
    _compare(outcome, seen, f"{options.count} images")
    return outcome


def _compare(outcome: Outcome, seen: Sequence[tuple[float, int]], what: str) -> None:
    """What is held in the second fifth of the looks and in the fourth."""
    fifth = len(seen) // 5
    early, late = seen[fifth : 2 * fifth + 1], seen[3 * fifth : 4 * fifth + 1]
    memory = median(look[0] for look in late) - median(look[0] for look in early)
    files = int(median(look[1] for look in late) - median(look[1] for look in early))
    outcome.add(None if memory <= MORE_MEMORY else f"{memory / 1e6:.0f} MB more late")
    outcome.add(None if files <= MORE_FILES else f"{files} open files more late")
    outcome.notes.append(f"{what}: {memory / 1e6:+.0f} MB, {files:+d} open files, {len(seen)} looks")


@contextmanager
def _watched(seen: list[tuple[float, int]]) -> Iterator[None]:
    """Memory in bytes and open files of this process, looked at every few seconds inside."""
    import psutil

    process, done = psutil.Process(), threading.Event()

    def look() -> None:
        while True:
            seen.append((process.memory_info().rss, process.num_fds()))
            if done.wait(SECONDS):
                return

    gc.collect()
    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
