"""The public attacks: the numbers of an evaluation on any model, which is afterwards as it was before."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from seaanchor.attacks import APGD, PGD, AutoAttack, EmbeddingAttack, Square
from seaanchor.attacks.ball import Ball
from seaanchor.attacks.embedding import embedding_attack
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.attacks import AttackPlan, attack_survivors
from seaanchor.types import Batch

EPSILON = 8 / 255
PAIRS = [
    (PGD(EPSILON, num_steps=5, seed=4), AttackPlan("pgd", "linf", (EPSILON,), 5, 4)),
    (PGD(0.6, "l2", num_steps=5), AttackPlan("pgd", "l2", (0.6,), 5)),
    (APGD(EPSILON, num_steps=6, seed=1), AttackPlan("apgd", "linf", (EPSILON,), 6, 1)),
    (APGD(0.6, "l2", num_steps=6, targeted=False), AttackPlan("apgd-ce", "l2", (0.6,), 6)),
    (Square(16 / 255, num_queries=40, seed=2), AttackPlan("square", "linf", (16 / 255,), 40, 2)),
    (AutoAttack(4 / 255, num_steps=3), AttackPlan("autoattack", "linf", (4 / 255,), 3)),
]
SMALL = [attack for attack, plan in PAIRS if plan.name in ("pgd", "apgd", "apgd-ce")]


@pytest.fixture(scope="module")
def some(photos) -> Batch:
    """50 photos, five of them with a wrong label."""
    label_B = photos.label_B[::4].clone()
    label_B[:5] = (label_B[:5] + 1) % 10
    return Batch(photos.pixels_BCHW[::4], label_B, photos.index_B[::4])


class Stateful(nn.Module):
    """Batch normalisation and dropout, some of it in eval mode and frozen: what an attack might disturb."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten())
        self.top = nn.Linear(392, 10)
        self.train()
        self.body[1].eval()
        self.body[0].bias.requires_grad_(False)

    def forward(self, pixels_BCHW):
        return self.top(self.body(pixels_BCHW))


@pytest.mark.parametrize(("attack", "plan"), PAIRS, ids=lambda x: type(x).__name__)
def test_the_same_images_fall_as_in_an_evaluation(small_classifier, some, attack, plan):
    correct_B = small_classifier(some.pixels_BCHW).argmax(-1) == some.label_B
    survivors = attack_survivors(small_classifier, some, correct_B, plan, plan.epsilons[0]).correct_B
    result = attack.attack(small_classifier, some.pixels_BCHW, some.label_B, some.index_B)
    assert torch.equal(result.fooled_B, ~survivors)
    assert 0 < survivors.sum() < correct_B.sum(), "the attack bites and leaves something"
    assert torch.equal(small_classifier(result.pixels_BCHW).argmax(-1) != some.label_B, result.fooled_B)
    assert torch.equal(attack(small_classifier, some.pixels_BCHW, some.label_B, some.index_B), result.pixels_BCHW)
    assert Ball(plan.norm, 1).distance(result.pixels_BCHW, some.pixels_BCHW).max() <= plan.epsilons[0] + 1e-6
    assert result.pixels_BCHW.min() >= 0 and result.pixels_BCHW.max() <= 1
    assert torch.equal(result.pixels_BCHW[~correct_B], some.pixels_BCHW[~correct_B]), "wrong ones are left alone"


@pytest.mark.parametrize("attack", [*SMALL, EmbeddingAttack(EPSILON, num_steps=3)], ids=lambda a: type(a).__name__)
def test_batch_size_changes_nothing_but_rounding_and_the_seed_something(small_classifier, some, attack):
    inputs = (small_classifier, some.pixels_BCHW) + ((some.label_B,) if attack in SMALL else ())
    whole, parts, other = (a(*inputs) for a in (attack, replace(attack, batch_size=17), replace(attack, seed=99)))
    assert ((whole - parts).flatten(1).abs().amax(1) > 1e-6).float().mean() < 0.1  # rounding, then signs
    assert ((whole - other).flatten(1).abs().amax(1) > 1e-6).float().mean() > 0.3


@pytest.mark.parametrize(
    "attack",
    [*SMALL, Square(0.1, num_queries=3), AutoAttack(EPSILON, num_steps=1), EmbeddingAttack(EPSILON, num_steps=2)],
    ids=lambda a: type(a).__name__,
)
def test_the_model_is_afterwards_as_it_was(some, attack):
    model = Stateful()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes, asking = ([m.training for m in model.modules()], [p.requires_grad for p in model.parameters()])
    state = torch.random.get_rng_state()
    inputs = (
        (some.pixels_BCHW[:6],) if isinstance(attack, EmbeddingAttack) else (some.pixels_BCHW[:6], some.label_B[:6])
    )
    first, second = (attack(model, *inputs) for _ in range(2))
    assert torch.equal(first, second), "dropout is off"
    assert [m.training for m in model.modules()] == modes == [True, True, True, False, True, True, True, True]
    assert [p.requires_grad for p in model.parameters()] == asking and not all(asking)
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not first.requires_grad and first.dtype == torch.float32


