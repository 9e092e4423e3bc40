"""The bars of training."""

from bench.frame import Bar, Measurement
from bench.subjects import ours
from seaanchor.config import RunConfig
from seaanchor.flops import count_flops, forward_flops, least_passes
from seaanchor.recipes import fare, lore


def passes(recipe: RunConfig) -> Measurement:
    """F an image of a step, as a share of the formula's."""
    subject = ours(recipe, 2)
    forward = forward_flops(subject.setup.reference, subject.setup.model.encoder.image_size)
    counted = count_flops(subject.step)[0] / len(subject.images.index_B) / forward
    formula = least_passes(recipe, subject.setup.method.needs, cached=True)
    return Measurement(counted / formula, details={"F": counted, "formula": formula}, note=f"{counted:.2f} F an image, formula {formula} F")


BARS = [
    Bar("fare-flops", "FARE step: FLOPs counted / formula", lambda: passes(fare()), at_most=1.03, aim=1.01),
    Bar("lore-flops", "LORE step: FLOPs counted / formula", lambda: passes(lore()), at_most=1.03, aim=1.01),
]
