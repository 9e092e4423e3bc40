"""What the top of the page shows of a data set: the few numbers that say what was gained and at what cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from seaanchor.report.charts import CLEAN, Series, focus, shared_radii
from seaanchor.report.measures import TYPOGRAPHIC_IMAGES, Measure
from seaanchor.report.tables import Dataset, Group, Row

Key = tuple[str, str, str]

CHOSEN = (
    (TYPOGRAPHIC_IMAGES, "top-1", "With their words", "top-1, as they are"),
    ("typographic", "wrong word drawn (T)", "Wrong word drawn", "top-1 (T)"),
    ("typographic", "drawn word wins", "Drawn word wins", "of all answers"),
    ("retrieval", "image to text, recall at 1", "Image to text", "recall at 1"),
    ("retrieval", "text to image, recall at 1", "Text to image", "recall at 1"),
    ("segmentation", "mean IoU", "Segmentation", "mean IoU"),
    ("bias", "gender named rightly", "Gender", "named rightly"),
    ("bias", "activity named rightly", "Activity", "named rightly"),
    ("drift", "relative squared distance, mean", "Drift", "relative squared distance"),
)
"""(suite, label) of the numbers that are shown besides clean and attacked accuracy, with title and note."""


@dataclass(frozen=True)
class Glance:
    """The data set, columns of (title, note, measures of each model), and the same as a table's rows."""

    dataset: Dataset
    columns: tuple[tuple[str, str, tuple[Measure | None, ...]], ...]

    @property
    def groups(self) -> tuple[Group, ...]:
        """For the page's table of several models."""
        return (Group("", tuple(_row(f"{title} ({note})", cells) for title, note, cells in self.columns)),)


def glance(table: Dataset, trained: float | None) -> Glance:
    """Clean accuracy, accuracy under the strongest shared attack at the training radius, under drawn words, and drift:
    whichever were measured.

    Args:
        table: the data set.
        trained: ε of training, or None.
    """
    series = [f.series for f in table.found]
    keys = [(CLEAN, "Clean", "top-1"), *_attacked(series, trained)]
    every = list(dict.fromkeys(m.key for s in series for m in s.measures))
    for suite, label, title, note in CHOSEN:
        keys += [(key, title, note) for key in every if (key[0], key[2]) == (suite, label)][:1]
    columns = ((title, note, tuple(s.find(key) for s in series)) for key, title, note in keys)
    return Glance(table, tuple(column for column in columns if any(column[2])))


def _attacked(series: Sequence[Series], trained: float | None) -> list[tuple[Key, str, str]]:
    robust = [s for s in series if any(m.suite == "robust" for m in s.measures)]
    chosen = focus(shared_radii(robust), trained)
    if chosen is None:
        return []
    note = f"top-1, {chosen.group}, {chosen.label}".replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")
    return [(chosen.key, "Attacked", note)]


def _row(label: str, cells: tuple[Measure | None, ...]) -> Row:
    found = [m for m in cells if m]
    return Row(label, next((m.reference for m in found if m.reference), None), cells, found[0].percent)
