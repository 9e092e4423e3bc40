"""What runs, counted as it runs: operations, bytes moved, bytes alive. Work on two kinds of resource, which a machine's
two rates turn into time."""

import weakref
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from seaanchor.profiling.formulas import FORMULAS
from seaanchor.profiling.hardware import Machine

aten = torch.ops.aten
FREE = {
    aten.detach.default,
    aten.empty.memory_format,
    aten.empty_like.default,
    aten._unsafe_view.default,
    aten.lift_fresh.default,
}


@dataclass(frozen=True)
class Work:
    """What a machine has to do.

    Attributes:
        flops: operations of matrix products and convolutions, by `fp32` or `bf16`.
        moved: bytes that all other kernels read and write.
    """

    flops: dict[str, int]
    moved: int

    def seconds(self, machine: Machine, share: float = 1.0) -> float:
        """Where the machine reaches a share of its rates of arithmetic and of memory."""
        arithmetic = sum(count / machine.rate(precision) for precision, count in self.flops.items())
        return (arithmetic + self.moved / machine.bandwidth) / share

    @property
    def total(self) -> int:
        """Operations of all precisions."""
        return sum(self.flops.values())


class Meter(TorchDispatchMode):
    """Counts what runs inside: operations by precision, bytes moved by all other kernels, and bytes alive now and at
    most.

    Attributes:
        flops: operations of matrix products and convolutions, by `fp32` or `bf16`.
        moved: bytes that the other kernels read and write.
        alive, peak: bytes of the tensors made inside (or shown to `see`), now and at most.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops: Counter[str] = Counter()
        self.moved = self.alive = self.peak = 0
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
    def work(self) -> Work:
        """What was counted."""
        return Work(dict(self.flops), self.moved)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = [x for x in tree_iter((args, kwargs)) if isinstance(x, Tensor)]
        outputs = [x for x in tree_iter(result) if isinstance(x, Tensor)]
        for tensor in outputs:
            self.see(tensor)
        if func._overloadpacket in FORMULAS:
            precision = "bf16" if any(x.dtype == torch.bfloat16 for x in inputs) else "fp32"
            self.flops[precision] += FORMULAS[func._overloadpacket](*args, **(kwargs or {}), out_val=result)
        elif func.namespace == "aten" and not func.is_view and func not in FREE:
            self.moved += sum(map(_bytes, inputs)) + sum(map(_bytes, outputs))
        return result


def _bytes(tensor: Tensor) -> int:
    """What a kernel touches of a tensor: an expanded one is read from the few bytes that it has."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
