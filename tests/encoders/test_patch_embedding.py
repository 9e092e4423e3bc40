"""Convolutions whose windows lie side by side, as a matrix product: the library's own convolution is the oracle."""

import copy

import pytest
import torch
from torch import nn

from seaanchor.encoders.kernels import fast_kernels, num_tokens
from seaanchor.encoders.kernels.patch_embedding import PatchConvolution, cuts_patches
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError

SHAPES = [
    ((3, 16, 4), (8, 8), True),
    ((3, 16, 4), (8, 8), False),
    ((3, 8, (2, 4)), (8, 12), True),  # patches that are not square
    ((6, 8, 2), (5, 7), True),  # a rest that fills no patch
]


def answers(layer, x):
    """Output, and the gradients of its square to the input and the weights."""
    layer.zero_grad()
    x = x.detach().requires_grad_()
    y = layer(x)
    y.square().sum().backward()
    return [y.detach(), x.grad, *(p.grad for p in layer.parameters())]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("sizes", "image", "bias"), SHAPES)
def test_output_and_both_gradients_are_those_of_the_convolution(sizes, image, bias, layout, dtype):
    torch.manual_seed(0)
    channels, out, side = sizes
    exact = nn.Conv2d(channels, out, side, stride=side, bias=bias).double()
    x = torch.randn(2, channels, *image, dtype=torch.float64)
    wanted = answers(exact, x)
    layer = copy.deepcopy(exact).to(dtype).to(memory_format=layout)
    with fast_kernels(layer, dtype, 0):
        assert type(layer) is PatchConvolution
        got = answers(layer, x.to(dtype).to(memory_format=layout))
    assert type(layer) is nn.Conv2d
    tolerance = {torch.float64: 1e-13, torch.float32: 1e-6, torch.bfloat16: 0.02}[dtype]
    for a, b in zip(wanted, got, strict=True):
        assert a.shape == b.shape and (a - b).abs().max() <= tolerance * a.abs().max()


def test_an_image_below_one_patch_is_refused_as_by_the_convolution():
    layer = nn.Conv2d(3, 8, 4, stride=4)
    with fast_kernels(layer, torch.float32, 0), pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        layer(torch.rand(1, 3, 3, 9))


@pytest.mark.parametrize("library", ["timm", "clip"])
def test_what_fills_no_patch_is_not_looked_at(library, request):
    """40 pixels in patches of 16 are 2 x 2: the embedding of the upper left 32, and no gradient to the rest."""
    torch.manual_seed(0)
    name = "timm:vit_tiny_patch16_224" if library == "timm" else f"local-dir:{request.getfixturevalue('clip_folder')}"
    large, small = (load_model(name, "none" if library == "timm" else None, size).encoder for size in (40, 32))
    small.load_state_dict(large.state_dict())
    x = torch.rand(2, 3, 40, 40).requires_grad_()
    assert num_tokens(large) == num_tokens(small) == 4
    wanted = small(x[:, :, :32, :32].detach())
    with fast_kernels(large, torch.float32, 4):
        got = large(x)
        (grad,) = torch.autograd.grad(got.square().sum() + got.sum(), x)
    assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    assert grad[:, :, :32, :32].abs().sum() > 0 and not grad[:, :, 32:].any() and not grad[:, :, :, 32:].any()


def test_image_sizes_that_a_tower_cannot_take_are_one_error(hf_folder):
    """Below one patch, and another than the only one that a library takes."""
    for name, tag, size, found in (
        ("timm:vit_tiny_patch16_224", "none", 10, "10 x 10 pixels"),
        (f"hf:{hf_folder}", None, 40, "image size 40"),
    ):
        with pytest.raises(SeaAnchorError, match=found) as caught:
            load_model(name, tag, size)
        assert "--image-size" in caught.value.change and caught.value.expected


def test_under_autocast_it_computes_in_bf16_as_the_convolution_does():
    torch.manual_seed(0)
    layer, x = nn.Conv2d(3, 16, 4, stride=4), torch.randn(2, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        wanted = layer(x)
        with fast_kernels(layer, torch.bfloat16, 0):
            got = layer(x)
    assert wanted.dtype == got.dtype == torch.bfloat16
    assert (wanted - got).abs().max() <= 0.01 * wanted.abs().max()


class _Own(nn.Conv2d):
    def forward(self, input):
        return super().forward(input) + 1


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 4, 3, stride=2),
        nn.Conv2d(4, 4, 2, stride=2, padding=1),
        nn.Conv2d(4, 4, 2, stride=2, groups=2),
        nn.Conv2d(4, 4, 2, stride=2, dilation=2),
        nn.Conv2d(4, 4, 1),
        nn.ConvTranspose2d(4, 4, 2, stride=2),
        _Own(4, 4, 2, stride=2),
    ],
    ids=["overlap", "padding", "groups", "dilation", "one pixel", "transposed", "own forward"],
)
def test_other_convolutions_are_not_taken_for_patches(layer):
    x = torch.randn(1, 4, 6, 6)
    wanted = layer(x)
    assert not cuts_patches(layer)
    with fast_kernels(layer, torch.float32, 0):
        assert not isinstance(layer, PatchConvolution)
        assert torch.allclose(layer(x), wanted, rtol=1e-5, atol=1e-6)


def test_a_tower_with_a_patch_embedding_of_its_own_keeps_it():
    torch.manual_seed(0)
    tower = nn.Sequential(_Own(3, 8, 4, stride=4), nn.Flatten())
    x = torch.rand(2, 3, 8, 8)
    wanted = tower(x)
    with fast_kernels(tower, torch.float32, 4):
        assert torch.equal(tower(x), wanted)


@pytest.mark.parametrize(
    ("name", "size", "swapped"),
    [
        ("timm:vit_tiny_patch16_224", 32, 1),
        ("timm:convnext_atto", 32, 4),  # the stem and three layers between stages
        ("timm:swin_tiny_patch4_window7_224", 224, 1),
        ("hf", None, 1),
        ("clip", None, 1),
    ],
)
def test_towers_of_every_library_have_theirs_swapped_and_answer_as_before(name, size, swapped, request):
    torch.manual_seed(0)
    if ":" in name:
        encoder = load_model(name, "none", size).encoder
    else:
        folder = request.getfixturevalue(f"{name}_folder")
        encoder = load_model(f"{'hf:' if name == 'hf' else 'local-dir:'}{folder}").encoder
    pixels = torch.rand(2, 3, encoder.image_size, encoder.image_size)
    names, wanted = list(encoder.state_dict()), encoder(pixels)
    with fast_kernels(encoder, torch.float32, 0):
        assert sum(isinstance(layer, PatchConvolution) for layer in encoder.modules()) == swapped
        got, held = encoder(pixels), list(encoder.state_dict())
    assert held == names
    assert (wanted - got).abs().max() <= 2e-6 * wanted.abs().max()
