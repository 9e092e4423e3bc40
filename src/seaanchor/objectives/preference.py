"""Preference optimization of a contrastive model: DPO, IPO and KTO as pure functions, and as objectives.

The policy over candidate texts is π(y|x) = softmax_y(s · cos(I(x), T(y))), with s the model's own logit scale (arXiv
2411.08923, eq. 3 and 4). A difference of two log-probabilities of one image is a difference of two scaled cosines: the
normaliser cancels, so DPO and IPO need the two texts of a pair and not the whole set. Legend: B batch, D embedding
dimension, Y candidate texts.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from seaanchor.functional.distances import kl_divergence
from seaanchor.types import Embeddings, Head, Needs, Preference, Targets


def preference_margin(
    policy_chosen_B: Tensor, policy_rejected_B: Tensor, reference_chosen_B: Tensor, reference_rejected_B: Tensor
) -> Tensor:
    """h = [log π_θ(y_w|x) − log π_θ(y_l|x)] − [log π_ref(y_w|x) − log π_ref(y_l|x)].

    Args:
        policy_chosen_B, policy_rejected_B, reference_chosen_B, reference_rejected_B: log-probabilities, or logits
            (scaled cosines), (B,).

    Returns:
        Margin (B,): positive where the policy prefers the chosen text more than the reference does.

    Source: arXiv 2411.08923, eq. 5.
    """
    return (policy_chosen_B - policy_rejected_B) - (reference_chosen_B - reference_rejected_B)


def dpo_loss(margin_B: Tensor, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """Direct preference optimization: −(1−ε)·log σ(βh) − ε·log σ(−βh).

    Args:
        margin_B: h of `preference_margin`, (B,).
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


def ipo_loss(margin_B: Tensor, *, beta: float) -> Tensor:
    """Identity preference optimization: (h − 1/(2β))².

    Args:
        margin_B: h of `preference_margin`, (B,).
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
    *,
    beta: float,
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
    """
    _positive("beta", beta)
    if desirable_weight < 0 or undesirable_weight < 0:
        raise ValueError(f"weights are {desirable_weight} and {undesirable_weight}; expected non-negative numbers")
    baseline = kl.detach() if isinstance(kl, Tensor) else kl
    sign_B = torch.where(desirable_B, 1.0, -1.0).to(logratio_B)
    weight_B = torch.where(desirable_B, desirable_weight, undesirable_weight).to(logratio_B)
    return weight_B * torch.sigmoid(-beta * sign_B * (logratio_B - baseline))


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} is {value}; expected a positive number")


@dataclass(frozen=True)
class _Logits:
    """Policy and reference logits (B, Y) of the perturbed images, with the pairs."""

    policy_BY: Tensor
    reference_BY: Tensor
    preference: Preference


def _logits(embeddings: Embeddings, targets: Targets) -> _Logits:
    head, preference = _pairs(targets)
    return _Logits(policy_head(embeddings, targets)(embeddings.perturbed_BD), head(_reference(targets)), preference)


def _pairs(targets: Targets) -> tuple[Head, Preference]:
    if targets.head is None or targets.preference is None:
        raise ValueError("a preference objective needs targets with head and preference")
    return targets.head, targets.preference


def _reference(targets: Targets) -> Tensor:
    if targets.reference_perturbed_BD is None:
        raise ValueError("a preference objective needs the reference's embeddings of the perturbed images")
    return targets.reference_perturbed_BD


def policy_head(embeddings: Embeddings, targets: Targets) -> Head:
    """The policy's own text side: the reference's, unless the adapter moves texts too."""
    head = embeddings.head or targets.head
    if head is None:
        raise ValueError("class texts are needed: targets.head")
    return head


def _margin(embeddings: Embeddings, targets: Targets, reference_free: bool = False) -> Tensor:
    """h (B,) from the two texts of each pair alone: whatever else stands in Y, it costs nothing and changes nothing."""
    head, preference = _pairs(targets)
    chosen_B, rejected_B = _pair_logits(embeddings.perturbed_BD, policy_head(embeddings, targets), preference)
    if reference_free:
        return chosen_B - rejected_B
    return preference_margin(chosen_B, rejected_B, *_pair_logits(_reference(targets), head, preference))


