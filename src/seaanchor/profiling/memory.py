"""Running out of memory: what a batch needs as a line over its images, what a device has, and the error that says how
many images would have fitted."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from seaanchor.errors import SeaAnchorError

SPARE = 0.1  # of the memory that images take: allocators round up and leave gaps
CONTEXT = 2**30  # bytes that a GPU's driver, its libraries and their workspaces keep for themselves
WORDS = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "alloc_failed",
    "bad_alloc",
    "not enough memory",
)


@dataclass(frozen=True)
class Footprint:
    """Bytes at the worst moment, as a line over the number of images.

    Attributes:
        fixed: there whatever the batch: weights, gradients, optimizer, reference.
        per_image: that each image adds.
    """

    fixed: float
    per_image: float

    def of(self, images: int) -> float:
        """Bytes for so many images, with what allocators waste."""
        return self.fixed + (1 + SPARE) * self.per_image * images

    def largest_batch(self, available: float) -> int:
        """The most images that so many bytes hold, 0 if not even one.

        >>> Footprint(fixed=100, per_image=10).largest_batch(188)
        8
        """
        return max(0, int((available - self.fixed) / ((1 + SPARE) * self.per_image) + 1e-9))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; devices and libraries each have their own."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in WORDS)


def available_bytes(device: torch.device) -> int:
    """Bytes that can still be had on a device; on a CPU, within the limits of the process and its container."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    import psutil  # type: ignore[import-untyped]

    rooms = [psutil.virtual_memory().available]
    with suppress(ImportError):  # Windows knows no such limits
        import resource

        used = psutil.Process().memory_info()
        for kind, taken in ((resource.RLIMIT_AS, used.vms), (resource.RLIMIT_DATA, getattr(used, "data", 0))):
            limit, _ = resource.getrlimit(kind)
            if limit != resource.RLIM_INFINITY:
                rooms.append(limit - taken)
    rooms += filter(None, [container_room(Path("/sys/fs/cgroup")), container_room(Path("/sys/fs/cgroup/memory"))])
    return max(0, min(rooms))


def container_room(folder: Path) -> int | None:
    """Bytes up to a container's limit, of cgroup version 2 or 1; None where there is none. What only caches files makes
    room when asked to."""
    for limit, used, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        top, now, more = folder / limit, folder / used, folder / "memory.stat"
        if not (top.is_file() and now.is_file() and (most := top.read_text().strip()).isdecimal()):
            continue
        stat = dict(line.split(maxsplit=1) for line in more.read_text().splitlines()) if more.is_file() else {}
        return max(1, int(most) - int(now.read_text()) + int(stat.get(cache, 0)))
    return None


@contextmanager
def told_when_full(
    batch: int, device: torch.device, held: int, footprint: Callable[[], Footprint | None], change: Callable[[int], str]
) -> Iterator[None]:
    """Running out of memory inside becomes one error that says which batch size would have fitted.

    Args:
        batch: images at once.
        device: whose memory counts.
        held: bytes of the footprint's fixed part that are on the device already.
        footprint: what a batch needs, if that is known; asked for only when memory has run out.
        change: the number of images that fit → what to do.

    Raises:
        SeaAnchorError: memory ran out.
    """
    room = available_bytes(device) + held
    try:
        yield
    except Exception as error:
        if isinstance(error, SeaAnchorError) or not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # what they hold would be in the way of finding out
        raise full(batch, device, room, _asked(footprint), error, change) from error


def full(
    batch: int,
    device: torch.device,
    room: float,
    need: Footprint | None,
    error: BaseException,
    change: Callable[[int], str],
) -> SeaAnchorError:
    """The error of a device that is full; without a footprint, half the batch is the best guess."""
    first = " ".join(str(error).split())[:160] or type(error).__name__
    found = f"{batch} images at once do not fit into the memory of {device}: {first}"
    if need is None:
        return SeaAnchorError(found, "a batch that fits", change(max(1, batch // 2)))
    expected = (
        f"about {gib(need.of(batch))}, {gib((1 + SPARE) * need.per_image)} of it for each image; "
        f"{gib(room)} could be had"
    )
    fits = need.largest_batch(room)
    if fits < 1:
        change_all = "take a smaller model or a larger device"
        return SeaAnchorError(
            found, expected, f"not one image fits beside the {gib(need.fixed)} of weights and optimizer: {change_all}"
        )
    return SeaAnchorError(found, expected, change(fits if fits < batch else max(1, batch // 2)))


def _asked(footprint: Callable[[], Footprint | None]) -> Footprint | None:
    try:
        return footprint()
    except Exception:  # memory is short, and advice must not hide what happened
        return None


def gib(size: float) -> str:
    """A size in words, such as `1.50 GiB`."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**28 else f"{size / 2**20:.1f} MiB"
