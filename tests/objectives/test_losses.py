"""The pure losses against values worked out by hand, other libraries and finite differences."""

import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

import seaanchor.objectives
from seaanchor.objectives import (
    DPO,
    EmbeddingDistance,
    TeCoA,
    cross_entropy_loss,
    dpo_loss,
    embedding_distance_loss,
    ipo_loss,
    kto_loss,
    log_ratio_margin,
    tecoa_loss,
)
from seaanchor.types import Embeddings, Head, Preference, Targets

# Values of TRL's losses (dpo_trainer: `sigmoid`, `ipo`; kto_trainer: `kto`), worked out from their formulas without
# this
# code: log-probabilities of two rows, chosen and rejected, of policy and reference.
POLICY = (torch.tensor([-1.0, -2.5]), torch.tensor([-3.0, -2.0]))
REFERENCE = (torch.tensor([-1.2, -2.0]), torch.tensor([-2.0, -2.2]))
MARGINS = [1.2, -0.7]  # (-1.0 + 3.0) - (-1.2 + 2.0) and (-2.5 + 2.0) - (-2.0 + 2.2)


def test_dpo_at_a_margin_of_zero_is_log_2_and_falls_with_the_margin():
    loss = dpo_loss(torch.tensor([0.0, 1.0, -1.0]), beta=2.0)
    assert loss[0].item() == pytest.approx(math.log(2))
    assert loss[1] < loss[0] < loss[2]


def test_ipo_is_zero_at_its_goal_only():
    assert ipo_loss(torch.tensor([5.0]), beta=0.1).item() == 0
    assert ipo_loss(torch.tensor([4.0]), beta=0.1).item() == pytest.approx(1.0)
    assert ipo_loss(torch.tensor([6.0]), beta=0.1).item() == pytest.approx(1.0)


def test_kto_by_hand():
    ratio, desirable = torch.tensor([0.3, 0.3]), torch.tensor([True, False])
    loss = kto_loss(ratio, desirable, 0.1, beta=2.0, desirable_weight=1.5, undesirable_weight=0.5)
    assert loss[0].item() == pytest.approx(1.5 * (1 - 1 / (1 + math.exp(-2 * 0.2))))
    assert loss[1].item() == pytest.approx(0.5 * (1 - 1 / (1 + math.exp(2 * 0.2))))


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan")])
def test_beta_must_be_positive(bad):
    zero, desirable = torch.zeros(1), torch.tensor([True])
    for loss in (
        lambda: dpo_loss(zero, beta=bad),
        lambda: ipo_loss(zero, beta=bad),
        lambda: kto_loss(zero, desirable, 0.0, beta=bad),
    ):
        with pytest.raises(ValueError, match="beta"):
            loss()


def test_smoothing_and_weights_in_range():
    with pytest.raises(ValueError, match="label_smoothing"):
        dpo_loss(torch.zeros(1), beta=1.0, label_smoothing=0.5)
    with pytest.raises(ValueError, match="weights"):
        kto_loss(torch.zeros(1), torch.tensor([True]), 0.0, beta=1.0, desirable_weight=-1)


def test_margin_of_log_probabilities():
    assert log_ratio_margin(*POLICY, *REFERENCE).tolist() == pytest.approx(MARGINS)


@pytest.mark.parametrize(
    ("beta", "smoothing", "expected"),
    [
        (1.0, 0.0, [0.263282, 1.103186]),  # ln(1 + e^-1.2), ln(1 + e^0.7)
        (0.1, 0.0, [0.634947, 0.728759]),  # ln(1 + e^-0.12), ln(1 + e^0.07)
        (
            1.0,
            0.1,
            [0.383282, 1.033186],
        ),  # 0.9 of the first and 0.1 of ln(1 + e^1.2) = 1.463282; of ln(1 + e^-0.7) = 0.403186
    ],
)
def test_dpo_gives_the_numbers_of_trl(beta, smoothing, expected):
    assert dpo_loss(
        log_ratio_margin(*POLICY, *REFERENCE), beta=beta, label_smoothing=smoothing
    ).tolist() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(
    ("beta", "expected"), [(0.1, [14.44, 32.49]), (0.5, [0.04, 2.89])]
)  # (1.2 - 5)², (-0.7 - 5)²; (1.2 - 1)², (-0.7 - 1)²
def test_ipo_gives_the_numbers_of_trl(beta, expected):
    assert ipo_loss(log_ratio_margin(*POLICY, *REFERENCE), beta=beta).tolist() == pytest.approx(expected, rel=1e-5)


def test_kto_gives_the_numbers_of_trl():
    """Log-ratios 0.2, -0.5 of the chosen and -1.0, 0.2 of the rejected texts, z0 = 0.3, β = 0.5, weights 1 and 2."""
    ratio = torch.cat([POLICY[0] - REFERENCE[0], POLICY[1] - REFERENCE[1]])
    loss = kto_loss(ratio, torch.tensor([True, True, False, False]), 0.3, beta=0.5, undesirable_weight=2.0)
    expected = [
        0.512497,
        0.598688,
        0.685979,
        0.975005,
    ]  # 1/(1 + e^-0.05), 1/(1 + e^-0.4), 2/(1 + e^0.65), 2/(1 + e^0.05)
    assert loss.tolist() == pytest.approx(expected, abs=2e-6)


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


