"""The frozen prefix of a tower that is trained in part: what lies before its first trained weight gives the same
numbers in all updates of a step, and is computed once for a batch.

Nothing is cut out of the tower: its own forward runs, and the outermost frozen layers that it calls with inputs that no
trained weight acts on answer from memory. Legend: B batch, C channels, H W pixels, D embedding dimension.
"""

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves, tree_map

from seaanchor.encoders.encoder import Encoder
from seaanchor.errors import note
from seaanchor.utils.probe import random_images

LARGEST_DIFFERENCE = 1e-5  # of the largest entry of an embedding; the same kernels on the same numbers give none
Answer = Callable[..., Any]
"""Name of a layer, its own forward, and what it is called with → its output."""


@dataclass(frozen=True)
class FrozenPrefix:
    """The layers of a frozen prefix.

    Attributes:
        layers: names of its outermost layers, in the order in which they run.
        kept: those of them whose outputs something else reads; of the others the shapes are enough.
        by_image: whether the first dimension of all outputs is the image, so that those of some images can be taken
            out.
    """

    layers: tuple[str, ...]
    kept: frozenset[str]
    by_image: bool = True


class PrefixCache:
    """What the frozen prefix of a tower gives for the batches of one step.

    Args:
        encoder: the tower.
        prefix: its frozen prefix; without one, each forward computes everything.
    """

    def __init__(self, encoder: nn.Module, prefix: FrozenPrefix | None) -> None:
        self._encoder, self._prefix, self._outputs = encoder, prefix, dict[Hashable, dict[str, Any]]()

    @contextmanager
    def of(self, batch: Hashable, rows: slice | None = None) -> Iterator[None]:
        """Around a forward of one batch: the first one computes the prefix, later ones look it up. A backward that
        computes activations again belongs inside, too.

        Args:
            batch: the name of these images, in this order, and of the number type they are computed in.
            rows: which images of that batch the forward takes; by default all. They are looked up where all have been
                computed, and else computed as ever.
        """
        prefix, found = self._prefix, self._outputs.get(batch)
        if prefix is None or (rows is not None and (found is None or not prefix.by_image)):
            yield
        elif found is None:
            made: dict[str, Any] = {}
            with _answering(self._encoder, prefix.layers, partial(_remember, made, prefix.kept)):
                yield
            if made:
                self._outputs[batch] = made
        else:
            with _answering(self._encoder, prefix.layers, partial(_look_up, found, rows)):
                yield


def frozen_prefix(encoder: Encoder) -> FrozenPrefix | None:
    """The frozen prefix of an encoder whose trained weights ask for gradients; None where there is none, or where
    looking it up would give another embedding.

    That is tried on random images, with moved weights, in train and in eval mode: layers that draw random numbers in
    training, such as dropout, have no prefix beyond them, because every update draws anew. A note says so.
    """
    if all(parameter.requires_grad for parameter in encoder.parameters()):
        return None
    prefix = None
    training = [(module, module.training) for module in encoder.modules()]
    with torch.random.fork_rng(devices=[encoder.mean.device] if encoder.mean.is_cuda else []):
        try:
            encoder.train()
            prefix = _traced(encoder)
            agreed = None if prefix is None else _agreed(encoder, prefix)
        except RuntimeError as error:  # of torch, about a tensor without memory
            if "written-to tensor" not in str(error):
                raise
            agreed = None
        finally:
            for module, mode in training:
                module.training = mode
    if prefix is not None and agreed is None:
        note(
            "the frozen layers before the first trained one are computed anew in every update: they draw at random, or "
            "something after them writes into what they give"
        )
    return agreed


