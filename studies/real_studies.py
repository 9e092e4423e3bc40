"""Studies on a real tower as tables of settings: `seaanchor-lite`, whose trunk others trained on ImageNet."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from seaanchor.config.recipes import dpo_lite, ipo_lite, kto_lite, ppo_lite, typographic_ce_lite
from seaanchor.config.schema import AnchorConfig, RunConfig
from seaanchor.evaluation.run import Protocol
from seaanchor.evaluation.typographic_plan import TypographicPlan
from seaanchor.sweeps.engine import EvaluationSpec
from seaanchor.sweeps.tables import share, value
from studies.declare import AboveCurve, Claim, Contrast, Design, EachSet, Line, Panel, SetColumns, Study
from studies.pools import Pool, _train_own
from studies.real_arms import (
    ATTACK_STEPS,
    BASE,
    FARE,
    RADIUS,
    REAL_SEEDS,
    RHOS,
    STEPS,
    TEST,
    UPDATES,
    WEIGHTS,
    real_fare,
    real_lore,
    real_penalty,
    real_specs,
)
from studies.rows import UNTOUCHED
from studies.workspace import ELSEWHERE, Workspace
