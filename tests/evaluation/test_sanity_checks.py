"""Every honesty check passes on an honest model, and fails on the fault it is there for."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from seaanchor.attacks.ball import Ball
from seaanchor.attacks.classification import AttackResult
from seaanchor.attacks.pgd import pgd_attack
from seaanchor.evaluation import attacks
from seaanchor.evaluation.attacks import AttackPlan, attack_survivors, inside
from seaanchor.evaluation.sanity_checks import (
    CheckInputs,
    check_gradients,
    check_model,
    failed,
    run_checks,
    spread_over,
)
from seaanchor.evaluation.zeroshot import evaluate_stream
from seaanchor.types import Batch

EPSILONS = (2 / 255, 8 / 255)
PGD = AttackPlan("pgd", "linf", EPSILONS, 5)


@pytest.fixture(scope="module")
def some(photos) -> Batch:
    return Batch(photos.pixels_BCHW[::3], photos.label_B[::3], torch.arange(len(photos.label_B[::3])))


def names(logits, some, plans=(PGD,), encoder=None, reference=None) -> list[str]:
    """Which checks fail."""

    def load(index: list[int]) -> Batch:
        return Batch(some.pixels_BCHW[index], some.label_B[index], torch.tensor(index))

    found = evaluate_stream(logits, [some], plans)
    checks = run_checks(CheckInputs(logits, encoder or logits, load, found, plans, reference))
    assert all(value.detail for value in checks.values())
    return [name for name, value in checks.items() if not value.passed]


def test_an_honest_model_passes_all(small_classifier, some):
    plans = tuple(
        AttackPlan(name, norm, epsilons, 4)
        for name in ("pgd", "apgd-ce", "apgd")
        for norm, epsilons in (("linf", EPSILONS), ("l2", (0.5,)))
    )
    assert names(small_classifier, some, plans[::2], reference=small_classifier) == []
    assert names(small_classifier, some, plans[1::2]) == []


def test_a_second_model_as_reference_is_no_alarm(small_classifier, some):
    torch.manual_seed(1)
    noisy = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.Flatten(), nn.Linear(8 * 49, 10)).requires_grad_(False)
    assert names(small_classifier, some, reference=noisy) == []


class Quantised(nn.Module):
    """Logits on a coarse grid: their gradient is zero everywhere, and PGD sees nothing, though the answers are almost
    the same."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels):
        return (4 * self.model(pixels)).round() / 4 + 0 * pixels.sum()


class Scaled(Quantised):
    """Logits so large that the softmax is one and the gradient of cross-entropy vanishes in fp32, or so small that it
    is log C."""

    def __init__(self, model: nn.Module, scale: float) -> None:
        super().__init__(model)
        self.scale = scale

    def forward(self, pixels):
        return self.scale * self.model(pixels)


class NoNumber(Quantised):
    """The answers of the model, and gradients that are NaN: the square root of 0, which is added, has an infinite
    slope."""

    def forward(self, pixels):
        return self.model(pixels) + (0 * pixels.mean((1, 2, 3))).sqrt()[:, None]


