"""The meter against numbers worked out by hand."""

import pytest
import torch
from torch import nn

from seaanchor.profiling.flops import count_stages
from seaanchor.profiling.hardware import Machine
from seaanchor.profiling.op_counter import Kernel, Meter, Stage, Work
from seaanchor.utils.parts import ATTACK, OPTIMIZER, OTHER, part

MACHINE = Machine("hand", fp32=100.0, bf16=400.0, bandwidth=10.0, memory=1.0, source="made up")


def test_seconds_by_hand():
    """Each kernel takes the longer of arithmetic and memory: 2 s of products in fp32, 1 s in bf16, 2 s of bytes, and 3
    s of a product that waits for its bytes (its operations alone would take 0.5 s)."""
    kernels = [Kernel("fp32", 200, 19), Kernel("bf16", 400, 0), Kernel("fp32", 0, 20), Kernel("fp32", 50, 30)]
    work = Work(dict.fromkeys(kernels, 1))
    assert work.seconds(MACHINE) == 2 + 1 + 2 + 3 and work.seconds(MACHINE, 0.5) == 16
    assert work.total == 650 and work.flops == {"fp32": 250, "bf16": 400} and work.moved == 20 and work.launches == 4


def test_works_add_up():
    one, other = Work({Kernel("fp32", 3, 1): 2}), Work({Kernel("fp32", 3, 1): 1, Kernel("fp32", 0, 5): 1})
    both = Work.sum([(one, 10), (other, 2)])
    assert both.kernels == {Kernel("fp32", 3, 1): 22, Kernel("fp32", 0, 5): 2}
    assert both.total == 66 and both.seconds(MACHINE) == pytest.approx(22 * 0.1 + 2 * 0.5)


def test_the_meter_by_hand():
    with Meter() as meter:
        a = torch.zeros(4, 8)
        meter_peak = meter.peak
        b = a @ torch.zeros(8, 2)
        c = (b + 1).t().reshape(-1)
        del b, c
    assert meter_peak == 4 * 4 * 8 and meter.work.flops == {"fp32": 2 * 4 * 8 * 2}
    assert meter.alive == 4 * 4 * 8
    assert meter.peak >= 4 * (4 * 8 + 8 * 2 + 4 * 2)
    assert meter.work.kernels[Kernel("fp32", 2 * 4 * 8 * 2, 4 * (4 * 8 + 8 * 2 + 4 * 2))] == 1


def test_the_meter_sees_fused_attention():
    """The processor's fused kernel is counted as the plain products it stands for: two forward, four back."""
    q = nn.Parameter(torch.randn(1, 2, 64, 16))
    with Meter() as meter:
        nn.functional.scaled_dot_product_attention(q, q, q).sum().backward()
    assert meter.work.total == 6 * 2 * 2 * 64 * 64 * 16


def test_parts_and_their_ways_forward_and_back():
    """A layer of 5 x 7 weights for 3 inputs: one product forward, one for each gradient; the innermost part counts, and
    what autograd runs belongs to the part that asked for it."""
    x, layer = torch.ones(3, 5, requires_grad=True), nn.Linear(5, 7, bias=False)
    product = 2 * 3 * 5 * 7

    @part(ATTACK)
    def step():
        loss = layer(x).sum()
        with part(OPTIMIZER):
            torch.ones(2, 2) @ torch.ones(2, 2)
        torch.autograd.grad(loss, x, retain_graph=True)
        return loss

    def run():
        step().backward()

    expected = {
        Stage(ATTACK, False): product,
        Stage(OPTIMIZER, False): 16,
        Stage(ATTACK, True): product,
        Stage(OTHER, True): 2 * product,
    }
    assert count_stages(run)[0] == expected
    with Meter() as meter:
        run()
    assert {stage: work.total for stage, work in meter.stages.items() if work.total} == expected
    with pytest.raises(RuntimeError), part(ATTACK):
        raise RuntimeError
    assert next(iter(count_stages(lambda: torch.ones(2, 2) @ torch.ones(2, 2))[0])) == Stage(OTHER, False)
