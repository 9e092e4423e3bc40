"""Preference optimization of a contrastive model: DPO, IPO and KTO as objectives.

The policy over candidate texts is π(y|x) = softmax_y(s · cos(I(x), T(y))), with s the model's own logit scale (arXiv
2411.08923, eq. 3 and 4). A difference of two log-probabilities of one image is a difference of two scaled cosines: the
normaliser cancels, so DPO and IPO need the two texts of a pair and not the whole set. Legend: B batch, D embedding
dimension, Y candidate texts.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from seaanchor.functional.cross_entropy import attack_cross_entropy
from seaanchor.functional.distances import kl_divergence
from seaanchor.objectives.losses import dpo_loss, ipo_loss, kto_loss, log_ratio_margin
from seaanchor.types import Embeddings, Head, Needs, Preference, Targets


@dataclass(frozen=True)
class _Logits:
    """Policy and reference logits (B, Y) of the perturbed images, with the pairs."""

    policy_BY: Tensor
    reference_BY: Tensor
    preference: Preference


def _logits(embeddings: Embeddings, targets: Targets) -> _Logits:
    head, preference = pairs_of(targets)
    return _Logits(policy_head(embeddings, targets)(embeddings.perturbed_BD), head(_reference(targets)), preference)


def pairs_of(targets: Targets) -> tuple[Head, Preference]:
    """The class texts, and which of them should win over which."""
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
    head, preference = pairs_of(targets)
    chosen_B, rejected_B = _pair_logits(embeddings.perturbed_BD, policy_head(embeddings, targets), preference)
    if reference_free:
        return chosen_B - rejected_B
    return log_ratio_margin(chosen_B, rejected_B, *_pair_logits(_reference(targets), head, preference))


def _pair_logits(embedding_BD: Tensor, head: Head, preference: Preference) -> tuple[Tensor, Tensor]:
    """Logits (B,) of each image for its own chosen and its own rejected text."""
    return head.pair_logits(embedding_BD, preference.chosen_B), head.pair_logits(embedding_BD, preference.rejected_B)


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
    needs: ClassVar[Needs] = Needs(head=True, pairs=True, reference_perturbed=True)

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
    needs: ClassVar[Needs] = Needs(clean=True, head=True, pairs=True, reference_perturbed=True, unpaired=True)

    def attack_loss(self, embedding_BD: Tensor, targets: Targets) -> Tensor:
        """The loss (B,) with a baseline of 0, alive where the policy's log-probability of a text is 0 by rounding."""
        return self._rows(_logits(Embeddings(embedding_BD), targets), embedding_BD.new_zeros(()), attack=True)

    def __call__(self, embeddings: Embeddings, targets: Targets) -> Tensor:
        """KTO loss (B,)."""
        kl = self.baseline(embeddings, targets).mean() if targets.baseline is None else targets.baseline
        return self._rows(_logits(embeddings, targets), kl)

    @torch.no_grad()
    def baseline(self, embeddings: Embeddings, targets: Targets) -> Tensor:
        """KL(π_ref ‖ π_θ) of each clean image (B,); its mean over the batch is z0, which `targets.baseline` holds where
        a step takes the batch in slices."""
        if embeddings.clean_BD is None or targets.head is None:
            raise ValueError("kto needs the clean embeddings and class texts for its baseline")
        return kl_divergence(targets.head(targets.reference_BD), policy_head(embeddings, targets)(embeddings.clean_BD))

    def _rows(self, logits: _Logits, kl: Tensor, attack: bool = False) -> Tensor:
        reference_BY, policy_BY = logits.reference_BY.log_softmax(-1), logits.policy_BY.log_softmax(-1)
        logratio_BY = policy_BY - reference_BY
        total_B, count_B = torch.zeros_like(logratio_BY[:, 0]), torch.zeros_like(logratio_BY[:, 0])
        for text_B, desirable in ((logits.preference.chosen_B, True), (logits.preference.rejected_B, False)):
            given_B = text_B >= 0
            row_B = text_B.clamp(min=0)
            logratio_B = logratio_BY.gather(1, row_B[:, None]).squeeze(1)
            if attack:
                logged_B = attack_cross_entropy(logits.policy_BY, row_B).to(logratio_B)
                logratio_B = -logged_B - reference_BY.gather(1, row_B[:, None]).squeeze(1)
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