@pytest.mark.parametrize("scale", [1e4, 1e-8])
@pytest.mark.parametrize("name", ["pgd", "apgd-ce"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_scale_of_the_logits_hides_an_image(small_classifier, some, scale, name, norm):
    plan = AttackPlan(name, norm, (8 / 255 if norm == "linf" else 0.5,), 8)

    def robust(model: nn.Module) -> float:
        found = evaluate_stream(model, [some], (plan,))
        return found.attacked[plan, plan.epsilons[0]].float().mean().item()

    assert robust(Scaled(small_classifier, scale).eval()) <= robust(small_classifier) + 0.05
    assert names(Scaled(small_classifier, scale).eval(), some, (plan,), reference=small_classifier) == []


def test_gradients_that_are_no_numbers_are_caught(small_classifier, some):
    model = NoNumber(small_classifier).eval()
    assert torch.equal(model(some.pixels_BCHW), small_classifier(some.pixels_BCHW))
    found = evaluate_stream(model, [some], (PGD,))  # signs of NaN are 0: only the random start moves images
    assert not found.sound[PGD, EPSILONS[0]][found.clean_N].any()
    bad = names(model, some)
    assert {"model: gradients reach the pixels", "pgd: images stay in the ball and in [0, 1]"} <= set(bad)


def test_the_share_of_dead_gradients_is_told(small_classifier, some):
    class Half(Quantised):
        """Every image that is brighter than most is answered without its pixels."""

        def forward(self, pixels):
            bright = pixels.mean((1, 2, 3), keepdim=True).flatten(1) > middle
            return torch.where(bright, self.model(pixels).detach(), self.model(pixels))

    middle = some.pixels_BCHW.mean((1, 2, 3)).median()
    value = check_gradients(Half(small_classifier).eval(), some, (PGD,))["model: gradients reach the pixels"]
    dead = int((some.pixels_BCHW.mean((1, 2, 3)) > middle).sum())
    assert not value.passed and f"{dead} (49%) have a gradient of exactly 0" in value.detail
    assert check_gradients(small_classifier, some, (PGD,))["model: gradients reach the pixels"].passed
    assert check_gradients(small_classifier, some, (replace(PGD, name="square"),)) == {}


@pytest.mark.parametrize("masked", [Quantised])
def test_masked_gradients_are_caught(small_classifier, some, masked):
    model = masked(small_classifier).eval()
    standing = evaluate_stream(model, [some], (PGD,)).attacked[PGD, EPSILONS[-1]].float().mean()
    honest = evaluate_stream(small_classifier, [some], (PGD,)).attacked[PGD, EPSILONS[-1]].float().mean()
    assert standing > honest + 0.2  # this is what the check protects from
    assert names(model, some) == ["model: gradients reach the pixels", "pgd: Square is not stronger"]
    assert "pgd: transfer from the reference is not stronger" in names(model, some, reference=small_classifier)


def test_masked_gradients_are_caught_by_transfer_alone(small_classifier, some, monkeypatch):
    """Where the package with the black box is missing."""
    monkeypatch.setattr("seaanchor.evaluation.sanity_checks.square_is_there", lambda: False)
    assert names(Quantised(small_classifier).eval(), some, reference=small_classifier) == [
        "model: gradients reach the pixels",
        "pgd: transfer from the reference is not stronger",
    ]


def test_batch_norm_in_train_mode_is_caught(some):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8, momentum=0.0), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 49, 10)
    ).requires_grad_(False)
    ordered = some.pixels_BCHW.mean((1, 2, 3)).argsort()  # dark and bright halves have other statistics than the whole
    batch = Batch(some.pixels_BCHW[ordered], model.eval()(some.pixels_BCHW[ordered]).argmax(-1), some.index_B)
    assert failed(check_model(model, model, batch)) == []
    bad = check_model(model.train(), model, batch)
    assert not bad["model: batch size changes nothing"].passed
    assert not bad["model: eval mode"].passed
    assert "train mode" in bad["model: eval mode"].detail


def test_dropout_and_other_chance_are_caught(small_classifier, some):
    noisy = nn.Sequential(nn.Dropout(0.5), small_classifier).train()
    bad = check_model(noisy, noisy, some)
    assert not bad["model: two passes agree"].passed
    assert not bad["model: eval mode"].passed
    assert failed(check_model(noisy.eval(), noisy, some)) == []


@pytest.mark.parametrize(("value", "check"), [(1.0, "embeddings differ"), (float("nan"), "embeddings are finite")])
def test_constant_and_broken_embeddings_are_caught(small_classifier, some, value, check):
    class Constant(nn.Module):
        """One embedding for every image."""

        def forward(self, pixels):
            return torch.full((len(pixels), 10), value) + 0 * pixels.sum()

    model = Constant().eval()
    assert f"model: {check}" in names(model, some)
    assert not check_model(model, model, some)[f"model: {check}"].passed


def moved(change):
    """An attack whose images are changed once more before they are handed out."""

    def attack(logits, pixels, label, ball, **settings):
        result = pgd_attack(logits, pixels, label, ball, **settings)
        return AttackResult(change(result.pixels_BCHW), result.fooled_B)

    return attack


FAR = {
    "too far": lambda p: (p + 3 / 255).clamp(0, 1),
    "below 0": lambda p: p - 1,
    "nan": lambda p: p * float("nan"),
    "one of them": lambda p: p.clone().index_fill_(0, torch.tensor([0]), float("inf")),
}


