"""How many images of a batch go through the tower at once, where the settings leave that open: all where they fit and
nothing is gained by less, else as many as fit.

Legend: B batch, C channels, H W pixels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from seaanchor.config.schema import RunConfig
from seaanchor.data.reading import AHEAD
from seaanchor.distributed.process_group import ProcessGroup
from seaanchor.errors import SeaAnchorError
from seaanchor.profiling.flops import forward_flops
from seaanchor.profiling.memory import SPARE, Footprint, available_bytes, gib
from seaanchor.profiling.memory_advice import footprint_of, held_bytes, in_slices
from seaanchor.profiling.smaller import does_not_fit
from seaanchor.training.precision import training_forward, training_kernels
from seaanchor.training.setup import Setup, batch_split
from seaanchor.training.state import TrainState
from seaanchor.utils.log import log

ROUGH = 1.5  # a rough look that finds room for so many times what it sees is enough
PIXELS = 8  # copies of its pixels that a step makes of each image: perturbed, gradient, direction and so on
RECOMPUTED = 3  # times what recomputed activations leave between blocks: what a block itself needs is not seen
ROWS = 400  # of the matrices of a slice, for each thread: with fewer, adding gradients up begins to cost time
# Of what a processor's memory has left: its convolutions copy their operands to other layouts, which is not counted. A
# step on the embedded tower grew by 2.2 MB for each image, of which 1.2 were counted.
FILLED = 0.5
LARGE = 2**30  # bytes of activations from which on a processor takes slices although there is room

Available = Callable[[torch.device], int]


@dataclass(frozen=True)
class Look:
    """What a forward of one image in training shows.

    Attributes:
        saved: bytes that it keeps for its backward.
        draws: whether layers draw numbers, as dropout does: other ones in slices.
    """

    saved: int
    draws: bool


def fitted(setup: Setup, state: TrainState, group: ProcessGroup, available: Available = available_bytes) -> RunConfig:
    """The settings with a slice size where it is left open and less than a batch is better.

    A step in slices is the same step. On a processor, slices cost no time as long as their matrices are large, and are
    taken where activations are; elsewhere, and further than that, where memory is short. Layers that draw would draw
    otherwise, and batches are left whole for their sake, with a word where memory is short.

    Args:
        setup: of the run, its settings as the device runs them.
        state: as it lies on the device.
        group: the processes of the run, which all take the same size.
        available: bytes that can be had on a device.

    Raises:
        SeaAnchorError: not even one image fits, in this process or in another.
    """
    asked, split = setup.config, batch_split(setup.config, len(setup.images.paths), group.world)
    if asked.slice_size is not None or setup.table is not None or (asked.shard and group.world > 1):
        return asked
    config = replace(asked, batch_size=split.largest_batch)
    setup = replace(setup, config=config)
    look, together = look_at(setup), (2 if setup.method.needs.clean else 1) * config.batch_size
    size = config.batch_size

    def room() -> float:
        if setup.device.type != "cpu":
            return available(setup.device)
        ahead = AHEAD * config.batch_size * 12 * setup.model.encoder.image_size**2  # images that are read meanwhile
        return available(setup.device) / group.world - ahead  # one memory holds all processes

    pixels = PIXELS * 12 * setup.model.encoder.image_size**2
    error = None
    if ROUGH * (together * look.saved + config.batch_size * pixels + _to_come(state)) > _filled(setup) * room():
        try:
            size = _that_fits(setup, state, group.world, look, room)
        except SeaAnchorError as own:
            error = own
    if not look.draws and together * look.saved > LARGE:
        size = min(size, fast_on_processor(setup))
    size = min(_of_all(group, size, error), config.batch_size)
    if size == config.batch_size:
        return asked
    less = (config.batch_size - size) * together // config.batch_size * look.saved
    log.info(f"  slices     {size} of {config.batch_size} images at once: the same steps in {gib(less)} less")
    return replace(asked, slice_size=size)


def _of_all(group: ProcessGroup, size: int, error: SeaAnchorError | None) -> int:
    """The smallest size of all processes; the first error of any of them is raised in all."""
    words = None if error is None else (error.found, error.expected, error.change)
    found = group.gather((size, words))
    said = next((words for _, words in found if words is not None), None)
    smallest, said = group.agree((min((size for size, _ in found), default=size), said))
    if said is not None:
        raise SeaAnchorError(*said)
    return smallest


def look_at(setup: Setup) -> Look:
    """One image, and two, through the policy as updates see it; weights and random numbers are as before."""
    device, saved = setup.device, []
    encode = training_forward(setup.policy, setup.config.precision)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.enable_grad():
        before = _random_state(device)
        for images in (1, 2):
            side = setup.model.encoder.image_size
            pixels_BCHW = torch.rand(images, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
            with training_kernels(setup.policy, setup.config):
                saved.append(_saved_bytes(lambda pixels=pixels_BCHW: encode(pixels)))  # type: ignore[misc]
        draws = not torch.equal(before, _random_state(device))
    bytes_ = saved[1] - saved[0]  # without what does not grow with the images, such as weights cast to bf16
    return Look(bytes_ * (RECOMPUTED if setup.config.checkpoint_activations else 1), draws)


def fast_on_processor(setup: Setup) -> int:
    """The fewest images of which a slice costs no time on a processor; a batch elsewhere, and where that is not known:
    in bf16, whose weights are cast anew for each slice, and for objectives that read a batch as a whole."""
    config, encoder = setup.config, setup.model.encoder
    own = type(setup.method.objective).__module__.startswith("seaanchor.")
    apart = own and not hasattr(setup.method.objective, "baseline")
    if setup.device.type != "cpu" or config.precision != "fp32" or config.checkpoint_activations or not apart:
        return config.batch_size
    weights = sum(p.numel() for p in encoder.parameters())
    rows = forward_flops(encoder, encoder.image_size) / (2 * weights)  # on average, of one image
    images = ROWS * torch.get_num_threads() / rows
    return max(1, math.ceil(images / (2 if setup.method.needs.clean else 1)))


def _that_fits(setup: Setup, state: TrainState, world: int, look: Look, left: Callable[[], float]) -> int:
    """The most images at once that fit, a batch at most.

    Args:
        left: bytes that can still be had, asked for after the step was looked at: torch starts threads for that, which
            take addresses.

    Raises:
        SeaAnchorError: not even one does.
    """
    config, side = setup.config, setup.model.encoder.image_size
    whole = footprint_of(setup, config, world)
    room = left() + held_bytes(setup, state)
    careful = _filled(setup) * room
    if whole is None or largest_slice(whole, config, side, careful) >= config.batch_size:
        return config.batch_size  # where it is not known, running out will tell
    sliced = in_slices(whole, state)
    if largest_slice(sliced, config, side, room) < 1:
        raise does_not_fit(setup, sliced, world, room)
    fits = max(1, largest_slice(sliced, config, side, careful))
    if look.draws:
        log.warning(
            f"a batch needs about {gib(whole.of(config.batch_size))} and {gib(room)} can be had; layers of this tower "
            f"draw random numbers, others in slices, so it is left whole: --slice-size {fits} fits"
        )
        return config.batch_size
    return fits


def largest_slice(need: Footprint, config: RunConfig, image_size: int, room: float) -> int:
    """The most images at once for which a step fits, 0 if not even one.

    >>> from seaanchor.profiling.memory import Footprint
    >>> largest_slice(Footprint(0, 1e9), RunConfig(batch_size=8), 224, 4.5e9)
    4
    """
    return beside_waiting(need, config, image_size).largest_batch(room)


def beside_waiting(need: Footprint, config: RunConfig, image_size: int) -> Footprint:
    """The same by the images at once, where the other images of a step wait with their pixels, clean and perturbed."""
    pixels = 2 * 3 * 4 * image_size**2
    waiting = pixels * config.batch_size * config.grad_accumulation
    return Footprint(need.fixed + waiting, max(need.per_image - pixels / (1 + SPARE), 1))


def _filled(setup: Setup) -> float:
    return FILLED if setup.device.type == "cpu" else 1


def _to_come(state: TrainState) -> int:
    """Bytes of gradients and moments that a step will allocate."""
    trained = [p for group in state.optimizer.param_groups for p in group["params"]]
    there = sum(v.nbytes for values in state.optimizer.state.values() for v in values.values() if torch.is_tensor(v))
    return 3 * sum(p.nbytes for p in trained) - there


def _saved_bytes(run: Callable[[], Tensor]) -> int:
    sizes: dict[int, int] = {}
    kept = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)  # so that no other takes its place in memory
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    return sum(sizes.values())


def _random_state(device: torch.device) -> Tensor:
    states = [torch.random.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])
    return torch.cat(states)
