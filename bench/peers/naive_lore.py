"""LORE written down as the paper's algorithm reads (arXiv 2505.18884, Algorithm 1), without a thought for speed.

φ_0(x) is computed wherever the algorithm mentions it, clean and attacked images have a forward each, the attack calls
`.backward()`, which fills the gradients of all weights, and the dual step looks at the clean images anew. With ten
attack steps and K = 5 an image costs 1 + 30 F for the attack, 5·(1 + 3 + 3) F for the primal steps and 2 F for the dual
step: 68 F.

Legend: B batch, C channels, H W pixels, D embedding dimension.
"""

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.peers.robustvlm import LibraryTower
from seaanchor.encoders.encoder import Encoder


@dataclass(frozen=True)
class Peer:
    """Policy and reference, the multiplier's network, and an optimizer for each of the two that move; autocast to bf16
    where asked for."""

    policy: nn.Module
    reference: nn.Module
    dual: nn.Module
    optimizer: torch.optim.Optimizer
    dual_optimizer: torch.optim.Optimizer
    bf16: bool = False


def peer_of(encoder: Encoder, dual: nn.Module, *, bf16: bool, lr: float = 0.0, dual_lr: float = 0.0) -> Peer:
    """A peer that starts from copies of an encoder's tower and of a dual network φ_0(x) → λ (B,)."""
    policy, reference, dual = (
        LibraryTower(encoder).requires_grad_(True),
        LibraryTower(encoder).requires_grad_(False),
        copy.deepcopy(dual),
    )
    optimizers = (
        torch.optim.AdamW(policy.parameters(), lr=lr, weight_decay=1e-4),
        torch.optim.AdamW(dual.parameters(), lr=dual_lr, weight_decay=0.0),
    )
    return Peer(policy, reference.eval(), dual, *optimizers, bf16)


def lore_step(
    peer: Peer,
    clean_BCHW: Tensor,
    start_BCHW: Tensor | None = None,
    *,
    epsilon: float = 2 / 255,
    num_steps: int = 10,
    step_size: float = 0.5 / 255,
    primal_steps: int = 5,
    rho: float = 0.1,
) -> Tensor:
    """One step: attack, K primal updates, one dual update; returns the perturbed images."""
    start_BCHW = torch.empty_like(clean_BCHW).uniform_(-epsilon, epsilon) if start_BCHW is None else start_BCHW
    attacked_BCHW = _attack(peer, clean_BCHW, start_BCHW, epsilon, num_steps, step_size)
    peer.policy.train()
    for _ in range(primal_steps):
        reference_BD = _reference(peer, clean_BCHW)
        attacked_B = _distance(_policy(peer, attacked_BCHW), reference_BD)
        clean_B = _distance(_policy(peer, clean_BCHW), reference_BD)
        multiplier_B = peer.dual(reference_BD).detach()
        loss = (attacked_B + multiplier_B * (clean_B - rho * reference_BD.square().sum(-1))).mean()
        peer.optimizer.zero_grad()
        loss.backward()
        peer.optimizer.step()
    reference_BD = _reference(peer, clean_BCHW)
    with torch.no_grad():
        clean_B = _distance(_policy(peer, clean_BCHW), reference_BD)
    dual_loss = -(peer.dual(reference_BD) * (clean_B - rho * reference_BD.square().sum(-1))).mean()
    peer.dual_optimizer.zero_grad()
    dual_loss.backward()
    peer.dual_optimizer.step()
    return attacked_BCHW


def _attack(
    peer: Peer, clean_BCHW: Tensor, start_BCHW: Tensor, epsilon: float, num_steps: int, step_size: float
) -> Tensor:
    reference_BD = _reference(peer, clean_BCHW)
    peer.policy.eval()
    attacked_BCHW = (clean_BCHW + start_BCHW).clamp(0, 1)
    for _ in range(num_steps):
        attacked_BCHW = attacked_BCHW.detach().requires_grad_(True)
        _distance(_policy(peer, attacked_BCHW), reference_BD).sum().backward()  # fills every weight's gradient, too
        assert attacked_BCHW.grad is not None, "backward has just filled it"
        with torch.no_grad():
            moved_BCHW = attacked_BCHW + step_size * attacked_BCHW.grad.sign()
            attacked_BCHW = (clean_BCHW + (moved_BCHW - clean_BCHW).clamp(-epsilon, epsilon)).clamp(0, 1)
    return attacked_BCHW.detach()


def _policy(peer: Peer, pixels_BCHW: Tensor) -> Tensor:
    with torch.autocast(pixels_BCHW.device.type, torch.bfloat16, enabled=peer.bf16):
        return peer.policy(pixels_BCHW).float()


def _reference(peer: Peer, clean_BCHW: Tensor) -> Tensor:
    with torch.no_grad(), torch.autocast(clean_BCHW.device.type, torch.bfloat16, enabled=peer.bf16):
        return peer.reference(clean_BCHW).float()


def _distance(embedding_BD: Tensor, reference_BD: Tensor) -> Tensor:
    return F.mse_loss(embedding_BD, reference_BD, reduction="none").sum(-1)
