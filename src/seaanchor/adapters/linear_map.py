"""One linear map W on image and text embeddings, towers frozen; its singular values are the slider.

With W = U S Vᵀ, W_t = U Sᵗ Vᵀ: t = 1 is the trained map, t = 0 the pre-trained model (an orthogonal map changes no cosine), t < 0 the
opposite behaviour, t > 1 an exaggeration (arXiv 2411.08923, §4). Legend: D embedding dimension, E mapped dimension, B batch, C texts.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seaanchor.errors import SeaAnchorError
from seaanchor.parts import Head


class LinearMap(nn.Module):
    """W (E, D), orthogonal at the start.

    Args:
        dim: D.
        out: E; D by default, where t = 0 is exact. With E < D, t = 0 is only a projection.
    """

    def __init__(self, dim: int, out: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out or dim, dim))
        nn.init.orthogonal_(self.weight)

    def forward(self, embedding_BD: Tensor) -> Tensor:
        """Mapped embeddings (B, E)."""
        return embedding_BD @ self.weight.T


def orthogonality(weight_ED: Tensor) -> Tensor:
    """‖W Wᵀ − 1‖_F, a scalar: 0 for an orthogonal map, which changes no cosine; the penalty must stay soft."""
    gram = weight_ED @ weight_ED.T
    return torch.linalg.matrix_norm(gram - torch.eye(len(gram), device=gram.device, dtype=gram.dtype))


def scale_spectrum(weight_ED: Tensor, t: float) -> Tensor:
    """W_t = U Sᵗ Vᵀ (E, D), in float64 and back.

    Args:
        weight_ED: the trained map.
        t: any number; singular values below 1e-6 of the largest are held there, or a negative t would blow them up.

    Raises:
        SeaAnchorError: t takes a singular value out of the range of the map's precision.

    >>> w = torch.diag(torch.tensor([2.0, 0.5]))
    >>> bool(torch.allclose(scale_spectrum(w, 2.0), torch.diag(torch.tensor([4.0, 0.25]))))
    True
    """
    u, s, vh = torch.linalg.svd(weight_ED.double(), full_matrices=False)
    powers = s.clamp(min=1e-6 * s.max()) ** t
    if not bool(powers.isfinite().all()) or powers.max() > torch.finfo(weight_ED.dtype).max:
        raise SeaAnchorError(f"t = {t} takes singular values of {s.min():.3g} to {s.max():.3g} out of range", "a number near 0 to 2", "choose a smaller t")
    return (u * powers @ vh).to(weight_ED.dtype)


def without_rotation(weight_DD: Tensor) -> Tensor:
    """V S Vᵀ (D, D) for W = U S Vᵀ: it gives every cosine that W gives, and is the identity where W is orthogonal, so that an export at t = 0 is the
    pre-trained model itself."""
    _, s, vh = torch.linalg.svd(weight_DD.double(), full_matrices=False)
    return (vh.T * s @ vh).to(weight_DD.dtype)


@dataclass(frozen=True)
class Linear:
    """Adapter: only W moves.

    Args:
        orthogonality: weight of the penalty ‖W Wᵀ − 1‖_F, per batch.
    """

    orthogonality: float = 1.0

    def trainable(self, encoder: nn.Module) -> Iterable[nn.Parameter]:
        """W alone."""
        encoder.requires_grad_(True)
        return list(encoder.parameters())

    def head(self, policy: nn.Module, head: Head | None) -> Head | None:
        """The policy's own text side: texts go through the same map."""
        if head is None:
            return None
        return Head(F.normalize(policy(head.weight_CD), dim=-1), head.logit_scale)

    def penalty(self, policy: nn.Module) -> Tensor | None:
        """The weighted orthogonality penalty, a scalar."""
        return self.orthogonality * orthogonality(policy.get_parameter("weight"))
