"""FARE as its public code trains it (chs20/RobustVLM: train/adversarial_training_clip.py with `--attack pgd`,
train/pgd_train.py).

25 F an image with ten attack steps: the reference anew for each batch (1), the attack through weights that ask for
gradients, so that its graph holds what only weight gradients would need (20), a training-mode forward of the clean
images that only the log reads, with its graph kept until the step ends (1), and the training pass (3). Under l-inf its
momentum changes a direction only where the gradient is exactly 0, because the velocity is reduced to its sign again
after each step. The evaluation inside its loop (10 F a step with its settings) is left out.

Side by side with the code itself it makes the same matrix products, convolutions and fused kernels with the same shapes
and strides, and takes as long (`docs/performance.md`).

Legend: B batch, C channels, H W pixels, D embedding dimension.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seaanchor.encoders.encoder import Encoder

MOMENTUM = 0.9

Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Peer:
    """A tower in training with its original, both from pixels in [0, 1] to raw embeddings, and AdamW over all weights
    of the first."""

    model: nn.Module
    original: nn.Module
    optimizer: torch.optim.Optimizer


@dataclass(frozen=True)
class Logged:
    """What the public code prints of a step: host numbers, which on a GPU it waits for."""

    loss: float
    cosine: float
    cosine_clean: float


class LibraryTower(nn.Module):
    """A copy of an encoder's tower as its library makes it, behind torchvision's way to normalise: what the public code
    wraps. Our encoder's own layout in memory and its fixed batch statistics stay outside."""

    mean_111: Tensor
    std_111: Tensor

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.model = copy.deepcopy(encoder.library_tower).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload] # missing from torch's signatures
        self.register_buffer("mean_111", encoder.mean.clone(), persistent=False)
        self.register_buffer("std_111", encoder.std.clone(), persistent=False)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        return self.model(pixels_BCHW.clone().sub_(self.mean_111).div_(self.std_111))


def peer_of(encoder: Encoder, lr: float = 0.0) -> Peer:
    """A peer that starts from copies of an encoder's tower; the original in eval mode, its weights asking for gradients
    in vain, as the public code leaves them."""
    model, original = (LibraryTower(encoder).requires_grad_(True) for _ in range(2))
    return Peer(model, original.eval(), torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-4))


def squared_error(embedding_BD: Tensor, original_BD: Tensor) -> Tensor:
    """Squared distance, summed over D, averaged over B."""
    return F.mse_loss(embedding_BD, original_BD, reduction="none").sum(1).mean()


def pgd(
    model: nn.Module,
    loss_of: Loss,
    clean_BCHW: Tensor,
    delta_BCHW: Tensor,
    *,
    epsilon: float,
    num_steps: int,
    step_size: float,
) -> Tensor:
    """Ascent by signs from a given start, which is not clipped to [0, 1] before the first gradient; the last iterate is
    the result."""
    velocity_BCHW = torch.zeros_like(clean_BCHW)
    for _ in range(num_steps):
        delta_BCHW = delta_BCHW.detach().requires_grad_(True)
        loss = loss_of(model(clean_BCHW + delta_BCHW))
        with torch.no_grad():
            (grad_BCHW,) = torch.autograd.grad(loss, delta_BCHW)
            if not grad_BCHW.is_meta and grad_BCHW.isnan().any():
                grad_BCHW = grad_BCHW.nan_to_num(0.0)
            velocity_BCHW = (MOMENTUM * velocity_BCHW + grad_BCHW.sign()).sign()
            delta_BCHW = (delta_BCHW + step_size * velocity_BCHW).clamp(-epsilon, epsilon)
            delta_BCHW = (clean_BCHW + delta_BCHW).clamp(0, 1) - clean_BCHW
            if not delta_BCHW.is_meta:
                inside_BCHW = clean_BCHW + delta_BCHW
                assert not delta_BCHW.isnan().any() and inside_BCHW.max() < 1 + 1e-6 and inside_BCHW.min() > -1e-6, (
                    "the attack left [0, 1]"
                )
    return clean_BCHW + delta_BCHW.detach()


def fare_step(
    peer: Peer,
    clean_BCHW: Tensor,
    start_BCHW: Tensor | None = None,
    *,
    epsilon: float = 4 / 255,
    num_steps: int = 10,
    step_size: float = 1 / 255,
) -> tuple[Tensor, Logged | None]:
    """One step: the perturbed images and what is logged. Gradients stay on the weights afterwards, where the public
    code clears them last (clearing frees a reference and costs nothing).

    Args:
        peer: what is trained.
        clean_BCHW: images in [0, 1].
        start_BCHW: the attack's start; drawn from U(−ε, ε) as in the public code by default.
        epsilon, num_steps, step_size: of the attack; FARE's published settings.
    """
    with torch.no_grad():
        original_BD = peer.original(clean_BCHW)
    peer.model.eval()
    start_BCHW = torch.empty_like(clean_BCHW).uniform_(-epsilon, epsilon) if start_BCHW is None else start_BCHW
    sizes = {"epsilon": epsilon, "num_steps": num_steps, "step_size": step_size}
    attacked_BCHW = pgd(
        peer.model, lambda embedding_BD: squared_error(embedding_BD, original_BD), clean_BCHW, start_BCHW, **sizes
    )
    peer.model.train()
    peer.optimizer.zero_grad()
    clean_BD = peer.model(clean_BCHW)  # with its graph, although its loss has weight 0
    attacked_BD = peer.model(attacked_BCHW)
    loss = squared_error(attacked_BD, original_BD)
    loss.backward()
    peer.optimizer.step()
    if clean_BCHW.is_meta:
        return attacked_BCHW, None
    with torch.no_grad():
        cosines = [F.cosine_similarity(x_BD, original_BD, dim=1).mean().item() for x_BD in (attacked_BD, clean_BD)]
    return attacked_BCHW, Logged(loss.item(), *cosines)
