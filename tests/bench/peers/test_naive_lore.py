"""The naive LORE does what ours does, at 68 F an image."""

from dataclasses import replace

import pytest
import torch

from bench.peers.naive_lore import lore_step, peer_of
from bench.subjects import ours
from seaanchor.attacks.ball import Ball
from seaanchor.config.recipes import lore
from seaanchor.perturbations.pgd import PGD
from seaanchor.profiling.flops import count_flops, forward_flops
from seaanchor.training.batches import MicroBatch
from seaanchor.training.step import train_step

ATTACK = {"epsilon": 2 / 255, "step_size": 0.5 / 255}


@pytest.fixture(scope="module")
def subject():
    recipe = lore()
    return ours(replace(recipe, anchor=replace(recipe.anchor, exact_dual=True), primal_steps=2), 2)


def test_68_f_an_image(subject):
    encoder = subject.setup.model.encoder
    peer = peer_of(encoder, subject.state.dual, bf16=False)
    flops, _ = count_flops(lambda: lore_step(peer, subject.images.pixels_BCHW))
    passes = flops / 2 / forward_flops(encoder, encoder.image_size)
    assert passes == pytest.approx(68, abs=0.5)


def test_trains_as_ours_does(subject):
    """The same start, two primal steps and one dual step that move: weights and multipliers end where ours end."""
    setup, state, images = subject.setup, subject.state, subject.images
    peer = peer_of(setup.model.encoder, state.dual, bf16=False, lr=1e-4, dual_lr=1e-3)
    found = {}

    def attack(batch, loss, rng):
        found["pixels"] = setup.method.perturbation(batch, loss, rng)
        return found["pixels"]

    before = [p.detach().clone() for p in setup.model.encoder.parameters()]
    for optimizer, lr in ((state.optimizer, 1e-4), (state.dual_optimizer, 1e-3)):
        for group in optimizer.param_groups:
            group["lr"] = lr
    method = replace(setup.method, perturbation=attack)
    train_step(method, state, [MicroBatch(images, subject.targets)], setup.config, 0)
    clean = images.pixels_BCHW
    attacked = lore_step(peer, clean, found["pixels"].pixels_BCHW - clean, num_steps=0, primal_steps=2)
    torch.testing.assert_close(attacked, found["pixels"].pixels_BCHW, rtol=0, atol=1e-6)
    moved = torch.cat([(p - b).flatten() for p, b in zip(setup.model.encoder.parameters(), before, strict=True)])
    apart = torch.cat(
        [(p - q).flatten() for p, q in zip(setup.model.encoder.parameters(), peer.policy.parameters(), strict=True)]
    )
    assert (
        moved.abs().max() > 1e-5 and apart.norm() < 0.02 * moved.norm()
    )  # AdamW's first steps are signs: a gradient near 0 may go either way
    for mine, theirs in zip(state.dual.parameters(), peer.dual.parameters(), strict=True):
        assert (mine - theirs).norm() < 0.02 * max(1e-3, theirs.norm().item())


def test_same_start_same_perturbation(subject):
    encoder, clean, index = subject.setup.model.encoder.eval(), subject.images.pixels_BCHW, subject.images.index_B
    reference, ball = encoder(clean).detach(), Ball("linf", ATTACK["epsilon"])
    start = ball.random_start(clean, index, torch.Generator().manual_seed(3)) - clean
    theirs = lore_step(peer_of(encoder, subject.state.dual, bf16=False), clean, start, num_steps=3, primal_steps=1)

    def loss_of(batch):
        def loss(pixels):
            embedding = encoder(pixels)
            return (embedding - reference).square().sum(-1), embedding

        return loss

    mine = PGD(ball, 3, ATTACK["step_size"])(subject.images, loss_of, torch.Generator().manual_seed(3)).pixels_BCHW
    assert ((mine - theirs).abs() < 1e-6).double().mean() > 0.999 and not torch.equal(theirs, clean)


def test_bf16_is_near_fp32(subject):
    """Far from the clean image: at a small radius on random weights the distance itself is a matter of rounding."""
    encoder, clean = subject.setup.model.encoder, subject.images.pixels_BCHW
    start = torch.empty_like(clean).uniform_(-0.5, 0.5, generator=torch.Generator().manual_seed(0))
    low, full = (peer_of(encoder, subject.state.dual, bf16=bf16) for bf16 in (True, False))
    for peer in (low, full):
        lore_step(peer, clean, start, num_steps=0, primal_steps=1)
    theirs, mine = (torch.cat([p.grad.flatten() for p in peer.policy.parameters()]) for peer in (low, full))
    assert 0 < (theirs - mine).norm() < 0.1 * mine.norm()
