"""What `seaanchor steer` finds at every exponent t, as frozen records; `steering.json` holds a curve."""

from dataclasses import dataclass, field

from seaanchor.evaluation.statistics import Share
from seaanchor.evaluation.suite_results import TypographicSettings


@dataclass(frozen=True)
class SteeringPoint:
    """A trained linear map at one exponent t of its singular values.

    Attributes:
        t: the exponent; 0 is the pre-trained model, 1 the trained map.
        clean, attacked, attack_word, two_way: as in `suite_results.Typographic`; None for sets of people.
        reading: as in `suite_results.Reading`.
        gender, activity, predicted_man, retrieval: as in `suite_results.Bias`; None or empty for other sets.
    """

    t: float
    clean: Share | None = None
    attacked: Share | None = None
    attack_word: Share | None = None
    two_way: Share | None = None
    reading: Share | None = None
    gender: Share | None = None
    activity: Share | None = None
    predicted_man: float | None = None
    retrieval: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def shares(self) -> dict[str, Share]:
        """The shares that were measured, by name."""
        named = {name: getattr(self, name) for name in SHARES}
        return {name: share for name, share in named.items() if share is not None}


SHARES = ("clean", "attacked", "attack_word", "two_way", "reading", "gender", "activity")


@dataclass(frozen=True)
class SteeringCurve:
    """All exponents of one map on one data set, with how words were drawn (None for people), and a caveat that must be
    said with the numbers (empty if none)."""

    rows: tuple[SteeringPoint, ...]
    model: str = ""
    data: str = ""
    templates: tuple[str, ...] = ()
    plan: TypographicSettings | None = None
    caveat: str = ""
