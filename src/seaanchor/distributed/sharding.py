"""Weights in parts: each process holds a share of every weight, of its gradient and of what the optimizer keeps of it.

torch's `fully_shard` puts a tower's block together when its forward or backward is due, and lets it go afterwards. What
leaves the processes, such as a checkpoint, holds whole tensors, so that no file tells how many there were.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def is_part(tensor: object) -> "TypeGuard[DTensor]":
    """Whether this is a process's share of a tensor. Its library takes a third of a second to import, for nothing where
    there is one process."""
    return hasattr(tensor, "full_tensor")


def shard(module: nn.Module, device: torch.device) -> None:
    """Split the weights among all processes and put this one's share on its device; every process must call the module
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
        )  # shares are rows; a convolution's channels-last weights have none in memory
    for block in [*blocks(module), module]:
        fully_shard(
            block, mesh=mesh, reshard_after_forward=True
        )  # the root's too, or it would miss a change of weights between two forwards


def blocks(module: nn.Module) -> list[nn.Module]:
    """What is put together at a time: the layers that a tower repeats, inner ones first."""
    found: list[nn.Module] = []
    for layers in reversed([layer for layer in module.modules() if isinstance(layer, nn.ModuleList | nn.Sequential)]):
        repeated = [layer for layer in layers if next(layer.children(), None) is not None]
        if len(repeated) > 1 and len({type(layer) for layer in repeated}) == 1:
            found += [layer for layer in repeated if next(layer.parameters(), None) is not None]
    return found


def whole(state: Any, keep: bool) -> Any:
    """A nested dict or list with every tensor put together on the CPU; all processes must ask, and those that do not
    keep it get 0 for such tensors."""
    if isinstance(state, dict):
        return {key: whole(value, keep) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [whole(value, keep) for value in state]
    if is_part(state):
        tensor = state.full_tensor().detach()
        return tensor.cpu() if keep else 0
    return state


def share(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor, split as `like` is; the tensor itself where `like` is not split or of
    another shape."""
    if not is_part(like) or tensor.shape != like.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def share_optimizer(state: dict, parameters: Sequence[Tensor]) -> dict:
    """An optimizer's whole state, split as its parameters are."""
    kept = {
        number: {
            name: share(value, parameters[number]) if isinstance(value, Tensor) else value
            for name, value in values.items()
        }
        for number, values in state["state"].items()
    }
    return state | {"state": kept}


def share_average(state: dict, parameters: Sequence[Tensor]) -> dict:
    """The whole state of a `WeightAverage`, split as the parameters are."""
    return state | {"mean": [share(mean, parameter) for mean, parameter in zip(state["mean"], parameters, strict=True)]}


def is_split(module: nn.Module) -> bool:
    """Whether the module's weights are in parts."""
    return any(is_part(parameter) for parameter in module.parameters())


def own(tensors: Iterable[Tensor]) -> Iterator[Tensor]:
    """What this process holds of each tensor."""
    for tensor in tensors:
        yield tensor.to_local() if is_part(tensor) else tensor
