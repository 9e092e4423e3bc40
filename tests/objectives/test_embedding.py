"""FARE's objective by hand and by finite differences."""

import torch

from seaanchor.objectives.embedding import EmbeddingDistance
from seaanchor.types import Embeddings, Targets

REFERENCE = torch.tensor([[3.0, 4.0], [1.0, 0.0]], dtype=torch.float64)


def test_squared_distance_to_the_clean_reference_by_hand():
    perturbed = torch.tensor([[0.0, 0.0], [1.0, 2.0]], dtype=torch.float64)
    embeddings = Embeddings(
        perturbed, clean_BD=torch.full_like(perturbed, 9.0)
    )  # the policy's clean embedding plays no part
    assert EmbeddingDistance()(embeddings, Targets(REFERENCE)).tolist() == [25.0, 4.0]  # summed, and of raw embeddings


def test_the_attack_raises_what_training_lowers():
    perturbed = torch.randn(2, 2, dtype=torch.float64)
    objective = EmbeddingDistance()
    assert torch.equal(
        objective.attack_loss(perturbed, Targets(REFERENCE)), objective(Embeddings(perturbed), Targets(REFERENCE))
    )


def test_gradient():
    perturbed = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: EmbeddingDistance()(Embeddings(p), Targets(REFERENCE)), perturbed)
    (grad,) = torch.autograd.grad(EmbeddingDistance()(Embeddings(perturbed), Targets(REFERENCE)).sum(), perturbed)
    assert torch.allclose(grad, 2 * (perturbed.detach() - REFERENCE))


def test_needs_nothing_beside_the_perturbed_image():
    needs = EmbeddingDistance().needs
    assert not (needs.clean or needs.head or needs.labels)
