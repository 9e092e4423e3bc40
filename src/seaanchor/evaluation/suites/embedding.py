"""How far an attack moves the embedding of an image: no class is needed.

Legend: B batch, N images.
"""

from torch import Tensor

from seaanchor.attacks.ball import Ball
from seaanchor.attacks.embedding import embedding_attack
from seaanchor.evaluation.attacks import AttackPlan, inside
from seaanchor.evaluation.context import CleanBatch, EvaluationContext, Suite, Tables, legal_check
from seaanchor.evaluation.results import Check
from seaanchor.evaluation.statistics import spread_of
from seaanchor.evaluation.suite_results import EmbeddingAttack, EmbeddingRadius
from seaanchor.evaluation.table import Table


def _plan(context: EvaluationContext) -> AttackPlan:
    if context.protocol.embedding is None:
        raise RuntimeError("the suite `embedding` needs Protocol.embedding")
    return context.protocol.embedding


def _measure(context: EvaluationContext, clean: CleanBatch) -> Table:
    plan, rows = _plan(context), Table()
    for epsilon in plan.epsilons:
        ball = Ball(plan.norm, epsilon)
        found = embedding_attack(context.model.encoder, clean.batch, ball, num_steps=plan.num_steps, seed=plan.seed)
        rows |= {f"{epsilon!r} distance": found.relative_B, f"{epsilon!r} cosine": found.cosine_B}
        legal_B: Tensor = inside(found.pixels_BCHW, clean.batch.pixels_BCHW, ball)
        rows[f"{epsilon!r} sound"] = legal_B & found.relative_B.isfinite() & ~found.broken_B
    return rows


def _summarise(context: EvaluationContext, tables: Tables) -> EmbeddingAttack:
    plan, own = _plan(context), tables.own
    return EmbeddingAttack(
        tuple(
            EmbeddingRadius(
                epsilon,
                plan.norm,
                plan.num_steps,
                spread_of(own[f"{epsilon!r} distance"]),
                own[f"{epsilon!r} cosine"].double().mean().item(),
                len(own["index"]),
            )
            for epsilon in sorted(plan.epsilons)
        )
    )


def _audit(context: EvaluationContext, tables: Tables) -> dict[str, Check]:
    return legal_check([tables.own[f"{epsilon!r} sound"] for epsilon in _plan(context).epsilons])


SUITE = Suite(_summarise, _measure, classes=False, audit=_audit)
