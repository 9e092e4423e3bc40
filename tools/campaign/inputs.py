"""Mutated inputs: whatever is wrong in a file, in a flag or in the environment, it is read or refused, and nothing ends
with a traceback."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.campaign.material import Material, make
from tools.campaign.mutations import ODD_TEXTS, mutated
from tools.campaign.outcome import Options, Outcome, answer, command

Reader = Callable[[Path], object]


@dataclass(frozen=True)
class Kind:
    """Files of one kind, and what reads them.

    Attributes:
        name: of the kind.
        home: the folder that the reader is given.
        files: names in it, or patterns; one of them is mutated at a time.
        read: what is tried.
        weight: how often, beside the others.
    """

    name: str
    home: Path
    files: tuple[str, ...]
    read: Reader
    weight: int = 4


def kinds(found: Material) -> list[Kind]:
    """Everything that is mutated."""
    data, run = found.data, found.run
    lists = ("names.json", "mapping.json", "numbers.json", "names.txt", "numbered.txt", "names.csv")
    return [
        Kind("settings", run, ("config.yaml",), _settings, 10),
        Kind("result file", run / "evaluation", ("*export*.json",), _report, 10),
        Kind("run folder", run, ("config.yaml", "metrics.jsonl", "env.json", "steering.json"), _report, 10),
        Kind("resumed run", run, ("config.yaml", "metrics.jsonl", "env.json"), _rows_and_start, 2),
        *(Kind(f"class names, {name}", data, (name,), _class_names(name), 3) for name in lists),
        Kind("templates, text", data, ("templates.txt",), _templates("templates.txt"), 2),
        Kind("templates, JSON", data, ("templates.json",), _templates("templates.json"), 2),
        Kind("word pairs", data, ("swap.txt",), _word_pairs, 2),
        Kind("points of a sweep", data, ("points.yaml",), _points, 3),
        Kind("preferences", data, ("preferences.jsonl",), _preferences, 5),
        Kind("preferences, CSV", data, ("preferences.csv",), _import, 1),
        Kind("captions", data, ("captions.jsonl",), _captions, 4),
        Kind("shards", data, ("shards/*.txt", "shards/test/nshards.txt", "shards/test/0.tar"), _shards, 5),
        Kind("head", data, ("head.safetensors", "plain_head.json", "plain_head.safetensors"), _heads, 6),
        Kind("linear map", run, ("linear_map.safetensors",), _map, 4),
        Kind("checkpoint", run, ("checkpoints/*2.safetensors",), _checkpoint, 3),
        Kind("OpenCLIP folder", found.models / "open_clip", ("*.json",), _model("local-dir:"), 2),
        Kind("timm folder", found.models / "timm", ("config.json", "model.safetensors"), _model("timm:local-dir:"), 3),
        Kind("transformers folder", found.models / "hf", ("*.json",), _model("hf:"), 3),
    ]


def mutated_inputs(options: Options, folder: Path) -> Outcome:
    """`count` mutated files, flags and variables."""
    outcome = Outcome("mutated inputs")
    found, counts = make(folder / "whole"), {"read": 0, "refused": 0, "crashed": 0}
    every = kinds(found)
    flags = options.count // 10
    for kind, count in _shared([*every], options.count - flags):
        place = folder / "mutated"
        shutil.copytree(kind.home, place)
        for number in range(count):
            _try(kind, place, number, options, outcome, counts)
        shutil.rmtree(place)
    for number in range(flags):
        _count(_flags_and_variables(options, number, folder), f"flags, number {number}", outcome, counts)
    outcome.notes.append(f"{counts['read']} read, {counts['refused']} refused with one message")
    return outcome


def _shared(every: Sequence[Kind], count: int) -> list[tuple[Kind, int]]:
    """How often each kind is tried."""
    total = sum(kind.weight for kind in every)
    return [(kind, max(1, round(count * kind.weight / total))) for kind in every]


def _try(kind: Kind, place: Path, number: int, options: Options, outcome: Outcome, counts: dict[str, int]) -> None:
    rng = options.rng(kind.name, number)
    files = sorted(file for pattern in kind.files for file in place.glob(pattern))
    file = files[number % len(files)]
    whole = file.read_bytes()
    try:
        file.write_bytes(mutated(whole, file.suffix, rng))
        _count(answer(lambda: kind.read(place)), f"{kind.name}, number {number}", outcome, counts)
    finally:
        file.write_bytes(whole)


def _count(found: tuple[str, str], what: str, outcome: Outcome, counts: dict[str, int]) -> None:
    counts[found[0]] += 1
    outcome.add(f"{found[1]} ({what})" if found[0] == "crashed" else None)


FLAGS: tuple[tuple[object, ...], ...] = (
    ("train", "lore-tiny", "--dry-run", "--seed"),
    ("train", "lore-tiny", "--dry-run", "--perturbation.epsilon"),
    ("train", "lore-tiny", "--dry-run", "--train-data"),
    ("train", "lore-tiny", "--dry-run", "--model"),
    ("train", "lore-tiny", "--dry-run", "--class-names"),
    ("train", "lore-tiny", "--dry-run", "--batch-size"),
    ("evaluate", "--model", "seaanchor-tiny", "--data"),
    ("evaluate", "--model", "seaanchor-tiny", "--data", "photos-mini", "--samples"),
    ("evaluate", "--model", "seaanchor-tiny", "--data", "photos-mini", "--epsilon"),
    ("evaluate", "--data", "photos-mini", "--model"),
    ("recipes", "validate"),
    ("recipes", "cp", "lore"),
    ("report",),
    ("data", "inspect"),
    ("data", "build", "--output", "never", "--data"),
    ("steer",),
    ("export", "--output", "never", "--model"),
)
VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "SOURCE_DATE_EPOCH", "SEAANCHOR_CACHE")
VALUES = (*ODD_TEXTS, "-1", str(2**63), str(2**64 - 1), "1e99", "a" * 300, "a/" * 3000, "nan", "inf", "4/0", "~", ".")


def _flags_and_variables(options: Options, number: int, folder: Path) -> tuple[str, str]:
    rng = options.rng("flags", number)
    value = rng.choice(VALUES).replace("\x00", "0")
    if value == ".." or value.startswith("../"):
        value = "nowhere"
    if number % 4 == 0:
        name = VARIABLES[number // 4 % len(VARIABLES)]
        with variable(name, value), inside(folder):
            return answer(command("evaluate", "--model", "seaanchor-tiny", "--data", "nowhere", "--samples", 4))
    with inside(folder):
        return answer(command(*FLAGS[number % len(FLAGS)], value))


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """A variable of the environment, inside."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Another working folder, inside."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _settings(home: Path) -> None:
    from seaanchor.config.io import from_dict
    from seaanchor.config.run_settings import read_settings
    from seaanchor.config.schema import RunConfig
    from seaanchor.config.validation import check

    check(from_dict(RunConfig, read_settings(home / "config.yaml")))


