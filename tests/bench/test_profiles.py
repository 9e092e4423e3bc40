"""Profiles: each kernel belongs to one kind, and the shares of a step add up."""

import pytest
import torch
from torch import nn

from bench.profiles import kind_of, shares


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aten::mm", "matrix products"),
        ("aten::addmm", "matrix products"),
        ("aten::mkldnn_convolution", "convolutions"),
        ("aten::convolution_backward", "convolutions"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", "attention"),
        ("aten::gelu_backward", "activations"),
        ("aten::native_layer_norm", "normalisation"),
        ("aten::copy_", "copies"),
        ("aten::add", "other"),
    ],
)
def test_a_kernel_belongs_to_one_kind(name, kind):
    assert kind_of(name) == kind


def test_the_shares_of_a_step_add_up_and_name_what_it_does():
    layer, x = nn.Linear(256, 256), torch.randn(256, 256)
    seconds, found = shares(lambda: layer(x))
    assert seconds > 0 and abs(sum(found.values()) - 1) < 1e-9
    assert found["matrix products"] > 0.5 and found["convolutions"] == 0