def test_a_model_that_fails_is_restored_too(some):
    model = Stateful()
    with pytest.raises(RuntimeError):
        PGD(EPSILON)(model, some.pixels_BCHW[:, :1], some.label_B)
    assert model.training and [p.requires_grad for p in model.parameters()][:2] == [True, False]


def test_a_plain_function_collects_no_gradients(some):
    model = Stateful().eval()
    adversarial = AutoAttack(EPSILON, num_steps=1)(lambda pixels: model(pixels), some.pixels_BCHW[:4], some.label_B[:4])
    assert torch.equal(adversarial, AutoAttack(EPSILON, num_steps=1)(model, some.pixels_BCHW[:4], some.label_B[:4]))
    assert all(p.grad is None for p in model.parameters())


def test_low_precision_around_the_attack_does_not_reach_it(small_classifier, some):
    expected = PGD(EPSILON, num_steps=2)(small_classifier, some.pixels_BCHW, some.label_B)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        inside = PGD(EPSILON, num_steps=2)(small_classifier, some.pixels_BCHW.clone(), some.label_B)
        EmbeddingAttack(EPSILON, num_steps=1)(small_classifier, some.pixels_BCHW.clone())
    assert torch.equal(inside, expected)
    with torch.no_grad():
        assert torch.equal(PGD(EPSILON, num_steps=2)(small_classifier, some.pixels_BCHW, some.label_B), expected)


def test_a_model_of_low_precision_and_images_of_double_precision(some):
    model = Stateful().eval().to(torch.bfloat16)
    result = PGD(EPSILON, num_steps=2).attack(model, some.pixels_BCHW.double(), some.label_B)
    assert result.pixels_BCHW.dtype == torch.float32 and next(model.parameters()).dtype == torch.bfloat16
    assert (result.pixels_BCHW - some.pixels_BCHW).abs().max() <= EPSILON + 1e-6


def test_labels_as_a_list_and_few_classes(small_classifier, some):
    few = some.label_B < 3
    images, labels = some.pixels_BCHW[few], some.label_B[few]
    three = lambda pixels: small_classifier(pixels)[:, :3]  # noqa: E731
    by_both = APGD(EPSILON, num_steps=4)(three, images, labels.tolist())
    assert torch.equal(by_both, APGD(EPSILON, num_steps=4, targeted=False)(three, images, labels))


@pytest.mark.parametrize("attack", [PGD(0.1), APGD(0.1), Square(0.1), AutoAttack(0.1)], ids=lambda a: type(a).__name__)
def test_no_images_are_no_error(small_classifier, attack):
    result = attack.attack(small_classifier, torch.zeros(0, 3, 16, 16), torch.zeros(0, dtype=torch.long))
    assert result.pixels_BCHW.shape == (0, 3, 16, 16) and result.fooled_B.shape == (0,)


def test_the_embedding_attack_is_that_of_an_evaluation(small_classifier, some):
    expected = embedding_attack(small_classifier, some, Ball("linf", EPSILON), num_steps=4, seed=3)
    result = EmbeddingAttack(EPSILON, num_steps=4, seed=3).attack(small_classifier, some.pixels_BCHW, some.index_B)
    assert torch.equal(result.pixels_BCHW, expected.pixels_BCHW) and torch.equal(result.relative_B, expected.relative_B)
    assert torch.equal(result.cosine_B, expected.cosine_B)
    empty = EmbeddingAttack(EPSILON).attack(small_classifier, torch.zeros(0, 3, 16, 16))
    assert empty.pixels_BCHW.shape == (0, 3, 16, 16) and empty.relative_B.shape == (0,)


