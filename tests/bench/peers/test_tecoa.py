"""The TeCoA peer pays what the public code pays, and trains on the gradient we train on."""

import open_clip
import pytest
import torch
import torch.nn.functional as F

from bench.peers.tecoa import SCALE, Peer, logits_of, tecoa_step
from seaanchor.encoders.encoder import Encoder
from seaanchor.encoders.load import load_model
from seaanchor.profiling.flops import count_flops, forward_flops


@pytest.mark.exhaustive
def test_33_f_an_image_on_vit_b_32_with_imagenets_classes():
    """Counted on tensors without content; least possible with two attack steps are 7 F."""
    batch, classes = 256, 1000
    with torch.device("meta"):
        model = open_clip.create_model("ViT-B-32", device="meta")
        encoder = Encoder(model.visual, 224, 512, (0.5,) * 3, (0.25,) * 3)
        peer = Peer(encoder, model.encode_text, model.transformer, 100.0, torch.optim.SGD(encoder.parameters(), lr=0.0))
        pixels, labels, tokens = (
            torch.empty(batch, 3, 224, 224),
            torch.zeros(batch, dtype=torch.long),
            torch.zeros(classes, 77, dtype=torch.long),
        )
        flops, _ = count_flops(lambda: tecoa_step(peer, pixels, labels, tokens))
        passes = flops / batch / forward_flops(encoder, 224, "meta")
    assert 32 <= passes <= 34


def small_peer(clip_folder):
    loaded = load_model(str(clip_folder))
    loaded.module.requires_grad_(True)
    peer = Peer(
        loaded.encoder,
        loaded.module.encode_text,
        loaded.module,
        100.0,
        torch.optim.SGD(loaded.encoder.parameters(), lr=0.0),
    )
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 400, (5, 16), generator=generator)
    return peer, torch.rand(4, 3, 32, 32, generator=generator), torch.arange(4), tokens


def test_gradients_are_ours_but_for_what_the_attack_leaves(clip_folder):
    """Cross-entropy against a head that is computed once, as we train; the attack's gradients are added, 65,536 times
    smaller."""
    peer, pixels, labels, tokens = small_peer(clip_folder)
    start = torch.zeros_like(pixels)
    attacked = tecoa_step(peer, pixels, labels, tokens, start)
    head = F.normalize(peer.text(tokens), dim=-1).detach()
    loss = F.cross_entropy(100.0 * F.normalize(peer.image(attacked), dim=-1) @ head.T, labels)
    clean_loss = F.cross_entropy(logits_of(peer, pixels, tokens), labels)
    parameters = [p for p in peer.image.parameters() if p.grad is not None]
    gradients = torch.autograd.grad(loss, parameters)
    polluted = False
    for mine, attack, parameter in zip(gradients, torch.autograd.grad(clean_loss, parameters), parameters, strict=True):
        torch.testing.assert_close(parameter.grad, mine, rtol=1e-3, atol=1e-4 * mine.abs().max().item())
        polluted |= (parameter.grad - mine).abs().max() > 0.1 * attack.abs().max() / SCALE
    assert polluted
    assert all(
        p.grad is not None for p in peer.text_module.transformer.parameters()
    )  # the attack went through the text tower


def test_one_step_from_the_clean_image_is_the_sign_of_the_gradient(clip_folder):
    peer, pixels, labels, tokens = small_peer(clip_folder)
    leaf = pixels.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits_of(peer, leaf, tokens), labels), leaf)
    attacked = tecoa_step(peer, pixels, labels, tokens, torch.zeros_like(pixels), num_steps=1)
    torch.testing.assert_close(attacked, (pixels + gradient.sign() / 255).clamp(0, 1), rtol=0, atol=1e-6)
