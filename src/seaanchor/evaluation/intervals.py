"""Proportions with their uncertainty."""

import math
from collections.abc import Sequence

from torch import Tensor


def interval(correct: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """95 % Wilson score interval of a proportion (Wilson 1927)."""
    if total == 0:
        return 0.0, 1.0
    p, zz = correct / total, z * z
    middle = (p + zz / (2 * total)) / (1 + zz / total)
    half = z / (1 + zz / total) * math.sqrt(p * (1 - p) / total + zz / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def proportion(hits: Tensor | Sequence[bool]) -> dict[str, float]:
    """Share of true values with its 95 % interval and n."""
    hit, total = int(hits.sum() if isinstance(hits, Tensor) else sum(hits)), len(hits)
    low, high = interval(hit, total)
    return {"accuracy": hit / total if total else 0.0, "low": low, "high": high, "n": total}
