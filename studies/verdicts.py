"""What becomes of a claim, from differences with their intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

from studies.differences import Difference

LOSS = 5.0  # percentage points: a claim of no loss must rule out one as large as this, or as half of what there is


def tolerated(accuracy: float) -> float:
    """The loss in points that a claim of no loss must rule out, where a share of `accuracy` in [0, 1] can be lost: of
    little, five points may be all."""
    return min(LOSS, 50 * accuracy)


@dataclass(frozen=True)
class Verdict:
    """A claim, what came of it, and the effects behind that."""

    claim: str
    outcome: str
    effect: str

    def line(self) -> str:
        """As a sentence of a section."""
        symbol = self.claim.startswith("t ")  # a number here, and T another
        return f"**{self.claim if symbol else self.claim[0].upper() + self.claim[1:]}: {self.outcome}.** {self.effect}"


@dataclass(frozen=True)
class Effect:
    """A measured difference, None where nothing could be compared, and the sign that the claim asks of it; 0 asks that
    nothing is lost, which is shown where the interval leaves out a loss of `loss` points."""

    name: str
    found: Difference | None
    wanted: int = 1
    loss: float = LOSS

    @property
    def shown(self) -> bool:
        """Whether the interval lies where the claim says."""
        return self.found is not None and (
            self.found.low > -self.loss if self.wanted == 0 else self.found.sign == self.wanted
        )

    @property
    def refuted(self) -> bool:
        """Whether the interval lies on the other side, or leaves no room for an effect of `LOSS` points."""
        if self.found is None or self.shown:
            return False
        side = self.wanted or 1
        return self.found.sign == -side or (
            self.wanted != 0 and max(side * self.found.low, side * self.found.high) < LOSS
        )

    def __str__(self) -> str:
        mark = " ✓" if self.shown else " ✗" if self.refuted else ""
        return f"{self.name} {self.found}{mark}"


def judge(claim: str, effects: Sequence[Effect], note: str = "") -> Verdict:
    """A claim holds where every effect is shown, and holds partly where some are, one of them a gain if any is claimed.
    Where none is, it does not hold at this scale if one is refuted, and is undecided otherwise; without an effect it is
    open, as where no point of one curve lies between two of another."""
    known = [effect for effect in effects if effect.found is not None]
    missing = [effect.name for effect in effects if effect.found is None]
    notes = ([f"not comparable: {', '.join(missing)}"] if missing else []) + ([note] if note else [])
    if not known:
        return Verdict(claim, "open", "; ".join(notes) or "nothing could be compared")
    gains = [effect for effect in known if effect.wanted] or known
    none = "does not hold at this scale" if any(effect.refuted for effect in known) else "undecided"
    outcome = (
        "holds"
        if all(effect.shown for effect in known)
        else "holds partly"
        if any(effect.shown for effect in gains)
        else none
    )
    return Verdict(claim, outcome, "; ".join([*map(str, known), *notes]))
