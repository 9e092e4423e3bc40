"""What training, its rehearsal and evaluation say when memory runs out: a batch size that fits, and what is kept."""

from contextlib import AbstractContextManager
from typing import cast

import torch
from torch import Tensor, nn

from seaanchor.encoders.encoder import Encoder, Reference
from seaanchor.errors import SeaAnchorError
from seaanchor.profiling.cost_model import attack_memory, step_memory
from seaanchor.profiling.memory import Footprint, told_when_full
from seaanchor.training.batches import caches_reference
from seaanchor.training.run_folder import RunFolder
from seaanchor.training.setup import Setup
from seaanchor.training.state import TrainState
from seaanchor.types import needs_of


def training_advice(
    setup: Setup, state: TrainState, world: int, folder: RunFolder | None = None
) -> AbstractContextManager[None]:
    """Running out of memory inside becomes one error with settings that fit and give the same updates.

    Args:
        setup: of the run.
        state: as it lies on the device.
        world: processes.
        folder: of the run; None in a rehearsal, which has nothing to go on from.
    """
    config = setup.config
    cached = setup.table is not None or caches_reference(setup, world)
    whole = needs_of(setup.method.adapter).whole_tower or not isinstance(setup.reference, Reference)
    untouched = setup.model.encoder if whole else cast(Reference, setup.reference).encoder  # before updates went in

    def footprint() -> Footprint | None:
        if config.shard and world > 1:
            return None  # the cost model knows no sharded weights
        classes = len(setup.head.weight_CD) if setup.head is not None else 1
        try:
            return step_memory(config, untouched, setup.method, classes, cached)
        except SeaAnchorError:
            return None  # nor the passes of an attack of the user's own

    def change(fits: int) -> str:
        size, parts = split(config.batch_size, config.grad_accumulation, fits)
        settings = f"--batch-size {size} --grad-accumulation {parts} fits and makes the same updates"
        if folder is None:
            return settings
        saved = folder.checkpoints()
        return (
            f"{settings}; go on with --resume auto from "
            f"{saved[-1] if saved else 'the start: no checkpoint was due yet'}"
        )

    modules = [setup.policy, setup.reference, *([state.dual] if state.dual is not None else [])]
    optimizers = [optimizer for optimizer in (state.optimizer, state.dual_optimizer) if optimizer is not None]
    states = [
        value
        for optimizer in optimizers
        for values in optimizer.state.values()
        for value in values.values()
        if isinstance(value, Tensor)
    ]
    held = sum(map(_weight, modules)) + sum(
        tensor.nbytes for tensor in [*states, *(state.average.mean if state.average is not None else [])]
    )
    return told_when_full(config.batch_size, setup.device, held, footprint, change)


def evaluation_advice(
    encoder: Encoder, classes: int, batch_size: int, device: torch.device
) -> AbstractContextManager[None]:
    """The same for an evaluation, whose attacks need most."""
    held = _weight(encoder) if next(encoder.parameters()).device.type == device.type else 0

    def footprint() -> Footprint | None:
        try:
            return attack_memory(encoder, classes)
        except SeaAnchorError:
            return None  # its forward reads values

    change = "--batch-size {} fits; results do not depend on it, but for rounding, and what was found so far is kept"
    return told_when_full(batch_size, device, held, footprint, lambda fits: change.format(fits))


def split(batch_size: int, parts: int, fits: int) -> tuple[int, int]:
    """The largest images at once that fit, and how often, for as many images a step.

    >>> split(128, 1, 50), split(6, 2, 5), split(7, 1, 5)
    ((32, 4), (4, 3), (1, 7))
    """
    whole = batch_size * parts
    size = max(n for n in range(1, min(fits, whole) + 1) if whole % n == 0)
    return size, whole // size


def _weight(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
