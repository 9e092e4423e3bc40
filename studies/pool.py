"""Robust models that several experiments share: each is trained once, in one folder, on the 32-pixel sibling of the
embedded model.

A run of them takes one to four minutes on one core of a processor with AVX2.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from seaanchor.config.recipes import fare, lore, penalty, tecoa
from seaanchor.config.schema import AnchorConfig, ObjectiveConfig, PerturbationConfig, RunConfig
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.attacks import AttackPlan
from seaanchor.evaluation.run import Protocol
from seaanchor.sweeps.arms import Arm, run_arm
from seaanchor.sweeps.engine import EvaluationSpec, Row, measure, write_numbers
from studies.experiment import Bench

SIBLING = "models/seaanchor-tiny-32"  # of the repository, not of the package: it would be a quarter of its size
PHOTOS = "photos-mini/test"
ATTACK_STEPS = 10  # of APGD-CE in evaluation
EPSILON = 4  # in 255ths: where FARE and LORE part in the paper
RHO = 0.05  # of the arm that other experiments take as LORE
FARE, FARE_ONCE, LORE = "FARE", "FARE, one update", f"LORE ρ={RHO:g}"
BATCHES = 150  # of 32 photos: six passes over the 800
UPDATES = 2  # of the encoder a batch, for every method: the same images, attacks and updates for all


def budget(recipe: RunConfig, bench: Bench, epsilon: float = EPSILON, primal_steps: int = UPDATES) -> RunConfig:
    """The same model, photos, attack and number of images for every method; two attack steps of three quarters of ε.

    Raises:
        SeaAnchorError: the model is not below the working folder.
    """
    if not Path(SIBLING).is_dir():
        change = (
            "run it in a clone of the repository, or train the model: python -m tools.pretraining "
            "--image-size 32 (docs/pretraining.md)"
        )
        raise SeaAnchorError(
            f"{SIBLING} is missing", "the 32-pixel sibling of the embedded model, which the repository holds", change
        )
    attack = PerturbationConfig(epsilon=f"{epsilon:g}/255", num_steps=2, step_size=f"{0.75 * epsilon:g}/255")
    return replace(
        recipe,
        model=SIBLING,
        train_data=bench.source("train", "photos-mini/train"),
        perturbation=attack,
        primal_steps=primal_steps,
        batch_size=32,
        lr=1.5e-3,
        warmup=15,
        epochs=100,
        max_steps=BATCHES,
        save_every=BATCHES,
        log_every=5,
        device="cpu",
    )


def fare_arm(bench: Bench, epsilon: float = EPSILON, **settings: Any) -> RunConfig:
    """FARE within the budget."""
    return budget(fare(), bench, epsilon, **settings)


def lore_arm(
    bench: Bench, epsilon: float = EPSILON, rho: float = 0.1, primal_steps: int = UPDATES, **anchor: Any
) -> RunConfig:
    """LORE within the budget; multipliers start at 1 and stay below 20."""
    recipe = budget(lore(), bench, epsilon, primal_steps)
    return replace(
        recipe,
        anchor=replace(
            AnchorConfig("lagrangian", rho=rho, dual_lr=5e-4, initial_multiplier=1.0, max_multiplier=20.0), **anchor
        ),
    )


def penalty_arm(bench: Bench, weight: float, epsilon: float = EPSILON) -> RunConfig:
    """The naive penalty within the budget."""
    return budget(penalty(weight=weight), bench, epsilon)


def tecoa_arm(bench: Bench, anchor: AnchorConfig | None = None, epsilon: float = EPSILON) -> RunConfig:
    """TeCoA within the budget, alone or held by an anchor."""
    return replace(budget(tecoa(), bench, epsilon), objective=ObjectiveConfig("tecoa"), anchor=anchor or AnchorConfig())


def watched(config: RunConfig) -> RunConfig:
    """The same run with a look at 200 test photos every 15 batches, which changes nothing in it."""
    return replace(config, val_data=(PHOTOS,), eval_every=15, eval_samples=200)


def robust_look(radii: Sequence[int] = (2, EPSILON)) -> EvaluationSpec:
    """Photos of the embedded set: clean, attacked (radii in 255ths), and how far they drifted."""
    return EvaluationSpec(
        (PHOTOS,),
        Protocol((AttackPlan("apgd-ce", "linf", tuple(e / 255 for e in radii), ATTACK_STEPS),), suites=("drift",)),
    )


def elsewhere_look(bench: Bench) -> EvaluationSpec:
    """Sets that took no part in fine-tuning: clean, and attacked at half the training radius."""
    return EvaluationSpec(
        tuple(bench.elsewhere().values()),
        Protocol((AttackPlan("apgd-ce", "linf", (2 / 255,), ATTACK_STEPS),), samples=500),
    )


def pooled(
    arms: Mapping[str, RunConfig], bench: Bench, looks: Sequence[EvaluationSpec], known: Sequence[Row] = ()
) -> list[Row]:
    """Every arm with every seed, from the folder that all share; what is there is read. `known` rows are those of the
    experiment so far."""
    shared, rows = bench.output.parent / "robust", []
    for seed in bench.seeds:
        for name, config in arms.items():
            print(f"{name}, seed {seed}", flush=True)
            bench.keep(name, config)
            followed = (
                watched(config) if name in (FARE, FARE_ONCE, LORE) else config
            )  # whichever experiment trains them: one shows them over the batches
            run = run_arm(Arm(name, replace(followed, seed=seed)), shared / f"seed-{seed}")
            rows += measure(Arm(name, config), seed, run / "export", looks, shared)
            write_numbers([*known, *rows], bench.output / "numbers.csv")
    return rows


def trace(name: str, seed: int, bench: Bench, key: str) -> tuple[list[int], list[float]]:
    """A logged number of a shared run over its batches."""
    lines = [json.loads(line) for line in (run_folder(name, seed, bench) / "metrics.jsonl").read_text().splitlines()]
    found = [(line["step"], _inside(line, key)) for line in lines]
    return [step for step, value in found if value is not None], [value for _, value in found if value is not None]


def _inside(line: dict[str, Any], key: str) -> Any:
    value: Any = line
    for part in key.split("|"):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def run_folder(name: str, seed: int, bench: Bench) -> Path:
    """Where a shared run lies."""
    return bench.output.parent / "robust" / f"seed-{seed}" / name
