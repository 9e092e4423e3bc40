"""What training, its rehearsal and evaluation say when memory runs out: a size that fits, and what is kept."""

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from seaanchor.config.schema import RunConfig
from seaanchor.distributed.sharding import local_tensors
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
    at_once = min(setup.config.slice_size or setup.config.batch_size, setup.config.batch_size)

    def change(fits: int) -> str:
        settings = f"--slice-size {fits} fits and makes the same updates"
        if folder is None:
            return settings
        saved = folder.checkpoints()
        return (
            f"{settings}; go on with --resume auto from "
            f"{saved[-1] if saved else 'the start: no checkpoint was due yet'}"
        )

    def footprint() -> Footprint | None:
        need = footprint_of(setup, setup.config, world)
        return None if need is None else in_slices(need, state)

    return told_when_full(at_once, setup.device, held_bytes(setup, state), footprint, change)


def footprint_of(setup: Setup, config: RunConfig, world: int) -> Footprint | None:
    """What a step of the run takes by the number of images at once; None where that is not known, as with sharded
    weights and with attacks of the user's own.

    Args:
        setup: of the run.
        config: its settings, or others in their place.
        world: processes.
    """
    if config.shard and world > 1:
        return None
    cached = setup.table is not None or caches_reference(setup, world)
    whole = needs_of(setup.method.adapter).whole_tower or not isinstance(setup.reference, Reference)
    untouched = setup.model.encoder if whole else cast(Reference, setup.reference).encoder  # before updates went in
    classes = len(setup.head.weight_CD) if setup.head is not None else 1
    try:
        return step_memory(replace(config, slice_size=None), untouched, setup.method, classes, cached)
    except SeaAnchorError:
        return None


def in_slices(need: Footprint, state: TrainState) -> Footprint:
    """The same for slices of a batch: all but the first find the gradients of those before beside what they keep."""
    trained = [p for group in state.optimizer.param_groups for p in group["params"]]
    return replace(need, fixed=need.fixed + sum(p.nbytes for p in trained))


def held_bytes(setup: Setup, state: TrainState) -> int:
    """Bytes of the footprint's fixed part that are on the device already; what is shared counts once."""
    copy = state.low_precision_copy
    modules = [setup.policy, setup.reference, state.dual, None if copy is None else copy.encoder]
    tensors = [t for module in modules if module is not None for t in (*module.parameters(), *module.buffers())]
    for optimizer in (state.optimizer, state.dual_optimizer):
        if optimizer is not None:
            tensors += [v for values in optimizer.state.values() for v in values.values() if isinstance(v, Tensor)]
    for average in (state.average, state.moving_reference):
        tensors += average.mean if average is not None else []
    there = [tensor for tensor in tensors if not tensor.is_meta]
    return sum({local.untyped_storage().data_ptr(): local.nbytes for local in local_tensors(there)}.values())


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


def _weight(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
