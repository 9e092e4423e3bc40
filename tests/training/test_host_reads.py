"""No step reads from its device: on a GPU the host would wait there for all that is queued.

torch's `meta` device stands in for one. Its tensors have shapes and no contents: whatever needs a number of them, a
size that depends on numbers, or a copy on the host fails there by name (`item`, `nonzero`, `.cpu()`).
"""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from bench.subjects import ours
from seaanchor.attacks.ball import Ball
from seaanchor.config import recipes
from seaanchor.config.schema import RunConfig
from seaanchor.data.loader import SkipLog
from seaanchor.functional.cross_entropy import attack_cross_entropy
from seaanchor.functional.masks import known_empty
from seaanchor.perturbations.none import NoPerturbation
from seaanchor.perturbations.typographic import Typographic
from seaanchor.training.batches import load_steps, make_micro_batch
from seaanchor.training.schedule import set_learning_rate
from seaanchor.training.state import make_state
from seaanchor.training.step import train_step
from seaanchor.types import Batch, Preference

META = torch.device("meta")


def short(recipe: RunConfig, **attack: object) -> RunConfig:
    return replace(recipe, perturbation=replace(recipe.perturbation, num_steps=3, **attack))


def everything(recipe: RunConfig) -> RunConfig:
    """Clipped gradients, averages, the exact dual step, and both kinds of passes in bf16."""
    anchor = replace(recipe.anchor, exact_dual=True, reference="ema")
    low = {"precision": "bf16", "attack_precision": "bf16"}
    return replace(recipe, anchor=anchor, grad_clip=1.0, average="ema", primal_steps=2, **low)


STEPS = {
    "FARE": short(recipes.fare()),
    "FARE with momentum": short(recipes.fare(), momentum=0.9),
    "FARE, l2": short(recipes.fare(), norm="l2", epsilon="0.5"),
    "FARE, APGD": short(recipes.fare(), kind="apgd"),
    "FARE, APGD, l2": short(recipes.fare(), kind="apgd", norm="l2", epsilon="0.5"),
    "LORE": replace(short(recipes.lore()), primal_steps=2),
    "LORE, everything": everything(short(recipes.lore())),
    "TeCoA": short(recipes.tecoa()),
    "TeCoA under LORE's constraint": replace(short(recipes.tecoa_kl()), primal_steps=2),
    "DPO": recipes.dpo(),
}


def step_on_meta(recipe: RunConfig) -> None:
    """Two steps as the loop takes them, from 8-bit pixels on the host to the record of the log."""
    subject = ours(recipe, 4)
    images = subject.setup.images
    (batch, _), *_ = next(load_steps(subject.setup, 0, 0, 1, SkipLog(images)))
    setup = replace(subject.setup, device=META)
    if recipe.perturbation.kind == "typographic":  # words are drawn on the host: see below
        setup = replace(setup, method=replace(setup.method, perturbation=NoPerturbation()))
        batch = replace(batch, preference=Preference(batch.label_B, batch.label_B))
    state, cache_ND = make_state(setup), torch.empty(len(images.paths), setup.model.encoder.dim, device=META)
    for step in range(2):
        micro_batch = make_micro_batch(setup, batch, False, cache_ND)
        set_learning_rate(state.optimizer, setup.config, step, 2)
        record = train_step(setup.method, state, [micro_batch], setup.config, step, setup.reference)
        assert record.objective_B.is_meta and record.objective_B.shape == (4,)


@pytest.fixture
def autocast_on_meta(monkeypatch):
    """The device that stands in has no autocast, which reads nothing."""
    autocast = torch.autocast
    monkeypatch.setattr(
        torch,
        "autocast",
        lambda kind, *args, **kwargs: nullcontext() if kind == "meta" else autocast(kind, *args, **kwargs),
    )


FEW = ("FARE", "FARE, APGD, l2", "LORE, everything", "TeCoA", "DPO")


@pytest.mark.parametrize(
    "name", [name if name in FEW else pytest.param(name, marks=pytest.mark.exhaustive) for name in STEPS]
)
def test_a_step_reads_nothing(name, autocast_on_meta):
    step_on_meta(STEPS[name])


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: torch.equal(x, x + 1),
        lambda x: x.masked_select(x > 0),
        lambda x: x.cpu(),
        lambda x: x.tolist(),
        lambda x: print(float(x.sum())),
    ],
)
def test_the_device_that_stands_in_notices_each_kind_of_read(read):
    with pytest.raises((RuntimeError, NotImplementedError), match=r"[Mm]eta"):
        read(torch.ones(3, device=META))


def test_a_read_in_an_objective_is_noticed(autocast_on_meta, monkeypatch):
    from seaanchor.objectives.embedding import EmbeddingDistance

    plain = EmbeddingDistance.attack_loss

    def reading(self, embedding_BD, targets):
        loss_B = plain(self, embedding_BD, targets)
        return loss_B if loss_B.max() > 0 else -loss_B

    monkeypatch.setattr(EmbeddingDistance, "attack_loss", reading)
    with pytest.raises(RuntimeError, match=r"[Mm]eta"):
        step_on_meta(STEPS["FARE"])


def test_typographic_words_look_twice_a_step(monkeypatch):
    """At the numbers that decide what is drawn, and at the images: the drawing itself is the host's work."""
    looks = []
    for name in ("tolist", "item", "cpu", "__bool__", "__int__"):
        plain = getattr(torch.Tensor, name)

        def counted(self, *args, name=name, plain=plain):
            looks.append((name, self.dim()))
            return plain(self, *args)

        monkeypatch.setattr(torch.Tensor, name, counted)
    batch = Batch(torch.rand(3, 3, 64, 64), torch.tensor([0, 1, 2]), torch.arange(3))
    Typographic(["cat", "dog", "owl"])(batch, lambda batch: None, torch.Generator().manual_seed(0))
    assert [look for look in looks if look[1]] == [("tolist", 2), ("cpu", 4)]  # the generator's own number has no size


def test_what_an_empty_mask_saves_changes_no_number(monkeypatch):
    """Where the mask is not looked at, as on a GPU: the same losses, gradients and directions, to the bit."""
    generator = torch.Generator().manual_seed(0)
    logits, label = torch.randn(5, 4, generator=generator), torch.tensor([0, 1, 2, 3, 0])
    gradient = torch.randn(2, 3, 4, 4, generator=generator)

    def both():
        asking = logits.clone().requires_grad_()
        loss = attack_cross_entropy(asking, label)
        (grad,) = torch.autograd.grad(loss.sum(), asking)
        return loss.detach(), grad, Ball("l2", 0.5).ascent_direction(gradient)

    seen = both()
    asked = []
    for module in ("seaanchor.functional.cross_entropy", "seaanchor.attacks.ball"):
        monkeypatch.setattr(f"{module}.known_empty", lambda mask: bool(asked.append(mask)))
    for one, other in zip(seen, both(), strict=True):
        assert torch.equal(one, other)
    assert len(asked) == 2 and not any(mask.any() for mask in asked)


def test_a_mask_is_known_to_be_empty_on_a_cpu_alone():
    assert known_empty(torch.zeros(2, dtype=torch.bool)) and not known_empty(torch.tensor([False, True]))
    assert not known_empty(torch.zeros(2, dtype=torch.bool, device=META))