LOSSES = {
    "dpo": (lambda x_B: dpo_loss(x_B, beta=0.7, label_smoothing=0.1), draw(5)),
    "ipo": (lambda x_B: ipo_loss(x_B, beta=0.2), draw(5)),
    "kto": (lambda x_B: kto_loss(x_B, torch.tensor([True, False, True, False, True]), 0.2, beta=0.9), draw(5)),
    "embedding distance": (lambda x_BD: embedding_distance_loss(x_BD, draw(5, 3).flip(0)), draw(5, 3)),
    "cross-entropy": (lambda x_BY: cross_entropy_loss(x_BY, torch.tensor([0, 1, 2, 1, 0])), draw(5, 3)),
    "tecoa": (
        lambda x_BD: tecoa_loss(x_BD, F.normalize(draw(4, 3), dim=-1), torch.tensor([0, 1, 3, 1, 0]), logit_scale=5.0),
        draw(5, 3),
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_one_number_each_and_the_gradient_of_finite_differences(name):
    loss, inputs = LOSSES[name]
    whole_B = loss(inputs)
    assert whole_B.shape == (5,) and (whole_B >= 0).all()
    step, numeric = 1e-6, torch.zeros_like(inputs)
    for place in range(inputs.numel()):
        nudge = torch.zeros_like(inputs)
        nudge.view(-1)[place] = step
        numeric.view(-1)[place] = (loss(inputs + nudge) - loss(inputs - nudge)).sum() / (2 * step)
    leaf = inputs.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss(leaf).sum(), leaf)
    assert torch.allclose(grad, numeric, atol=1e-6) and grad.abs().sum() > 0


def test_defaults_are_those_of_the_objectives():
    margin_B, desirable_B = draw(5), torch.ones(5, dtype=torch.bool)
    assert torch.equal(dpo_loss(margin_B), dpo_loss(margin_B, beta=1.0))
    assert torch.equal(ipo_loss(margin_B), ipo_loss(margin_B, beta=0.01))
    assert torch.equal(kto_loss(margin_B, desirable_B, 0.0), kto_loss(margin_B, desirable_B, 0.0, beta=1.5))


def test_embedding_distance_by_hand():
    loss_B = embedding_distance_loss(torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]]))
    assert loss_B.tolist() == [13.0, 1.0]  # summed over D, of raw embeddings


def test_cross_entropy_by_hand():
    logits = torch.tensor([[math.log(2), math.log(3), math.log(5)]])
    assert cross_entropy_loss(logits, torch.tensor([1])).item() == pytest.approx(-math.log(0.3))


def test_tecoa_by_hand():
    """Cosines 0.6 and 0.8 whatever the length, at scale 10: the gap is 2."""
    for length in (1.0, 7.0):
        loss = tecoa_loss(length * torch.tensor([[0.6, 0.8]]), torch.eye(2), torch.tensor([0]), logit_scale=10.0)
        assert loss.item() == pytest.approx(math.log(1 + math.exp(2)), rel=1e-5)
    assert tecoa_loss(torch.tensor([[0.6, 0.8]]), torch.eye(2), torch.tensor([1])).item() == pytest.approx(
        math.log(1 + math.exp(-20)), abs=1e-6
    )  # 100 by default


def test_kto_never_differentiates_its_baseline():
    kl = torch.tensor(0.3, requires_grad=True)
    ratio_B = draw(3).requires_grad_()
    kto_loss(ratio_B, torch.ones(3, dtype=torch.bool), kl).sum().backward()
    assert kl.grad is None and (ratio_B.grad < 0).all()


def test_the_objectives_are_the_same_to_the_last_bit():
    rng = torch.Generator().manual_seed(0)
    perturbed_BD, clean_BD, reference_BD = (torch.randn(6, 8, generator=rng) for _ in range(3))
    head = Head(F.normalize(torch.randn(4, 8, generator=rng), dim=-1), 30.0)
    label_B, other_B = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([1, 2, 3, 0, 3, 0])
    targets = Targets(reference_BD, label_B, head, Preference(label_B, other_B), clean_BD)
    embeddings = Embeddings(perturbed_BD, clean_BD)
    assert torch.equal(EmbeddingDistance()(embeddings, targets), embedding_distance_loss(perturbed_BD, reference_BD))
    assert torch.equal(TeCoA()(embeddings, targets), tecoa_loss(perturbed_BD, head.weight_CD, label_B, 30.0))
    assert torch.equal(TeCoA()(embeddings, targets), cross_entropy_loss(head(perturbed_BD), label_B))
    policy, reference = (
        [30.0 * (F.normalize(x, dim=-1) * head.weight_CD[y]).sum(-1) for y in (label_B, other_B)]
        for x in (perturbed_BD, clean_BD)
    )
    assert torch.equal(DPO(0.5, 0.1)(embeddings, targets), dpo_loss(log_ratio_margin(*policy, *reference), 0.5, 0.1))


def test_the_folder_exports_lazily_and_no_name_is_a_file():
    code = (
        "import sys, pkgutil, seaanchor.objectives as o\n"
        "assert 'torch' not in sys.modules\n"
        "first = {n: getattr(o, n) for n in o.__all__}\n"
        "files = {m.name for m in pkgutil.iter_modules(o.__path__)}\n"
        "[__import__(f'seaanchor.objectives.{f}') for f in files]\n"
        "print(files & set(o.__all__), all(getattr(o, n) is first[n] for n in first))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "set() True"
    assert set(seaanchor.objectives.__all__) == set(dir(seaanchor.objectives))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = seaanchor.objectives.nothing
