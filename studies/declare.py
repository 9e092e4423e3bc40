"""What a study consists of, as data: arms, what is measured on them, tables, figures, claims. `engine` interprets it.

A text may hold `{set}`, the label of a data set, where it is repeated for each; `{arm}`, the arm that was chosen; and
in notes `{seeds}`, `{train}`, `{counts}`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from seaanchor.config.schema import RunConfig
from seaanchor.evaluation.statistics import Share
from seaanchor.sweeps.engine import EvaluationSpec, Row
from seaanchor.sweeps.tables import Cell, Column
from studies.pools import Pool
from studies.training_logs import read_log
from studies.verdicts import Verdict
from studies.workspace import PHOTOS, SEEDS, Workspace

Table = Mapping[str, Mapping[str, Cell]]
"""Arm → title of a column → mean over seeds."""


@dataclass(frozen=True)
class Contrast:
    """A share of arm `one` less that of arm `other`; `wanted` is the sign that the claim asks for, 0 for no loss."""

    label: str
    one: str
    other: str
    measure: str
    dataset: str = PHOTOS
    wanted: int = 1


@dataclass(frozen=True)
class AboveCurve:
    """How far a share y of an arm lies above a curve of other arms at equal x, a share on the photos.

    Attributes:
        label: what is compared.
        arms: the arm, or several of which the one with the largest x is taken.
        curve: arms in the order of the curve.
        x, y: measures.
        dataset: of y.
        wanted: the sign that the claim asks for.
    """

    label: str
    arms: tuple[str, ...]
    curve: tuple[str, ...]
    x: str
    y: str
    dataset: str = PHOTOS
    wanted: int = 1


Comparison = Contrast | AboveCurve


@dataclass(frozen=True)
class EachSet:
    """Comparisons on the photos, where these have a label, and on every set elsewhere.

    Attributes:
        comparisons: repeated for each set.
        photos: label of the photos; empty leaves them out.
        photos_measure: what is compared on them, where it has another name.
        photos_last: sets in the opposite order.
    """

    comparisons: tuple[Comparison, ...]
    photos: str = "clean photos"
    photos_measure: str = ""
    photos_last: bool = False


@dataclass(frozen=True)
class Claim:
    """A sentence, and the comparisons that decide it."""

    text: str
    effects: tuple[Comparison | EachSet, ...]


@dataclass(frozen=True)
class SetColumns:
    """Columns of shares for every set elsewhere: title, measure."""

    columns: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Line:
    """Arms as points of one colour, at the panel's two columns.

    Attributes:
        label: in the legend.
        arms: in order.
        kind: points alone, or joined in the order of x, or of the arms.
        spread: whether the range of y over seeds is drawn.
        shapes: labels of the markers' shapes.
        at: x of every arm, where it is a setting and no column.
        y: a column in place of the panel's.
    """

    label: str
    arms: tuple[str, ...]
    kind: Literal["points", "line", "path"] = "points"
    spread: bool = True
    shapes: tuple[str, ...] | None = None
    at: tuple[float, ...] | None = None
    y: str = ""


@dataclass(frozen=True)
class Trace:
    """A logged number of an arm over its steps."""

    label: str
    arm: str
    key: str
    scale: float = 1.0


@dataclass(frozen=True)
class Logged:
    """The lowest of a logged share over an arm's first steps.

    Attributes:
        key: of the log; `|` joins the keys of nested records.
        steps: how many.
        n: images behind it.
    """

    key: str
    steps: int
    n: int

    def of(self, run: Path) -> Share:
        """Read from the log of a run.

        Raises:
            ValueError: it was not logged in these steps.
        """
        logged = zip(*read_log(run / "metrics.jsonl", self.key), strict=True)
        if not (shares := [share for step, share in logged if step <= self.steps]):
            raise ValueError(f"{self.key} was not logged in the first {self.steps} steps")
        return Share(min(shares), n=self.n)


@dataclass(frozen=True)
class Profile:
    """An arm over several columns, each with its x."""

    arm: str
    at: tuple[float, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Panel:
    """A panel of a figure.

    Attributes:
        title, x_label, y_label: its texts.
        lines: what is drawn.
        x, y: titles of the columns on its axes.
        photos: label of the photos where a panel is drawn for them and every set elsewhere.
        each_set: whether it is drawn for every set elsewhere.
    """

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line | Trace | Profile, ...]
    x: str = ""
    y: str = ""
    photos: str = ""
    each_set: bool = False


@dataclass(frozen=True)
class Mixtures:
    """Weights between the reference (0) and every trained arm (1); `alone`: the arms have no rows under their own
    names."""

    alphas: tuple[float, ...]
    alone: bool = False


@dataclass(frozen=True)
class Results:
    """What has been measured: rows of the study and of what its claims need besides, the table, the workspace."""

    rows: Sequence[Row]
    table: Table
    workspace: Workspace


Arms = Mapping[str, RunConfig]
"""Name in tables → settings."""


@dataclass(frozen=True)
class Design:
    """A study as a table of settings.

    Attributes:
        pool: where its arms are trained.
        photos: the labelled set that it calls the photos.
        arms: what is trained; a function where that takes the data.
        specs: what is measured on every arm.
        columns: of the table.
        note: the paragraph before it.
        panels: of the figure; `log` for a logarithmic x.
        picture: what the figure shows, for those who do not see it.
        claims: judged from the rows.
        mixtures: of every arm with the reference.
        starts_from: arm → the arm whose export it goes on from.
        compared: arms that only the claims need.
        of_log: numbers of the photos that were logged while an arm trained: measure → where it stands.
        further_rows: of models that no arm trains.
        derived_rows: that only the claims need.
        after_table: further Markdown.
        further_verdicts: of claims that need no interval, or another one.
    """

    pool: Pool
    arms: Arms | Callable[[Workspace], Arms]
    specs: tuple[EvaluationSpec, ...]
    columns: tuple[Column | SetColumns, ...]
    note: str
    panels: tuple[Panel, ...]
    picture: str
    claims: tuple[Claim, ...] = ()
    photos: str = PHOTOS
    log: bool = False
    mixtures: Mixtures | None = None
    starts_from: Mapping[str, str] = field(default_factory=dict)
    compared: Arms = field(default_factory=dict)
    of_log: Mapping[str, Logged] = field(default_factory=dict)
    further_rows: Callable[[Workspace], list[Row]] = lambda workspace: []
    derived_rows: Callable[[Results], list[Row]] = lambda results: []
    after_table: Callable[[Results], str] = lambda results: ""
    further_verdicts: Callable[[Results], tuple[Verdict, ...]] = lambda results: ()


@dataclass(frozen=True)
class Section:
    """What a study found: Markdown, with the names of its figures, which lie beside it, and what became of its
    claims."""

    text: str
    figures: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True)
class Study:
    """A claim and what tests it.

    Attributes:
        name: on the command line.
        title: of its section.
        claim: what is claimed, and by whom.
        minutes: on two cores with AVX2 alone, from nothing, for its seeds: half of what one core was measured to take,
            or, on the real tower, of what its arms would take by the measured cost of one.
        design: a table of settings, or a function that trains, measures, and writes into the workspace.
        seeds: by default; what compares many settings takes one, and its intervals hold the spread over images alone.
    """

    name: str
    title: str
    claim: str
    minutes: int
    design: Design | Callable[[Workspace], Section]
    seeds: tuple[int, ...] = SEEDS
