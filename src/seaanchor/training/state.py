"""Everything that training changes, and its checkpoints."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from seaanchor.adapters.lora import has_updates
from seaanchor.config.schema import AnchorConfig, RunConfig
from seaanchor.distributed.process_group import ONE_PROCESS, ProcessGroup
from seaanchor.distributed.sharding import (
    gather_full,
    local_tensors,
    shard,
    shard_average_state,
    shard_optimizer_state,
)
from seaanchor.encoders.encoder import Encoder, Reference
from seaanchor.encoders.kernels import CompiledForward, activation_checkpointing, adam_options, compiling_pays
from seaanchor.encoders.low_precision import LowPrecisionCopy
from seaanchor.encoders.prefix import FrozenPrefix, frozen_prefix
from seaanchor.errors import SeaAnchorError, note
from seaanchor.training.averaging import WeightAverage
from seaanchor.training.dual_step import dual_optimizer
from seaanchor.training.run_folder import RunFolder
from seaanchor.training.setup import Setup
from seaanchor.utils.checkpoint import tensors_in


@dataclass(frozen=True)
class TrainState:
    """Everything that a step changes.

    Attributes:
        policy: what is trained, wrapped for data parallelism where there are several processes.
        optimizer: of the policy.
        dual: the multipliers' network, parameters or table, if the anchor has any.
        dual_optimizer: of the dual; None for a table.
        average: of the weights, for `export-averaged`.
        low_precision_copy: of the encoder, for attacks in bf16.
        moving_reference: average of the weights that the anchor compares clean embeddings with.
        prefix: the layers before the first trained weight, where a step goes through them more than once.
        compiled: what the tower's forwards under attack go through, and those of updates that look nothing up.
    """

    policy: nn.Module
    optimizer: torch.optim.Optimizer
    dual: nn.Module | None
    dual_optimizer: torch.optim.Optimizer | None
    average: WeightAverage | None = None
    low_precision_copy: LowPrecisionCopy | None = None
    moving_reference: WeightAverage | None = None
    prefix: FrozenPrefix | None = None
    compiled: CompiledForward | None = None

    @property
    def compiled_updates(self) -> CompiledForward | None:
        """What the forwards of updates go through. Layers that answer from memory would be compiled anew each time."""
        return self.compiled if self.prefix is None else None

    @property
    def encoder(self) -> nn.Module:
        """The policy without its wrapper: what is attacked, evaluated and exported."""
        return self.policy.module if isinstance(self.policy, DistributedDataParallel) else self.policy


def make_state(setup: Setup, group: ProcessGroup = ONE_PROCESS, checkpoint: dict[str, Any] | None = None) -> TrainState:
    """Policy, dual and optimizers on the device of the run, as the checkpoint left them.

    The weights move before the optimizer loads: it puts its state where its parameters are.

    Args:
        setup: of the run. Its policy and reference move to the device.
        group: the processes of the run.
        checkpoint: of `save_checkpoint`; None at the start.
    """
    config, anchor = setup.config, setup.config.anchor
    parameters, low_precision_copy = _place(setup, group, checkpoint)
    optimizer = _optimizer(config, parameters, setup.device)
    average = weight_average(config, parameters, setup.total_steps)
    moving_reference = reference_average(anchor, parameters, setup.total_steps)
    dual = _dual(setup, group)
    moves_dual = dual_optimizer(dual, anchor, setup.device)
    if checkpoint is not None:
        optimizer.load_state_dict(shard_optimizer_state(checkpoint["optimizer"], parameters))
        if dual is not None:
            dual.load_state_dict(checkpoint["dual"])
        if moves_dual is not None:
            moves_dual.load_state_dict(checkpoint["dual_optimizer"])
        for name, mean in (("average", average), ("moving_reference", moving_reference)):
            if mean is not None:
                mean.load_state_dict(shard_average_state(checkpoint[name], parameters))
    setup.policy.train()
    prefix = reused_prefix(config, setup.policy) if not shards_weights(config, group.world) else None
    policy = _data_parallel(setup, group)
    compiled = _compiled(setup)
    return TrainState(
        policy, optimizer, dual, moves_dual, average, low_precision_copy, moving_reference, prefix, compiled
    )


def _compiled(setup: Setup) -> CompiledForward | None:
    if not setup.config.compile:
        return None
    if compiling_pays(setup.policy, setup.device):
        return CompiledForward()
    note("--compile leaves a tower of convolutions as it is on a processor: its own kernels are faster there")
    return None


def shards_weights(config: RunConfig, world: int) -> bool:
    """Whether the weights are sharded over processes."""
    return config.shard and world > 1


def reused_prefix(config: RunConfig, policy: nn.Module) -> FrozenPrefix | None:
    """The frozen prefix of a tower whose adapter trains a part of it, where a step would compute it more than once."""
    again = config.primal_steps > 1 or config.anchor.exact_dual
    return frozen_prefix(policy) if again and isinstance(policy, Encoder) else None


def _place(
    setup: Setup, group: ProcessGroup, checkpoint: dict[str, Any] | None
) -> tuple[list[nn.Parameter], LowPrecisionCopy | None]:
    """Policy and reference on the device, the policy as the checkpoint left it: what is trained of it, and its
    low-precision copy if there is one."""
    config, device, sharded = setup.config, setup.device, shards_weights(setup.config, group.world)
    encoder = setup.policy if sharded else setup.policy.to(device)
    setup.reference.to(device)
    before = dict(setup.model.encoder.named_parameters())
    parameters = list(setup.method.adapter.trainable(encoder))
    if config.compile and has_updates(encoder):
        found = "compile with low-rank updates, which change the layers' weights while a tower runs"
        raise SeaAnchorError(found, "adapter full or last_blocks", "change one of the two")
    if config.checkpoint_activations:
        with activation_checkpointing(encoder):  # or its error would come after the reference embeddings
            pass
    if checkpoint is not None:
        encoder.load_state_dict(checkpoint["policy"])
    if not sharded:
        encoder.to(device)  # what the adapter has added, too
        _share_frozen(setup, before)
    copy = LowPrecisionCopy(setup.model.encoder) if config.attack_precision == "bf16" else None
    if sharded:
        shard(encoder, device)
        if copy is not None:
            shard(copy.encoder, device)
        parameters = list(encoder.parameters())
    return parameters, copy


def _share_frozen(setup: Setup, before: dict[str, nn.Parameter]) -> None:
    """Let the reference hold the weights that the adapter freezes together with the policy."""
    if isinstance(setup.reference, Reference):
        setup.reference.share(staying(setup.reference.encoder, before, setup.model.encoder))


def staying(untouched: nn.Module, before: dict[str, nn.Parameter], adapted: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of an adapted encoder that stay as they were. Low-rank updates write into attention layers meanwhile,
    so that nothing in there does.

    Args:
        untouched: the encoder as it was.
        before: its weights by their names, the same objects as in the adapted encoder.
        adapted: with what the adapter did to it.
    """
    attention = [f"{name}." for name, layer in untouched.named_modules() if isinstance(layer, nn.MultiheadAttention)]
    apart = tuple(attention) if has_updates(adapted) else ()
    return {name: p for name, p in before.items() if not p.requires_grad and not name.startswith(apart)}


