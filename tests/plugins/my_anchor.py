"""An anchor in a file of its own: the absolute distance of each clean embedding from the reference's."""

import torch

import seaanchor as sa


@sa.register("anchor", "l1")
class L1:
    needs = sa.Needs(clean=True, reference_embeddings=True)

    def __init__(self, strength: float = 0.1):
        self.strength = strength

    def __call__(self, embeddings: sa.Embeddings, targets: sa.Targets) -> sa.AnchorTerms:
        distance_B = (embeddings.clean_BD - targets.held_BD).abs().sum(-1)
        return sa.AnchorTerms(self.strength * distance_B)

    def dual_loss(self, constraint: sa.Constraint, targets: sa.Targets) -> torch.Tensor | None:
        return None

    def dual_module(self) -> torch.nn.Module | None:
        return None