def _pair_logits(embedding_BD: Tensor, head: Head, preference: Preference) -> tuple[Tensor, Tensor]:
    """Scaled cosines (B,) of each image with its own chosen and its own rejected text."""
    unit_BD = F.normalize(embedding_BD, dim=-1)
    chosen_B, rejected_B = (
        head.logit_scale * (unit_BD * head.weight_CD[text_B]).sum(-1)
        for text_B in (preference.chosen_B, preference.rejected_B)
    )
    return chosen_B, rejected_B


PAIRS = Needs(head=True, pairs=True, reference_perturbed=True)


@dataclass(frozen=True)
class DPO:
    """Direct preference optimization on (perturbed image, chosen text, rejected text); see `dpo_loss`.

    Args:
        beta, label_smoothing: as in `dpo_loss`.
        reference_free: take the reference's margin as 0; saves its forward.
    """

    beta: float = 1.0
    label_smoothing: float = 0.0
    reference_free: bool = False

    @property
    def needs(self) -> Needs:
        """Pairs and texts, and the reference on perturbed images unless reference-free."""
        return Needs(head=True, pairs=True, reference_perturbed=not self.reference_free)

    def attack_loss(self, embedding_BD: Tensor, targets: Targets) -> Tensor:
        """The loss (B,) itself: an attack looks for pixels where the rejected text wins."""
        return self(Embeddings(embedding_BD), targets)

    def __call__(self, embeddings: Embeddings, targets: Targets) -> Tensor:
        """DPO loss (B,)."""
        return dpo_loss(
            _margin(embeddings, targets, self.reference_free), beta=self.beta, label_smoothing=self.label_smoothing
        )


@dataclass(frozen=True)
class IPO:
    """Identity preference optimization on pairs; see `ipo_loss`."""

    beta: float = 0.01
    needs: Needs = PAIRS

    def attack_loss(self, embedding_BD: Tensor, targets: Targets) -> Tensor:
        """The negative margin (B,): IPO's own loss also rises when the margin passes its goal, which no attack should
        aim at."""
        return -_margin(Embeddings(embedding_BD), targets)

    def __call__(self, embeddings: Embeddings, targets: Targets) -> Tensor:
        """IPO loss (B,)."""
        return ipo_loss(_margin(embeddings, targets), beta=self.beta)


@dataclass(frozen=True)
class KTO:
    """Kahneman-Tversky optimization; see `kto_loss`. A row has a desirable text, an undesirable one (−1: none), or
    both, whose losses are then averaged.

    The baseline z0 is the exact KL(π_ref ‖ π_θ) over all candidate texts, averaged over the batch's clean images and
    detached.
    """

    beta: float = 1.5
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    needs: Needs = Needs(clean=True, head=True, pairs=True, reference_perturbed=True)

    def attack_loss(self, embedding_BD: Tensor, targets: Targets) -> Tensor:
        """The loss (B,) with a baseline of 0."""
        return self._rows(_logits(Embeddings(embedding_BD), targets), embedding_BD.new_zeros(()))

    def __call__(self, embeddings: Embeddings, targets: Targets) -> Tensor:
        """KTO loss (B,)."""
        if embeddings.clean_BD is None or targets.head is None:
            raise ValueError("kto needs the clean embeddings and class texts for its baseline")
        with torch.no_grad():
            kl = kl_divergence(
                targets.head(targets.reference_BD), policy_head(embeddings, targets)(embeddings.clean_BD)
            ).mean()
        return self._rows(_logits(embeddings, targets), kl)

    def _rows(self, logits: _Logits, kl: Tensor) -> Tensor:
        logratio_BY = logits.policy_BY.log_softmax(-1) - logits.reference_BY.log_softmax(-1)
        total_B, count_B = torch.zeros_like(logratio_BY[:, 0]), torch.zeros_like(logratio_BY[:, 0])
        for text_B, desirable in ((logits.preference.chosen_B, True), (logits.preference.rejected_B, False)):
            given_B = text_B >= 0
            logratio_B = logratio_BY.gather(1, text_B.clamp(min=0)[:, None]).squeeze(1)
            loss_B = kto_loss(
                logratio_B,
                torch.full_like(given_B, desirable),
                kl,
                beta=self.beta,
                desirable_weight=self.desirable_weight,
                undesirable_weight=self.undesirable_weight,
            )
            total_B, count_B = total_B + torch.where(given_B, loss_B, 0.0), count_B + given_B
        return total_B / count_B.clamp(min=1)
