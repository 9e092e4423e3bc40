"""The attacks' cross-entropy against plain cross-entropy in fp64, where nothing is rounded away."""

import pytest
import torch
import torch.nn.functional as F

from seaanchor.functional.cross_entropy import FAR, SPREAD, attack_cross_entropy, attack_scale
from seaanchor.objectives.preference import KTO
from seaanchor.objectives.supervised import CrossEntropy, TeCoA
from seaanchor.types import Head, Preference, Targets


def drawn(count: int, classes: int, scale: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and as labels the answers."""
    logits = scale * torch.randn(count, classes, generator=torch.Generator().manual_seed(seed))
    return logits, logits.argmax(-1)


def gradient(loss, logits, *arguments):
    leaf = logits.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, *arguments).sum(), leaf)[0]


def plain(logits, label):
    return F.cross_entropy(logits, label, reduction="none")


@pytest.mark.parametrize("scale", [0.2, 0.5, 2.0])
def test_ordinary_logits_give_plain_cross_entropy_to_the_bit(scale):
    logits, label = drawn(200, 7, scale)
    label = torch.cat([label[:100], torch.arange(100) % 7])  # also of misclassified images
    assert torch.equal(attack_cross_entropy(logits, label), plain(logits, label))
    assert torch.equal(gradient(attack_cross_entropy, logits, label), gradient(plain, logits, label))


@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("scale", [1.0, 30.0, 3e3, 1e6])
def test_its_direction_is_that_of_cross_entropy_without_rounding(scale, classes):
    """Of which only the direction counts: ∇CE = σ(−o) · (π of the others alone − e_y)."""
    logits, label = drawn(50, classes, scale)
    found = gradient(attack_cross_entropy, logits, label)
    assert found.isfinite().all() and (found.gather(1, label[:, None]) < 0).all()
    others = logits.double().scatter(1, label[:, None], -float("inf")).softmax(-1)
    direction = others - F.one_hot(label, classes)
    assert torch.allclose(F.normalize(found.double(), dim=1), F.normalize(direction, dim=1), atol=1e-3)


@pytest.mark.parametrize("scale", [1e-12, 1e-8, 1e-3])
def test_small_logits_are_seen_as_larger_ones(scale):
    """A scale changes nothing, and neither does a number that is added to all."""
    base, label = drawn(50, 10, 1.0)
    base = base / (base.amax(1) - base.amin(1))[:, None]
    found, wanted = attack_cross_entropy(scale * base, label), attack_cross_entropy(SPREAD * base, label)
    assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-6)
    small, large = (F.normalize(gradient(attack_cross_entropy, x * base, label), dim=1) for x in (scale, SPREAD))
    assert torch.allclose(small, large, atol=1e-3)
    shifted = attack_cross_entropy(2.0**-10 * base.double() + 1, label)
    assert torch.allclose(shifted, plain(SPREAD * base.double(), label), rtol=1e-6)
    even = torch.ones(2, 3)
    assert torch.equal(attack_cross_entropy(even, torch.tensor([0, 1])), plain(even, torch.tensor([0, 1])))


def test_what_it_is_for():
    logits = torch.tensor([[18.0, 0.0], [110.0, 0.0]])
    label = torch.tensor([0, 0])
    assert gradient(plain, logits, label)[0, 0] == 0 and (gradient(plain, logits, label)[1] == 0).all()
    assert (gradient(attack_cross_entropy, logits, label) != 0).all()


@pytest.mark.parametrize("scale", [1e-7, 1e-4, 1.0, 9.0, 11.0, 300.0])
def test_losses_of_an_image_are_in_the_order_of_cross_entropy(scale):
    """Along a line through the limits on either side: what raises one raises the other."""
    base, _ = drawn(1, 5, 1.0)
    label = base.argmax(-1).expand(400)
    logits = scale * torch.linspace(0.5, 1.5, 400)[:, None] * base
    exact = -_log_odds(logits.double(), label)  # CE = log(1 + exp(−o)) rises with −o
    found = attack_cross_entropy(logits, label, attack_scale(logits[200:201]).expand(400))
    assert ((found[1:] - found[:-1]) * (exact[1:] - exact[:-1]) > 0).float().mean() > 0.97
    assert (found[1:] <= found[:-1] + 1e-6).all()


def _log_odds(logits, label):
    others = logits.scatter(1, label[:, None], -float("inf"))
    return logits.gather(1, label[:, None]).squeeze(1) - others.logsumexp(-1)


def test_it_is_continuous_at_its_limit():
    label = torch.tensor([0, 0])
    around = attack_cross_entropy(torch.tensor([[FAR - 1e-3, 0.0], [FAR + 1e-3, 0.0]]), label)
    assert around[0] > around[1] and around[0] - around[1] < 2e-7


def test_classes_that_are_ruled_out_stay_so():
    logits = torch.tensor([[3.0, -float("inf"), 1.0], [2.0, -float("inf"), -float("inf")]])
    found, wanted = attack_cross_entropy(logits, torch.tensor([0, 0])), plain(logits, torch.tensor([0, 0]))
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("scale", [1e-6, 1e4])
@pytest.mark.parametrize("objective", [TeCoA(), CrossEntropy(), KTO()])
def test_attacks_of_training_live_at_any_scale(objective, scale):
    rng = torch.Generator().manual_seed(0)
    text = F.normalize(torch.randn(5, 8, generator=rng), dim=-1)
    label = torch.arange(5)
    near = text + 0.1 * torch.randn(5, 8, generator=rng)  # each image is right, and far from doubt at a large scale
    targets = Targets(near, label, Head(text, scale), Preference(label, torch.full_like(label, -1)), near)
    found = gradient(objective.attack_loss, near, targets)
    assert found.isfinite().all() and (found != 0).any(1).all()
    away = near + 1e-3 * F.normalize(found, dim=1)
    odds = [_log_odds(Head(text.double(), 20.0)(x.double()), label) for x in (near, away)]
    assert (odds[1] < odds[0]).all()  # a step along it takes the label down
