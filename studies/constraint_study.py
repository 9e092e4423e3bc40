"""Study of LORE's constraint at work: multipliers over training, how far images end from where they were, dual
variables and margins compared."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from seaanchor.anchors.duals import Dual
from seaanchor.config.recipes import fare
from seaanchor.config.schema import RunConfig, from_dict, read_yaml
from seaanchor.data.loader import SkipLog
from seaanchor.evaluation.statistics import Share
from seaanchor.sweeps.engine import Row
from seaanchor.sweeps.tables import Column, value
from seaanchor.training.batches import load_batches
from seaanchor.training.run_folder import RunFolder
from seaanchor.training.setup import prepare
from studies.declare import Claim, Contrast, Design, EachSet, Panel, Results, Study, Trace
from studies.engine import table_of
from studies.lore_studies import LORE_FRONT, PAPER, SPECS
from studies.noise_arms import FARE, LORE, LORES, RHO, TIGHT, budget, fare_arm, lore_arm
from studies.noise_tables import NOTE, above_front, robust_columns
from studies.pools import NOISE
from studies.rows import UNTOUCHED
from studies.training_logs import logged, noise_folder
from studies.workspace import ONE_SEED, PHOTOS, Workspace

FAST_SCALAR = f"{LORE}, scalar dual, rate × 100"
LINEAR, FIXED_DUAL, FIXED_MARGIN = f"{LORE}, linear dual", f"{LORE}, λ fixed at 1", f"{LORE}, fixed margin"


def constraint_arms(margin: float) -> dict[str, RunConfig]:
    """FARE, LORE at two ρ, and LORE with other duals and with a fixed margin."""
    return (
        {FARE: fare_arm()}
        | {f"LORE ρ={rho:g}": lore_arm(rho) for rho in TIGHT}
        | {
            LINEAR: lore_arm(RHO, dual="linear"),
            # an Adam step moves a network's or a map's output by the rate times the sum of about a hundred features, a
            # number by the rate alone
            FAST_SCALAR: lore_arm(RHO, dual="scalar", dual_lr=0.05),
            FIXED_DUAL: lore_arm(RHO, dual_lr=0.0),
            FIXED_MARGIN: lore_arm(RHO * margin, margin="fixed"),
        }
    )


@lru_cache(maxsize=1)
def _embedded(train_data: str) -> Tensor:
    config = replace(budget(fare()), train_data=train_data, max_steps=None, epochs=1, batch_size=100)
    setup = prepare(config)
    stream = load_batches(setup, 0, 0, 1, SkipLog(setup.images))
    return torch.cat([setup.reference(batch.pixels_BCHW) for batch in stream])


def reference_embeddings(workspace: Workspace) -> Tensor:
    """Reference embeddings (N, D) of the training photos."""
    return _embedded(NOISE.settings(fare_arm(), workspace).train_data)


def _arms(workspace: Workspace) -> dict[str, RunConfig]:
    """With the mean ‖φ_0(x)‖² as the fixed margin, which allows as much as the adaptive one on average."""
    return constraint_arms(round(reference_embeddings(workspace).square().sum(-1).mean().item(), 1))


def final_multiplier(workspace: Workspace, reference_ND: Tensor, part: float) -> Callable[[Row], float | None]:
    """A reader of a quantile over the training photos of the multipliers that a run's dual ends with."""

    @torch.no_grad()
    def read(row: Row) -> float | None:
        if row.seed < 0 or row.dataset != PHOTOS:
            return None
        run = RunFolder(noise_folder(row.arm, row.seed, workspace))
        anchor, state = from_dict(RunConfig, read_yaml(run.config)).anchor, run.latest()
        if anchor.kind != "lagrangian" or anchor.dual == "table" or state is None:
            return None
        dual = Dual(anchor.dual, reference_ND.shape[1], hidden=anchor.dual_hidden, maximum=anchor.max_multiplier)
        dual.load_state_dict(state["dual"])
        return dual(reference_ND).quantile(part).item()

    return read