def _optimizer(config: RunConfig, parameters: list[nn.Parameter], device: torch.device) -> torch.optim.Optimizer:
    if config.optimizer == "adamax":
        return torch.optim.Adamax(parameters, lr=config.lr, weight_decay=config.wd)
    return torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.wd, **adam_options(device))


def weight_average(config: RunConfig, parameters: list[nn.Parameter], total_steps: int) -> WeightAverage | None:
    """The average of the weights that a run exports beside the last ones, if any."""
    kind = config.average
    if kind == "none":
        return None
    return WeightAverage(parameters, total_steps, kind, config.ema_decay, config.tail_share)


def reference_average(anchor: AnchorConfig, parameters: list[nn.Parameter], total_steps: int) -> WeightAverage | None:
    """The average of the weights that clean images are held to, if any."""
    kind = anchor.reference
    return None if kind == "frozen" else WeightAverage(parameters, total_steps, kind, anchor.reference_decay)


def _dual(setup: Setup, group: ProcessGroup) -> nn.Module | None:
    """The anchor's dual on the device, the same in all processes."""
    dual = setup.method.anchor.dual_module()
    if dual is None:
        return None
    dual.to(setup.device)
    if group.world > 1:  # seeded alike they are the same already; DistributedDataParallel does this for the policy, too
        for parameter in dual.parameters():
            torch.distributed.broadcast(parameter.data, 0)
    return dual


def _data_parallel(setup: Setup, group: ProcessGroup) -> nn.Module:
    """The policy, wrapped where several processes hold all of it."""
    if group.world == 1 or shards_weights(setup.config, group.world):
        return setup.policy
    devices = None if setup.device.type == "cpu" else [setup.device]
    return DistributedDataParallel(setup.policy, device_ids=devices)


def save_checkpoint(
    setup: Setup, state: TrainState, group: ProcessGroup, folder: RunFolder, step: int, total: Mapping[str, int]
) -> None:
    """Write a checkpoint in the first process; all must ask.

    Args:
        setup: of the run.
        state: to be saved.
        group: the processes of the run.
        folder: of the run.
        step: steps done.
        total: `Clock.total`, the images seen in them.

    Raises:
        SeaAnchorError: a number is not finite. The loss was computed before the last update and does not vouch for it.
    """
    checkpoint = {
        "step": step,
        **total,
        "identity": setup.identity,
        "policy": setup.policy.state_dict(),
        "optimizer": state.optimizer.state_dict(),
    }
    if state.dual is not None:
        checkpoint["dual"] = state.dual.state_dict()
    if state.dual_optimizer is not None:
        checkpoint["dual_optimizer"] = state.dual_optimizer.state_dict()
    for name, average in (("average", state.average), ("moving_reference", state.moving_reference)):
        if average is not None:
            checkpoint[name] = average.state_dict()
    stop_if_not_finite(local_tensors(tensors_in(checkpoint)), step, folder, group)
    checkpoint = gather_full(checkpoint, group.first)
    if group.first:
        folder.save(step, checkpoint)


def stop_if_not_finite(tensors: Iterable[Tensor], step: int, folder: RunFolder, group: ProcessGroup) -> None:
    """Raise, in all processes, if any tensor of any of them is not finite; what was saved before is from before it."""
    finite = all(bool(tensor.isfinite().all()) for tensor in tensors)
    if group.total([not finite]) == [0]:
        return
    saved = folder.checkpoints()
    last = saved[-1] if saved else "the untrained model: no checkpoint was due yet"
    own = "" if saved else ". An objective of your own is looked at by seaanchor.testing.check_objective"
    raise SeaAnchorError(
        f"the loss or the weights are not finite at step {step}",
        "finite numbers",
        f"lower --lr or set --grad-clip; the last good state is {last}{own}",
    )
