"""The FARE peer makes the public code's passes, finds our perturbation and has our gradients."""

from dataclasses import replace

import open_clip
import pytest
import timm
import torch
from torchvision import transforms

from bench.memory import saved_bytes
from bench.peers.robustvlm import LibraryTower, fare_step, peer_of, pgd
from seaanchor.attacks.ball import Ball
from seaanchor.encoders.encoder import Encoder, Reference
from seaanchor.perturbations.pgd import PGD
from seaanchor.profiling.flops import count_flops, forward_flops
from seaanchor.training.batches import MicroBatch
from seaanchor.training.step import train_step
from seaanchor.types import Batch


def inner(subject):
    """Photos whose pixels keep away from 0 and 1, where our start is clipped and theirs is not."""
    return 0.1 + 0.8 * subject.images.pixels_BCHW


def start_of(pixels, seed=0):
    return 4 / 255 * (2 * torch.rand(pixels.shape, generator=torch.Generator().manual_seed(seed)) - 1)


@pytest.mark.exhaustive
def test_25_f_an_image_on_vit_b_32():
    """Counted on tensors without content: a step of the real size costs nothing then."""
    with torch.device("meta"):
        tower = open_clip.create_model("ViT-B-32", device="meta").visual
        encoder = Encoder(tower, 224, 512, (0.5,) * 3, (0.25,) * 3)
        peer, pixels = peer_of(encoder), torch.empty(4, 3, 224, 224)
        flops, _ = count_flops(lambda: fare_step(peer, pixels))
        passes = flops / 4 / forward_flops(encoder, 224, "meta")
    assert 25 <= passes <= 25.3


def test_the_peer_runs_the_librarys_own_layers(fare_ours):
    """None of our kernels, our layout in memory or our fixed batch statistics: what the public code would wrap."""
    encoder = fare_ours.setup.model.encoder.train()
    peer = peer_of(encoder)
    assert not [m for m in peer.model.model.modules() if type(m).__module__.startswith("seaanchor")]
    assert (
        peer.model.training and not peer.original.training and all(p.requires_grad for p in peer.original.parameters())
    )
    pixels = fare_ours.images.pixels_BCHW
    normalise = transforms.Normalize(encoder.mean.flatten().tolist(), encoder.std.flatten().tolist())
    with torch.no_grad():
        assert torch.equal(peer.original(pixels), peer.original.model(normalise(pixels)))
        torch.testing.assert_close(peer.original(pixels), encoder.eval()(pixels))


def test_a_convolutional_peer_lies_as_its_library_has_it():
    encoder = Encoder(timm.create_model("resnet10t", num_classes=0), 32)
    assert encoder.library_tower.conv1[0].weight.is_contiguous(memory_format=torch.channels_last)
    peer = LibraryTower(encoder).train()
    assert all(p.is_contiguous() for p in peer.parameters())
    assert peer.model.bn1.training and not encoder.train().library_tower.bn1.training


def test_same_start_same_perturbation(fare_ours):
    """Momentum 0.9 and all: reduced to its sign after each step it never outvotes a gradient."""
    clean, index, encoder = inner(fare_ours), fare_ours.images.index_B, fare_ours.setup.model.encoder.eval()
    reference, ball = Reference(fare_ours.setup.model.encoder)(clean), Ball("linf", 4 / 255)
    start = ball.random_start(clean, index, torch.Generator().manual_seed(0)) - clean
    theirs, _ = fare_step(peer_of(encoder), clean, start, num_steps=4)

    def distance(batch):
        def loss(pixels):
            embedding = encoder(pixels)
            return (embedding - reference).square().sum(-1), embedding

        return loss

    mine = PGD(ball, 4, 1 / 255)(Batch(clean, None, index), distance, torch.Generator().manual_seed(0)).pixels_BCHW
    assert ((mine - theirs).abs() < 1e-6).double().mean() > 0.999 and not torch.equal(mine, clean)


def test_same_perturbation_same_gradients(fare_ours):
    clean, encoder = inner(fare_ours), fare_ours.setup.model.encoder
    peer = peer_of(encoder)
    attacked, logged = fare_step(peer, clean, start_of(clean), num_steps=2)
    encoder.train().requires_grad_(True)
    reference = Reference(fare_ours.setup.model.encoder)(clean)
    loss = (encoder(attacked) - reference).square().sum(-1).mean()
    gradients = torch.autograd.grad(loss, list(encoder.parameters()))
    assert abs(logged.loss - loss.item()) < 1e-5 * loss.item() and -1 <= logged.cosine < logged.cosine_clean <= 1 + 1e-6
    for mine, theirs in zip(gradients, peer.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs.grad, rtol=1e-4, atol=1e-5 * mine.abs().max().item())


def test_our_own_step_has_the_same_gradients(fare_ours):
    """Through `train_step` itself: the peer's training pass on the images that our attack found."""
    found = {}
    method = fare_ours.setup.method

    def attack(batch, loss, rng):
        found["pixels"] = method.perturbation(batch, loss, rng)
        return found["pixels"]

    peer = peer_of(fare_ours.setup.model.encoder)
    train_step(
        replace(method, perturbation=attack),
        fare_ours.state,
        [MicroBatch(fare_ours.images, fare_ours.targets)],
        fare_ours.setup.config,
        0,
    )
    clean, attacked = fare_ours.images.pixels_BCHW, found["pixels"].pixels_BCHW
    fare_step(peer, clean, attacked - clean, num_steps=0)
    for mine, theirs in zip(fare_ours.setup.model.encoder.parameters(), peer.model.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5 * theirs.grad.abs().max().item())


def test_stays_in_the_ball_and_raises_the_loss(fare_ours):
    clean, encoder = fare_ours.images.pixels_BCHW, fare_ours.setup.model.encoder
    reference = Reference(fare_ours.setup.model.encoder)(clean)

    def loss(embedding):
        return (embedding - reference).square().sum(-1).mean()

    attacked = pgd(encoder, loss, clean, start_of(clean), epsilon=4 / 255, num_steps=5, step_size=1 / 255)
    assert (attacked - clean).abs().max() <= 4 / 255 + 1e-6 and attacked.min() >= 0 and attacked.max() <= 1
    assert loss(encoder(attacked)) > 1.5 * loss(encoder((clean + start_of(clean)).clamp(0, 1)))


def test_the_unused_clean_graph_is_held(fare_ours):
    """Its peak is two training graphs, ours is one."""
    peer = peer_of(fare_ours.setup.model.encoder)
    clean = fare_ours.images.pixels_BCHW
    known = [*peer.model.parameters(), *peer.model.buffers(), clean]
    step, one = (
        saved_bytes(lambda: fare_step(peer, clean, num_steps=1), known),
        saved_bytes(lambda: peer.model(clean), known),
    )
    assert 1.9 * one < step < 2.2 * one