def _held(results: Results) -> str:
    """How near images were held, and by what multipliers."""
    workspace, reference_ND = results.workspace, reference_embeddings(results.workspace)
    within = [value(f"drift p{p}", f"drift.distance.p{p}", dataset=PHOTOS) for p in (50, 90)]
    trained = [
        Column(title, logged(workspace, key, part), 1, scale)
        for title, key, part, scale in (
            ("above ρ at the end %", "violation_rate", 0.2, 100.0),
            ("above ρ, all batches %", "violation_rate", 1.0, 100.0),
            ("λ at the end", "multiplier", 0.2, 1.0),
        )
    ]
    spread = [Column(f"λ p{p}", final_multiplier(workspace, reference_ND, p / 100), 2, 1.0) for p in (10, 50, 90)]
    legend = (
        "\n*Drift*: of test photos. *Above ρ*: share of training images; at the end = mean of the last fifth of the "
        "log. FARE is counted against ρ = 0.1. *λ p10* to *p90*: percentiles of the last dual over the training "
        "photos.\n\n"
    )
    rows = [row for row in results.rows if row.arm != UNTOUCHED]
    return legend + table_of(rows, (*within, *trained, *spread), workspace, "table-held")[0]


def _broken(results: Results) -> list[Row]:
    """The share of training images above ρ at the end, counted in the last fifth of the log."""
    read = logged(results.workspace, "violation_rate", 0.2)
    return [
        replace(row, numbers={"broken": Share(read(row) or 0.0, n=32 * 6)})
        for row in results.rows
        if row.dataset == PHOTOS and row.arm != UNTOUCHED
    ]


def _below_front(claim: str, arm: str) -> Claim:
    what = arm.partition(", ")[2]
    return Claim(
        claim, (EachSet((above_front(f"{what} above the front over ρ, {{set}}", arm, LORE_FRONT, wanted=-1),)),)
    )


SHOWN = (FARE, *(f"LORE ρ={rho:g}" for rho in TIGHT))
KINDS = (LORE, LINEAR, FAST_SCALAR, FIXED_DUAL)


def _traces(arms: tuple[str, ...], key: str, scale: float = 1.0) -> tuple[Trace, ...]:
    return tuple(Trace(arm, arm, key, scale) for arm in arms)


CONSTRAINT = Design(
    pool=NOISE,
    arms=_arms,
    specs=SPECS,
    columns=robust_columns(),
    note=NOTE,
    panels=(
        Panel(
            "Distance of clean training images",
            "batch",
            "mean relative squared distance",
            _traces(SHOWN, "clean_distance"),
        ),
        Panel("Share above ρ", "batch", "violations, % of a batch", _traces(SHOWN, "violation_rate", 100)),
        Panel("Multipliers", "batch", "mean λ", _traces(SHOWN[1:], "multiplier")),
        Panel("Multipliers by kind of dual", "batch", "mean λ", _traces(KINDS, "multiplier")),
    ),
    picture="distances, violations and multipliers over training",
    claims=(
        Claim(
            "learned multipliers break the constraint less often than λ = 1",
            (Contrast("share of training images above ρ at the end", FIXED_DUAL, LORE, "broken"),),
        ),
        _below_front("a dual network beats a linear dual", LINEAR),
        _below_front("a dual network beats one scalar", FAST_SCALAR),
        _below_front("an adaptive margin beats a fixed one", FIXED_MARGIN),
    ),
    compared={name: config for name, config in LORES.items() if name not in SHOWN},
    derived_rows=_broken,
    after_table=_held,
)

STUDIES = (
    Study(
        "lore-constraint",
        "The constraint at work",
        f"{PAPER}: the multipliers hold clean images near the reference; a network does it best.",
        10,
        CONSTRAINT,
        ONE_SEED,
    ),
)
