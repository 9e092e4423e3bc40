"""Random numbers that belong to an image: a function of a key and of the image's number in its data set alone. They are
the same in any batch, on any number of processes and on any device, and cost no look from the device to the host.

Legend: B batch, N numbers of each image.
"""

import math

import torch
from torch import Tensor

GOLDEN = (
    0x9E3779B97F4A7C15 - 2**64
)  # increment and multipliers of SplitMix64 (Steele, Lea, Flood 2014), as signed numbers
FIRST, SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64

CHUNK = (2**24, 2**15)  # integers at once: to save a device's memory, and to stay in a processor's cache


def next_key(rng: torch.Generator) -> int:
    """A key in [0, 2⁶²), the next number of a generator; it is the same in all processes that seeded theirs alike.

    Args:
        rng: as a perturbation is given it.
    """
    return int(torch.randint(2**62, (), generator=rng, device=rng.device))


def bits(key: int, index_B: Tensor, numbers: int = 1) -> Tensor:
    """Integers (B, N) in [0, 2⁶³): for each image the SplitMix64 sequence that (key, image) seeds."""
    seed_B = _mix(index_B.long() * GOLDEN + key)
    counter_N = torch.arange(1, numbers + 1, device=index_B.device) * GOLDEN
    return _shifted(_mix(seed_B[:, None] + counter_N), 1)


def uniform(key: int, index_B: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Numbers (B, *shape) in (0, 1), odd multiples of 2⁻²⁴, of each image its own.

    Args:
        key: from `next_key`.
        index_B: numbers of the images in their data set, as `Batch.index_B`.
        shape: of what each image gets.
    """
    numbers = math.prod(shape)
    pairs = (numbers + 1) // 2
    parts = []
    for some_B in index_B.split(max(1, CHUNK[index_B.device.type == "cpu"] // pairs)):
        whole_BN = bits(key, some_B, pairs)
        parts.append(torch.cat([whole_BN >> 40, (whole_BN >> 17) & (2**23 - 1)], 1)[:, :numbers].float())
    return torch.cat(parts).add_(0.5).div_(2**23).view(len(index_B), *shape)


def normal(key: int, index_B: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers (B, *shape), by the inverse of the distribution function, of each image its own.

    Args:
        key, index_B, shape: as for `uniform`.
    """
    return math.sqrt(2) * torch.erfinv(2 * uniform(key, index_B, shape) - 1)


def _mix(z: Tensor) -> Tensor:
    z = _shifted(z, 30).bitwise_xor_(z).mul_(FIRST)
    z = _shifted(z, 27).bitwise_xor_(z).mul_(SECOND)
    return _shifted(z, 31).bitwise_xor_(z)


def _shifted(z: Tensor, places: int) -> Tensor:
    """To the right with zeros from the left; torch's own shift repeats the sign."""
    return (z >> places).bitwise_and_(2 ** (64 - places) - 1)
