"""How far clean embeddings lie from the reference's.

Legend: N images, D embedding dimension.
"""

import torch
import torch.nn.functional as F

from seaanchor.evaluation.context import EvaluationContext, Suite, Tables, needed
from seaanchor.evaluation.statistics import share_of, spread_of
from seaanchor.evaluation.suite_results import Drift


def _summarise(context: EvaluationContext, tables: Tables) -> Drift:
    """A model without a reference is its own."""
    policy_ND = needed(tables.clean)["embedding"].double()
    reference_ND = policy_ND if tables.reference is None else tables.reference["embedding"].double()
    relative_N = (policy_ND - reference_ND).square().sum(-1) / reference_ND.square().sum(-1)
    return Drift(
        cosine=F.cosine_similarity(policy_ND, reference_ND).mean().item(),
        distance=spread_of(relative_N),
        deciles=tuple(relative_N.quantile(torch.linspace(0, 1, 11, dtype=torch.float64)).tolist()),
        rho=context.rho,
        within=None if context.rho is None else share_of(relative_N <= context.rho),
        n=len(relative_N),
    )


SUITE = Suite(_summarise, embeddings=frozenset({"clean", "reference"}), classes=False)
