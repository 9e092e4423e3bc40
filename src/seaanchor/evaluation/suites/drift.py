"""How far clean embeddings lie from the reference's.

Legend: B batch, N images, D embedding dimension.
"""

import torch
from torch import Tensor

from seaanchor.evaluation.context import CleanBatch, EvaluationContext, Suite, Tables, needed
from seaanchor.evaluation.statistics import share_of, spread_of
from seaanchor.evaluation.suite_results import Drift
from seaanchor.evaluation.table import Table
from seaanchor.functional.distances import cosine, relative_distance


@torch.no_grad()
def _measure(context: EvaluationContext, clean: CleanBatch) -> Table:
    """Of patch tokens, which no table holds: distance and cosine of each image to the reference's."""
    if not context.dense:
        return {}
    tokens_BTD = clean.embedding_BD
    reference_BTD = tokens_BTD
    if context.reference is not None:
        reference_BTD = context.reference.encoder.to(context.device).eval()(clean.batch.pixels_BCHW).float()
    return _moved(tokens_BTD, reference_BTD)


def _moved(policy_BD: Tensor, reference_BD: Tensor) -> Table:
    policy_BD, reference_BD = policy_BD.double(), reference_BD.double()
    return {"distance": relative_distance(policy_BD, reference_BD), "cosine": cosine(policy_BD, reference_BD)}


def _summarise(context: EvaluationContext, tables: Tables) -> Drift:
    """A model without a reference is its own."""
    found = tables.own
    if not context.dense:
        policy_ND = needed(tables.clean)["embedding"]
        found = _moved(policy_ND, policy_ND if tables.reference is None else tables.reference["embedding"])
    relative_N = found["distance"]
    return Drift(
        cosine=found["cosine"].mean().item(),
        distance=spread_of(relative_N),
        deciles=tuple(relative_N.quantile(torch.linspace(0, 1, 11, dtype=torch.float64)).tolist()),
        rho=context.rho,
        within=None if context.rho is None else share_of(relative_N <= context.rho),
        n=len(relative_N),
    )


SUITE = Suite(_summarise, _measure, embeddings=frozenset({"clean", "reference"}), classes=False)
