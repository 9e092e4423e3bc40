"""Rows that were measured before, kept in a folder, so that a study goes on where another machine left off.

Each arm and seed is one file: what its numbers depend on, and the rows. It is taken only where all of that is the same
now: recipe, untouched model, training images, data sets and protocols. Folders count by their images, not by where they
lie.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from seaanchor.config.schema import RunConfig
from seaanchor.data.sources import open_images
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.encoders.load import load_model
from seaanchor.evaluation.images import listing
from seaanchor.sweeps.arms import recipe_of
from seaanchor.sweeps.engine import EvaluationSpec, Row, read_rows, save_rows
from seaanchor.utils.checkpoint import write_atomic
from studies.declare import Logged

COMPUTED = "computed"


def known(folder: Path, name: str, seed: int, depends_on: dict[str, Any], sources: Sequence[str]) -> list[Row] | None:
    """The rows of an arm that were kept with the same dependencies, on `sources` as they are called now; None where
    there are none."""
    file = folder / f"{name}, seed {seed}.json"
    note = file.with_suffix(".key.json")
    if not file.is_file() or not note.is_file():
        return None
    noted = json.loads(note.read_text())
    noted.pop(COMPUTED, None)
    if noted != depends_on:
        return None
    return [replace(row, dataset=source) for row, source in zip(read_rows(file), sources, strict=True)]


def keep(
    folder: Path, name: str, seed: int, depends_on: dict[str, Any], rows: Sequence[Row], computed: dict[str, str]
) -> None:
    """Keep the rows of an arm with what they depend on, their data sets under names that lead nowhere, and the
    precisions that its run was computed in, which are told but do not count: another processor may have others."""
    save_rows(rows, folder / f"{name}, seed {seed}.json")
    note = json.dumps(depends_on | {COMPUTED: computed}, indent=1)
    write_atomic(folder / f"{name}, seed {seed}.key.json", note)


def precisions(folder: Path | None, names: Sequence[str], seeds: Sequence[int]) -> str:
    """In which precisions the updates of these arms were computed, in words."""
    found: dict[str, list[str]] = {}
    for seed in seeds:
        notes = [folder / f"{name}, seed {seed}.key.json" for name in names] if folder else []
        told = {json.loads(note.read_text()).get(COMPUTED, {}).get("updates", "") for note in notes if note.is_file()}
        found.setdefault(" and ".join(sorted(told - {""})), []).append(str(seed))
    several = len(seeds) > 1
    return "; ".join(f"{words} (seed {', '.join(s)})" if several else words for words, s in found.items() if words)


def dependencies(
    config: RunConfig, seed: int, specs: Sequence[EvaluationSpec], of_log: Mapping[str, Logged] | None = None
) -> dict[str, Any]:
    """What the rows of an arm depend on, as JSON values."""
    recipe = recipe_of(replace(config, seed=seed, output=RunConfig().output, resume=RunConfig().resume))
    measured = [
        {"images": [_images(source) for source in spec.sources], "protocol": asdict(spec.protocol)} for spec in specs
    ]
    recipe |= {"model": _weights(config.model)}
    if "train_data" in recipe:
        recipe |= {"train_data": _images(config.train_data, "train")}
    told: dict[str, Any] = {"recipe": recipe, "measured": measured}
    if of_log:
        told["of_log"] = {measure: asdict(number) for measure, number in of_log.items()}
    return json.loads(json.dumps(told, default=str))


@cache
def _images(source: str, split: str = "test") -> str:
    return listing(open_images(source, split=split))


@cache
def _weights(model: str) -> str:
    return fingerprint(load_model(model).module)
