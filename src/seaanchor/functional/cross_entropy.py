"""Cross-entropy as attacks raise it.

Legend: B batch, C classes.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from seaanchor.functional.masks import known_empty

FAR, FAR_DOUBLE = 10.0, 30.0  # log-odds of the label from which on 1 − π(label) loses digits; it is 0 from 17 and 37
NEAR = 0.1  # spread of logits below which cross-entropy is taken of larger ones
SPREAD = 30.0  # that those have


def attack_cross_entropy(logits_BC: Tensor, label_B: Tensor, factor_B: Tensor | None = None) -> Tensor:
    """Cross-entropy (B,) for attacks, at a scale at which its gradient lives; the answers do not change with it.

    With the log-odds of the label, o = z_y − log Σ_{j≠y} exp z_j, cross-entropy is log(1 + exp(−o)), and its gradient
    σ(−o) times that of −o. From o = 17 (a gap of 17 between two logits, of 23 among 1,000) fp32 rounds the true class's
    gradient to 0, from 104 all of it. Above `FAR` the loss therefore goes on as its own tangent in o: the same
    direction, the same order of losses, no zeros. Logits that all lie within `NEAR` are spread first: near log C the
    loss has no digits left, and all wrong classes count alike. Everywhere else it is plain cross-entropy, to the bit.

    Args:
        logits_BC: of two classes or more.
        label_B: the true classes, int64.
        factor_B: of `attack_scale`, where losses of different steps are compared; by default that of these logits.

    Returns:
        Loss (B,); below 0 far away, where it is no cross-entropy any more.

    >>> logits = torch.tensor([[500.0, 0.0]], requires_grad=True)
    >>> attack_cross_entropy(logits, torch.tensor([0])).sum().backward()
    >>> bool(logits.grad[0, 0] < 0 < logits.grad[0, 1])
    True
    """
    factor_B1 = (attack_scale(logits_BC) if factor_B is None else factor_B)[:, None]
    spread_BC = (logits_BC - logits_BC.detach().amax(-1, keepdim=True)) * factor_B1
    logits_BC = torch.where(factor_B1 == 1, logits_BC, spread_BC)
    loss_B = F.cross_entropy(logits_BC, label_B, reduction="none")
    odds_B = _log_odds(logits_BC, label_B)
    limit = FAR_DOUBLE if logits_BC.dtype == torch.float64 else FAR
    far_B = (odds_B > limit) & odds_B.isfinite()
    if known_empty(far_B):
        return loss_B
    tangent_B = math.log1p(math.exp(-limit)) + (limit - odds_B.where(far_B, 0.0)) / (1 + math.exp(limit))
    return torch.where(far_B, tangent_B, loss_B)


@torch.no_grad()
def attack_scale(logits_BC: Tensor) -> Tensor:
    """What each image's logits are multiplied by (B,) before an attack looks at them: 1, unless all lie within `NEAR`
    of each other."""
    spread_B = logits_BC.amax(-1) - logits_BC.amin(-1)
    near_B = (spread_B < NEAR) & (spread_B > 0)
    return torch.where(near_B, SPREAD / spread_B, 1.0)


def _log_odds(logits_BC: Tensor, label_B: Tensor) -> Tensor:
    """log π(label) − log(1 − π(label)), (B,)."""
    others_BC = logits_BC.scatter(1, label_B[:, None], -math.inf)
    return logits_BC.gather(1, label_B[:, None]).squeeze(1) - others_BC.logsumexp(-1)
