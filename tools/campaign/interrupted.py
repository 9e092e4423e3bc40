"""Kills and full disks: a command is stopped at one of its file operations, given again, and leaves what it leaves
undisturbed."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tools.campaign.dying import KILLED, die, digest, in_child, no_space, operations, trap
from tools.campaign.material import TRAINING, make_images, make_run
from tools.campaign.outcome import Options, Outcome, command, quiet


@dataclass(frozen=True)
class Tried:
    """A command.

    Attributes:
        name: of it.
        arguments: from its output folder to what is typed.
        endings: of the files that are compared; all by default.
    """

    name: str
    arguments: Callable[[Path], Sequence[object]]
    endings: tuple[str, ...] = ()


def kills(options: Options, folder: Path) -> Outcome:
    """Every command is killed, and given again."""
    return _interrupted("kills at file operations", die, options, folder)


def full_disk(options: Options, folder: Path) -> Outcome:
    """The disk is full at one operation of every command: one clear error, and the same command works afterwards."""
    return _interrupted("full disk", no_space, options, folder)


def commands(folder: Path) -> list[Tried]:
    """What is interrupted."""
    run, images = make_run(folder / "whole"), make_images(folder / "images")[0].parents[1]
    train = ("train", "dpo-linear-tiny", *TRAINING, "--train-data", "photos-mini", "--resume", "auto")
    measure = ("evaluate", "--model", run / "export", "--data", "photos-mini", "--samples", 8, "--suite", "clean,pgd")
    pairs = ("data", "pairs", "--data", "emoji-people")
    scenes = ("data", "emoji-scenes", "--train", 1, "--test", 1, "--image-size", 64)
    sweep = ("sweep", "dpo-linear-tiny", "--vary", "lr=1e-4,1e-3", *TRAINING, "--train-data", "photos-mini")
    sweep += ("--data", "photos-mini", "--samples", 8, "--suite", "clean,typographic")
    letters = ("attack", "typographic", "--data", images, "--image-size", 64)
    return [
        Tried("recipes cp", lambda out: ("recipes", "cp", "lore", out / "lore.yaml")),
        Tried("data build", lambda out: ("data", "build", "--data", images, "--output", out / "shards")),
        Tried("data pairs", lambda out: (*pairs, "--output", out / "pairs.jsonl")),
        Tried("data emoji-scenes", lambda out: (*scenes, "--output", out / "scenes")),
        Tried("attack typographic", lambda out: (*letters, "--output", out / "letters")),
        Tried("export", lambda out: ("export", "--model", "seaanchor-tiny", "--output", out / "export")),
        Tried("steer --t", lambda out: ("steer", run, "--t", 0.5, "--output", out / "steered")),
        Tried("evaluate", lambda out: (*measure, "--num-steps", 1, "--epsilon", "2/255", "--output", out / "results")),
        Tried("report", lambda out: ("report", run, "--gallery", 0, "--output", out / "page"), (".csv",)),
        Tried("train", lambda out: (*train, "--output", out / "run"), (".safetensors",)),
        Tried("sweep", lambda out: (*sweep, "--output", out / "sweep"), (".safetensors", ".csv")),
    ]


def _interrupted(section: str, act: Callable[[], None], options: Options, folder: Path) -> Outcome:
    outcome = Outcome(section)
    with quiet():
        every = commands(folder)
    for tried in every:
        place = folder / "tried"
        call = command(*tried.arguments(place))
        _fresh(place)
        there = operations(call, place)
        expected = digest(place, tried.endings)
        count = max(1, options.count // len(every))
        for number in sorted({1 + round(at * (there - 1) / max(1, count - 1)) for at in range(min(count, there))}):
            _fresh(place)
            code = in_child(call, trap(place, number, act))
            wrong = _wrong(code, act is die, call, expected, partial(digest, place, tried.endings))
            outcome.add(wrong and f"{tried.name}: {wrong} (operation {number} of {there})")
    return outcome


def _wrong(
    code: int, killed: bool, call: Callable[[], None], expected: dict[str, str], found: Callable[[], dict[str, str]]
) -> str | None:
    """What is wrong after an interruption that ended with a code; None if nothing is."""
    if not killed and code not in (0, 2):
        return f"ended with {code} in place of one clear error"
    if killed and code not in (0, KILLED):
        return f"ended with {code}"
    if (killed or code == 0) and found() == expected:
        return None  # all of it was there
    again = in_child(call)
    if again != 0:
        return f"given again, it ends with {again}"
    return None if found() == expected else "given again, it leaves something else"


def _fresh(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
