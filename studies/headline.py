"""The figure that stands first: robust against clean accuracy, and drawn words against clean accuracy, ours beside the
baselines."""

import json
from pathlib import Path

from seaanchor.errors import SeaAnchorError
from seaanchor.plotting.panels import Series, panels
from seaanchor.sweeps.engine import Row
from seaanchor.sweeps.tables import summarise
from studies.experiment import Bench, Experiment, Section
from studies.lore import CLEAN, RHOS, ROBUST, TIGHT, WEIGHTS, columns_of, points
from studies.pool import EPSILON, FARE
from studies.preference import COLUMNS, UNTOUCHED
from studies.words import towers


def read_rows(file: Path, experiment: str) -> list[Row]:
    """The rows another experiment left.

    Raises:
        SeaAnchorError: it has not run yet.
    """
    if not file.is_file():
        change = f"run `python -m studies {experiment}` first, with the same --output"
        raise SeaAnchorError(f"{file} is missing", f"the rows of experiment {experiment}", change)
    return [Row(**row) for row in json.loads(file.read_text())]


def run_headline(bench: Bench) -> Section:
    """Drawn from the rows of `lore-front` and `typographic`."""
    noise = summarise(read_rows(bench.output.parent / "lore-front" / "table.json", "lore-front"), columns_of(bench))
    words = summarise(read_rows(bench.output.parent / "typographic" / "rows.json", "typographic"), COLUMNS)
    lines = {
        "LORE, over ρ": [f"LORE ρ={rho:g}" for rho in RHOS],
        "LORE, slow dual": [f"LORE ρ={rho:g}, slow" for rho in TIGHT],
        "fixed penalty, over its weight": [f"penalty w={w:g}" for w in WEIGHTS],
    }
    left = [Series(name, *points(noise, arms, ROBUST, CLEAN), path=True) for name, arms in lines.items()]
    left += [
        Series(name, *points(noise, [arm], ROBUST, CLEAN), line=False)
        for name, arm in (("FARE", FARE), ("untouched model", UNTOUCHED))
    ]
    right = [Series("untouched model", *points(words, [UNTOUCHED], "T, word drawn %", "O, clean %"), line=False)]
    right += [
        Series(name, *points(words, [f"{name}, tower"], "T, word drawn %", "O, clean %"), line=False)
        for name in towers()
    ]
    panels(
        [
            ("Noise", f"accuracy under attack, ε = {EPSILON}/255, %", "clean accuracy, %", left),
            ("Words", "accuracy with a wrong word drawn on, %", "clean accuracy, %", right),
        ],
        bench.output / "figure.svg",
    )
    text = (
        "Both axes better to the upper right; ranges over seeds. The numbers are those of the sections on "
        "fronts and on drawn words.\n"
    )
    return Section(
        text + "\n![robust and clean accuracy; drawn words and clean accuracy](figure.svg)\n", ("figure.svg",)
    )


EXPERIMENTS = (
    Experiment(
        "headline",
        "At a glance",
        "Ours beside the baselines, drawn from the runs of `lore-front` and `typographic`.",
        1,
        run_headline,
    ),
)
