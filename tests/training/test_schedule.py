"""The learning rate of every step."""

from types import SimpleNamespace

import pytest

from seaanchor.training.schedule import learning_rate


def test_learning_rate():
    config = SimpleNamespace(lr=2.0, warmup=4)
    rates = [learning_rate(config, step, 12) for step in range(12)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0] and rates[4] == 2.0
    assert rates[8] == pytest.approx(1.0) and rates[4:] == sorted(rates[4:], reverse=True) and 0 < rates[-1] < 0.1
    assert learning_rate(SimpleNamespace(lr=2.0, warmup=0), 0, 1) == 2.0
