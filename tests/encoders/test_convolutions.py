"""Convolutions on fast kernels, with the batch normalisation that follows them: values and gradients are torch's."""

import copy
from functools import partial

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from seaanchor.encoders.encoder import Encoder
from seaanchor.encoders.kernels import convolution, fast_kernels
from seaanchor.encoders.kernels.convolution import Geometry, convolve
from seaanchor.encoders.kernels.convolution_layers import Convolution, Passed, pairs_of
from seaanchor.encoders.load import load_model
from seaanchor.encoders.low_precision import LowPrecisionCopy
from seaanchor.functional.gradients import frozen, input_grad
from seaanchor.profiling.flops import count_flops
from seaanchor.profiling.without_contents import without_contents

BOTH = (torch.channels_last, torch.contiguous_format)
# channels in and out, side of the map, kernel, stride, border, dilation, groups: what the towers have, and odd cases
CASES = {
    "stem": (3, 8, 16, 3, 2, (0, 1, 0, 1), 1, 1),
    "pointwise on a small map": (24, 40, 6, 1, 1, (0, 0, 0, 0), 1, 1),
    "pointwise on a larger map": (8, 24, 12, 1, 1, (0, 0, 0, 0), 1, 1),
    "pointwise on a large map": (4, 6, 20, 1, 1, (0, 0, 0, 0), 1, 1),
    "pointwise, strided": (8, 12, 6, 1, 2, (0, 0, 0, 0), 1, 1),
    "depthwise 3": (16, 16, 10, 3, 1, (1, 1, 1, 1), 1, 16),
    "depthwise 5 on a small map": (16, 16, 4, 5, 1, (2, 2, 2, 2), 1, 16),
    "depthwise 5 on a map of one place": (16, 16, 1, 5, 1, (2, 2, 2, 2), 1, 16),
    "depthwise 7 without a border": (16, 16, 9, 7, 1, (0, 0, 0, 0), 1, 16),
    "depthwise 5, strided, another border on each side": (16, 16, 8, 5, 2, (1, 2, 0, 2), 1, 16),
    "depthwise 5, dilated": (16, 16, 8, 5, 1, (4, 4, 4, 4), 2, 16),
    "depthwise with two outputs a channel": (8, 16, 6, 5, 1, (2, 2, 2, 2), 1, 8),
    "grouped": (8, 12, 7, 3, 1, (1, 1, 1, 1), 1, 4),
    "dense": (5, 7, 9, 3, 1, (1, 1, 1, 1), 1, 1),
}


def by_torch(x, weight, bias, geometry, activation):
    out = F.conv2d(F.pad(x, geometry.border), weight, bias, geometry.stride, 0, geometry.dilation, geometry.groups)
    return {None: lambda y: y, "relu": F.relu, "relu6": F.relu6}[activation](out)


