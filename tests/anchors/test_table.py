"""A multiplier for each image: its step by hand, whom it leaves alone, and the optimum of every image."""

import pytest
import torch

from seaanchor.anchors.lagrangian import Lagrangian
from seaanchor.anchors.table import MultiplierTable
from seaanchor.errors import SeaAnchorError
from seaanchor.types import BindContext, Embeddings, Targets


def test_projected_ascent_by_hand():
    table = MultiplierTable(4, initial=1.0, maximum=3.0)
    table.ascend(torch.tensor([2, 0, 3]), torch.tensor([0.5, -3.0, 9.0]), rate=0.5)
    # at least 0, as it was, plain, at most 3
    assert table(torch.arange(4)).tolist() == [0.0, 1.0, 1.25, 3.0]
    table.ascend(torch.tensor([3, 0]), torch.tensor([-1.0, 1.0]), rate=0.5)
    assert table(torch.tensor([0, 3])).tolist() == [0.5, 2.5]  # neither bound holds a multiplier back


def test_each_image_has_its_own_proportional_term():
    """κ = 2, rate 1, ν = 0. Image 0 sees 1, then 3; image 1 sees 5 in between."""
    table = MultiplierTable(2, initial=1.0)
    for index, violation, wanted in ((0, 1.0, [4, 1]), (1, 5.0, [4, 16]), (0, 3.0, [11, 16])):
        table.ascend(torch.tensor([index]), torch.tensor([violation]), 1.0, 2.0)
        assert table(torch.arange(2)).tolist() == wanted
    assert table.smoothed_N.tolist() == [3, 5]


REFERENCE = torch.tensor([[2.0, 0.0], [0.0, 2.0], [-2.0, 0.0]])
AIM = REFERENCE + torch.tensor([[3.0, 4.0], [0.0, 3.0], [0.0, 0.2]])


@pytest.mark.parametrize("kappa", [pytest.param(0.0, marks=pytest.mark.exhaustive), 3.0])
def test_every_image_finds_its_own_multiplier(kappa):
    """min ‖x − a‖² subject to ‖x − r‖² ≤ ‖r‖²/4: λ = ‖a − r‖ − 1 where that is positive, for here √ρ·‖r‖ = 1. Two of
    the three images are seen in each step."""
    x, table = REFERENCE.clone().requires_grad_(), MultiplierTable(3)
    anchor, primal = Lagrangian(table, 0.25), torch.optim.SGD([x], 0.03)
    for step in range(3000):
        index_B = torch.tensor([step % 3, (step + 1) % 3])
        targets = Targets(REFERENCE[index_B], index_B=index_B)
        terms = anchor(Embeddings(x[index_B], x[index_B]), targets)
        primal.zero_grad()
        ((x[index_B] - AIM[index_B]).square().sum(-1) + terms.loss_B).sum().backward()
        primal.step()
        table.ascend(index_B, terms.constraint.violation_B.detach() / 4, 0.2, kappa)
    assert torch.allclose(table(torch.arange(3)), torch.tensor([4.0, 2.0, 0.0]), atol=1e-3)
    assert torch.allclose(x.detach()[0], REFERENCE[0] + torch.tensor([0.6, 0.8]), atol=1e-3)


def test_a_table_is_made_of_the_number_of_images():
    anchor = Lagrangian("table", initial_multiplier=2.0, max_multiplier=1.5)
    assert anchor.needs.index and not Lagrangian().needs.index
    bound = anchor.bind(BindContext(4, num_images=7))
    assert bound.multiplier.multiplier_N.tolist() == [1.5] * 7 and bound.bind(BindContext(4, num_images=7)) is bound
    with pytest.raises(SeaAnchorError, match=r"anchor\.dual table on images[\s\S]*a length and an index"):
        anchor.bind(BindContext(4))
    with pytest.raises(SeaAnchorError, match="a table of 7 multipliers for 8 images"):
        bound.bind(BindContext(4, num_images=8))
    with pytest.raises(ValueError, match="index_B"):
        bound(Embeddings(REFERENCE, REFERENCE), Targets(REFERENCE))
