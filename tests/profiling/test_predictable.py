"""Costs of towers that keep tensors or read their values."""

import pytest
import torch
from torch import nn

from seaanchor.config.assemble import method_of
from seaanchor.config.recipes import lore
from seaanchor.encoders.encoder import Encoder
from seaanchor.errors import SeaAnchorError
from seaanchor.profiling.cost_model import attack_memory, step_cost
from seaanchor.profiling.memory_advice import evaluation_advice
from seaanchor.testing.rules import SIZE, small_encoder
from seaanchor.types import BindContext


class Keeps(nn.Module):
    """Adds positions that it keeps outside of its state, or reads a value of the image."""

    def __init__(self, reads: bool) -> None:
        super().__init__()
        self.tower, self.reads = small_encoder(), reads

    def forward(self, pixels_BCHW):
        if self.reads and not bool(pixels_BCHW.isfinite().all()):
            raise ValueError("not finite")
        return self.tower(pixels_BCHW) + _POSITIONS


_POSITIONS = torch.arange(8.0)


def predict(encoder: Encoder) -> float:
    method = method_of(lore()).bind(BindContext(encoder.dim, image_size=SIZE))
    return step_cost(lore(), encoder, method, 2, False).passes


def test_a_tower_that_keeps_tensors_is_predicted():
    encoder, plain = Encoder(Keeps(False), SIZE), Encoder(small_encoder(), SIZE)
    assert predict(encoder) == predict(plain) > 0
    assert attack_memory(encoder, 3).per_image > 0


def test_a_tower_that_reads_values_is_refused():
    encoder = Encoder(Keeps(True), SIZE)
    for run in (lambda: predict(encoder), lambda: attack_memory(encoder, 3)):
        with pytest.raises(SeaAnchorError, match="its forward reads values of tensors"):
            run()


def test_advice_on_memory_does_not_hide_the_error_that_it_is_about():
    encoder = Encoder(Keeps(True), SIZE)
    with (
        pytest.raises((SeaAnchorError, torch.OutOfMemoryError), match="memory") as raised,
        evaluation_advice(encoder, 3, 8, torch.device("cpu")),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert "reads values" not in str(raised.value)
