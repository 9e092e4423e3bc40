"""Kernels that run again on made-up numbers: the same ones as in a real step, timed by a clock that counts."""

from dataclasses import replace
from itertools import count

import pytest
import torch
from torch import nn

from seaanchor.config.assemble import assemble
from seaanchor.config.recipes import dpo, fare, lore
from seaanchor.encoders.load import load_model
from seaanchor.profiling.cost_model import forward_calls, step_calls, step_cost
from seaanchor.profiling.op_counter import Stage
from seaanchor.profiling.replay import Like, Recorder, replayed
from seaanchor.utils.parts import ATTACK, part

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(2, 3, 4, 5),
        torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.randn(3, 5).t().bfloat16(),
        torch.randn(1, 4).expand(3, 4),
        torch.tensor([3, 4]),
        torch.tensor(2.0),
        torch.zeros(0, 3),
        torch.ones(4, dtype=torch.bool),
    ],
    ids=lambda tensor: f"{tuple(tensor.shape)} {tensor.dtype}",
)
def test_a_tensor_made_like_another(tensor):
    made = Like(tuple(tensor.shape), tensor.stride(), tensor.dtype).made(CPU)
    assert (made.shape, made.stride(), made.dtype) == (tensor.shape, tensor.stride(), tensor.dtype)
    assert bool((made >= 0).all()) and bool((made <= 1).all())


def ticking():
    """A clock that goes on by one second each time it is asked: whatever is timed takes one."""
    seconds = count()
    return lambda: float(next(seconds))


def test_every_kernel_counts_as_often_as_it_ran():
    """Two layers alike, forward and the gradient to the pixels: each kernel takes a second, and a view is none."""
    layer, x = nn.Linear(6, 6, bias=False).requires_grad_(False), torch.randn(3, 6, requires_grad=True)
    with Recorder() as recorder, part(ATTACK):
        layer(layer(x).relu().t().t()).backward(torch.ones(3, 6))
    forward, backward = recorder.calls[Stage(ATTACK, False)], recorder.calls[Stage(ATTACK, True)]
    names = {call.operator.name(): times for call, times in forward.items()}
    assert names["aten::mm"] == 2 and names["aten::relu"] == 1 and "aten::t" not in names
    assert {call.operator.name(): times for call, times in backward.items()}["aten::mm"] == 2
    found = replayed(recorder.calls, CPU, ticking())
    assert found == {stage: sum(calls.values()) for stage, calls in recorder.calls.items()}


@pytest.mark.skipif(not hasattr(torch.ops.mkldnn, "_convolution_pointwise"), reason="torch was built without oneDNN")
def test_convolutions_of_other_libraries_count_too():
    x, weight = torch.randn(1, 2, 4, 4), torch.randn(2, 2, 1, 1)
    with Recorder() as recorder, part(ATTACK):
        torch.ops.mkldnn._convolution_pointwise(x, weight, None, [0, 0], [1, 1], [1, 1], 1, "relu", [], "")
    assert [call.operator.name() for call in recorder.calls[Stage(ATTACK, False)]] == ["mkldnn::_convolution_pointwise"]
    assert sum(replayed(recorder.calls, CPU, ticking()).values()) == 1


@pytest.mark.parametrize(
    "recipe",
    [
        fare(),
        pytest.param(replace(lore(), precision="bf16"), marks=pytest.mark.exhaustive),
        pytest.param(dpo(), marks=pytest.mark.exhaustive),
    ],
    ids=["fare", "lore in bf16", "dpo"],
)
def test_all_kernels_of_a_step_run_again(clip_folder, recipe):
    """As many as the step's own count says, by stage, and none of them refuses the numbers that are made for it."""
    tower = load_model(str(clip_folder)).encoder
    recipe = replace(recipe, batch_size=4, perturbation=replace(recipe.perturbation, num_steps=2), primal_steps=2)
    method = assemble(recipe, tower.dim, ("a", "b"))
    calls, cost = step_calls(recipe, tower, method, 7, True), step_cost(recipe, tower, method, 7, True)
    assert {stage: sum(some.values()) for stage, some in calls.items()} == {
        stage: work.launches for stage, work in cost.stages.items()
    }
    assert all(seconds > 0 for seconds in replayed(calls, CPU).values())
    assert sum(replayed(forward_calls(recipe, tower, method), CPU, ticking()).values()) > 10


def test_more_images_take_longer(clip_folder):
    """Sixteen times the images, at least four times the time: a batch is not free."""
    tower = load_model(str(clip_folder)).encoder
    seconds = []
    for images in (64, 1024):
        recipe = replace(fare(), batch_size=images, perturbation=replace(fare().perturbation, num_steps=1))
        calls = forward_calls(recipe, tower, assemble(recipe, tower.dim))
        seconds.append(sum(replayed(calls, CPU).values()))
    assert seconds[1] > 4 * seconds[0] > 0