@pytest.mark.parametrize("change", FAR.values(), ids=FAR)
def test_an_attack_outside_its_ball_or_nan_is_caught(small_classifier, some, monkeypatch, change):
    monkeypatch.setitem(attacks.STAGES, "pgd", (moved(change),))
    assert names(small_classifier, some) == ["pgd: images stay in the ball and in [0, 1]"]


def claiming(fooled):
    """An attack that changes nothing and claims to have fooled `fooled(pixels, ball, num_steps)`."""
    return lambda logits, pixels, label, ball, *, num_steps, index_B, seed: AttackResult(
        pixels, fooled(pixels, ball, num_steps)
    )


@pytest.mark.parametrize(
    ("fooled", "check"),
    [
        (lambda pixels, ball, steps: torch.ones(len(pixels), dtype=torch.bool), "epsilon 0 equals clean"),
        (
            lambda pixels, ball, steps: (torch.arange(len(pixels)) < len(pixels) // 2) & (ball.epsilon > 0),
            "batch size changes nothing",
        ),
        (
            lambda pixels, ball, steps: torch.full((len(pixels),), ball.epsilon > 0 and steps == 1),
            "more steps are not weaker",
        ),
    ],
)
def test_a_broken_attack_is_caught(small_classifier, some, monkeypatch, fooled, check):
    monkeypatch.setitem(attacks.STAGES, "pgd", (claiming(fooled),))
    assert f"pgd: {check}" in names(small_classifier, some)


def test_accuracy_that_rises_with_epsilon_is_caught(small_classifier, some):
    """Nothing that the evaluation does can bring it about; a table put together wrongly can."""
    found = evaluate_stream(small_classifier, [some], (PGD,))
    turned = replace(
        found,
        attacked={
            (PGD, EPSILONS[0]): found.attacked[PGD, EPSILONS[1]],
            (PGD, EPSILONS[1]): found.attacked[PGD, EPSILONS[0]],
        },
    )
    load = lambda index: Batch(some.pixels_BCHW[index], some.label_B[index], torch.tensor(index))  # noqa: E731
    checks = run_checks(CheckInputs(small_classifier, small_classifier, load, turned, (PGD,)))
    assert not checks["pgd: accuracy never rises with epsilon"].passed


@pytest.mark.parametrize("name", ["pgd", "apgd-ce", "apgd"])
def test_in_float64_batch_size_changes_not_one_image(small_classifier, some, name):
    import copy

    model, plan = copy.deepcopy(small_classifier).double(), AttackPlan(name, "linf", (4 / 255,), 4)
    batch = Batch(some.pixels_BCHW[:30].double(), some.label_B[:30], some.index_B[:30])
    correct = model(batch.pixels_BCHW).argmax(-1) == batch.label_B
    whole = attack_survivors(model, batch, correct, plan, 4 / 255).correct_B
    assert 0 < whole.sum() < correct.sum()
    for size in (1, 7):
        parts = [slice(i, i + size) for i in range(0, 30, size)]
        cut = [
            (Batch(batch.pixels_BCHW[part], batch.label_B[part], batch.index_B[part]), correct[part]) for part in parts
        ]
        assert torch.equal(
            torch.cat([attack_survivors(model, few, right, plan, 4 / 255).correct_B for few, right in cut]), whole
        )


def test_inside_allows_rounding_and_nothing_more():
    clean = torch.tensor([0.5, 0.999]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    for norm, radius, step in (("linf", 0.1, 0.1), ("l2", 0.1, 0.1 / 48**0.5)):
        ball = Ball(norm, radius)
        assert inside(clean + torch.tensor([step, 0.0]).view(2, 1, 1, 1), clean, ball).tolist() == [True, True]
        assert inside(clean + torch.tensor([1.001 * step, 0.002]).view(2, 1, 1, 1), clean, ball).tolist() == [
            False,
            False,
        ]


def test_spread_takes_wanted_images_evenly():
    index, wanted = torch.arange(100, 200), torch.arange(100) % 2 == 0
    assert spread_over(index, wanted, 3) == [100, 148, 198]
    assert spread_over(index, wanted, 500) == list(range(100, 200, 2))
    assert spread_over(index, torch.zeros(100, dtype=torch.bool), 2) == [100, 199]  # where none is, any
