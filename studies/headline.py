"""Studies: figures at a glance, drawn from the rows of others."""

from seaanchor.errors import SeaAnchorError
from seaanchor.plotting.panels import Series, panels
from seaanchor.sweeps.engine import Row, read_rows
from seaanchor.sweeps.tables import Column, share, summarise
from studies.declare import Section, Study, Table
from studies.figures import points
from studies.noise_arms import EPSILON, FARE, LORES, PENALTIES, SLOW_LORES
from studies.noise_tables import CLEAN, ROBUST, robust_columns
from studies.real_arms import RADIUS
from studies.real_studies import CLEAN as REAL_CLEAN
from studies.real_studies import DIVERSE, FRONT, HALF, WORDS
from studies.real_studies import ROBUST as REAL_ROBUST
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


def _arms(table: Table, x: str, y: str) -> list[Series]:
    """Each arm as a point; LORE's have one colour over ρ, and the penalty's over its weight."""
    groups: dict[str, list[str]] = {"untouched model": [UNTOUCHED]}
    for name in table:
        label = {"LORE": "LORE, over ρ", "penalty": "fixed penalty, over w"}.get(name.partition(" ")[0], name)
        if name != UNTOUCHED:
            groups.setdefault(label, []).append(name)
    return [Series(label, *points(table, arms, x, y), line=False) for label, arms in groups.items()]


def run_real_headline(workspace: Workspace) -> Section:
    """Drawn from the rows of `real-front`, `real-diverse` and `real-words`.

    Raises:
        SeaAnchorError: one of them has not run, or not on ImageNet's names.
    """
    if (names := workspace.elsewhere().get("imagenet")) is None:
        raise SeaAnchorError("no photos of ImageNet's classes", "a set of that name", "add --extra imagenet=FOLDER")
    kept = share("imagenet %", "clean", names)
    table = {
        name: summarise(
            rows_left(name, workspace), [kept, *(column for column in design.columns if isinstance(column, Column))]
        )
        for name, design in {"real-front": FRONT, "real-diverse": DIVERSE, "real-words": WORDS}.items()
    }
    under = "accuracy under attack, ε = {}/255, %"
    names_kept = "ImageNet's 1,000 names, clean, %"
    drawn = [
        ("Noise, photos like the test's", under.format(RADIUS), names_kept, "real-front", REAL_ROBUST, kept.title),
        ("Noise, photos of other things", under.format(1), "clean accuracy, %", "real-diverse", HALF, REAL_CLEAN),
        ("Words", "accuracy with a wrong word drawn on, %", names_kept, "real-words", T, kept.title),
    ]
    panels(
        [(title, x_label, y_label, _arms(table[study], x, y)) for title, x_label, y_label, study, x, y in drawn],
        workspace.output / "figure.svg",
    )
    text = (
        "To the right: right on 800 test photos that are attacked or have a word drawn on them. Upwards: what a model "
        "kept: ImageNet's names on photos that no fine-tuning saw, or clean accuracy. Left and right panels: "
        "fine-tuned on 800 photos of the tested classes; in the middle on other photos without labels. Bars "
        "are ranges over seeds.\n"
    )
    picture = "\n![accuracy under attack and under drawn words against what was kept](figure.svg)\n"
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
