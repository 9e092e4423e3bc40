"""The linear map's slider and the low-rank adapters."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from seaanchor.adapters.linear_map import LinearMap, decompose, orthogonality, scale_spectrum, without_rotation
from seaanchor.adapters.lora import LoRA, lora_targets, merge
from seaanchor.encoders.encoder import Encoder
from seaanchor.errors import SeaAnchorError, note


def some_map(dim=6):
    torch.manual_seed(0)
    return torch.randn(dim, dim)


def test_t_1_is_the_trained_map_and_t_0_changes_no_cosine():
    weight = some_map()
    assert torch.allclose(scale_spectrum(weight, 1.0), weight, atol=1e-5)
    a, b = torch.randn(5, 6), torch.randn(5, 6)
    rotated = scale_spectrum(weight, 0.0)
    assert torch.allclose(F.cosine_similarity(a @ rotated.T, b @ rotated.T), F.cosine_similarity(a, b), atol=1e-5)


def test_singular_values_go_to_the_power_of_t():
    weight = some_map()
    for t in (-1.5, 0.5, 2.0):
        expected = torch.linalg.svdvals(weight).pow(t).sort().values
        assert torch.allclose(torch.linalg.svdvals(scale_spectrum(weight, t)).sort().values, expected, rtol=1e-3)


def test_t_composes():
    weight = some_map()
    assert torch.allclose(scale_spectrum(scale_spectrum(weight, 0.5), 2.0), weight, atol=1e-4)


def test_a_vanishing_singular_value_does_not_blow_up():
    weight = torch.diag(torch.tensor([1.0, 0.0]))
    assert scale_spectrum(weight, -1.0).abs().max() <= 1e6 + 1


@pytest.mark.parametrize("out", [6, 3])
def test_one_decomposition_gives_the_cosines_of_every_t(out):
    """Against W_t built entry by entry from eigenvectors of WᵀW, another way to the same map up to a rotation."""
    torch.manual_seed(1)
    weight, a, b = torch.randn(out, 6).double(), torch.randn(5, 6).double(), torch.randn(5, 6).double()
    spectrum = decompose(weight)
    values, vectors = torch.linalg.eigh(weight.T @ weight)
    values, vectors = values[-out:], vectors[:, -out:]
    for t in (-1.0, 0.0, 0.5, 1.0, 2.0):
        metric = (vectors * values**t) @ vectors.T  # WₜᵀWₜ = V S²ᵗ Vᵀ
        inner = lambda x, y, m=metric: (x @ m * y).sum(-1)  # noqa: E731
        expected = inner(a, b) / (inner(a, a) * inner(b, b)).sqrt()
        powers = spectrum.powers(t)
        assert torch.allclose(
            F.cosine_similarity(spectrum.rotate(a) * powers, spectrum.rotate(b) * powers), expected, atol=1e-9
        )
        for mapped in (spectrum.at(t), spectrum.without_rotation(t), scale_spectrum(weight, t)):
            assert torch.allclose(F.cosine_similarity(a @ mapped.T, b @ mapped.T), expected, atol=1e-9)
    assert torch.allclose(spectrum.without_rotation(1.0), without_rotation(weight))


@pytest.mark.parametrize("t", [1e9, -1e9, float("nan"), float("inf"), -float("inf")])
def test_a_t_out_of_range_is_refused(t):
    for weight in (some_map(), torch.diag(torch.tensor([0.9, 0.5]))):  # the second underflows where the first overflows
        with pytest.raises(SeaAnchorError, match="out of range"):
            scale_spectrum(weight, t)


def test_orthogonality_penalty_by_hand():
    assert orthogonality(torch.eye(4)).item() == 0
    assert orthogonality(torch.diag(torch.tensor([2.0, 1.0]))).item() == pytest.approx(3.0)
    assert orthogonality(LinearMap(8).weight).item() == pytest.approx(0, abs=1e-5)


def tower(kind):
    import open_clip

    torch.manual_seed(0)
    if kind == "vit":
        vision = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 16}
        return open_clip.CLIP(
            32, vision, {"context_length": 8, "vocab_size": 100, "width": 32, "heads": 2, "layers": 1}
        ).visual.eval()
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, groups=2), nn.Flatten(), nn.Linear(392, 16)
    ).eval()


@pytest.mark.parametrize("kind", ["vit", "conv"])
def test_lora_starts_at_the_reference_learns_and_merges(kind):
    policy = tower(kind)
    before, pixels = copy.deepcopy(policy), torch.rand(2, 3, 32, 32)
    parameters = LoRA(4, 8.0).trainable(policy)
    assert torch.allclose(policy(pixels), before(pixels), atol=1e-6)
    assert sum(p.numel() for p in parameters) < sum(p.numel() for p in before.parameters())
    optimizer = torch.optim.SGD(parameters, 0.01)
    for _ in range(2):
        optimizer.zero_grad()
        policy(pixels).square().sum().backward()
        missing = [p for p in parameters if p.grad is None]
        optimizer.step()
    assert not missing
    trained = policy(pixels).detach()
    assert (trained - before(pixels)).abs().max() > 1e-4
    merge(policy)
    assert policy.state_dict().keys() == before.state_dict().keys()
    assert torch.allclose(policy(pixels), trained, atol=1e-5)


def test_fused_attention_is_taken_whole():
    names = lora_targets(tower("vit"))
    assert any(name.endswith("attn") for name in names)
    assert not any("out_proj" in name for name in names)
    assert any("c_fc" in name for name in names) and any("c_proj" in name for name in names)


@pytest.mark.parametrize(("t", "left"), [(-2.0, None), (2.0, None), (8.0, 3), (-8.0, 3), (50.0, 1)])
def test_a_map_that_loses_rank_is_no_model(t, left):
    """Of 2, 1, 0.9 and 0.3: 0.15^8 is below 4·eps of fp32, and so on. A map without full rank is judged by its own."""
    spectrum = decompose(torch.diag(torch.tensor([2.0, 1.0, 0.9, 0.3])))
    if left is None:
        spectrum.check_rank(t)
    else:
        with pytest.raises(SeaAnchorError, match=f"leaves {left} of 4 directions"):
            spectrum.check_rank(t)
    decompose(torch.diag(torch.tensor([1.0, 0.5, 0.0]))).check_rank(2.0)


@pytest.mark.parametrize("width", [24, 32])
def test_lora_leaves_pooling_over_keys_of_another_width_alone(width, caplog):
    """CoCa's image tower ends in open_clip's pooler, whose queries and keys differ in width."""
    pytest.importorskip("peft")
    from open_clip.transformer import AttentionalPooler

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.mix = nn.Conv2d(3, width, 8, 8), nn.Linear(width, width)
            self.pool = AttentionalPooler(32, width, n_head=4, n_queries=2)

        def forward(self, pixels):
            return self.pool(self.mix(self.patches(pixels).flatten(2).transpose(1, 2))).mean(1)

    torch.manual_seed(0)
    encoder = Encoder(Pooled(), 16)
    pixels, plain = torch.rand(2, 3, 16, 16), copy.deepcopy(encoder)
    same = width == 32
    assert ("tower.pool.attn" in lora_targets(encoder)) == same
    parameters = list(LoRA(rank=2).trainable(encoder))
    assert f"adapts 1 Conv2d, 1 Linear{', 1 MultiheadAttention' if same else ';'}" in caplog.text
    assert ("tower.pool.attn" in caplog.text) != same
    assert torch.allclose(encoder(pixels), plain(pixels), atol=1e-6)  # the updates start at 0
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        encoder(pixels).square().sum().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters)
    trained = encoder(pixels)
    merged = merge(encoder)
    assert merged.state_dict().keys() == plain.state_dict().keys() and not torch.allclose(trained, plain(pixels))
    assert torch.allclose(merged(pixels), trained, atol=1e-5)


def test_lora_leaves_layers_that_standardise_their_weights_alone():
    """Merged, an update of such a weight would be another one than the update that was trained beside it."""
    pytest.importorskip("peft")
    from timm.layers import Conv2dSame, ScaledStdConv2d, StdConv2d

    layers = nn.Conv2d(3, 4, 3), ScaledStdConv2d(4, 4, 3), StdConv2d(4, 4, 1), Conv2dSame(4, 4, 3)
    tower = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert lora_targets(tower) == ["0", "3"]
    silent = ScaledStdConv2d(4, 4, 1, gain_init=0.0)  # as at the end of a block before training: nothing can be told
    assert lora_targets(nn.Sequential(nn.Conv2d(3, 4, 3), silent)) == ["0"]
    torch.manual_seed(0)
    parameters = list(LoRA(rank=2).trainable(tower.requires_grad_(False)))
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.1 * torch.randn_like(parameter))
        pixels = torch.rand(2, 3, 12, 12)
        trained = tower(pixels)
        assert torch.allclose(merge(tower)(pixels), trained, atol=1e-5)


def small_tower(kind):
    import open_clip
    import timm

    torch.manual_seed(0)
    vit = {"img_size": 32, "patch_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 0}
    if kind == "clip-resnet":
        vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 4, "patch_size": None, "head_width": 16}
        text = {"context_length": 8, "vocab_size": 100, "width": 32, "heads": 2, "layers": 1}
        return open_clip.CLIP(32, vision, text).visual
    if kind == "swinv2":
        sizes = {
            "img_size": 64,
            "window_size": 4,
            "embed_dim": 16,
            "depths": (1, 1),
            "num_heads": (2, 2),
            "num_classes": 0,
        }
        return timm.create_model("swinv2_tiny_window8_256", **sizes)
    return timm.create_model({"beit": "beit_base_patch16_224", "eva02": "eva02_tiny_patch14_224"}[kind], **vit)


@pytest.mark.parametrize(
    ("kind", "unread"),
    [
        ("beit", ["blocks.0.attn.qkv", "blocks.1.attn.qkv"]),
        ("clip-resnet", [f"attnpool.{name}" for name in ("k_proj", "q_proj", "v_proj", "c_proj")]),
        ("eva02", None),
        ("swinv2", None),
    ],
)
def test_lora_leaves_out_layers_whose_weight_the_tower_reads_without_calling_them(kind, unread, caplog):
    """Every update that is there gets a gradient, all are in the export's weights, and the log names the others."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    note.cache_clear()
    encoder = Encoder(small_tower(kind).eval(), 64 if kind in ("clip-resnet", "swinv2") else 32)
    names, plain, pixels = lora_targets(encoder), copy.deepcopy(encoder), torch.rand(2, 3, *2 * [encoder.image_size])
    parameters = list(LoRA(rank=2).trainable(encoder))
    adapted = {name for name, module in encoder.named_modules() if isinstance(module, BaseTunerLayer)}
    left = [name for name in names if name not in adapted]
    if unread is not None:
        assert sorted(left) == sorted(f"tower.{name}" for name in unread)
    assert (f"{len(left)} get none" in caplog.text) == bool(left) and all(name in caplog.text for name in left[:4])
    assert all(type(encoder.get_submodule(name)) is type(plain.get_submodule(name)) for name in left)
    encoder(pixels).square().sum().backward()
    assert all(p.grad is not None for p in parameters)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.3 * torch.randn_like(parameter))
        trained, merged = encoder(pixels), merge(encoder)
        moved = (trained - plain(pixels)).abs().max()
        assert moved > 0 and (merged(pixels) - trained).abs().max() < 0.01 * moved
    assert merged.state_dict().keys() == plain.state_dict().keys()


def test_lora_needs_a_layer_that_is_called():
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3072, 4)

        def forward(self, pixels):
            return F.linear(pixels.flatten(1), self.layer.weight)

    with pytest.raises(SeaAnchorError, match="the weights of its 1 linear layers and calls none"):
        LoRA(rank=2).trainable(Reads())
