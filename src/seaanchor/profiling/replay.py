"""The time of a step on this machine, from its kernels alone: each of them that differs in operator, shape, layout or
number type runs here a few times, on made-up numbers, and counts as often as the step runs it.

That is a small part of a step, as layers and attack steps repeat each other, and it needs no weights. It knows no kinds
of kernels and no rates, so that a depthwise convolution, a narrow layer and a fused optimizer are all as slow as they
are here.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from seaanchor.profiling.op_counter import FREE, Stage, current_stage

Clock = Callable[[], float]
TIMES = 2  # that a kernel runs in each of two ways, after a first time that does not count
# Namespaces of what computes: oneDNN has convolutions of its own.
KERNELS = ("aten", "mkldnn")
CACHES = 2**25  # bytes that displace whatever lies in a processor's caches


@dataclass(frozen=True)
class Like:
    """What the time of a kernel depends on in a tensor."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def made(self, device: torch.device) -> Tensor:
        """Such a tensor: numbers between 0 and 1, or indices of 0."""
        places = 1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))
        flat = torch.zeros(places if 0 not in self.shape else 0, dtype=self.dtype, device=device)
        return (flat.uniform_() if self.dtype.is_floating_point else flat).as_strided(self.shape, self.stride)


@dataclass(frozen=True)
class Call:
    """An operator with its arguments, the tensors among them as what they are like."""

    operator: Any
    leaves: tuple[Any, ...]
    structure: TreeSpec

    def ready(self, device: torch.device) -> Callable[[], object]:
        """The call with tensors made for it."""
        leaves = [leaf.made(device) if isinstance(leaf, Like) else leaf for leaf in self.leaves]
        args, kwargs = tree_unflatten(leaves, self.structure)
        return lambda: self.operator(*args, **kwargs)


class Recorder(TorchDispatchMode):
    """Writes down what runs inside, by stage of the step, views and what only makes room left out."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: defaultdict[Stage, Counter[Call]] = defaultdict(Counter)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace in KERNELS and not func.is_view and func not in FREE:
            leaves, structure = tree_flatten((args, kwargs or {}))
            self.calls[current_stage()][Call(func, tuple(map(_like, leaves)), structure)] += 1
        return func(*args, **(kwargs or {}))


def _like(leaf: Any) -> Any:
    return Like(tuple(leaf.shape), leaf.stride(), leaf.dtype) if isinstance(leaf, Tensor) else leaf


Calls = Mapping[Stage, Mapping[Call, int]]
"""How often each call runs, by stage of the step."""


@torch.no_grad()
def replayed(calls: Calls, device: torch.device, clock: Clock = time.perf_counter) -> dict[Stage, float]:
    """Seconds of every stage.

    What a kernel reads in a step is in part what the last one wrote, and in part weights and activations that have
    left the caches since. Each is therefore timed once with caches that hold its arguments and once with caches that
    do not, and is taken to need the mean.
    """
    other = torch.zeros(CACHES // 4, device=device)
    each = {call: _seconds(call, device, clock, other) for call in {call for some in calls.values() for call in some}}
    return {stage: sum(each[call] * count for call, count in some.items()) for stage, some in calls.items()}


def _seconds(call: Call, device: torch.device, clock: Clock, other: Tensor) -> float:
    """Of one run, the mean of the least ones in either way."""
    run = _willing(call, device)

    def timed() -> float:
        started = clock()
        run()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        return clock() - started

    cold, warm = [], []
    for _ in range(TIMES):
        other.add_(1)
        cold.append(timed())
        warm.append(timed())
    return (min(cold) + min(warm)) / 2


def _willing(call: Call, device: torch.device) -> Callable[[], object]:
    """The call, run once. Without contents, the statistics of a layer norm in bf16 are in bf16 as well; the kernel
    wants them in fp32, and so the whole call is."""
    try:
        run = call.ready(device)
        run()
    except RuntimeError:
        leaves = [replace(x, dtype=torch.float32) if isinstance(x, Like) and _is_half(x) else x for x in call.leaves]
        run = replace(call, leaves=tuple(leaves)).ready(device)
        run()
    return run


def _is_half(tensor: Like) -> bool:
    return tensor.dtype == torch.bfloat16
