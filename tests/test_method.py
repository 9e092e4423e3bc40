"""The three steps: what each computes and how often, and which gradients may go where."""

import copy
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from seaanchor.adapters.full import Full
from seaanchor.anchors.penalty import NoAnchor
from seaanchor.config.assemble import assemble, method_of
from seaanchor.config.recipes import dpo, fare, lore, penalty, tecoa
from seaanchor.config.schema import AnchorConfig, ObjectiveConfig, PerturbationConfig, RunConfig
from seaanchor.encoders.encoder import Encoder, Reference
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.method import Method, per_sample
from seaanchor.objectives.embedding import EmbeddingDistance
from seaanchor.perturbations.none import NoPerturbation
from seaanchor.training.batches import MicroBatch
from seaanchor.training.precision import training_forward
from seaanchor.training.state import TrainState
from seaanchor.training.step import step_seed, train_step
from seaanchor.types import Batch, BindContext, Head, Preference, Targets

PIXELS = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
BATCH = Batch(PIXELS, torch.tensor([0, 1, 2, 0]), torch.arange(4))


def batch_norm_model() -> nn.Module:
    """Not an `Encoder`, which keeps batch normalisation in eval mode by itself: here train mode would move the
    statistics."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(72, 6)
    )


def tower() -> nn.Module:
    torch.manual_seed(0)
    return Encoder(
        nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.GELU(), nn.Linear(16, 6)),
        8,
        6,
        (0.5, 0.5, 0.5),
        (0.5, 0.5, 0.5),
    )


def run_step(
    config: RunConfig,
    encoder: nn.Module,
    batch: Batch = BATCH,
    head: Head | None = None,
    lr: float = 1e-2,
    junk: int = 0,
    reference=None,
):
    """One `train_step`; returns method, moving parts, record, and the batch size of every forward of the policy."""
    torch.manual_seed(1)
    method = assemble(config, 6)
    with torch.no_grad():
        reference_BD = (reference or encoder).eval()(batch.pixels_BCHW)
    targets = Targets(reference_BD, batch.label_B, head)
    encoder.train()
    dual = method.anchor.dual_module()
    dual_optimizer = torch.optim.AdamW(dual.parameters(), lr=1e-2) if dual is not None else None
    state = TrainState(encoder, torch.optim.AdamW(list(method.adapter.trainable(encoder)), lr=lr), dual, dual_optimizer)
    sizes: list[int] = []
    handle = encoder.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    torch.randn(junk)  # moves the global generator
    record = train_step(method, state, [MicroBatch(batch, targets)], config, 0)
    handle.remove()
    return method, state, record, sizes


# --- the attack


@pytest.mark.parametrize("kind", ["pgd", "apgd"])
def test_an_attack_leaves_the_policy_as_it_was(kind):
    model = batch_norm_model().train()
    model[0].bias.requires_grad_(False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    method = assemble(replace(fare(), perturbation=PerturbationConfig(kind, num_steps=3)), 6)
    perturbed = method.perturb(model, BATCH, Targets(torch.randn(4, 6)), torch.Generator().manual_seed(0))
    assert not torch.equal(perturbed.pixels_BCHW, PIXELS)
    assert all(p.grad is None for p in model.parameters())
    assert all(
        torch.equal(v, before[k]) for k, v in model.state_dict().items()
    )  # running statistics and their count included
    assert model.training and [p.requires_grad for p in model.parameters()] == [True, False, True, True, True, True]
    assert not perturbed.pixels_BCHW.requires_grad


def test_the_attack_sees_the_policy_frozen_and_in_eval_mode():
    """Frozen, so that nothing is kept for gradients of the weights."""
    modes = []
    model = batch_norm_model().train()
    model.register_forward_pre_hook(
        lambda module, args: modes.append((module.training, any(p.requires_grad for p in module.parameters())))
    )
    assemble(fare(), 6).perturb(model, BATCH, Targets(torch.randn(4, 6)), torch.Generator())
    assert modes == [(False, False)] * 10


def test_a_failing_attack_restores_the_policy():
    model = batch_norm_model().train()
    with pytest.raises(RuntimeError):
        assemble(fare(), 6).perturb(
            model, replace(BATCH, pixels_BCHW=PIXELS[:, :1]), Targets(torch.randn(4, 6)), torch.Generator()
        )
    assert model.training and all(p.requires_grad for p in model.parameters())


def test_an_attack_does_not_depend_on_what_else_is_in_the_batch():
    """Per-sample gradients of a summed loss, in eval mode: each image is attacked as if it were alone."""
    encoder = tower()
    method, reference = (
        assemble(replace(fare(), perturbation=PerturbationConfig(random_start=False)), 6),
        torch.randn(4, 6),
    )
    whole = method.perturb(encoder, BATCH, Targets(reference), torch.Generator()).pixels_BCHW
    for i in range(4):
        alone = method.perturb(
            encoder,
            Batch(PIXELS[i : i + 1], None, BATCH.index_B[i : i + 1]),
            Targets(reference[i : i + 1]),
            torch.Generator(),
        )
        assert torch.allclose(alone.pixels_BCHW, whole[i : i + 1], atol=1e-6)


# --- how much is computed


@pytest.mark.parametrize(
    ("recipe", "forwards"),
    [
        (fare(), [4] * 10 + [4]),  # no clean forward: nobody asked for one
        (tecoa(), [4] * 10 + [4]),
        (penalty(), [4] * 10 + [8]),  # clean and perturbed in one
        (lore(), [4] * 10 + [8] * 5),
        (replace(lore(), anchor=AnchorConfig("lagrangian", exact_dual=True)), [4] * 10 + [8] * 5 + [4]),
        (replace(tecoa(), objective=ObjectiveConfig("cross_entropy"), perturbation=PerturbationConfig("none")), [8]),
        (replace(fare(), perturbation=PerturbationConfig("apgd")), [4] * 11 + [4]),
    ],
)
def test_forwards_of_the_policy(recipe, forwards):
    head = Head(nn.functional.normalize(torch.randn(3, 6), dim=-1), 10.0)
    *_, sizes = run_step(recipe, tower(), head=head)
    assert sizes == forwards


@pytest.mark.parametrize("k", [1, 3, 5])
def test_k_primal_updates_and_one_dual_update(k):
    _, state, _, _ = run_step(replace(lore(), primal_steps=k), tower())
    assert {int(s["step"]) for s in state.optimizer.state.values()} == {k}
    assert {int(s["step"]) for s in state.dual_optimizer.state.values()} == {1}


def test_dual_lr_zero_freezes_the_multipliers():
    config = replace(lore(), anchor=AnchorConfig("lagrangian", dual_lr=0.0))
    method, state, _, _ = run_step(config, tower())
    assert not state.dual_optimizer.state
    assert torch.allclose(method.anchor.multiplier(torch.randn(3, 6)), torch.ones(3))


# --- where gradients go


def test_the_dual_step_does_not_touch_the_policy():
    """Weights and gradients of the policy are those of a step whose multipliers are frozen."""
    learning, frozen = tower(), tower()
    _, state, _, _ = run_step(lore(), learning)
    run_step(replace(lore(), anchor=AnchorConfig("lagrangian", dual_lr=0.0)), frozen)
    assert (state.dual.weight != 0).any()
    for a, b in zip(learning.parameters(), frozen.parameters(), strict=True):
        assert torch.equal(a, b) and torch.equal(a.grad, b.grad)


def test_the_primal_step_leaves_no_gradient_on_the_dual():
    encoder, method = tower(), assemble(lore(), 6)
    torch.nn.init.normal_(method.anchor.dual.weight)
    method.primal_terms(encoder, BATCH, BATCH, Targets(torch.randn(4, 6))).total_B.mean().backward()
    assert all(p.grad is None for p in method.anchor.dual.parameters())
    assert all(p.grad is not None for p in encoder.parameters())


def test_reference_text_tower_and_head_get_no_gradient(clip_folder):
    model = load_model(str(clip_folder))
    reference, head = Reference(model.encoder), build_head(model, ("apple", "zebra", "red fox"))
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    config = replace(tecoa(), anchor=AnchorConfig("lagrangian", space="distribution"))
    method = assemble(config, 16)
    batch = Batch(torch.rand(4, 3, 32, 32), BATCH.label_B, BATCH.index_B)
    targets = Targets(reference(batch.pixels_BCHW), batch.label_B, head)
    state = TrainState(
        model.encoder,
        torch.optim.AdamW(list(method.adapter.trainable(model.encoder)), lr=1e-3),
        method.anchor.dual,
        None,
    )
    train_step(method, state, [MicroBatch(batch, targets)], config, 0)
    assert all(p.grad is None and not p.requires_grad for p in reference.parameters())
    assert not reference.training and not targets.reference_BD.requires_grad and not head.weight_CD.requires_grad
    after = model.module.state_dict()
    moved = {k for k in after if not torch.equal(after[k], before[k])}
    assert moved and all(k.startswith("visual.") for k in moved)
    assert all(
        p.grad is None and not p.requires_grad
        for n, p in model.module.named_parameters()
        if not n.startswith("visual.")
    )
    assert torch.equal(reference(batch.pixels_BCHW), targets.reference_BD)


def test_gradient_does_not_depend_on_the_batch_size():
    """The mean is taken once: the same images three times over give the same gradient."""
    config = replace(penalty(weight=0.3), perturbation=PerturbationConfig(random_start=False, epsilon="8/255"))

    def gradient(repeats: int) -> torch.Tensor:
        encoder = tower()
        batch = Batch(PIXELS.repeat(repeats, 1, 1, 1), None, torch.arange(4 * repeats))
        away = copy.deepcopy(encoder)
        away.tower[3].bias.data += 1  # the attack's gradient is 0 where policy and reference agree
        run_step(config, encoder, batch, reference=away)
        return torch.cat([p.grad.flatten() for p in encoder.parameters()])

    assert gradient(1).norm() > 0.1
    assert torch.allclose(gradient(1), gradient(3), rtol=1e-4, atol=1e-6)


def test_primal_loss_by_hand():
    """adv + λ(clean − ρ‖φ0‖²), with clean and perturbed images in their places."""
    encoder, method = tower(), assemble(lore(rho=0.3), 6)
    reference, shifted = torch.randn(4, 6), replace(BATCH, pixels_BCHW=PIXELS.flip(-1))
    terms = method.primal_terms(encoder, BATCH, shifted, Targets(reference))
    with torch.no_grad():
        adversarial = (encoder(PIXELS.flip(-1)) - reference).pow(2).sum(1)
        violation = (encoder(PIXELS) - reference).pow(2).sum(1) - 0.3 * reference.pow(2).sum(1)
    assert torch.allclose(terms.objective_B, adversarial, rtol=1e-4)
    assert torch.allclose(terms.total_B, adversarial + violation, rtol=1e-4)  # λ starts at 1


def test_the_reference_looks_at_perturbed_images_only_where_asked():
    seen = []

    def reference(pixels_BCHW):
        seen.append(pixels_BCHW)
        return torch.full((4, 6), 7.0)

    pair = Preference(torch.tensor([0, 1, 2, 0]), torch.tensor([1, 2, 0, 1]))
    shifted, targets = replace(BATCH, pixels_BCHW=PIXELS.flip(-1), preference=pair), Targets(torch.zeros(4, 6))
    plain = assemble(fare(), 6).complete(targets, shifted, reference)
    assert not seen and plain.reference_perturbed_BD is None and plain.preference is pair
    texts = ("a", "b", "c")
    asked = assemble(dpo(), 6, texts).complete(targets, shifted, reference)
    assert len(seen) == 1 and seen[0] is shifted.pixels_BCHW and asked.preference is pair
    assert (asked.reference_perturbed_BD == 7).all() and asked.reference_BD is targets.reference_BD
    with pytest.raises(ValueError, match="needs the reference"):
        assemble(dpo(), 6, texts).complete(targets, shifted, None)


def test_the_step_is_a_function_of_seed_step_and_process():
    """Two runs agree although the global generator was elsewhere in between; dropout included."""
    results = []
    for junk in (0, 17):
        model = batch_norm_model()
        run_step(fare(), model, junk=junk)
        results.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(*results)


def test_every_step_and_process_has_its_own_random_start():
    seeds = {step_seed(seed, step, rank) for seed in range(3) for step in range(50) for rank in range(8)}
    assert len(seeds) == 3 * 50 * 8
    starts = []
    for step in (0, 1):
        method = assemble(replace(fare(), perturbation=PerturbationConfig(num_steps=0)), 6)
        encoder, seen = tower(), []
        encoder.register_forward_pre_hook(lambda module, args, seen=seen: seen.append(args[0]))
        state = TrainState(encoder, torch.optim.SGD(encoder.parameters(), lr=0.0), None, None)
        train_step(method, state, [MicroBatch(BATCH, Targets(torch.randn(4, 6)))], fare(), step)
        starts.append(seen[0])
    assert 0 < (starts[0] - starts[1]).abs().max() <= 2 * 2 / 255 + 1e-6


# --- precision


def test_bf16_is_for_primal_passes_alone():
    encoder = tower()
    kinds = []
    encoder.tower[1].register_forward_hook(lambda module, args, output: kinds.append(output.dtype))
    run_step(replace(lore(), precision="bf16", primal_steps=2), encoder)
    assert kinds == [torch.float32] + [torch.float32] * 10 + [torch.bfloat16] * 2
    assert all(p.dtype == torch.float32 for p in encoder.parameters())
    encoder(PIXELS)
    assert kinds[-1] == torch.float32


def test_bf16_is_close_to_fp32():
    encoder = tower()
    full, low = training_forward(encoder, "fp32")(PIXELS), training_forward(encoder, "bf16")(PIXELS)
    assert low.dtype == torch.bfloat16 and full.dtype == torch.float32
    assert 0 < (full - low.float()).norm() / full.norm() < 0.02


def test_a_method_without_anchor_and_adapter_moves_the_whole_tower_freely():
    method = Method(objective=EmbeddingDistance(), perturbation=NoPerturbation())
    assert method == replace(method, anchor=NoAnchor(), adapter=Full()) and not method.needs.clean


def test_binding_gives_parts_what_only_the_run_knows():
    method = assemble(replace(dpo(), anchor=AnchorConfig("lagrangian")), 6, ("cat", "dog"))
    assert method.anchor.multiplier.hidden.in_features == 6 and method.perturbation.texts == ("cat", "dog")
    assert method.bind(BindContext(9, ("a", "b"))) == method  # what is bound stays
    with pytest.raises(ValueError, match="before `bind`"):
        method_of(lore()).anchor.dual_module()


@pytest.mark.parametrize("name", ["__call__", "attack_loss"])
def test_an_objective_without_one_of_its_methods_is_told_which(name):
    lacking = type("Lacking", (), {"forward": lambda self, *given: PIXELS})()
    with pytest.raises(SeaAnchorError, match=f"Lacking has no {name}[\\s\\S]*write its {name}"):
        per_sample(lacking, name, PIXELS)


@pytest.mark.parametrize(
    ("part", "lacks"),
    [
        ("objective", "has no __call__"),
        ("anchor", "has no __call__ and no dual_loss and no dual_module"),
        ("perturbation", "has no __call__"),
        ("adapter", "has no trainable and no head and no penalty"),
    ],
)
def test_a_part_that_training_could_not_call_is_told_before_it(part, lacks):
    class Empty:
        pass

    whole = Method(EmbeddingDistance(), perturbation=NoPerturbation())
    with pytest.raises(SeaAnchorError, match=f"Empty {lacks}"):
        replace(whole, **{part: Empty()})


def test_a_recipe_with_such_a_part_is_not_valid(tmp_path):
    recipe, plugin = tmp_path / "mine.yaml", tmp_path / "parts_without_call.py"
    plugin.write_text(
        "import seaanchor\n\n\n@seaanchor.register('objective', 'without_call')\nclass WithoutCall:\n    pass\n"
    )
    recipe.write_text(f"plugins: [{plugin}]\nobjective: {{kind: without_call}}\n")
    found = subprocess.run(
        [sys.executable, "-m", "seaanchor.cli", "recipes", "validate", str(recipe)], capture_output=True, text=True
    )
    assert found.returncode == 2 and "WithoutCall has no __call__" in found.stderr
