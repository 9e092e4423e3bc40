"""Studies: figures at a glance, drawn from the rows of others."""

from seaanchor.errors import SeaAnchorError
from seaanchor.plotting.panels import Series, panels
from seaanchor.sweeps.engine import Row, read_rows
from seaanchor.sweeps.tables import Column, summarise
from studies.declare import Section, Study, Table
from studies.figures import points
from studies.noise_arms import EPSILON, FARE, LORES, PENALTIES, SLOW_LORES
from studies.noise_tables import CLEAN, ROBUST, robust_columns
from studies.real_arms import RADIUS
from studies.real_studies import CLEAN as REAL_CLEAN
from studies.real_studies import DIVERSE, FRONT, WORDS
from studies.real_studies import ROBUST as REAL_ROBUST
from studies.real_studies import TOWERS as REAL_TOWERS
from studies.rows import UNTOUCHED
from studies.word_arms import TOWERS
from studies.word_tables import COLUMNS, O, T
from studies.workspace import Workspace


def rows_left(study: str, workspace: Workspace) -> list[Row]:
    """The rows another study left.

    Raises:
        SeaAnchorError: it has not run yet.
    """
    file = workspace.shared(study) / "table.json"
    if not file.is_file():
        change = f"run `python -m studies {study}` first, with the same --output"
        raise SeaAnchorError(f"{file} is missing", f"the rows of study {study}", change)
    return read_rows(file)


def _noise(table: Table) -> list[Series]:
    """Fronts as paths, single models as points."""
    lines = {"LORE, over ρ": LORES, "LORE, slow dual": SLOW_LORES, "fixed penalty, over its weight": PENALTIES}
    alone = {"FARE": FARE, "untouched model": UNTOUCHED}
    return [
        *(Series(name, *points(table, list(arms), ROBUST, CLEAN), path=True) for name, arms in lines.items()),
        *(Series(name, *points(table, [arm], ROBUST, CLEAN), line=False) for name, arm in alone.items()),
    ]


def _words(table: Table) -> list[Series]:
    arms = {"untouched model": UNTOUCHED} | {name: f"{name}, tower" for name in TOWERS}
    return [Series(name, *points(table, [arm], T, O), line=False) for name, arm in arms.items()]


def run_headline(workspace: Workspace) -> Section:
    """Drawn from the rows of `lore-front` and `typographic`."""
    noise_columns = [column for column in robust_columns() if isinstance(column, Column)]
    noise = summarise(rows_left("lore-front", workspace), noise_columns)
    words = summarise(rows_left("typographic", workspace), COLUMNS)
    panels(
        [
            ("Noise", f"accuracy under attack, ε = {EPSILON}/255, %", "clean accuracy, %", _noise(noise)),
            ("Words", "accuracy with a wrong word drawn on, %", "clean accuracy, %", _words(words)),
        ],
        workspace.output / "figure.svg",
    )
    text = (
        "Both axes are better to the upper right; bars are ranges over seeds. The numbers are those of the sections on "
        "fronts and on typographic attacks.\n"
    )
    picture = "\n![robust and clean accuracy; drawn words and clean accuracy](figure.svg)\n"
    return Section(text + picture, ("figure.svg",))


def _arms(names: list[str], table: Table, x: str, y: str) -> list[Series]:
    """Each arm as a point; LORE's and the penalty's points share a shape over ρ and over the weight."""
    groups: dict[str, list[str]] = {"untouched model": [UNTOUCHED]}
    for name in names:
        label = {"LORE": "LORE, over ρ", "penalty": "fixed penalty"}.get(name.partition(" ")[0], name)
        groups.setdefault(label, []).append(name)
    return [Series(label, *points(table, arms, x, y), line=False) for label, arms in groups.items()]


def run_real_headline(workspace: Workspace) -> Section:
    """Drawn from the rows of `real-front`, `real-diverse` and `real-words`."""
    table = {
        name: summarise(rows_left(name, workspace), [column for column in design.columns if isinstance(column, Column)])
        for name, design in {"real-front": FRONT, "real-diverse": DIVERSE, "real-words": WORDS}.items()
    }
    same, other, drawn = table["real-front"], table["real-diverse"], table["real-words"]
    panels(
        [
            (
                "Noise, photos of the same classes",
                f"accuracy under attack, ε = {RADIUS}/255, %",
                "clean accuracy, %",
                _arms([*FRONT.arms], same, REAL_ROBUST, REAL_CLEAN),
            ),
            (
                "Noise, photos of other things",
                "accuracy under attack, ε = 1/255, %",
                "clean accuracy, %",
                _arms([*DIVERSE.arms], other, "photos 1/255 %", REAL_CLEAN),
            ),
            (
                "Words",
                "accuracy with a wrong word drawn on, %",
                "clean accuracy, %",
                _arms([*REAL_TOWERS], drawn, T, O),
            ),
        ],
        workspace.output / "figure.svg",
    )
    text = (
        "Both axes are better to the upper right. Left and middle: what a model was trained on, photos of the classes "
        "that are tested or others without labels. The numbers are those of the three sections that follow.\n"
    )
    picture = "\n![robust and clean accuracy; drawn words and clean accuracy](figure.svg)\n"
    return Section(text + picture, ("figure.svg",))


STUDIES = (
    Study(
        "real-headline",
        "A real tower at a glance",
        "Ours beside the baselines, drawn from the runs of `real-front`, `real-diverse` and `real-words`.",
        1,
        run_real_headline,
    ),
    Study(
        "headline",
        "At a glance",
        "Ours beside the baselines, drawn from the runs of `lore-front` and `typographic`.",
        1,
        run_headline,
    ),
)
