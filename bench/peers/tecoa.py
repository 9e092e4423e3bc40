"""TeCoA as its public code trains it (cvlab-columbia/ZSRobust4FoundationModel: finetuning.py, two attack steps), in
fp32 without its up-sampling.

Every pass, attack or training, goes through the whole CLIP: image tower, text tower over all class prompts at full
context length, and the attack's `loss.backward()` fills the gradients of all weights of both. The optimizer clears them
before the attack and not after, so that what the attack left is added to the training gradient; only the loss scale,
65,536 and undone before the update, makes it small.

An image costs 3 F in each attack step and 3 F in the training pass, hence 9 F, and its share of the prompts three times
as much: with ViT-B/32, 1,000 prompts and batches of 256 another 24 F.

Legend: B batch, C channels (in BCHW) or classes, T tokens, H W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCALE = 65536.0


@dataclass(frozen=True)
class Peer:
    """Image and text tower, both asking for gradients, and SGD over the image tower.

    Attributes:
        image: pixels in [0, 1] → raw embeddings.
        text: tokens (C, T) → raw embeddings, with gradients.
        text_module: the module whose weights the text tower uses.
        logit_scale: multiplies cosines.
    """

    image: nn.Module
    text: Callable[[Tensor], Tensor]
    text_module: nn.Module
    logit_scale: float
    optimizer: torch.optim.Optimizer


def logits_of(peer: Peer, pixels_BCHW: Tensor, tokens_CT: Tensor) -> Tensor:
    """Logits (B, C), the text tower included."""
    return peer.logit_scale * F.normalize(peer.image(pixels_BCHW), dim=-1) @ F.normalize(peer.text(tokens_CT), dim=-1).T


def tecoa_step(
    peer: Peer,
    clean_BCHW: Tensor,
    label_B: Tensor,
    tokens_CT: Tensor,
    start_BCHW: Tensor | None = None,
    *,
    epsilon: float = 1 / 255,
    num_steps: int = 2,
    step_size: float = 1 / 255,
) -> Tensor:
    """One step; returns the perturbed images. The gradients stay on the weights."""
    peer.image.train()
    peer.optimizer.zero_grad()
    peer.text_module.zero_grad()
    start_BCHW = torch.empty_like(clean_BCHW).uniform_(-epsilon, epsilon) if start_BCHW is None else start_BCHW
    delta_BCHW = ((clean_BCHW + start_BCHW).clamp(0, 1) - clean_BCHW).requires_grad_(True)
    for _ in range(num_steps):
        F.cross_entropy(logits_of(peer, clean_BCHW + delta_BCHW, tokens_CT), label_B).backward()
        assert delta_BCHW.grad is not None, "backward has just filled it"
        with torch.no_grad():
            moved_BCHW = (delta_BCHW + step_size * delta_BCHW.grad.sign()).clamp(-epsilon, epsilon)
            delta_BCHW.copy_((clean_BCHW + moved_BCHW).clamp(0, 1) - clean_BCHW)
        delta_BCHW.grad.zero_()
    attacked_BCHW = clean_BCHW + delta_BCHW
    (SCALE * F.cross_entropy(logits_of(peer, attacked_BCHW, tokens_CT), label_B)).backward()
    for parameter in peer.image.parameters():
        if parameter.grad is not None:
            parameter.grad /= SCALE
    peer.optimizer.step()
    return attacked_BCHW.detach()
