"""Declared comparisons become effects, and claims verdicts."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from seaanchor.sweeps.engine import Row
from studies.declare import Claim, Comparison, Contrast, EachSet
from studies.differences import above_curve, difference, mean_of
from studies.verdicts import LOSS, Effect, Verdict, judge, tolerated
from studies.workspace import Workspace


def verdict_of(claim: Claim, rows: Sequence[Row], workspace: Workspace) -> Verdict:
    """What becomes of a claim.

    Raises:
        ValueError: an arm has no such number.
    """
    comparisons = [one for effect in claim.effects for one in _expanded(effect, workspace)]
    return judge(claim.text, [_effect(comparison, rows, workspace.photos) for comparison in comparisons])


def _expanded(effect: Comparison | EachSet, workspace: Workspace) -> Iterator[Comparison]:
    """A comparison, on the set that its `{name}` stands for, or its repetitions over data sets."""
    if not isinstance(effect, EachSet):
        given = {f"{{{name}}}": path for name, path in workspace.elsewhere().items()}
        yield replace(effect, dataset=given.get(effect.dataset, effect.dataset))
        return
    sets = ({effect.photos: workspace.photos} if effect.photos else {}) | workspace.elsewhere()
    for label, dataset in reversed(sets.items()) if effect.photos_last else sets.items():
        for comparison in effect.comparisons:
            named = replace(comparison, label=comparison.label.replace("{set}", label), dataset=dataset)
            yield (
                _measured_as(named, effect.photos_measure)
                if dataset == workspace.photos and effect.photos_measure
                else named
            )


def _measured_as(comparison: Comparison, measure: str) -> Comparison:
    if isinstance(comparison, Contrast):
        return replace(comparison, measure=measure)
    return replace(comparison, y=measure)


def _effect(comparison: Comparison, rows: Sequence[Row], photos: str) -> Effect:
    c = comparison
    if isinstance(c, Contrast):
        loss = LOSS if c.wanted else tolerated(mean_of(rows, c.other, c.measure, c.dataset))
        return Effect(c.label, difference(rows, c.one, c.other, c.measure, c.dataset), c.wanted, loss)
    arm = max(c.arms, key=lambda name: mean_of(rows, name, c.x, photos))
    found = above_curve(rows, arm, c.curve, c.x, c.y, photos, c.dataset)
    return Effect(c.label.replace("{arm}", arm), found, c.wanted)
