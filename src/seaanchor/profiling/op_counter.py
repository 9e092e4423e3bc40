"""What runs, counted as it runs: operations and bytes, by part of the step. Work on two kinds of resource, which a
machine's two rates turn into time."""

import weakref
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from seaanchor.profiling.formulas import FORMULAS
from seaanchor.profiling.hardware import Machine
from seaanchor.utils.parts import current_part

aten = torch.ops.aten
FREE = {
    aten.detach.default,
    aten.empty.memory_format,
    aten.empty_like.default,
    aten._unsafe_view.default,
    aten.lift_fresh.default,
}


@dataclass(frozen=True)
class Stage:
    """Where in a step an operator runs: in which part (`seaanchor.utils.parts`), and on the way forward or back."""

    part: str
    backward: bool


def current_stage() -> Stage:
    """The stage that runs now; autograd knows whether it is on its way back."""
    return Stage(current_part(), torch._C._current_autograd_node() is not None)


@dataclass(frozen=True)
class Kernel:
    """What one kernel asks of a machine.

    Attributes:
        precision: of its arithmetic, `fp32` or `bf16`.
        flops: operations of matrix products and convolutions; 0 of everything else.
        moved: bytes read and written.
    """

    precision: str
    flops: int
    moved: int


@dataclass(frozen=True)
class Work:
    """What a machine has to do: kernels, each with how often it runs."""

    kernels: Mapping[Kernel, int]

    @classmethod
    def sum(cls, works: Iterable[tuple["Work", int]]) -> "Work":
        """Works one after the other, each a number of times."""
        total: Counter[Kernel] = Counter()
        for work, times in works:
            for kernel, count in work.kernels.items():
                total[kernel] += count * times
        return cls(dict(total))

    def seconds(self, machine: Machine, share: float = 1.0) -> float:
        """Where the machine reaches a share of its rates of arithmetic and of memory: each kernel waits for the slower
        of the two, as a depthwise convolution does for memory."""
        return sum(count * _seconds(kernel, machine) for kernel, count in self.kernels.items()) / share

    @property
    def flops(self) -> dict[str, int]:
        """Operations of matrix products and convolutions, by `fp32` or `bf16`."""
        found: Counter[str] = Counter()
        for kernel, count in self.kernels.items():
            if kernel.flops:
                found[kernel.precision] += kernel.flops * count
        return dict(found)

    @property
    def total(self) -> int:
        """Operations of all precisions."""
        return sum(self.flops.values())

    @property
    def moved(self) -> int:
        """Bytes that all other kernels read and write."""
        return sum(kernel.moved * count for kernel, count in self.kernels.items() if not kernel.flops)

    @property
    def launches(self) -> int:
        """How many kernels run."""
        return sum(self.kernels.values())


def _seconds(kernel: Kernel, machine: Machine) -> float:
    return max(kernel.flops / machine.rate(kernel.precision), kernel.moved / machine.bandwidth)


class OperationCounter(TorchDispatchMode):
    """Operations of matrix products and convolutions, by stage. torch's FlopCounterMode also tells modules apart, by
    hooks that `torch.autograd.grad` refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.flops: Counter[Stage] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func._overloadpacket in FORMULAS:
            self.flops[current_stage()] += FORMULAS[func._overloadpacket](*args, **(kwargs or {}), out_val=result)
        return result


class Meter(TorchDispatchMode):
    """Counts what runs inside: kernels by stage of the step, and bytes alive now and at most.

    Attributes:
        kernels: what ran, by stage.
        alive, peak: bytes of the tensors made inside (or shown to `see`), now and at most.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kernels: defaultdict[Stage, Counter[Kernel]] = defaultdict(Counter)
        self.alive = self.peak = 0
        self._sizes: dict[int, int] = {}

    def see(self, tensor: Tensor) -> None:
        """Take a tensor's memory into account until it is freed."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.alive += self._sizes[key]
            self.peak = max(self.peak, self.alive)
            weakref.finalize(storage, self._freed, key)

    def _freed(self, key: int) -> None:
        self.alive -= self._sizes.pop(key)

    @property
    def stages(self) -> dict[Stage, Work]:
        """What was counted, by stage."""
        return {stage: Work(dict(kernels)) for stage, kernels in self.kernels.items()}

    @property
    def work(self) -> Work:
        """All that was counted."""
        return Work.sum((work, 1) for work in self.stages.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = [x for x in tree_iter((args, kwargs)) if isinstance(x, Tensor)]
        outputs = [x for x in tree_iter(result) if isinstance(x, Tensor)]
        for tensor in outputs:
            self.see(tensor)
        formula = FORMULAS.get(func._overloadpacket)
        if formula is not None or (func.namespace == "aten" and not func.is_view and func not in FREE):
            flops = 0 if formula is None else formula(*args, **(kwargs or {}), out_val=result)
            precision = "bf16" if flops and any(x.dtype == torch.bfloat16 for x in inputs) else "fp32"
            moved = sum(map(_bytes, inputs)) + sum(map(_bytes, outputs))
            self.kernels[current_stage()][Kernel(precision, flops, moved)] += 1
        return result


def _bytes(tensor: Tensor) -> int:
    """What a kernel touches of a tensor: an expanded one is read from the few bytes that it has."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
