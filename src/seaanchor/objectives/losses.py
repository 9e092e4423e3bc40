"""The losses as pure functions, for training loops of one's own; the objectives of this folder call them.

Each returns one number for each sample; the mean is the caller's. Legend: B batch, D embedding dimension, Y candidate
texts or classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from seaanchor.functional.distances import squared_distance
from seaanchor.types import Head


def log_ratio_margin(
    policy_chosen_B: Tensor, policy_rejected_B: Tensor, reference_chosen_B: Tensor, reference_rejected_B: Tensor
) -> Tensor:
    """h = [log π_θ(y_w|x) − log π_θ(y_l|x)] − [log π_ref(y_w|x) − log π_ref(y_l|x)].

    Args:
        policy_chosen_B, policy_rejected_B, reference_chosen_B, reference_rejected_B: log-probabilities, or logits
            (scaled cosines), (B,).

    Returns:
        Margin (B,): positive where the policy prefers the chosen text more than the reference does.

    Source: arXiv 2411.08923, eq. 5.

    >>> chosen_B, rejected_B = torch.tensor([-1.0]), torch.tensor([-3.0])
    >>> round(log_ratio_margin(chosen_B, rejected_B, torch.tensor([-1.2]), torch.tensor([-2.0])).item(), 4)
    1.2
    """
    return (policy_chosen_B - policy_rejected_B) - (reference_chosen_B - reference_rejected_B)


def dpo_loss(margin_B: Tensor, beta: float = 1.0, label_smoothing: float = 0.0) -> Tensor:
    """Direct preference optimization: −(1−ε)·log σ(βh) − ε·log σ(−βh).

    Args:
        margin_B: h of `log_ratio_margin`, (B,).
        beta: positive; the larger, the sooner a margin counts as won.
        label_smoothing: ε in [0, 0.5), the share of pairs thought to be labelled the wrong way round.

    Returns:
        Loss (B,), non-negative.

    Raises:
        ValueError: beta or label_smoothing out of range.

    Source: Rafailov et al. 2023, eq. 7; smoothing: Mitchell 2023, *A note on DPO with noisy preferences*.

    >>> round(dpo_loss(torch.zeros(1), beta=1.0).item(), 4)
    0.6931
    """
    _positive("beta", beta)
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing is {label_smoothing}; expected a share in [0, 0.5)")
    return -(1 - label_smoothing) * F.logsigmoid(beta * margin_B) - label_smoothing * F.logsigmoid(-beta * margin_B)


def ipo_loss(margin_B: Tensor, beta: float = 0.01) -> Tensor:
    """Identity preference optimization: (h − 1/(2β))².

    Args:
        margin_B: h of `log_ratio_margin`, (B,).
        beta: positive; the margin is drawn towards 1/(2β) and no further.

    Returns:
        Loss (B,), non-negative.

    Raises:
        ValueError: beta is not positive.

    Source: Azar et al. 2023, eq. 17.

    >>> ipo_loss(torch.tensor([50.0]), beta=0.01).item()
    0.0
    """
    _positive("beta", beta)
    return (margin_B - 1 / (2 * beta)).square()


def kto_loss(
    logratio_B: Tensor,
    desirable_B: Tensor,
    kl: Tensor | float,
    beta: float = 1.5,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """Kahneman-Tversky optimization of unpaired rows: w_D·(1 − σ(β(r − z0))) where desirable, w_U·(1 − σ(β(z0 − r)))
    where not.

    Args:
        logratio_B: r = log π_θ(y|x) − log π_ref(y|x), (B,).
        desirable_B: bool (B,).
        kl: z0, the policy-to-reference divergence; scalar or (B,), taken as given and never differentiated.
        beta: positive.
        desirable_weight, undesirable_weight: w_D and w_U, non-negative.

    Returns:
        Loss (B,) in [0, max weight].

    Raises:
        ValueError: beta not positive, or a negative weight.

    Source: Ethayarajh et al. 2024, eq. 8.

    >>> kto_loss(torch.tensor([0.3, 0.3]), torch.tensor([True, False]), 0.3, beta=2.0).tolist()
    [0.5, 0.5]
    """
    _positive("beta", beta)
    if desirable_weight < 0 or undesirable_weight < 0:
        raise ValueError(f"weights are {desirable_weight} and {undesirable_weight}; expected non-negative numbers")
    baseline = kl.detach() if isinstance(kl, Tensor) else kl
    sign_B = torch.where(desirable_B, 1.0, -1.0).to(logratio_B)
    weight_B = torch.where(desirable_B, desirable_weight, undesirable_weight).to(logratio_B)
    return weight_B * torch.sigmoid(-beta * sign_B * (logratio_B - baseline))


def ppo_loss(log_policy_BY: Tensor, log_old_BY: Tensor, advantage_BY: Tensor, clip: float = 0.2) -> Tensor:
    """Proximal policy optimization, summed over the actions: −Σ_y π_old·min(u·A, clamp(u, 1−ε, 1+ε)·A) with
    u = π_θ/π_old.

    The ratio is never formed. π_old is not negative, so that π_old·u = π_θ goes into the minimum, and π_old·clamp(u, …)
    is π_θ held between (1−ε)·π_old and (1+ε)·π_old. The loss is the same, and so is its gradient, but nothing overflows
    where π_old has come out as 0: at a logit scale of 100, u is easily e^100.

    Args:
        log_policy_BY: log π_θ(y|x).
        log_old_BY: log π_old(y|x), taken as given and never differentiated.
        advantage_BY: A = r − Σ_y π_old·r of rewards r (B, Y), taken as given and never differentiated.
        clip: ε in (0, 1), how far a text's probability may go in one step, as a share of π_old, before its gradient
            stops.

    Returns:
        Loss (B,); 0 where the policy is the old one.

    Raises:
        ValueError: clip out of range, tensors of unlike shapes, or fewer than two texts.

    Source: Schulman et al. 2017, eq. 7.

    >>> log_old_BY, reward_BY = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[1.0, -1.0]])
    >>> advantage_BY = reward_BY - (log_old_BY.exp() * reward_BY).sum(-1, keepdim=True)
    >>> round(ppo_loss(torch.tensor([[0.55, 0.45]]).log(), log_old_BY, advantage_BY).item(), 4)
    -0.1
    """
    if not 0 < clip < 1:
        raise ValueError(f"clip is {clip}; expected a share in (0, 1), such as 0.2")
    shapes = [tuple(t.shape) for t in (log_policy_BY, log_old_BY, advantage_BY)]
    if len(set(shapes)) > 1 or len(shapes[0]) != 2 or shapes[0][1] < 2:
        raise ValueError(
            f"policy, old policy and advantage are {shapes}; expected one shape (B, Y) with Y of at least 2"
        )
    policy_BY, old_BY, advantage_BY = log_policy_BY.exp(), log_old_BY.detach().exp(), advantage_BY.detach()
    held_BY = policy_BY.clamp((1 - clip) * old_BY, (1 + clip) * old_BY)
    return -torch.minimum(policy_BY * advantage_BY, held_BY * advantage_BY).sum(-1)


def embedding_distance_loss(embedding_BD: Tensor, reference_BD: Tensor) -> Tensor:
    """The objective of FARE and LORE: ‖φ_θ(x+δ) − φ_0(x)‖², summed over D.

    Args:
        embedding_BD: raw embeddings of the perturbed images.
        reference_BD: raw embeddings of the clean images by the frozen reference.

    Returns:
        Loss (B,), non-negative.

    Source: FARE (Schlarmann et al. 2024) eq. 3; LORE (arXiv 2505.18884) eq. 3.

    >>> embedding_distance_loss(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])).item()
    25.0
    """
    return squared_distance(embedding_BD, reference_BD)


def cross_entropy_loss(logits_BY: Tensor, label_B: Tensor) -> Tensor:
    """Cross-entropy of each sample: −log softmax(logits)[label].

    Args:
        logits_BY: of the classes.
        label_B: the true classes, int64.

    Returns:
        Loss (B,), non-negative.

    Source: the supervised baseline of arXiv 2411.08923.

    >>> round(cross_entropy_loss(torch.zeros(1, 4), torch.tensor([2])).item(), 4)  # ln 4
    1.3863
    """
    return F.cross_entropy(logits_BY, label_B, reduction="none")


def tecoa_loss(embedding_BD: Tensor, text_YD: Tensor, label_B: Tensor, logit_scale: float = 100.0) -> Tensor:
    """Text-guided contrastive adversarial training: −log softmax_y(s · cos(φ_θ(x+δ), T(y)))[label].

    Args:
        embedding_BD: raw embeddings of the perturbed images; they are divided by their length here.
        text_YD: embeddings of the class texts, of length 1.
        label_B: the true classes, int64.
        logit_scale: s, 100 in CLIP.

    Returns:
        Loss (B,), non-negative.

    Source: Mao et al. 2023, eq. 4.

    >>> round(tecoa_loss(torch.tensor([[0.0, 2.0]]), torch.eye(2), torch.tensor([0]), logit_scale=1.0).item(), 4)
    1.3133
    """
    return cross_entropy_loss(Head(text_YD, logit_scale)(embedding_BD), label_B)


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} is {value}; expected a positive number")