def answers(compute, case, layout, dtype, activation, bias=True):
    """Output, and gradients to pixels, weights and bias."""
    channels, outputs, side, kernel, stride, border, dilation, groups = CASES[case]
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(3, channels, side, side, generator=rng, dtype=torch.float64).to(dtype, memory_format=layout)
    weight = torch.randn(outputs, channels // groups, kernel, kernel, generator=rng, dtype=torch.float64)
    weight = weight.to(dtype, memory_format=layout).requires_grad_()
    shift = torch.randn(outputs, generator=rng, dtype=torch.float64).to(dtype).requires_grad_() if bias else None
    x.requires_grad_()
    out = compute(x, weight, shift, Geometry((stride, stride), border, (dilation, dilation), groups), activation)
    back = torch.randn(out.shape, generator=rng, dtype=torch.float64).to(dtype)
    return [out.detach(), *torch.autograd.grad(out, [t for t in (x, weight, shift) if t is not None], back)]


def apart(one, other) -> float:
    """Largest difference, as a share of the largest number."""
    assert len(one) == len(other) and all(a.shape == b.shape for a, b in zip(one, other, strict=True))
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("layout", BOTH)
@pytest.mark.parametrize("activation", [None, "relu", "relu6"])
@pytest.mark.parametrize("case", CASES)
def test_every_way_gives_torchs_numbers(case, activation, layout):
    for bias in (True, False):
        exact = answers(by_torch, case, layout, torch.float64, activation, bias)
        assert apart(answers(convolve, case, layout, torch.float64, activation, bias), exact) < 1e-12
        mine, theirs = (
            apart([t.double() for t in answers(compute, case, layout, torch.float32, activation, bias)], exact)
            for compute in (convolve, by_torch)
        )
        assert mine < max(1e-6, 1.5 * theirs)  # sums of many images and places are not torch's to a millionth, either


@pytest.mark.parametrize("case", ["depthwise 5 on a small map", "depthwise 3", "pointwise on a small map"])
def test_bf16_is_as_near_to_the_truth_as_torchs(case):
    exact = answers(by_torch, case, torch.channels_last, torch.float64, "relu6")
    mine, theirs = (
        [t.double() for t in answers(f, case, torch.channels_last, torch.bfloat16, "relu6")]
        for f in (convolve, by_torch)
    )
    assert apart(mine, exact) < max(1.5 * apart(theirs, exact), 0.01)


def test_gradients_to_weights_of_depthwise_layers_are_taken_in_fp32(monkeypatch):
    seen = []
    library = convolution._library
    monkeypatch.setattr(convolution, "_library", lambda grad, *rest: (seen.append(grad.dtype), library(grad, *rest))[1])
    answers(convolve, "depthwise 3", torch.channels_last, torch.bfloat16, None)
    assert seen == [torch.float32, torch.bfloat16]  # weights, pixels


def test_only_what_is_asked_for_is_computed_and_a_second_derivative_raises():
    x = torch.randn(2, 4, 5, 5, requires_grad=True)
    weight = torch.randn(6, 4, 3, 3)
    geometry = Geometry((1, 1), (1, 1, 1, 1), (1, 1), 1)
    (grad,) = torch.autograd.grad(convolve(x, weight, None, geometry).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()
    flops = count_flops(lambda: torch.autograd.grad(convolve(x, weight, None, geometry, "relu").sum(), x))[0]
    assert flops == 2 * 2 * 2 * 25 * weight.numel()  # forward and one gradient


def drawn(tower: nn.Module, size: int) -> Encoder:
    """A tower whose normalisations do something."""
    rng = torch.Generator().manual_seed(1)
    for layer in tower.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low in ((layer.running_var, 0.5), (layer.weight.data, 0.5), (layer.running_mean, -0.2)):
                tensor.copy_(low + torch.rand(tensor.shape, generator=rng))
    return Encoder(tower, size).eval()


TOWERS = {
    "tf_efficientnet_lite0": 49,  # TensorFlow's padding, ReLU6
    "mobilenetv3_small_100": 34,  # squeeze and excitation, hard swish
    "resnet10t": 14,
    "convnext_atto": 0,
    "resnetv2_50": 32,  # its first convolution and those before a sum are read by a normalisation and by a sum
    "regnetx_002": 44,
}


@pytest.fixture(scope="module", params=TOWERS)
def tower(request):
    torch.manual_seed(0)
    name = {"resnetv2_50": "resnetv2_50.a1h_in1k"}.get(request.param, request.param)
    return request.param, drawn(timm.create_model(name, num_classes=0), 64)


def of_attack(encoder, pixels):
    def loss(p):
        out = encoder(p)
        return out.square().sum(-1), out

    with frozen(encoder):
        return list(input_grad(loss, pixels))


def of_training(encoder, pixels):
    encoder.train().requires_grad_(True).zero_grad()
    encoder(pixels).square().sum().backward()
    found = [p.grad.clone() for p in encoder.parameters() if p.grad is not None]
    encoder.eval().requires_grad_(False).zero_grad()
    return found


def pixels_of(encoder, count=3, dtype=torch.float64):
    rng = torch.Generator().manual_seed(2)
    return torch.rand(count, 3, encoder.image_size, encoder.image_size, generator=rng).to(dtype)


@pytest.mark.parametrize("of", [of_attack, of_training])
def test_towers_say_the_same(tower, of):
    encoder = copy.deepcopy(tower[1]).double()
    pixels, types = pixels_of(encoder), [type(layer) for layer in encoder.modules()]
    torch.manual_seed(0)
    wanted = of(encoder, pixels)
    torch.manual_seed(0)
    with fast_kernels(encoder, torch.float64, 0):
        swapped = [type(layer) for layer in encoder.modules()]
        got = of(encoder, pixels)
    assert apart(got, wanted) < 1e-10 and Convolution in swapped
    assert [type(layer) for layer in encoder.modules()] == types
    assert not any("role" in vars(layer) for layer in encoder.modules())


def test_pairs_are_those_that_nobody_else_reads(tower):
    name, encoder = tower
    found = pairs_of(encoder)
    assert len(found) == TOWERS[name]
    norms = [key for key, layer in encoder.named_modules() if isinstance(layer, nn.BatchNorm2d)]
    if name != "resnetv2_50":
        assert sorted(found.values()) == sorted(norms)
    assert pairs_of(encoder) == found


def test_fp32_keeps_losses_to_a_millionth(tower):
    encoder = tower[1]
    pixels = pixels_of(encoder, dtype=torch.float32)
    wanted = of_attack(encoder, pixels)[0]
    with fast_kernels(encoder, torch.float32, 0):
        got = of_attack(encoder, pixels)[0]
    assert apart([got], [wanted]) < 5e-6


class TwoReaders(nn.Module):
    """A convolution's output is normalised and, before that, read by somebody else."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.conv, self.norm, self.kind = nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), kind

    def forward(self, x):
        y = self.conv(x)
        other = 0
        if self.kind == "sum":
            other = y
        elif self.kind == "changed in place":
            y.add_(1)
        elif self.kind == "twice":
            other = self.norm(self.conv(x + 1))
        return (self.norm(y) + other).mean((2, 3))


@pytest.mark.parametrize("kind", ["sum", "changed in place", "twice", "alone"])
def test_a_convolution_that_is_not_read_by_its_normalisation_alone_stays_apart(kind):
    torch.manual_seed(0)
    encoder = drawn(TwoReaders(kind), 16).double()
    assert pairs_of(encoder) == ({"tower.conv": "tower.norm"} if kind == "alone" else {})
    pixels = pixels_of(encoder)
    wanted = of_attack(encoder, pixels)
    with fast_kernels(encoder, torch.float64, 0):
        assert apart(of_attack(encoder, pixels), wanted) < 1e-12


def small() -> Encoder:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(inplace=True), nn.Conv2d(8, 8, 3)
    return drawn(nn.Sequential(*layers, nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 16)


def test_watched_layers_show_what_they_showed():
    encoder, seen = small(), []
    pixels = pixels_of(encoder, dtype=torch.float32)
    encoder.tower[0].register_forward_hook(lambda layer, inputs, output: seen.append(output.detach()))
    with torch.no_grad():
        encoder(pixels)
        with fast_kernels(encoder, torch.float32, 0):
            assert type(encoder.tower[1]) is nn.BatchNorm2d and type(encoder.tower[4]) is Passed
            encoder(pixels)
    assert apart(seen[-1:], seen[:1]) < 1e-6


def test_weights_that_change_between_attacks_are_folded_anew():
    encoder = small().double().requires_grad_(False)
    pixels = pixels_of(encoder)
    with fast_kernels(encoder, torch.float64, 0):
        of_attack(encoder, pixels)
        for parameter in encoder.parameters():
            parameter.mul_(1.5)
        got = of_attack(encoder, pixels)
    assert apart(got, of_attack(encoder, pixels)) < 1e-12


def test_a_normalisation_in_train_mode_uses_the_statistics_of_its_batch():
    encoder = small().double()
    encoder.tower[1].train()
    other = copy.deepcopy(encoder)
    pixels = pixels_of(encoder)
    with fast_kernels(encoder, torch.float64, 0):
        encoder.tower[1].train()
        got = encoder(pixels)
    assert apart([got], [other(pixels)]) < 1e-12
    assert torch.equal(encoder.tower[1].running_mean, other.tower[1].running_mean)
    assert encoder.tower[1].num_batches_tracked == other.tower[1].num_batches_tracked


def test_a_copy_made_inside_computes_by_itself():
    encoder = small()
    pixels = pixels_of(encoder, dtype=torch.float32)
    with torch.no_grad(), fast_kernels(encoder, torch.float32, 0):
        wanted = encoder(pixels)
        other = copy.deepcopy(encoder)
        encoder.tower[1].weight.zero_()
        assert torch.equal(other(pixels), wanted) and not torch.equal(encoder(pixels), wanted)


def test_autocast_computes_in_bf16():
    encoder = small()
    pixels = pixels_of(encoder, dtype=torch.float32)
    with torch.no_grad():
        exact = encoder(pixels)
        with torch.autocast("cpu", torch.bfloat16):
            theirs = encoder(pixels)
            with fast_kernels(encoder, torch.bfloat16, 0):
                mine = encoder(pixels)
    assert mine.dtype == theirs.dtype == torch.bfloat16
    assert 0 < apart([mine.float()], [exact]) < max(1.5 * apart([theirs.float()], [exact]), 0.01)


def test_weights_of_a_bf16_copy_are_not_rounded_a_second_time():
    encoder = small().requires_grad_(False)
    low = LowPrecisionCopy(encoder)
    pixels = pixels_of(encoder, dtype=torch.float32)
    exact, theirs = of_attack(encoder, pixels), of_attack(low.refreshed(), pixels)
    with fast_kernels(low.encoder, torch.bfloat16, 0):
        mine = of_attack(low.refreshed(), pixels)
        conv = next(layer for layer in low.encoder.modules() if type(layer) is Convolution)
        assert conv.role.norm is not None and not conv.role.kept  # a pair, and not folded
    assert apart(mine, exact) < max(1.5 * apart(theirs, exact), 0.02)


def test_flops_are_those_of_torchs_layers_with_and_without_contents():
    torch.manual_seed(0)
    encoder = load_model("timm:tf_efficientnet_lite0", "none", 64).encoder
    pixels = pixels_of(encoder, dtype=torch.float32)
    wanted = [count_flops(partial(work, encoder, pixels))[0] for work in (of_attack, of_training)]
    with fast_kernels(encoder, torch.float32, 0):
        assert [count_flops(partial(work, encoder, pixels))[0] for work in (of_attack, of_training)] == wanted
    with without_contents():
        shapes = encoder, torch.empty(pixels.shape)
        with fast_kernels(shapes[0], torch.float32, 0):
            assert count_flops(lambda: of_attack(*shapes))[0] == wanted[0]
            assert Passed in {type(layer) for layer in shapes[0].modules()}
