"""The blocks of an image tower in the order in which they run, and the weights that come after one of them.

Where a library keeps its blocks is known by name; the order, and what lies before and after, is seen on a forward.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from seaanchor.errors import SeaAnchorError
from seaanchor.functional.gradients import attackable
from seaanchor.utils.probe import random_images

LISTS = re.compile(r"(res)?blocks|stages|layers?|(layer|stage|s)\d+")
"""Attributes of a tower that hold its blocks, or stages of blocks, in OpenCLIP, timm and transformers."""
INNER_LISTS = ("blocks", "layers")
"""The same within a stage; what lies in `blocks` is no stage because of `layers` of its own."""
KNOWN = "a tower of OpenCLIP, timm or Hugging Face that runs its blocks one after the other, or a torch.nn.Sequential"
CHANGE = "use adapter full or lora"  # which take any tower


def ordered_blocks(encoder: nn.Module) -> list[str]:
    """Names of the blocks of an image tower, in the order in which they run.

    Raises:
        SeaAnchorError: it is not known where this tower has its blocks, or one of them is not run once, in the order
            of the list.
    """
    names = _listed(encoder)
    if not names:
        raise SeaAnchorError(f"it is not known where {tower_name(encoder)} has its blocks", KNOWN, CHANGE)
    if (ran := _ran(encoder, names)) != names:
        odd = next((name for name in names if ran.count(name) != 1), names[0])
        how = f"{odd} runs {ran.count(odd)} times" if ran.count(odd) != 1 else "they run in another order"
        found = f"the blocks of {tower_name(encoder)} do not run once each, in the order of its list: {how}"
        raise SeaAnchorError(found, KNOWN, CHANGE)
    return names


def parameters_from(encoder: nn.Module, block: str) -> tuple[set[str], set[str]]:
    """Names of the parameters that act only from the entry of a block on: its own, those of what comes after it, such
    as later blocks, final norm, projection and pooling; and names of those that act both there and before it, such as
    position biases that all blocks share.

    The graph is cut at the entry of the block: what a gradient from the embedding still reaches acts after it.

    Raises:
        SeaAnchorError: the image reaches the embedding by another way, as in towers of several branches.
    """
    parameters, entered = dict(encoder.named_parameters()), list[Tensor]()

    def cut(module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        entered.extend(_tensors((args, kwargs)))
        return tree_map(_apart, (args, kwargs))

    with _asking_for_gradients(encoder), torch.enable_grad():
        pixels_BCHW = random_images(encoder, 1).requires_grad_()
        handle = encoder.get_submodule(block).register_forward_pre_hook(cut, with_kwargs=True)
        try:
            embedding_BD = encoder(pixels_BCHW)
        finally:
            handle.remove()
        wanted = [pixels_BCHW, *parameters.values()]
        around, *after = torch.autograd.grad(embedding_BD.sum(), wanted, allow_unused=True, retain_graph=True)
        reached = _reached(entered, list(parameters.values()))
    if around is not None:
        found = f"in {tower_name(encoder)} the image reaches the embedding around {block}, too"
        raise SeaAnchorError(found, KNOWN, CHANGE)
    from_here = {name for name, gradient in zip(parameters, after, strict=True) if gradient is not None}
    earlier = {name for name, gradient in zip(parameters, reached, strict=True) if gradient is not None}
    return from_here - earlier, from_here & earlier


def tower_name(encoder: nn.Module) -> str:
    """The class of the tower, as its library calls it."""
    return type(getattr(encoder, "library_tower", encoder)).__name__


def _listed(encoder: nn.Module) -> list[str]:
    """Names of the blocks, in the order of the lists that hold them."""
    lists: list[str] = []
    for name, module in encoder.named_modules():
        inside = name.startswith(tuple(f"{outer}." for outer in lists))
        if not inside and LISTS.fullmatch(name.rpartition(".")[-1]) and _children(module):
            lists.append(name)
    if lists:
        return [
            block
            for name in lists
            for child, module in _children(encoder.get_submodule(name))
            for block in _split(f"{name}.{child}", module)
        ]
    name, module = "", encoder
    while isinstance(inner := getattr(module, "tower", None), nn.Module):
        name, module = f"{name}tower.", inner
    return [f"{name}{child}" for child, _ in _children(module)] if type(module) is nn.Sequential else []


def _split(name: str, module: nn.Module, lists: tuple[str, ...] = INNER_LISTS) -> Iterator[str]:
    """A block, or the blocks of a stage."""
    inner = [(key, child) for key, child in module.named_children() if key in lists and _children(child)]
    if inner:
        for key, child in inner:
            for number, block in _children(child):
                yield from _split(f"{name}.{key}.{number}", block, INNER_LISTS[: INNER_LISTS.index(key) + 1])
    elif isinstance(module, nn.Sequential | nn.ModuleList) and not any(_is_layer(child) for child in module):
        for number, block in _children(module):
            yield from _split(f"{name}.{number}", block, lists)
    else:
        yield name


def _children(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Those with weights."""
    return [(name, child) for name, child in module.named_children() if next(child.parameters(), None) is not None]


def _is_layer(module: nn.Module) -> bool:
    return next(module.children(), None) is None and next(module.parameters(), None) is not None


def _ran(encoder: nn.Module, names: list[str]) -> list[str]:
    """The names in the order in which they run, each as often as it does."""
    ran: list[str] = []
    handles = [
        encoder.get_submodule(name).register_forward_pre_hook(lambda module, inputs, name=name: ran.append(name))
        for name in names
    ]
    try:
        with attackable(encoder), torch.no_grad():
            encoder(random_images(encoder, 1))
    finally:
        for handle in handles:
            handle.remove()
    return ran


def _reached(outputs: list[Tensor], parameters: list[nn.Parameter]) -> Sequence[Tensor | None]:
    if not outputs:
        return [None] * len(parameters)
    return torch.autograd.grad([output.sum() for output in outputs], parameters, allow_unused=True)


@contextmanager
def _asking_for_gradients(encoder: nn.Module) -> Iterator[None]:
    """Eval mode, and every parameter asks for a gradient; as before on leaving."""
    asked = [(parameter, parameter.requires_grad) for parameter in encoder.parameters()]
    try:
        with attackable(encoder):
            for parameter, _ in asked:
                parameter.requires_grad_(True)
            yield
    finally:
        for parameter, before in asked:
            parameter.requires_grad_(before)


def _tensors(tree: Any) -> list[Tensor]:
    """Those of floats that a gradient can reach."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.requires_grad]


def _apart(leaf: Any) -> Any:
    """A copy, for blocks that write into their input."""
    return leaf.detach().clone() if isinstance(leaf, Tensor) else leaf
