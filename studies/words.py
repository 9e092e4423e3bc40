"""Models against drawn words that several experiments share: each is trained once, in one folder, on the embedded
model.

A run on the whole tower takes two to three minutes on one core of a processor with AVX2, one on a linear map less.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from seaanchor.config.recipes import dpo_linear_tiny, dpo_lore_tiny, dpo_tiny, ipo_tiny, kto_tiny, typographic_ce_tiny
from seaanchor.config.schema import AnchorConfig, RunConfig
from seaanchor.evaluation.run import Protocol
from seaanchor.evaluation.suites.typographic import TypographicPlan
from seaanchor.sweeps.arms import Arm, drop_checkpoints, recipe_of, run_arm
from seaanchor.sweeps.engine import EvaluationSpec, Row, measure, write_numbers
from studies.experiment import Bench

PHOTOS, SIZES = "photos-mini/test", (0.14, 0.25)
PASSES = 4  # over the 800 photos, in batches of 64: 52 updates
DRAWN = EvaluationSpec(
    (PHOTOS,), Protocol((), suites=("typographic", "reading"), typographic=TypographicPlan("odd", "unseen", SIZES))
)


def short(recipe: RunConfig) -> RunConfig:
    """A recipe within the budget of all experiments on the tower, ended at its last weights."""
    return replace(recipe, epochs=PASSES, average="none", device="cpu")


def towers() -> dict[str, RunConfig]:
    """The five objectives on the whole image tower."""
    recipes = {
        "CE": typographic_ce_tiny(),
        "DPO + KL": dpo_tiny(),
        "IPO + KL": ipo_tiny(),
        "KTO + KL": kto_tiny(),
        "DPO + Lagrangian": dpo_lore_tiny(),
    }
    return {name: short(recipe) for name, recipe in recipes.items()}


def maps() -> dict[str, RunConfig]:
    """The same on one linear map."""
    base = replace(dpo_linear_tiny(), device="cpu")
    found = {name: replace(base, objective=recipe.objective) for name, recipe in towers().items()}
    held = AnchorConfig(
        "lagrangian", space="distribution", rho=0.1, dual_lr=1e-4, initial_multiplier=0.1, max_multiplier=20.0
    )
    return found | {
        "CE": replace(found["CE"], anchor=AnchorConfig()),
        "IPO + KL": replace(
            found["IPO + KL"], anchor=AnchorConfig("kl", weight=30.0)
        ),  # its loss is in squared logits, hundreds of times larger
        "DPO + Lagrangian": replace(found["DPO + Lagrangian"], anchor=held),
    }


def word_folder(config: RunConfig, seed: int, bench: Bench) -> Path:
    """Where the run of these settings lies, whichever experiment asks for it: its name is a digest of those that are
    not the default."""
    settings = recipe_of(replace(config, seed=seed, output=RunConfig().output, resume=RunConfig().resume))
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:8]
    return (
        bench.output.parent
        / "words"
        / f"seed-{seed}"
        / f"{config.objective.kind}-{config.anchor.kind}-{config.adapter.kind}-{digest}"
    )


def word_run(config: RunConfig, seed: int, bench: Bench) -> Path:
    """Train it, or see that it is done; returns its folder."""
    folder = word_folder(config, seed, bench)
    run = run_arm(Arm(folder.name, replace(config, seed=seed)), folder.parent)
    drop_checkpoints(run)
    return run


def word_rows(arms: Mapping[str, RunConfig], bench: Bench, looks: Sequence[EvaluationSpec]) -> list[Row]:
    """Every arm with every seed, from the folder that all share; what is there is read."""
    rows: list[Row] = []
    for seed in bench.seeds:
        for name, config in arms.items():
            print(f"{name}, seed {seed}", flush=True)
            bench.keep(name, config)
            export = word_run(config, seed, bench) / "export"
            rows += measure(Arm(name, config), seed, export, looks, bench.output.parent / "words")
            write_numbers(rows, bench.output / "numbers.csv")
    return rows