def _report(home: Path) -> None:
    from seaanchor.report.page import write_report

    write_report([home], home / "page.html", gallery=0)


def _rows_and_start(home: Path) -> None:
    from seaanchor.evaluation.model_pair import reference_of, tokens_of
    from seaanchor.training.run_folder import RunFolder
    from seaanchor.training.start import load_start

    RunFolder(home).rows()
    reference_of(str(home / "export"))
    tokens_of(str(home / "export"))
    load_start(home)


def _class_names(name: str) -> Reader:
    def read(home: Path) -> None:
        from seaanchor.data.sources import open_images

        open_images(home / "images", home / name)

    return read


def _templates(name: str) -> Reader:
    def read(home: Path) -> None:
        from seaanchor.data.names import read_templates

        read_templates([str(home / name)])

    return read


def _word_pairs(home: Path) -> None:
    from seaanchor.utils.text import word_pairs

    word_pairs(home / "swap.txt")


def _points(home: Path) -> None:
    from seaanchor.config.recipes import recipe_named
    from seaanchor.sweeps.arms import one
    from seaanchor.sweeps.sweep import read_points

    for point in read_points(home / "points.yaml"):
        one(recipe_named("lore-tiny"), point)


def _preferences(home: Path) -> None:
    command("data", "inspect", home / "preferences.jsonl")()


def _import(home: Path) -> None:
    shutil.rmtree(home / "imported", ignore_errors=True)
    command("data", "import", home / "preferences.csv", "--output", home / "imported")()


def _captions(home: Path) -> None:
    from seaanchor.evaluation.captions import read_captions

    read_captions(home / "captions.jsonl")


def _shards(home: Path) -> None:
    command("data", "inspect", home / "shards" / "test")()


def _heads(home: Path) -> None:
    from seaanchor.encoders.head_file import read_head

    read_head(home / "head.safetensors")
    read_head(home / "plain_head.safetensors")


def _map(home: Path) -> None:
    from seaanchor.adapters.linear_map import decompose
    from seaanchor.export.trained import read_map

    decompose(read_map(home)).check_rank(0.5)


def _checkpoint(home: Path) -> None:
    from seaanchor.training.run_folder import RunFolder

    RunFolder(home).latest()


def _model(prefix: str) -> Reader:
    def read(home: Path) -> None:
        from seaanchor.encoders.load import load_model

        load_model(f"{prefix}{home}")

    return read
