"""Policy gradient of a contrastive model: PPO as an objective.

The policy π(y|x) over the candidate texts takes one action in one step, a bandit. Its actions are few enough to be
summed over in place of sampling: the gradient has no noise, and no value function is needed, as the mean reward under
the policy is known. Legend: B batch, D embedding dimension, Y candidate texts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from seaanchor.objectives.losses import ppo_loss
from seaanchor.objectives.preference import pairs_of, policy_head
from seaanchor.types import Embeddings, Needs, Targets

Reward = Callable[[Targets], Tensor]
"""Maps the targets of a batch to the reward of each text for each image (B, Y)."""


def chosen_over_rejected(targets: Targets) -> Tensor:
    """Reward (B, Y): +1 for the chosen text, −1 for the rejected one, 0 for all others."""
    head, preference = pairs_of(targets)
    reward_BY = head.weight_CD.new_zeros(len(preference.chosen_B), len(head.weight_CD))
    reward_BY.scatter_(1, preference.chosen_B[:, None], 1.0)
    return reward_BY.scatter_(1, preference.rejected_B[:, None], -1.0)


@dataclass(frozen=True)
class PPO:
    """Proximal policy optimization over the candidate texts; see `ppo_loss`.

    π_old is the policy at the start of a step, which the K updates of the step (`primal_steps`) share: with one update
    the ratio is 1 everywhere, nothing is clipped, and what remains is the plain policy gradient.

    Args:
        clip: as in `ppo_loss`.
        reward: targets → reward of each text (B, Y); by default +1 for the chosen text, −1 for the rejected one.
    """

    clip: float = 0.2
    reward: Reward = chosen_over_rejected
    needs: ClassVar[Needs] = Needs(head=True, pairs=True, old_policy=True)

    def attack_loss(self, embedding_BD: Tensor, targets: Targets) -> Tensor:
        """The logarithm (B,) of how far the expected reward Σ_y π r stays behind the best one.

        It rises as the negative expected reward does, with the same best pixels; its gradient also lives where the
        policy is so sure of the best text that the expected reward's own is lost in rounding.
        """
        log_policy_BY = _log_policy(Embeddings(embedding_BD), targets)
        reward_BY = self._rewards(targets, log_policy_BY)
        behind_BY = reward_BY.amax(-1, keepdim=True) - reward_BY
        some_B = (behind_BY > 0).any(-1)  # else all texts are worth the same, and no attack changes that
        behind_BY = behind_BY.where(some_B[:, None], 1.0)
        return (log_policy_BY + behind_BY.log()).logsumexp(-1).where(some_B, 0.0)

    def __call__(self, embeddings: Embeddings, targets: Targets) -> Tensor:
        """PPO loss (B,)."""
        if targets.old_logits_BC is None:
            raise ValueError("ppo needs the policy's logits at the start of the step: targets.old_logits_BC")
        log_policy_BY = _log_policy(embeddings, targets)
        log_old_BY = targets.old_logits_BC.log_softmax(-1)
        reward_BY = self._rewards(targets, log_policy_BY)
        advantage_BY = reward_BY - (log_old_BY.exp() * reward_BY).sum(-1, keepdim=True)
        return ppo_loss(log_policy_BY, log_old_BY, advantage_BY, clip=self.clip)

    @torch.no_grad()
    def _rewards(self, targets: Targets, like_BY: Tensor) -> Tensor:
        reward_BY = self.reward(targets)
        if not isinstance(reward_BY, Tensor) or reward_BY.shape != like_BY.shape:
            found = tuple(reward_BY.shape) if isinstance(reward_BY, Tensor) else type(reward_BY).__name__
            raise ValueError(
                f"the reward gives {found}; expected one number for each image and text, {tuple(like_BY.shape)}"
            )
        return reward_BY.to(like_BY)


def _log_policy(embeddings: Embeddings, targets: Targets) -> Tensor:
    return policy_head(embeddings, targets)(embeddings.perturbed_BD).log_softmax(-1)
