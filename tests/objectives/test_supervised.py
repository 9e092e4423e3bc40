"""TeCoA and cross-entropy by hand, against torch, and by finite differences."""

import math

import pytest
import torch
import torch.nn.functional as F

from seaanchor.objectives.supervised import CrossEntropy, TeCoA
from seaanchor.types import Embeddings, Head, Targets

HEAD = Head(
    F.normalize(torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=-1), 20.0
)
TARGETS = Targets(torch.zeros(3, 6, dtype=torch.float64), torch.tensor([0, 3, 1]), HEAD)


def by_hand(embedding, label):
    cosines = [embedding @ HEAD.weight_CD[c] / embedding.norm() for c in range(4)]
    total = sum(math.exp(20 * c.item()) for c in cosines)
    return -math.log(math.exp(20 * cosines[label].item()) / total)


@pytest.fixture
def pair():
    rng = torch.Generator().manual_seed(1)
    return [torch.randn(3, 6, generator=rng, dtype=torch.float64) for _ in range(2)]


def test_tecoa_by_hand(pair):
    perturbed, clean = pair
    ours = TeCoA()(Embeddings(perturbed, clean), TARGETS)
    assert ours.tolist() == pytest.approx([by_hand(e, label) for e, label in zip(perturbed, (0, 3, 1), strict=True)])


def test_two_classes_at_right_angles():
    head = Head(torch.eye(2), 100.0)
    loss = TeCoA()(Embeddings(torch.tensor([[0.0, 5.0]])), Targets(torch.zeros(1, 2), torch.tensor([0]), head))
    assert loss.item() == pytest.approx(100.0)  # all wrong, whatever the embedding's length


def test_cross_entropy_averages_both_images(pair):
    perturbed, clean = pair
    ours = CrossEntropy()(Embeddings(perturbed, clean), TARGETS)
    theirs = [
        (by_hand(p, label) + by_hand(c, label)) / 2 for p, c, label in zip(perturbed, clean, (0, 3, 1), strict=True)
    ]
    assert ours.tolist() == pytest.approx(theirs)


def test_only_the_perturbed_image_is_attacked(pair):
    perturbed, _ = pair
    for objective in (TeCoA(), CrossEntropy()):
        attack = objective.attack_loss(perturbed, TARGETS)
        assert attack.tolist() == pytest.approx(
            [by_hand(e, label) for e, label in zip(perturbed, (0, 3, 1), strict=True)]
        )


@pytest.mark.parametrize("objective", [TeCoA(), CrossEntropy()])
def test_gradient_by_finite_differences(objective, pair):
    perturbed, clean = (p.requires_grad_() for p in pair)
    assert torch.autograd.gradcheck(lambda p, c: objective(Embeddings(p, c), TARGETS), (perturbed, clean))


def test_what_is_missing_is_named(pair):
    perturbed, _ = pair
    with pytest.raises(ValueError, match="head and label_B"):
        TeCoA()(Embeddings(perturbed), Targets(torch.zeros(3, 6), torch.tensor([0, 3, 1])))
    with pytest.raises(ValueError, match="clean"):
        CrossEntropy()(Embeddings(perturbed), TARGETS)
