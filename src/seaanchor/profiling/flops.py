"""What a step costs: floating point operations counted, and the least possible number by formula.

The unit is F, one image once forward through the tower. A gradient to the pixels costs another F, one to the weights
another.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from seaanchor.config.schema import RunConfig
from seaanchor.profiling.formulas import FORMULAS
from seaanchor.registry import links
from seaanchor.types import Needs

T = TypeVar("T")


class _Counter(TorchDispatchMode):
    """The formulas, summed. torch's FlopCounterMode also tells modules apart, by hooks that `torch.autograd.grad`
    refuses."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func._overloadpacket in FORMULAS:
            self.total += FORMULAS[func._overloadpacket](*args, **(kwargs or {}), out_val=result)
        return result


def count_flops(run: Callable[[], T]) -> tuple[int, T]:
    """Run something and count the operations of its matrix products and convolutions; returns the count and the result.

    Attention runs as plain matrix products meanwhile: the counter does not know every fused kernel, and a fused
    kernel's recomputation would count on one device and not on another.
    """
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), _Counter() as counter:
            result = run()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return counter.total, result


@torch.no_grad()
def forward_flops(encoder: nn.Module, image_size: int, device: torch.device | str = "cpu") -> int:
    """F of an encoder of pixels (B, 3, H, W), for one image."""
    pixels_BCHW = torch.zeros(1, 3, image_size, image_size, device=device)
    return count_flops(lambda: encoder(pixels_BCHW))[0]


def least_passes(config: RunConfig, needs: Needs, cached: bool) -> int | None:
    """F per image of a step that computes everything once; None for a gradient attack of the user's own.

    PGD takes 2 F a gradient step, APGD looks at its last point in one more; each of the K primal updates 3 F an image
    (2 F for low-rank updates, which leave the weights' own gradients out), and clean images go along where objective or
    anchor need them; the reference 1 F where it is not cached and 1 F where it sees perturbed images; the exact dual
    step and a moving reference 1 F each. A linear map never enters the tower.
    """
    if config.adapter.kind == "linear":
        return 0
    gradient_steps, attacked_by = config.perturbation.num_steps, links("perturbation", config.perturbation.kind)[-1]
    passes = {"pgd": 2 * gradient_steps, "apgd": 2 * gradient_steps + 1}
    if needs.pixel_gradient and attacked_by not in passes:
        return None
    attack = passes.get(attacked_by, 0)
    primal = config.primal_steps * {"lora": 2}.get(config.adapter.kind, 3) * (2 if needs.clean else 1)
    exact_dual = config.anchor.kind == "lagrangian" and config.anchor.exact_dual
    average = config.anchor.reference != "frozen"
    return attack + primal + exact_dual + average + (not cached) + needs.reference_perturbed
