"""A step in slices on GPUs that are elsewhere: how many images of a batch fit at once, and what they take."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from seaanchor.config.schema import RunConfig
from seaanchor.errors import SeaAnchorError
from seaanchor.profiling.cost_model import Cost
from seaanchor.profiling.fitting import beside_waiting
from seaanchor.profiling.hardware import GPUS, Machine
from seaanchor.profiling.memory import Footprint, gib
from seaanchor.profiling.smaller import smaller_image


@dataclass(frozen=True)
class PlannedSlices:
    """How a run takes its batches on one GPU, by the rule of `fitting.fitted`.

    Attributes:
        size: images at once; the batch where it is left whole, 0 if not even one fits.
        bytes: at the worst moment, of one image where none fits; with what driver and allocator take.
        largest: the most images at once that fit in slices, 0 if not even one.
        whole: whether a batch is not taken apart.
        chosen: whether the run finds the size by itself.
        need: of a slice, with the images that wait.
        image_size: side in pixels.
    """

    size: int
    bytes: float
    largest: int
    whole: bool
    chosen: bool
    need: Footprint
    image_size: int


def planned_slices(
    config: RunConfig, cost: Cost, image_size: int, gpu: Machine, world: int, beside: float
) -> PlannedSlices | None:
    """Slices of a run; None for a linear map, which trains on stored embeddings.

    Args:
        config: of the run.
        cost: of its step on whole batches.
        image_size: side in pixels.
        gpu: of each process.
        world: processes.
        beside: bytes on the GPU for other things than the step.
    """
    if config.adapter.kind == "linear":
        return None
    batch, room = config.batch_size, gpu.memory - beside
    whole = beside_waiting(cost.memory, config, image_size)
    # all slices but the first find the gradients of those before
    grown = replace(cost.memory, fixed=cost.memory.fixed + 4 * cost.trained)
    need = beside_waiting(grown, config, image_size)
    largest, by_hand = min(batch, need.largest_batch(room)), config.shard and world > 1
    size = largest if config.slice_size is None else min(batch, config.slice_size)
    if config.slice_size is None and (by_hand or whole.largest_batch(room) >= batch):
        size = batch
    taken = whole.of(batch) if size == batch else need.of(max(1, size))
    chosen = config.slice_size is None and not by_hand
    return PlannedSlices(size, taken + beside, largest, size == batch, chosen, need, image_size)


def in_words(slices: PlannedSlices, gpu: Machine, largest_batch: int) -> str | None:
    """For the plan; None where no slice of the batch fits."""
    if slices.size and slices.bytes <= gpu.memory:
        if slices.whole:
            return f"yes, the whole batch at once; up to --batch-size {largest_batch:,}"
        itself = "chosen by itself, " if slices.chosen else ""
        return (
            f"yes, in slices: --slice-size {slices.size}, {itself}takes {gib(slices.bytes)} of {gib(gpu.memory)} and "
            f"makes the same updates; at once up to --batch-size {largest_batch:,}"
        )
    if slices.largest:
        return (
            f"no: {slices.size} images at once take {gib(slices.bytes)} of {gib(gpu.memory)}; "
            f"--slice-size {slices.largest} fits and makes the same updates"
        )
    return None


def does_not_fit_on(slices: PlannedSlices, gpu: Machine, room: float) -> SeaAnchorError:
    """The error of a step that does not fit on a GPU even with one image at a time, in `room` bytes of it."""
    one = slices.need.of(1)
    return SeaAnchorError(
        f"a step does not fit on {gpu.name}, even with one image at a time",
        f"about {gib(one)}: {gib(slices.need.fixed)} of weights, gradients, optimizer and waiting images and "
        f"{gib(one - slices.need.fixed)} for the image, of {slices.image_size} px; {gib(room)} of {gib(gpu.memory)} "
        "are left for it",
        f"what would fit: {'; '.join(_larger(slices, gpu, one - room, room))}",
    )


def _larger(slices: PlannedSlices, gpu: Machine, missing: float, room: float) -> Iterator[str]:
    """A smaller image, and the smallest GPU that holds one."""
    if (smaller := smaller_image(slices.image_size, slices.need, room)) is not None:
        yield smaller
    wide = sorted((other.memory, other.name) for other in GPUS if other.memory >= gpu.memory + missing)
    yield f"a GPU of {gib(gpu.memory + missing)} or more" + (f", such as {wide[0][1]}" if wide else "")
    yield "a smaller model"
