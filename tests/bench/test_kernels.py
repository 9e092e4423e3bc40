"""The bars of single kernels: both sides compute the same, every kernel has its bar, and a slow one falls short."""

import time

import pytest
import torch
from torch import nn

from bench import kernels
from bench.clock import QUICK
from bench.frame import NotMeasured, verdict
from seaanchor.encoders.kernels import activation, convolution_layers, openclip_class_token, self_attention
from seaanchor.encoders.kernels import patch_embedding as patches

CASES = (
    kernels.patches,
    kernels.attentions,
    kernels.inner_products,
    kernels.quick_gelus,
    kernels.last_blocks,
    kernels.stages,
    kernels.in_place,
)
CHOSEN = {
    patches.PatchConvolution,
    self_attention.SelfAttention,
    activation.FusedQuickGELU,
    openclip_class_token.ClassTokenTower,
    openclip_class_token.ClassTokenBlock,
    convolution_layers.Convolution,
    convolution_layers.Passed,
}


BARS = [
    pytest.param(bar, id=bar.name, marks=[pytest.mark.exhaustive] if bar.name.endswith("bf16") else [])
    for bar in kernels.BARS
]


@pytest.mark.parametrize("bar", BARS)
def test_both_sides_compute_the_same(bar):
    """Each gradient, by its norm."""
    torch.manual_seed(0)
    cases, precision = bar.measure.args
    tolerance = 1e-4 if precision == "fp32" else 0.02
    for case in cases(precision, batch=2):
        wanted = case.gradient()
        with case.chosen():
            found = case.gradient()
        assert [g is None for g in found] == [g is None for g in wanted], case.title
        pairs = [(mine, theirs) for mine, theirs in zip(found, wanted, strict=True) if theirs is not None]
        assert pairs, case.title
        for mine, theirs in pairs:
            assert theirs.isfinite().all() and theirs.norm() > 0, case.title
            assert (mine - theirs).norm() <= tolerance * theirs.norm(), case.title


def test_every_kernel_has_its_bar():
    seen, out_of_place = set(), 0
    for cases in CASES:
        for case in cases("fp32", batch=1):
            before = {layer: type(layer) for layer in case.module.modules()}
            with case.chosen():
                seen |= {type(layer) for layer in before if type(layer) is not before[layer]}
                out_of_place += sum(getattr(layer, "inplace", True) is False for layer in case.module.modules())
            assert all(type(layer) is kind for layer, kind in before.items())
    assert seen == CHOSEN and out_of_place
    timed = {bar.measure.args[0] for bar in kernels.BARS}
    assert timed == set(CASES)


def test_attention_is_written_out_in_the_bar_of_bf16(monkeypatch):
    calls = []
    monkeypatch.setattr(self_attention, "written_out", lambda *args: calls.append(1) or torch.zeros_like(args[0]))
    for case in kernels.inner_products("bf16", batch=1):
        before = len(calls)
        case.library_seconds()
        assert len(calls) == before
        with case.chosen():
            case.call(case.module, case.x)
        assert len(calls) == before + 1


def one_layer(precision, batch=1):
    yield kernels.Case("a layer", nn.Conv2d(3, 64, 16, 16), torch.rand(1, 3, 64, 64), precision, False)


def test_a_kernel_that_loses_falls_short(monkeypatch):
    monkeypatch.setenv(QUICK, "1")
    own = patches.PatchConvolution.forward

    def slow(self, x):
        until = time.process_time() + 0.05
        while time.process_time() < until:
            pass
        return own(self, x)

    monkeypatch.setattr(patches.PatchConvolution, "forward", slow)
    found = kernels.least(one_layer, "fp32")
    assert found.value < 0.5 and verdict(kernels.BARS[0], found.value) == "short" and "a layer, input" in found.note


def test_bf16_is_measured_where_it_is_computed(monkeypatch):
    monkeypatch.setattr("bench.real_towers.computes_in_bf16", lambda device: False)
    for bar in kernels.BARS:
        if bar.name.endswith("bf16"):
            with pytest.raises(NotMeasured, match="no fast bf16 arithmetic"):
                bar.measure()
