"""Studies of what holds a robust model near its reference, as tables of settings: mixtures of weights, every anchor,
moving references, other duals."""

from dataclasses import replace
from typing import Any, Literal

from seaanchor.config.schema import AnchorConfig
from studies.declare import Claim, Design, Line, Mixtures, Panel, Study
from studies.lore_studies import PAPER, PENALTY_FRONT, SPECS
from studies.mixing import mixture
from studies.noise_arms import (
    EPSILON,
    FARE,
    LORE,
    PENALTIES,
    PENALTY,
    RHO,
    RHOS,
    SLOW,
    TECOAS,
    WEIGHT,
    fare_arm,
    lore_arm,
    tecoa_arm,
)
from studies.noise_tables import (
    CLEAN,
    ROBUST,
    ROBUST_LABEL,
    SAME_BUDGET,
    above_front,
    against_robust,
    each,
    keeps_more,
    robust_columns,
)
from studies.pools import NOISE
from studies.workspace import EMOJI, ONE_SEED, PHOTOS

CLEAN_SETS = {"clean photos": PHOTOS, "emoji": EMOJI}
OTHER_PENALTIES = {name: config for name, config in PENALTIES.items() if name != PENALTY}
LORE_ARM = lore_arm(RHO)

# ---- mixing: weights between the reference and each robust model
ALPHAS = (0.25, 0.5, 0.75)
MIXED = {FARE: fare_arm(), LORE: LORE_ARM, PENALTY: PENALTIES[PENALTY], "TeCoA": TECOAS["TeCoA"]}

MIXING = Design(
    pool=NOISE,
    arms=MIXED,
    specs=SPECS,
    columns=robust_columns(),
    note=f"α mixes the weights of the reference (0) and of the trained model (1). {SAME_BUDGET}",
    panels=(
        Panel(
            "{set}",
            ROBUST_LABEL,
            "{set} clean accuracy, %",
            tuple(
                Line(name, ("untouched", *(mixture(name, alpha) for alpha in ALPHAS), name), "path") for name in MIXED
            ),
            ROBUST,
            "{set} clean %",
            photos="photos",
            each_set=True,
        ),
    ),
    picture="mixtures of weights",
    claims=(
        Claim(
            "half-way weights of FARE lie above the penalty's front: more clean accuracy at equal robust accuracy",
            tuple(
                above_front(f"{label} at α = {alpha:g}", mixture(FARE, alpha), PENALTY_FRONT, dataset)
                for label, dataset in CLEAN_SETS.items()
                for alpha in ALPHAS
            ),
        ),
    ),
    mixtures=Mixtures(ALPHAS),
    compared=OTHER_PENALTIES,
)

# ---- noise-anchors: every anchor for the objectives against noise; names of arms that other studies train are theirs
ANCHORED = {
    "FARE": {
        "none": (FARE, fare_arm()),
        "penalty": (PENALTY, PENALTIES[PENALTY]),
        "KL": ("FARE + KL", replace(fare_arm(), anchor=AnchorConfig("kl", weight=100.0))),
        "Lagrangian on embeddings": (LORE, LORE_ARM),
        "Lagrangian on distributions": (
            "FARE + Lagrangian on distributions",
            replace(fare_arm(), anchor=replace(LORE_ARM.anchor, space="distribution", rho=0.1)),
        ),
    },
    "TeCoA": {
        "none": ("TeCoA", TECOAS["TeCoA"]),
        "penalty": ("TeCoA + penalty", tecoa_arm(AnchorConfig("penalty", weight=0.01))),
        "KL": ("TeCoA + KL", tecoa_arm(AnchorConfig("kl", weight=1.0))),
        "Lagrangian on embeddings": ("TeCoA + embedding constraint", TECOAS["TeCoA + embedding constraint"]),
        "Lagrangian on distributions": ("TeCoA + KL constraint", TECOAS["TeCoA + KL constraint"]),
    },
}

NOISE_ANCHORS = Design(
    pool=NOISE,
    arms={name: config for family in ANCHORED.values() for name, config in family.values()},
    specs=SPECS,
    columns=robust_columns(),
    note=(
        "One strength of each anchor, set in short trials: this compares settings, not fronts. FARE: penalty "
        f"{WEIGHT:g}, KL 100, constraint ρ = {RHO:g} on embeddings, 0.1 on distributions; TeCoA: penalty 0.01, KL 1, "
        f"ρ = 0.2 with λ from 0.003 on embeddings, 0.1 on distributions. {SAME_BUDGET}"
    ),
    panels=tuple(
        Panel(
            objective,
            f"photos, robust accuracy at {EPSILON}/255, %",
            "clean accuracy on photos, %",
            tuple(Line(anchor, (name,)) for anchor, (name, _) in family.items()),
            ROBUST,
            CLEAN,
        )
        for objective, family in ANCHORED.items()
    ),
    picture="anchors compared",
    claims=tuple(
        Claim(
            f"{anchor} keeps more of {objective}'s clean accuracy and is no less robust",
            keeps_more(name, family["none"][0]),
        )
        for objective, family in ANCHORED.items()
        for anchor, (name, _) in family.items()
        if anchor != "none"
    ),
)

