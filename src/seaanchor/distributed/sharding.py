"""Sharded weights: each process holds a shard of every weight, of its gradient and of its optimizer state.

torch's `fully_shard` gathers a tower's block when its forward or backward is due, and frees it afterwards. What leaves
the processes, such as a checkpoint, holds full tensors, so that no file depends on the number of processes.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def is_dtensor(tensor: object) -> "TypeGuard[DTensor]":
    """Whether this is a sharded tensor. `DTensor` is not imported for it: that takes a third of a second, for nothing
    where there is one process."""
    return hasattr(tensor, "full_tensor")


def shard(module: nn.Module, device: torch.device) -> None:
    """Shard the weights over all processes and put this one's shard on its device; every process must call the module
    equally often from now on.

    Args:
        module: the same in all processes. Its parameters are replaced by others under the same names.
        device: of this process; the module goes there block by block.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for parameter in module.parameters():
        parameter.data = (
            parameter.data.contiguous()
        )  # shards are rows; a convolution's channels-last weights have none in memory
    for block in [*blocks(module), module]:
        fully_shard(
            block, mesh=mesh, reshard_after_forward=True
        )  # the root's too, or it would miss a change of weights between two forwards


def blocks(module: nn.Module) -> list[nn.Module]:
    """What is gathered at a time: the layers that a tower repeats, inner ones first."""
    found: list[nn.Module] = []
    for layers in reversed([layer for layer in module.modules() if isinstance(layer, nn.ModuleList | nn.Sequential)]):
        repeated = [layer for layer in layers if next(layer.children(), None) is not None]
        if len(repeated) > 1 and len({type(layer) for layer in repeated}) == 1:
            found += [layer for layer in repeated if next(layer.parameters(), None) is not None]
    return found


def gather_full(state: Any, keep: bool) -> Any:
    """A nested dict or list with every sharded tensor gathered on the CPU.

    Args:
        state: of this process; all processes must ask.
        keep: whether this process needs the tensors; it gets 0 in their place where not.
    """
    if isinstance(state, dict):
        return {key: gather_full(value, keep) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [gather_full(value, keep) for value in state]
    if is_dtensor(state):
        tensor = state.full_tensor().detach()
        return tensor.cpu() if keep else 0
    return state


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's shard of a full tensor, sharded as `like` is; the full tensor where `like` is not sharded or of
    another shape.

    In memory it lies as `like` does: a fused optimizer takes weights and state as flat lists, and files hold no layout.
    """
    if tensor.shape != like.shape:
        return tensor
    if not is_dtensor(like):
        return tensor if tensor.stride() == like.stride() else torch.empty_like(like, dtype=tensor.dtype).copy_(tensor)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def shard_optimizer_state(state: dict[str, Any], parameters: Sequence[Tensor]) -> dict[str, Any]:
    """An optimizer's full state, sharded as its parameters are."""
    sharded = {
        number: {
            name: shard_like(value, parameters[number]) if isinstance(value, Tensor) else value
            for name, value in values.items()
        }
        for number, values in state["state"].items()
    }
    return state | {"state": sharded}


def shard_average_state(state: dict[str, Any], parameters: Sequence[Tensor]) -> dict[str, Any]:
    """The full state of a `WeightAverage`, sharded as the parameters are."""
    return state | {
        "mean": [shard_like(mean, parameter) for mean, parameter in zip(state["mean"], parameters, strict=True)]
    }


def is_sharded(module: nn.Module) -> bool:
    """Whether the module's weights are sharded."""
    return any(is_dtensor(parameter) for parameter in module.parameters())


def local_tensors(tensors: Iterable[Tensor]) -> Iterator[Tensor]:
    """What this process holds of each tensor."""
    for tensor in tensors:
        yield tensor.to_local() if is_dtensor(tensor) else tensor
