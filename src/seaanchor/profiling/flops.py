"""What a step costs: floating point operations counted, and the least possible number by formula.

The unit is F, one image once forward through the tower. A gradient to the pixels costs another F, one to the weights
another.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from seaanchor.config.schema import RunConfig
from seaanchor.encoders.encoder import Encoder
from seaanchor.encoders.prefix import FrozenPrefix, PrefixCache
from seaanchor.profiling.op_counter import OperationCounter, Stage
from seaanchor.registry import links
from seaanchor.types import Needs
from seaanchor.utils.probe import random_images

T = TypeVar("T")


@dataclass(frozen=True)
class Tower:
    """Operations of one image once through a tower, as its library computes it.

    Attributes:
        weights: of products with weights, whose two gradients cost as much again each.
        inner: of attention's products, scores and their product with the values. Both of their inputs come from the
            image, so that a gradient to the pixels costs them twice.
        first: of the first layer's product, which is part of `weights`. Training asks for no gradient beyond it.
        unread, unread_inner: those among them of tokens that nobody reads behind the last block; attack and updates
            leave them out (`seaanchor.encoders.kernels`).
    """

    weights: int
    inner: int
    first: int
    unread: int = 0
    unread_inner: int = 0

    @property
    def forward(self) -> int:
        """F."""
        return self.weights + self.inner

    @property
    def read(self) -> int:
        """The part of F that attack and updates compute."""
        return self.forward - self.unread - self.unread_inner


def count_stages(run: Callable[[], T]) -> tuple[dict[Stage, int], T]:
    """Run something and count the operations of its matrix products and convolutions, by stage of the step; returns the
    counts and the result.

    Attention runs as plain matrix products meanwhile: torch's fast path of whole layers is one kernel, which no formula
    knows.
    """
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), OperationCounter() as counter:
            result = run()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return dict(counter.flops), result


def count_flops(run: Callable[[], T]) -> tuple[int, T]:
    """Run something and count the operations of its matrix products and convolutions; returns the count and the
    result."""
    stages, result = count_stages(run)
    return sum(stages.values()), result


@torch.no_grad()
def forward_flops(encoder: nn.Module, image_size: int, device: torch.device | str = "cpu") -> int:
    """F of an encoder of pixels (B, 3, H, W), for one image."""
    pixels_BCHW = torch.zeros(1, 3, image_size, image_size, device=device)
    return count_flops(lambda: encoder(pixels_BCHW))[0]


@torch.no_grad()
def prefix_flops(encoder: Encoder, prefix: FrozenPrefix | None) -> int:
    """Operations of one image in the frozen prefix of an encoder; 0 without one."""
    if prefix is None:
        return 0
    cache, pixels_BCHW = PrefixCache(encoder, prefix), random_images(encoder, 1)

    def forward() -> None:
        with cache.of(0):
            encoder(pixels_BCHW)

    whole, rest = count_flops(forward)[0], count_flops(forward)[0]
    return whole - rest


def least_passes(config: RunConfig, needs: Needs, cached: bool, prefix: float = 0) -> float | None:
    """F per image of a step that computes everything once; None for a gradient attack of the user's own.

    PGD takes 2 F a gradient step, APGD looks at its last point in one more; each of the K primal updates 3 F an image
    (2 F for low-rank updates, which leave the weights' own gradients out), and clean images go along where objective or
    anchor need them; the reference 1 F where it is not cached and 1 F where it sees perturbed images; the exact dual
    step and a moving reference 1 F each. A frozen prefix takes no gradients, and its forward is that of the first
    update alone. A linear map never enters the tower.

    Args:
        config: of the run.
        needs: of its method.
        cached: whether the reference's embeddings of clean images are at hand.
        prefix: share of F that lies before the first trained weight, where the step looks it up.
    """
    if config.adapter.kind == "linear":
        return 0
    gradient_steps, attacked_by = config.perturbation.num_steps, links("perturbation", config.perturbation.kind)[-1]
    passes = {"pgd": 2 * gradient_steps, "apgd": 2 * gradient_steps + 1}
    if needs.pixel_gradient and attacked_by not in passes:
        return None
    attack = passes.get(attacked_by, 0)
    update = {"lora": 2}.get(config.adapter.kind, 3)
    primal = (prefix + config.primal_steps * update * (1 - prefix)) * (2 if needs.clean else 1)
    return attack + primal + _plain_passes(config, needs, cached, prefix)


def _plain_passes(config: RunConfig, needs: Needs, cached: bool, prefix: float = 0) -> float:
    """Forwards of a step on the library's own kernels: outside of attack and updates."""
    exact_dual = config.anchor.kind == "lagrangian" and config.anchor.exact_dual
    average = config.anchor.reference != "frozen"
    return exact_dual * (1 - prefix) + average + (not cached) + needs.reference_perturbed


def least_operations(config: RunConfig, needs: Needs, cached: bool, tower: Tower) -> float | None:
    """The same in operations, with what whole numbers of F leave out: each gradient to the pixels takes attention's
    products once more, an update spares the gradient to what enters the first layer, and both leave out what nobody
    reads. For towers whose weights are all trained, or that are not entered at all; None for others."""
    passes, plain = least_passes(config, needs, cached), _plain_passes(config, needs, cached)
    if passes is None or config.adapter.kind not in ("full", "linear"):
        return None
    if passes == 0:
        return 0
    gradient_steps = config.perturbation.num_steps * needs.pixel_gradient
    updates = config.primal_steps * (1 + needs.clean)
    twice_more = gradient_steps * (tower.inner - tower.unread_inner)
    return (passes - plain) * tower.read + twice_more - updates * tower.first + plain * tower.forward