BAD_IMAGES = {
    "a list": (lambda x: [x], "a list"),
    "three dimensions": (lambda x: x[0], r"shape \(3, 16, 16\)"),
    "integers": (lambda x: (x * 255).to(torch.uint8), r"torch.uint8"),
    "255ths": (lambda x: x * 255, "normalisation belongs inside"),
    "normalised": (lambda x: x - 0.5, "normalisation belongs inside"),
    "nan": (lambda x: x * float("nan"), "pixels of nan"),
}
BAD_LABELS = {
    "wrong length": (lambda y: y[:-1], "49 labels of 50 images"),
    "float": (lambda y: y.float(), "class numbers"),
    "one-hot": (lambda y: torch.eye(10)[y].long(), "class numbers"),
    "negative": (lambda y: y - 20, "label -19"),
    "too large": (lambda y: y + 5, "with 10 classes"),
}
BAD_MODELS = {
    "a tuple": (lambda f: lambda x: (f(x), 1), "returned a tuple"),
    "batch size": (lambda f: lambda x: f(x)[:-1], r"returned shape \(49, 10\) for 50 images"),
    "one number each": (lambda f: lambda x: f(x)[:, 0], r"returned shape \(50,\)"),
    "integers": (lambda f: lambda x: f(x).argmax(-1, keepdim=True), "returned torch.int64"),
    "nan": (lambda f: lambda x: f(x) / 0 * 0, "NaN or infinity"),
    "one class": (lambda f: lambda x: f(x)[:, :1], "a classifier of one class"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_images(small_classifier, some, case):
    change, found = BAD_IMAGES[case]
    for call in (
        lambda: PGD(0.01)(small_classifier, change(some.pixels_BCHW), some.label_B),
        lambda: EmbeddingAttack(0.01)(small_classifier, change(some.pixels_BCHW)),
    ):
        with pytest.raises(SeaAnchorError, match=found):
            call()


@pytest.mark.parametrize("case", BAD_LABELS)
def test_bad_labels(small_classifier, some, case):
    change, found = BAD_LABELS[case]
    with pytest.raises(SeaAnchorError, match=found):
        APGD(0.01)(small_classifier, some.pixels_BCHW, change(some.label_B))


@pytest.mark.parametrize("case", BAD_MODELS)
def test_bad_models(small_classifier, some, case):
    change, found = BAD_MODELS[case]
    model = change(small_classifier)
    with pytest.raises(SeaAnchorError, match=found):
        PGD(0.01)(model, some.pixels_BCHW, torch.zeros(50, dtype=torch.long))
    if case != "one class":
        with pytest.raises(SeaAnchorError, match=found.replace("classifier", "encoder")):
            EmbeddingAttack(0.01)(model, some.pixels_BCHW)


@pytest.mark.parametrize("index", [torch.arange(3), torch.rand(50)])
def test_bad_image_numbers(small_classifier, some, index):
    with pytest.raises(SeaAnchorError, match=r"\(50,\) integers"):
        PGD(0.01)(small_classifier, some.pixels_BCHW, some.label_B, index)


@pytest.mark.parametrize("kind", [PGD, APGD, AutoAttack, EmbeddingAttack])
def test_bad_settings(kind):
    with pytest.raises(SeaAnchorError, match="did you mean 4/255"):
        kind(4)
    for bad in ({"num_steps": -1}, {"batch_size": 0}, {"norm": "l1"}):
        with pytest.raises(SeaAnchorError):
            kind(0.1, **bad)
    with pytest.raises(SeaAnchorError, match="step size"):
        PGD(0.1, step_size=0.0)
    with pytest.raises(SeaAnchorError, match="-1 steps"):
        Square(0.1, num_queries=-1)


def test_the_folder_exports_lazily_and_no_name_is_a_file():
    code = (
        "import sys, pkgutil, seaanchor.attacks as a\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "first = {n: getattr(a, n) for n in a.__all__}\n"
        "files = {m.name for m in pkgutil.iter_modules(a.__path__)}\n"
        "[__import__(f'seaanchor.attacks.{f}') for f in files]\n"
        "print(files & set(a.__all__), all(getattr(a, n) is first[n] for n in first))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "set() True"
    import seaanchor.attacks

    assert set(seaanchor.attacks.__all__) == set(dir(seaanchor.attacks))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = seaanchor.attacks.nothing


@pytest.mark.parametrize(
    "attack", [PGD(0.02, num_steps=2), APGD(0.02, "l2", num_steps=2), EmbeddingAttack(0.02, num_steps=2)]
)
def test_a_gradient_that_is_no_number_ends_the_attack(small_classifier, some, attack):
    """Its sign is 0, and the image would stand still and count as robust. The first image alone has it."""

    def rooted(pixels):
        edge = torch.where(torch.arange(len(pixels)) == 0, 0.0, 1.0) * pixels.mean((1, 2, 3))
        return small_classifier(pixels) + (edge.sqrt() - edge.sqrt().detach())[:, None]

    labels = () if isinstance(attack, EmbeddingAttack) else (small_classifier(some.pixels_BCHW).argmax(-1),)
    with pytest.raises(SeaAnchorError, match=f"NaN or infinite for 1 of {len(some.index_B)} images"):
        attack(rooted, some.pixels_BCHW, *labels)
    attack(small_classifier, some.pixels_BCHW, *labels)


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1.0, 1e25])
def test_the_steepest_direction_has_length_one_at_any_size_of_the_gradient(scale):
    grad = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    found = Ball("l2", 1.0).ascent_direction(grad * scale)
    assert torch.allclose(found, (grad.double() / grad.double().flatten(1).norm(dim=1).view(-1, 1, 1, 1)).float())
    assert (Ball("l2", 1.0).ascent_direction(0 * grad) == 0).all()