def _traced(encoder: Encoder) -> FrozenPrefix | None:
    """The prefix as a forward and its gradient show it."""
    frozen = [name for name, module in encoder.named_modules() if name and not _trained(module)]
    calls, inside, images = dict[str, list[Any]](), list[str](), random_images(encoder, 3)

    def watch(name: str, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        outermost, given = not inside, _tensors((args, kwargs))
        depends, written = any(t.requires_grad for t in given), [t._version for t in given]
        inside.append(name)
        output = forward(*args, **kwargs)
        inside.pop()
        # a layer that hands its input on, as an identity does, has nothing to remember
        idle = any(t is output and t._version == before for t, before in zip(given, written, strict=True))
        known = outermost and not depends and not idle
        calls.setdefault(name, []).append(output if known else None)
        return output

    with torch.enable_grad(), _answering(encoder, frozen, watch):
        encoder(images)
    once = [name for name, outputs in calls.items() if len(outputs) == 1 and outputs[0] is not None]
    weighty = [number for number, name in enumerate(once, 1) if _has_weights(encoder.get_submodule(name))]
    outputs = {name: calls[name][0] for name in once[: max(weighty, default=0)]}
    if not outputs:
        return None
    by_image = all(t.dim() > 0 and len(t) == len(images) for t in _tensors(list(outputs.values())))
    return FrozenPrefix(tuple(outputs), _read(encoder, images, outputs), by_image)


def _read(encoder: Encoder, images: Tensor, outputs: Mapping[str, Any]) -> frozenset[str]:
    """The layers whose outputs reach the embedding when all of them answer from memory; those without floats, too."""
    leaves = {name: tree_map(_as_leaf, output) for name, output in outputs.items()}
    owners = [(name, leaf) for name in leaves for leaf in _tensors(leaves[name]) if leaf.requires_grad]

    def answer(name: str, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, leaves[name])

    with torch.enable_grad(), _answering(encoder, list(outputs), answer):
        embedding_BD = encoder(images)
    if not embedding_BD.requires_grad or not owners:
        return frozenset(outputs)
    gradients = torch.autograd.grad(embedding_BD.sum(), [leaf for _, leaf in owners], allow_unused=True)
    reached = {name for (name, _), gradient in zip(owners, gradients, strict=True) if gradient is not None}
    return frozenset(reached | (set(outputs) - {name for name, _ in owners}))


@torch.no_grad()
def _agreed(encoder: Encoder, prefix: FrozenPrefix) -> FrozenPrefix | None:
    """The prefix, where embeddings by it are those of the plain forward after the trained weights have moved; None
    where they are not."""
    images, cache, rows = random_images(encoder, 3, seed=1), PrefixCache(encoder, prefix), slice(1, None)
    _seed(1)
    with cache.of(0):
        encoder(images)
    trained = {name: parameter for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    moved = {name: p + 0.02 * torch.randn_like(p) for name, p in trained.items()}

    def same(images: Tensor, rows: slice | None) -> bool:
        _seed(2)
        plain_BD = functional_call(encoder, moved, (images,))
        _seed(2)
        with cache.of(0, rows):
            found_BD = functional_call(encoder, moved, (images,))
        return bool((found_BD - plain_BD).abs().max() <= LARGEST_DIFFERENCE * plain_BD.abs().max())

    for mode in (True, False):  # the second time also tells whether the first one wrote into what is kept
        encoder.train(mode)
        if not same(images, None):
            return None
    return replace(prefix, by_image=prefix.by_image and same(images[rows], rows))


@contextmanager
def _answering(encoder: nn.Module, names: Collection[str], answer: Answer) -> Iterator[None]:
    """Inside, calls of these layers go to `answer`; hooks and parameters of the layers stay as they are."""
    layers = {name: encoder.get_submodule(name) for name in names}
    own = {name: vars(layer).get("forward") for name, layer in layers.items()}
    try:
        for name, layer in layers.items():
            vars(layer)["forward"] = partial(answer, name, own[name] or partial(_class_forward, layer))
        yield
    finally:
        for name, layer in layers.items():
            if own[name] is None:
                del vars(layer)["forward"]
            else:
                vars(layer)["forward"] = own[name]


def _class_forward(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """By the class of now: faster kernels exchange it for the time of a step."""
    return type(layer).forward(layer, *args, **kwargs)


def _remember(
    made: dict[str, Any], kept: frozenset[str], name: str, forward: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    output = forward(*args, **kwargs)
    if name not in made:  # else activations are computed again for the backward
        made[name] = output if name in kept else tree_map(_blank, output)
    return output


def _look_up(found: Mapping[str, Any], rows: slice | None, name: str, *_: Any, **__: Any) -> Any:
    if rows is None:
        return found[name]
    return tree_map(lambda leaf: leaf[rows] if isinstance(leaf, Tensor) else leaf, found[name])


def _blank(leaf: Any) -> Any:
    """A tensor of the same shape that takes no memory."""
    return leaf.new_zeros(()).expand(leaf.shape) if isinstance(leaf, Tensor) else leaf


def _as_leaf(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    return leaf.detach().clone().requires_grad_(leaf.is_floating_point())


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _has_weights(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
