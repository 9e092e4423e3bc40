"""The frozen prefix of a tower that is trained in part: found on a forward, looked up with the same numbers."""

import pytest
import timm
import torch
from torch import nn

from seaanchor.adapters.last_blocks import LastBlocks
from seaanchor.adapters.lora import LoRA
from seaanchor.encoders.encoder import Encoder
from seaanchor.encoders.load import load_model
from seaanchor.encoders.prefix import PrefixCache, frozen_prefix
from seaanchor.errors import note
from seaanchor.profiling.flops import count_flops

VIT = {"img_size": 32, "patch_size": 16, "embed_dim": 24, "depth": 3, "num_heads": 2}


def encoder_of(name, **changes):
    torch.manual_seed(0)
    return Encoder(timm.create_model(name, num_classes=0, **changes).eval(), 32).requires_grad_(False)


def adapted(encoder, adapter):
    list(adapter.trainable(encoder))
    return encoder.train()


def gradients(encoder, pixels):
    encoder.zero_grad()
    embedding = encoder(pixels)
    embedding.square().sum().backward()
    found = {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}
    return embedding.detach(), found


TOWERS = {
    "vit": (lambda: encoder_of("vit_tiny_patch16_224", **VIT), {"tower.blocks.1"}),
    "resnet": (lambda: encoder_of("resnet10t"), {"tower.layer3"}),
    "convnext": (
        lambda: encoder_of("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16)),
        {"tower.stages.3.downsample"},
    ),
    "efficientnet": (lambda: encoder_of("tf_efficientnet_lite0"), {"tower.blocks.5"}),
}


@pytest.mark.parametrize(("make", "kept"), TOWERS.values(), ids=TOWERS)
def test_later_forwards_start_at_the_first_trained_block(make, kept):
    """Embedding and gradients are the plain ones to the last bit after the trained weights have moved, of all images
    and of some of them, and the prefix costs nothing any more."""
    encoder = adapted(make(), LastBlocks(1))
    prefix = frozen_prefix(encoder)
    assert prefix.kept == kept and prefix.by_image and encoder.training
    cache, pixels = PrefixCache(encoder, prefix), torch.rand(4, 3, 32, 32)
    with cache.of("batch"):
        first_BD, first = gradients(encoder, pixels)
    wanted_BD, wanted = gradients(encoder, pixels)
    assert torch.equal(first_BD, wanted_BD) and all(torch.equal(first[name], wanted[name]) for name in wanted)
    with torch.no_grad():
        for parameter in (p for p in encoder.parameters() if p.requires_grad):
            parameter.add_(0.01 * torch.randn_like(parameter))
    wanted_BD, wanted = gradients(encoder, pixels)
    with cache.of("batch"):
        found_BD, found = gradients(encoder, pixels)
    assert torch.equal(found_BD, wanted_BD) and all(torch.equal(found[name], wanted[name]) for name in wanted)
    with torch.no_grad(), cache.of("batch", slice(2, None)):
        assert torch.allclose(encoder(pixels[2:]), wanted_BD[2:], rtol=1e-5, atol=1e-6)
    whole, _ = count_flops(lambda: gradients(encoder, pixels))
    forward, _ = count_flops(lambda: torch.no_grad()(encoder)(pixels))
    with cache.of("batch"):
        less, _ = count_flops(lambda: gradients(encoder, pixels))
        suffix, _ = count_flops(lambda: torch.no_grad()(encoder)(pixels))
    assert whole - less == forward - suffix > forward / 4
    assert all("forward" not in vars(module) for module in encoder.modules())


def test_blanks_take_no_memory():
    encoder = adapted(encoder_of("vit_tiny_patch16_224", **VIT), LastBlocks(1))
    cache = PrefixCache(encoder, frozen_prefix(encoder))
    with cache.of(0):
        encoder(torch.rand(4, 3, 32, 32))
    held = {name: output.untyped_storage().nbytes() for name, output in cache._outputs[0].items()}
    assert held.pop("tower.blocks.1") == 4 * 5 * 24 * 4 and set(held.values()) == {4}


def test_open_clip_and_low_rank_updates(clip_folder):
    """Low-rank updates sit in the patch embedding already: its own convolution is what stays."""
    encoder = adapted(load_model(str(clip_folder)).encoder, LastBlocks(1))
    assert frozen_prefix(encoder).kept == {"tower.transformer.resblocks.0"}
    pytest.importorskip("peft")
    encoder = adapted(load_model(str(clip_folder)).encoder, LoRA(rank=2))
    assert frozen_prefix(encoder).layers == ("tower.conv1.base_layer",)


def test_tokens_of_a_tower_have_its_prefix(clip_folder):
    encoder = adapted(load_model(str(clip_folder)).encoder.with_tokens("patches"), LastBlocks(1))
    assert frozen_prefix(encoder).kept == {"tower.tower.transformer.resblocks.0"}


def test_a_tower_that_is_trained_as_a_whole_has_none(clip_folder):
    encoder = load_model(str(clip_folder)).encoder
    assert frozen_prefix(encoder.requires_grad_(True)) is None
    first = encoder_of("vit_tiny_patch16_224", **VIT)
    first.tower.patch_embed.proj.weight.requires_grad_(True)
    assert frozen_prefix(first) is None


@pytest.mark.parametrize("where", ["before", "after"])
def test_random_layers_in_the_prefix_switch_it_off(where, caplog):
    """Each update draws anew; in the part that is computed anew they change nothing."""
    note.cache_clear()
    drop = nn.Dropout(0.5)
    layers = [nn.Flatten(), nn.Linear(3072, 64), nn.Linear(64, 64), nn.Linear(64, 8)]
    layers.insert(2 if where == "before" else 4, drop)
    encoder = Encoder(nn.Sequential(*layers), 32)
    adapted(encoder, LastBlocks(1))
    state = torch.get_rng_state()
    prefix = frozen_prefix(encoder)
    assert torch.equal(state, torch.get_rng_state())
    assert (prefix is None) == (where == "before") == ("draw at random" in caplog.text)
    if prefix is not None:
        cache, pixels = PrefixCache(encoder, prefix), torch.rand(2, 3, 32, 32)
        with cache.of(0):
            encoder(pixels)
        torch.manual_seed(3)
        wanted = encoder(pixels)
        torch.manual_seed(3)
        with cache.of(0):
            assert torch.equal(encoder(pixels), wanted)


class Odd(nn.Module):
    """A frozen layer, and a trained one that is used in a way that a look-up would not notice."""

    def __init__(self, kind) -> None:
        super().__init__()
        self.kind, self.flat = kind, nn.Flatten()
        self.first, self.second, self.last = nn.Linear(3072, 16), nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, pixels):
        x = self.first(self.flat(pixels))
        if self.kind == "apart":  # a trained weight acts on the frozen layer, and no gradient says so
            x = self.second(x + self.last(x).detach())
        elif self.kind == "writes":
            x = self.second(x)
            x += 1
        return self.last(x)


@pytest.mark.parametrize("kind", ["apart", "writes"])
def test_what_would_answer_differently_is_not_looked_up(kind, caplog):
    note.cache_clear()
    encoder = Encoder(Odd(kind), 32)
    encoder.requires_grad_(False)
    encoder.tower.last.requires_grad_(True)
    assert frozen_prefix(encoder) is None and "computed anew in every update" in caplog.text
