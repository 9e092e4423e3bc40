"""The meter against numbers worked out by hand."""

import torch
from torch import nn

from seaanchor.profiling.hardware import Machine
from seaanchor.profiling.op_counter import Meter, Work


def test_seconds_by_hand():
    machine = Machine("hand", fp32=100.0, bf16=400.0, bandwidth=10.0, memory=1.0, source="made up")
    work = Work({"fp32": 200, "bf16": 400}, moved=20)
    assert work.seconds(machine) == 2 + 1 + 2 and work.seconds(machine, 0.5) == 10 and work.total == 600


def test_the_meter_by_hand():
    with Meter() as meter:
        a = torch.zeros(4, 8)
        meter_peak = meter.peak
        b = a @ torch.zeros(8, 2)
        c = (b + 1).t().reshape(-1)
        del b, c
    assert meter_peak == 4 * 4 * 8 and meter.flops == {"fp32": 2 * 4 * 8 * 2}
    assert meter.alive == 4 * 4 * 8
    assert meter.peak >= 4 * (4 * 8 + 8 * 2 + 4 * 2)


def test_the_meter_sees_fused_attention():
    """The processor's fused kernel is counted as the plain products it stands for, give or take the recomputation of
    its backward."""
    q = nn.Parameter(torch.randn(1, 2, 64, 16))
    with Meter() as meter:
        nn.functional.scaled_dot_product_attention(q, q, q).sum().backward()
    product = 2 * 2 * 64 * 64 * 16
    assert 6 * product <= meter.flops["fp32"] <= 7 * product
