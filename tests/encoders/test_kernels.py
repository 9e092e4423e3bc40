"""Kernels: whichever is chosen, the numbers stay; activations computed again take less memory and give the same
gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from seaanchor.encoders.kernels import (
    activation_checkpointing,
    adam_options,
    attention,
    fast_kernels,
    num_tokens,
    plain_attention,
    self_attention,
)
from seaanchor.encoders.kernels.self_attention import SelfAttention, written_out
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.functional.gradients import frozen, input_grad

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["clip_folder", "hf_folder", "timm"])
def transformer(request):
    torch.manual_seed(0)
    if request.param == "timm":
        return load_model("timm:vit_tiny_patch16_224", "none", 32).encoder
    folder = request.getfixturevalue(request.param)
    return load_model(f"{'hf:' if request.param == 'hf_folder' else 'local-dir:'}{folder}").encoder


def pixels_for(encoder, batch=3):
    return torch.rand(batch, 3, encoder.image_size, encoder.image_size, generator=torch.Generator().manual_seed(0))


def weight_gradients(encoder, pixels):
    encoder.zero_grad()
    embedding = encoder(pixels)
    (embedding * torch.linspace(-1, 1, embedding.numel()).view_as(embedding)).sum().backward()
    return [p.grad for p in encoder.parameters() if p.grad is not None]


def bytes_saved(run) -> int:
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = (
            tensor  # kept, or a freed one's address would be given out again
        )
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(tensor.untyped_storage().nbytes() for tensor in storages.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mode", ["frozen", "trained"])
def test_attention_laid_out_anew_says_the_same(dtype, mode):
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(24, 3, batch_first=True).double()
    x = torch.randn(2, 7, 24, dtype=torch.float64)

    def output_and_gradients(layer, x):
        layer.zero_grad()
        x = x.detach().requires_grad_()
        layer.requires_grad_(mode == "trained")
        y = layer(x, x, x, need_weights=False)[0]
        y.square().sum().backward()
        return [y.detach(), x.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]

    wanted = output_and_gradients(layer, x)
    low = nn.MultiheadAttention(24, 3, batch_first=True).to(dtype)
    low.load_state_dict(layer.state_dict())
    with fast_kernels(low, dtype, 7):
        assert type(low) is SelfAttention
        got = output_and_gradients(low, x.to(dtype))
    assert type(low) is nn.MultiheadAttention and len(got) == len(wanted) == (6 if mode == "trained" else 2)
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    assert all((a - b).abs().max() <= tolerance * a.abs().max() for a, b in zip(wanted, got, strict=True))


@pytest.mark.parametrize("case", ["weights", "mask", "padding", "other values", "no bias", "tokens first", "dropout"])
def test_what_is_no_plain_self_attention_goes_to_the_library(case):
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(
        8, 2, batch_first=case != "tokens first", bias=case != "no bias", dropout=0.5 * (case == "dropout")
    )
    x, other = torch.randn(3, 4, 8), torch.randn(3, 4, 8)
    mask = torch.triu(torch.full((4, 4), -torch.inf), 1) if case == "mask" else None
    padding = torch.arange(4).expand(3, 4) > 2 if case == "padding" else None
    inputs = (x, other, torch.randn(3, 4, 8)) if case == "other values" else (x, x, x)

    def run():
        torch.manual_seed(1)
        return layer(*inputs, need_weights=case == "weights", attn_mask=mask, key_padding_mask=padding)[0]

    wanted = run()
    with fast_kernels(layer, torch.float32, 4):
        got = run()
    assert torch.equal(wanted, got)


def test_the_choice():
    gpu = torch.device("cuda")
    assert plain_attention(CPU, torch.bfloat16, 65)
    assert not any(
        plain_attention(*choice)
        for choice in ((CPU, torch.float32, 65), (CPU, torch.bfloat16, 4096), (gpu, torch.bfloat16, 65))
    )
    with attention(CPU, torch.float32, 4):
        assert torch.backends.cuda.flash_sdp_enabled()


@pytest.mark.parametrize("case", ["plain", "bias", "scale", "causal", "boolean mask", "fp32"])
def test_attention_written_out_is_the_librarys(monkeypatch, case):
    torch.manual_seed(0)
    exact = [torch.randn(2, 3, 5, 8, dtype=torch.float64) for _ in range(3)]
    options = {
        "bias": {"attn_mask": torch.randn(2, 3, 5, 5, dtype=torch.float64)},
        "scale": {"scale": 0.1},
        "causal": {"is_causal": True},
        "boolean mask": {"attn_mask": torch.rand(5, 5) < 0.8},
    }.get(case, {})
    wanted = F.scaled_dot_product_attention(*exact, **options)
    dtype = torch.float32 if case == "fp32" else torch.bfloat16
    low = {k: v.to(dtype) if isinstance(v, torch.Tensor) and v.is_floating_point() else v for k, v in options.items()}
    calls = []
    monkeypatch.setattr(self_attention, "written_out", lambda *a, **k: calls.append(1) or written_out(*a, **k))
    with attention(CPU, torch.bfloat16, 5):
        got = F.scaled_dot_product_attention(*(x.to(dtype) for x in exact), **low)
    assert len(calls) == (case in ("plain", "bias", "scale"))
    assert (got - wanted).abs().max() <= 0.02 * wanted.abs().max()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("library", ["open_clip", "transformers", "timm"])
def test_quick_gelu_in_one_kernel_is_x_times_a_sigmoid(library, dtype):
    from open_clip.transformer import QuickGELU
    from timm.layers.activations import QuickGELU as OfTimm
    from transformers.activations import QuickGELUActivation

    layer = {"open_clip": QuickGELU, "transformers": QuickGELUActivation, "timm": OfTimm}[library]()
    exact = torch.linspace(-30, 30, 4001, dtype=torch.float64, requires_grad=True)
    wanted = exact * torch.sigmoid(1.702 * exact)
    (slope,) = torch.autograd.grad(wanted.sum(), exact)
    x = exact.detach().to(dtype).requires_grad_()
    with fast_kernels(layer, dtype, 0):
        got = layer(x)
        assert type(layer).__name__ == "FusedQuickGELU" and bytes_saved(lambda: layer(x)) == x.nbytes
        (got_slope,) = torch.autograd.grad(got.sum(), x)
    tolerance = {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 0.02}[dtype]
    assert ((got - wanted).abs() <= tolerance * (1 + wanted.abs())).all()
    assert ((got_slope - slope).abs() <= tolerance * 4).all()


def test_a_fitted_tower_answers_as_before(transformer):
    pixels = pixels_for(transformer)
    v = torch.randn(transformer.dim)

    def loss(p):
        return transformer(p) @ v, p  # a square would do nothing behind a norm

    with frozen(transformer):
        wanted = input_grad(loss, pixels)
        with fast_kernels(transformer, torch.float32, num_tokens(transformer)):
            got = input_grad(loss, pixels)
    for a, b in zip(wanted[:2], got[:2], strict=True):
        assert (a - b).abs().max() <= 1e-5 * a.abs().max()


def test_the_kernels_are_put_back_after_an_error(clip_folder):
    encoder = load_model(f"local-dir:{clip_folder}").encoder
    with pytest.raises(KeyError), fast_kernels(encoder, torch.bfloat16, 4):
        raise KeyError
    assert not any(isinstance(layer, SelfAttention) for layer in encoder.modules())
    assert torch.backends.cuda.flash_sdp_enabled()


def test_activations_computed_again_give_the_same_gradients_from_fewer_bytes(transformer):
    transformer.train().requires_grad_(True)
    pixels = pixels_for(transformer)
    wanted = weight_gradients(transformer, pixels)
    kept = bytes_saved(lambda: transformer(pixels))
    with fast_kernels(transformer, torch.float32, num_tokens(transformer)), activation_checkpointing(transformer):
        got = weight_gradients(transformer, pixels)
        fewer = bytes_saved(lambda: transformer(pixels))
    again = bytes_saved(lambda: transformer(pixels))
    transformer.eval().requires_grad_(False)
    assert fewer < 0.8 * kept and again == kept
    assert len(got) == len(wanted) > 10
    # the bias of an attention's keys changes no output: what it gets is rounding
    assert all((a - b).abs().max() <= 1e-5 * a.abs().max().clamp(min=0.1) for a, b in zip(wanted, got, strict=True))


def test_the_embedded_tower_can_compute_again_and_a_plain_one_is_refused():
    encoder = load_model("seaanchor-tiny").encoder.train().requires_grad_(True)
    pixels = pixels_for(encoder)
    wanted = weight_gradients(encoder, pixels)
    with activation_checkpointing(encoder):
        got = weight_gradients(encoder, pixels)
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5 * a.abs().max()) for a, b in zip(wanted, got, strict=True))
    with pytest.raises(SeaAnchorError, match="cannot recompute"), activation_checkpointing(nn.Linear(2, 2)):
        pass


def test_tokens(transformer, cut_vocabulary_folder):
    patch = next(layer for layer in transformer.modules() if isinstance(layer, nn.Conv2d)).kernel_size[0]
    assert num_tokens(transformer) == (transformer.image_size // patch) ** 2 > 1
    assert num_tokens(load_model(f"local-dir:{cut_vocabulary_folder}").encoder) == 0
    assert num_tokens(nn.Linear(2, 2)) == 0


def test_fused_adam_moves_the_weights_as_the_plain_one_does():
    torch.manual_seed(0)
    start, steps = torch.randn(50, 20), torch.randn(5, 50, 20)
    ends = []
    for options in ({}, adam_options(CPU)):
        weight = nn.Parameter(start.clone())
        optimizer = torch.optim.AdamW([weight], lr=1e-2, weight_decay=0.1, **options)
        for grad in steps:
            weight.grad = grad.clone()
            optimizer.step()
        ends.append(weight.detach())
    assert adam_options(CPU) == {"fused": True} and adam_options(torch.device("meta")) == {}
    assert (ends[0] - start).abs().max() > 0.01 and torch.allclose(*ends, rtol=1e-6, atol=1e-6)