# ---- moving: averages of the policy itself as the anchor, against the frozen reference
MOVING_KINDS: dict[str, Literal["beta", "ema"] | None] = {
    "": None,
    "weighted average": "beta",
    "exponential average": "ema",
}
MOVING_ARMS = {FARE: fare_arm()} | {
    f"{name}, {kind}" if kind else name: replace(config, anchor=replace(config.anchor, reference=reference))
    if reference
    else config
    for name, config in ((PENALTY, PENALTIES[PENALTY]), (LORE, LORE_ARM))
    for kind, reference in MOVING_KINDS.items()
}

MOVING = Design(
    pool=NOISE,
    arms=MOVING_ARMS,
    specs=SPECS,
    columns=robust_columns(),
    note=(
        "*Weighted average*: Beta(0.7, 0.7) weights over the steps so far, which never forget the pre-trained weights. "
        "*Exponential average*: decay 0.99 per step. The adversarial target is the frozen reference. Moving references "
        f"are experimental: they did not prove themselves here. {SAME_BUDGET}"
    ),
    panels=against_robust(each(list(MOVING_ARMS))),
    picture="moving references",
    claims=tuple(
        Claim(
            f"{kind} of the policy's weights as the anchor keeps more than a frozen reference at equal robust accuracy",
            tuple(
                above_front(f"{short}, {label}", f"{name}, {kind}", PENALTY_FRONT, dataset)
                for short, name in (("penalty", PENALTY), ("LORE", LORE))
                for label, dataset in CLEAN_SETS.items()
            ),
        )
        for kind in MOVING_KINDS
        if kind
    ),
    compared=OTHER_PENALTIES,
)

# ---- dual: LORE's dual as published, and attempts to better it
DUAL_KINDS: dict[str, dict[str, Any]] = {
    "published": {"max_multiplier": None},
    "capped": {},
    "warm start": {"initial_multiplier": 10.0},
    "violators only": {"violators_only": True},
    "augmented": {"augmented": 3.0},
    "slow": {"dual_lr": SLOW},
}
DUAL_RHOS = {"published": RHOS, "capped": (0.1, RHO)}  # others at ρ alone
DUALS = {
    kind: {
        f"LORE ρ={rho:g}" + ("" if kind == "capped" else f", {kind}"): lore_arm(rho, **settings)
        for rho in DUAL_RHOS.get(kind, (RHO,))
    }
    for kind, settings in DUAL_KINDS.items()
}
DUAL_FAMILIES = DUALS | {"penalty": PENALTIES, FARE: {FARE: fare_arm()}}

DUAL = Design(
    pool=NOISE,
    arms={name: config for family in DUAL_FAMILIES.values() for name, config in family.items()},
    specs=SPECS,
    columns=robust_columns(),
    note=(
        "*Published*: no limit on λ. *Capped*: λ at most 20, as everywhere else here. *Warm start*: λ from 10. "
        "*Violators only*: λ·max(0, distance − bound). *Augmented*: a squared violation beside λ (κ = 3). *Slow*: a "
        "tenth of the learning rate. All but the first are capped. `violators_only` and `augmented` are experimental: "
        f"they did not prove themselves here. {SAME_BUDGET}"
    ),
    panels=against_robust(tuple(Line(kind, tuple(members), "path") for kind, members in DUAL_FAMILIES.items())),
    picture="duals compared",
    claims=tuple(
        Claim(
            f"a dual that is {kind.replace('warm start', 'started high')} lies above the published one",
            tuple(
                above_front(
                    f"{label} at {name.partition(',')[0].removeprefix('LORE ')}",
                    name,
                    (FARE, *DUALS["published"]),
                    dataset,
                )
                for name in members
                for label, dataset in {"photos": PHOTOS, "emoji": EMOJI}.items()
            ),
        )
        for kind, members in DUALS.items()
        if kind != "published"
    ),
)

STUDIES = (
    Study(
        "mixing",
        "Mixtures with the reference",
        "Mixing weights with the reference (WiSE-FT, PAINT) gives further points at no cost; do they lie "
        "above a penalty's front?",
        14,
        MIXING,
        ONE_SEED,
    ),
    Study(
        "noise-anchors",
        "Anchors against noise",
        "Which anchor helps FARE and TeCoA most?",
        15,
        NOISE_ANCHORS,
        ONE_SEED,
    ),
    Study(
        "moving",
        "A reference that moves",
        "An average of the policy's own weights as the anchor (TRACER, arXiv 2605.29380) keeps more.",
        13,
        MOVING,
        ONE_SEED,
    ),
    Study(
        "dual",
        "Other duals",
        f"A changed dual update lies above the published one ({PAPER}) on the front of clean and robust accuracy.",
        19,
        DUAL,
        ONE_SEED,
    ),
)
