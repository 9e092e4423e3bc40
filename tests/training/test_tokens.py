"""Training on patch tokens: objective and constraint as means over an image's tokens, one multiplier an image."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

import seaanchor as sa
from seaanchor.adapters.full import Full
from seaanchor.anchors.lagrangian import Lagrangian
from seaanchor.anchors.penalty import Penalty
from seaanchor.api import train_from_config
from seaanchor.attacks.ball import Ball
from seaanchor.config.recipes import fare, lore, penalty, tecoa
from seaanchor.config.schema import AdapterConfig, AnchorConfig, PerturbationConfig
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.method import Method
from seaanchor.objectives.embedding import EmbeddingDistance
from seaanchor.perturbations.pgd import PGD
from seaanchor.profiling.flops import forward_flops
from seaanchor.training.batches import caches_reference
from seaanchor.training.setup import prepare
from seaanchor.types import Batch, BindContext, Embeddings, Targets


def test_lore_on_tokens_by_hand():
    """Two images of two tokens in two dimensions. Image 1: clean tokens 1 and 2 away from a reference of lengths² 25
    and 4: distance (1 + 4)/2, bound 0.1·(25 + 4)/2."""
    reference = torch.tensor([[[3.0, 4.0], [0.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]]])
    clean = reference + torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[0.0, 0.0], [0.0, 3.0]]])
    perturbed = reference + torch.tensor([[[3.0, 4.0], [0.0, 0.0]], [[1.0, 1.0], [2.0, 2.0]]])
    embeddings, targets = Embeddings(perturbed, clean), Targets(reference)
    anchor = Lagrangian(rho=0.1, initial_multiplier=2.0).bind(BindContext(2))
    terms = anchor(embeddings, targets)
    assert EmbeddingDistance()(embeddings, targets).tolist() == [12.5, 5.0]
    assert terms.constraint.distance_B.tolist() == [2.5, 4.5]
    assert torch.allclose(terms.constraint.bound_B, torch.tensor([1.45, 0.1]))
    assert torch.allclose(terms.loss_B, torch.tensor([2 * 1.05, 2 * 4.4]))
    assert terms.multiplier_B.shape == (2,)
    assert Penalty(weight=3.0)(embeddings, targets).loss_B.tolist() == [7.5, 13.5]


@pytest.mark.parametrize("kind", ["network", "linear", "scalar"])
def test_the_multiplier_reads_the_mean_token(kind):
    torch.manual_seed(0)
    anchor = Lagrangian(dual=kind).bind(BindContext(4))
    for parameter in anchor.dual.parameters():
        nn.init.normal_(parameter)
    tokens = torch.randn(3, 5, 4)
    assert torch.equal(anchor.dual(tokens), anchor.dual(tokens.mean(1)))


@pytest.mark.parametrize("anchor", [Lagrangian(dual="linear"), Penalty()], ids=["lagrangian", "penalty"])
def test_one_token_is_the_embedding_itself(anchor):
    """Attack, loss terms, gradient and dual loss, to the last bit."""

    class Flat(nn.Module):
        def __init__(self, tokens):
            super().__init__()
            torch.manual_seed(0)
            self.layer, self.tokens = nn.Linear(12, 4), tokens

        def forward(self, pixels):
            embedding = self.layer(pixels.flatten(1)).tanh()
            return embedding[:, None] if self.tokens else embedding

    found = []
    for tokens in (False, True):
        policy, reference = Flat(tokens), Flat(tokens)
        with torch.no_grad():
            policy.layer.weight += 0.1
        perturbation = PGD(Ball("linf", 0.1), num_steps=3)
        method = Method(EmbeddingDistance(), anchor, perturbation=perturbation, adapter=Full())
        method = method.bind(BindContext(4))
        clean = Batch(torch.rand(5, 3, 2, 2, generator=torch.Generator().manual_seed(1)), None, torch.arange(5))
        targets = Targets(reference(clean.pixels_BCHW).detach())
        hard = method.perturb(policy, clean, targets, torch.Generator().manual_seed(2))
        terms = method.primal_terms(policy, clean, hard, targets, policy)
        terms.total_B.mean().backward()
        dual = method.dual_loss(terms.anchor.constraint, targets)
        found.append(
            (hard.pixels_BCHW, terms.total_B, policy.layer.weight.grad, torch.zeros(1) if dual is None else dual)
        )
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert found[0][1].abs().min() > 0


@pytest.mark.parametrize("recipe", [fare, lore, penalty])
def test_a_run_on_patches(tiny_run, recipe):
    config = tiny_run(recipe(), tokens="patches")
    before = load_model(config.model).encoder.state_dict()
    folder = train_from_config(config)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) >= 4 and rows[-1]["adversarial_loss"] > 0
    after = load_model(str(folder / "export")).encoder.state_dict()
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert still == {"tower.proj"}  # patches do not pass the projection
    assert sa.api.Run(folder, config).model.encoder.tokens == "patches"


def test_a_loaded_model_brings_its_tokens_to_the_run(tiny_run, image_folder, tmp_path):
    config = tiny_run(lore())
    model = sa.load_model(config.model, tokens="patches")
    run = sa.train(model, str(image_folder), "lore-quick", output=tmp_path / "given", steps=1, batch_size=3)
    assert run.config.tokens == "patches" and run.model.encoder.tokens == "patches"
    with pytest.raises(SeaAnchorError, match="tecoa"):
        sa.train(model, str(image_folder), sa.methods.tecoa(), output=tmp_path / "other", steps=1, batch_size=3)


def test_a_run_on_the_class_token(tiny_run):
    train_from_config(tiny_run(lore(), tokens="class"))


def test_class_texts_have_no_place_among_tokens(tiny_run):
    with pytest.raises(SeaAnchorError, match="text"):
        train_from_config(tiny_run(tecoa(), tokens="mean"))


def test_dense_references_are_computed_anew(tiny_run):
    visits = {"epochs": 5, "max_steps": None}
    assert caches_reference(prepare(tiny_run(lore(), **visits)), 1)
    assert not caches_reference(prepare(tiny_run(lore(), tokens="patches", **visits)), 1)


def test_a_forward_is_counted_without_what_tokens_leave_out(clip_folder):
    """Of a CLIP of 32 dimensions, the projection to 16 is not applied: 2 · 32 · 16 operations fewer."""
    whole, patches = (load_model(str(clip_folder), tokens=tokens).encoder for tokens in (None, "patches"))
    assert forward_flops(whole, 32) - forward_flops(patches, 32) == 2 * 32 * 16


def test_the_plan_of_a_dense_run(tiny_run):
    from seaanchor.profiling.plan import plan

    attack = PerturbationConfig(num_steps=1)
    config = replace(tiny_run(lore(), perturbation=attack, primal_steps=1), epochs=5, max_steps=None)
    whole, dense = (plan(replace(config, tokens=tokens), "1xH100") for tokens in (None, "patches"))
    assert whole.cached and not dense.cached
    assert dense.cost.trained == whole.cost.trained - 32 * 16 + (32 - 16) * 512  # no projection; a wider dual
    forward = dense.cost.forward.total
    patches, dual = 2 * 16 * 32 * 3 * 8**2 / forward, 2 * 32 * 512 / forward  # operations for 16 patches of 8 px, in F
    # the reference, anew; there and back to the pixels; clean and perturbed images there and back, without the patches'
    # way to the pixels; multipliers for the update, and there and back to their weights
    assert dense.cost.passes == pytest.approx(1 + 2 + 2 * (3 - patches) + 3 * dual, abs=0.03)


@pytest.mark.parametrize(
    "changes",
    [
        {"attack_precision": "bf16"},
        {"precision": "bf16", "unit_embeddings": True},
        {"checkpoint_activations": True, "average": "ema"},
        {"anchor": AnchorConfig("lagrangian", rho=0.1, reference="ema", exact_dual=True)},
        {"adapter": AdapterConfig("lora", rank=2)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_options_go_with_patches(tiny_run, changes):
    config = tiny_run(lore(), tokens="patches", max_steps=2, **changes)
    folder = train_from_config(config)
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 2 and 0 < last["adversarial_loss"] < float("inf")


def test_a_dry_run_and_a_class_token_that_is_not_there(run, image_folder, tmp_path):
    settings = ("--train-data", image_folder, "--output", tmp_path / "run", "--batch-size", 2, "--device", "cpu")
    code, out, err = run("train", "fare-tiny", "--tokens", "patches", *settings, "--dry-run")
    assert code == 0 and "512" in out, err
    code, out, err = run("train", "fare-tiny", "--tokens", "class", *settings)
    said = " ".join((out + err).split())
    assert code != 0 and "ResNet has no class token" in said and "mean or patches" in said


def test_shares_of_unread_weights_do_not_stop_data_parallel_training():
    """torch's wrapper waits for the gradient of each weight that asks for one: the projection must not."""
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    torch.manual_seed(0)
    encoder = load_model("seaanchor-tiny", tokens="patches").encoder
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        list(Full().trainable(encoder))
        wrapped = DistributedDataParallel(encoder)
        for _ in range(2):  # the second forward would complain of the first one's missing gradients
            wrapped(torch.rand(1, 3, 64, 64)).square().sum().backward()
    finally:
        dist.destroy_process_group()
