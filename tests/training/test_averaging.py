"""Weight averages against sums written out, and against torch's density."""

import pytest
import torch
from torch import nn

from seaanchor.training.averaging import WeightAverage, beta_weight


def path(total):
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(3, dtype=torch.float64, generator=rng).float() for _ in range(total + 1)]


def test_beta_weights_are_torchs_density():
    density = torch.distributions.Beta(torch.tensor(0.7, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64))
    for i in range(8):
        x = torch.tensor((i + 0.5) / 8, dtype=torch.float64)
        assert beta_weight(i, 7) == pytest.approx(density.log_prob(x).exp().item(), rel=1e-9)


def test_beta_average_is_the_weighted_mean_of_all_points():
    points = path(9)
    parameter = nn.Parameter(points[0].clone())
    average = WeightAverage([parameter], 9)
    for point in points[1:]:
        parameter.data.copy_(point)
        average.update()
    weights = torch.tensor([((i + 0.5) / 10 * (1 - (i + 0.5) / 10)) ** -0.3 for i in range(10)])
    expected = (weights[:, None] * torch.stack(points)).sum(0) / weights.sum()
    assert torch.allclose(average.mean[0], expected, atol=1e-6)


def test_ema_by_hand():
    parameter = nn.Parameter(torch.zeros(1))
    average = WeightAverage([parameter], 2, "ema", decay=0.9)
    for value in (1.0, 2.0):
        parameter.data.fill_(value)
        average.update()
    assert average.mean[0].item() == pytest.approx(0.9 * 0.1 * 1 + 0.1 * 2)


def test_swap_twice_restores():
    parameter = nn.Parameter(torch.tensor([1.0]))
    average = WeightAverage([parameter], 4)
    parameter.data.fill_(3.0)
    average.update()
    mean = average.mean[0].clone()
    average.swap()
    assert torch.equal(parameter.data, mean) and average.mean[0].item() == 3.0
    average.swap()
    assert parameter.item() == 3.0 and torch.equal(average.mean[0], mean)


def test_resumed_average_is_the_same():
    points = path(6)
    parameter = nn.Parameter(points[0].clone())
    whole = WeightAverage([parameter], 6)
    for point in points[1:4]:
        parameter.data.copy_(point)
        whole.update()
    resumed = WeightAverage([nn.Parameter(points[3].clone())], 6)
    resumed.load_state_dict({k: (list(v) if isinstance(v, list) else v) for k, v in whole.state_dict().items()})
    for point in points[4:]:
        for average in (whole, resumed):
            average.parameters[0].data.copy_(point)
            average.update()
    assert torch.equal(whole.mean[0], resumed.mean[0])


@pytest.mark.parametrize(("share", "count"), [(0.3, 3), (0.25, 3), (1.0, 9), (0.01, 1)])
def test_a_tail_average_is_the_mean_of_the_last_points(share, count):
    points = path(9)
    parameter = nn.Parameter(points[0].clone())
    average = WeightAverage([parameter], 9, "tail", share=share)
    for number, point in enumerate(points[1:], 1):
        parameter.data.copy_(point)
        average.update()
        if number <= 9 - count:
            assert torch.equal(average.mean[0], point)  # before it, the weights themselves
    assert torch.allclose(average.mean[0], torch.stack(points[-count:]).mean(0), atol=1e-6)
