"""Models against drawn words that several studies share: each is trained once, in one folder, on the embedded
model.

A run on the whole tower takes two to three minutes on one core of a processor with AVX2, one on a linear map less.
"""

from dataclasses import replace
from typing import Literal

from seaanchor.config.recipes import dpo_linear_tiny, dpo_lore_tiny, dpo_tiny, ipo_tiny, kto_tiny, typographic_ce_tiny
from seaanchor.config.schema import AnchorConfig, RunConfig
from seaanchor.evaluation.run import Protocol
from seaanchor.evaluation.typographic_plan import TypographicPlan
from seaanchor.sweeps.engine import EvaluationSpec
from studies.workspace import PHOTOS

SIZES = (0.14, 0.25)
PASSES = 4  # over the 800 photos, in batches of 64: 52 updates
DRAWN = EvaluationSpec(
    (PHOTOS,), Protocol((), suites=("typographic", "reading"), typographic=TypographicPlan("odd", "unseen", SIZES))
)


def short(recipe: RunConfig) -> RunConfig:
    """A recipe within the budget of all studies on the tower, ended at its last weights."""
    return replace(recipe, epochs=PASSES, average="none", device="cpu")


TOWERS = {
    "CE": short(typographic_ce_tiny()),
    "DPO + KL": short(dpo_tiny()),
    "IPO + KL": short(ipo_tiny()),
    "KTO + KL": short(kto_tiny()),
    "DPO + Lagrangian": short(dpo_lore_tiny()),
}  # the five objectives on the whole image tower

_MAP = replace(dpo_linear_tiny(), device="cpu")
_HELD = AnchorConfig(
    "lagrangian", space="distribution", rho=0.1, dual_lr=1e-4, initial_multiplier=0.1, max_multiplier=20.0
)
_MAP_ANCHORS = {
    "CE": AnchorConfig(),
    "IPO + KL": AnchorConfig("kl", weight=30.0),  # its loss is in squared logits, hundreds of times larger
    "DPO + Lagrangian": _HELD,
}
MAPS = {
    name: replace(_MAP, objective=tower.objective, anchor=_MAP_ANCHORS.get(name, _MAP.anchor))
    for name, tower in TOWERS.items()
}  # the same on one linear map


def lagrangian(
    rho: float, space: Literal["embedding", "distribution"] = "embedding", initial: float = 0.003
) -> AnchorConfig:
    """LORE's constraint for losses of order 1, whose multipliers start low."""
    return AnchorConfig(
        "lagrangian", space=space, rho=rho, dual_lr=5e-4, initial_multiplier=initial, max_multiplier=20.0
    )
