"""Bytes that the autograd graph holds: the largest amount alive at once while something runs.

What counts is every tensor saved for a backward pass, by storage, so that two views of one tensor count once;
parameters, buffers and inputs that exist anyway do not count. A storage is alive as long as a graph holds it. What a
kernel needs for itself meanwhile is not seen.
"""

from collections import Counter
from collections.abc import Callable, Iterable

import torch
from torch import Tensor


class _Held:
    """A saved tensor; its storage is counted from here until the graph lets go."""

    def __init__(self, tensor: Tensor, ledger: "Ledger") -> None:
        self.tensor, self.ledger = tensor, ledger
        storage = tensor.untyped_storage()
        self.key, size = storage.data_ptr(), storage.nbytes()
        if self.key in ledger.known:
            size = 0
        if ledger.holders[self.key] == 0:
            ledger.sizes[self.key] = size
            ledger.now += size
            ledger.peak = max(ledger.peak, ledger.now)
        ledger.holders[self.key] += 1

    def __del__(self) -> None:
        self.ledger.holders[self.key] -= 1
        if self.ledger.holders[self.key] == 0:
            self.ledger.now -= self.ledger.sizes.pop(self.key)


class Ledger:
    """Bytes alive now and at most, and who holds which storage."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        self.known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self.holders: Counter[int] = Counter()
        self.sizes: dict[int, int] = {}
        self.now = self.peak = 0


def saved_bytes(run: Callable[[], object], known: Iterable[Tensor]) -> int:
    """Run something and return the peak of the bytes its graphs hold, without the `known` tensors (weights, buffers,
    inputs)."""
    ledger = Ledger(known)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: _Held(tensor, ledger), lambda held: held.tensor):
        run()
    return ledger.peak
