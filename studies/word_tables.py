"""What studies of typographic attacks share in their tables and measurements."""

from seaanchor.evaluation.run import Protocol
from seaanchor.sweeps.engine import EvaluationSpec, Row
from seaanchor.sweeps.tables import Column, share
from studies.declare import SetColumns
from studies.rows import UNTOUCHED
from studies.workspace import ELSEWHERE, PHOTOS

T, O, READING = "T, word drawn %", "O, clean %", "reading %"  # noqa: E741 # the paper's letters
ATTACKED = "typographic.attacked"  # the measure behind T
T_LABEL = "accuracy with a wrong word drawn, %"


def _closed(row: Row) -> float | None:
    """Share of the gap between the untouched model's accuracy under drawn words and the model's own ceiling that is
    closed."""
    if row.arm == UNTOUCHED or row.dataset != PHOTOS:
        return None
    base = row.reference[ATTACKED].accuracy
    ceiling = row.numbers["typographic.unreadable"].accuracy
    return None if ceiling <= base else (row.numbers[ATTACKED].accuracy - base) / (ceiling - base)


COLUMNS = (
    share(O, "typographic.clean", PHOTOS),
    share(T, ATTACKED, PHOTOS),
    share("drawn word wins %", "typographic.attack_word", PHOTOS),
    share("object above word %", "typographic.two_way", PHOTOS),
    share("unreadable cover %", "typographic.unreadable", PHOTOS),
    Column("gap closed %", _closed, 0),
    share(READING, "reading.reading", PHOTOS),
)
SET_COLUMNS = SetColumns((("{set} %", "clean"),))
THOUSAND_ELSEWHERE = EvaluationSpec((ELSEWHERE,), Protocol((), samples=1000))  # clean accuracy
