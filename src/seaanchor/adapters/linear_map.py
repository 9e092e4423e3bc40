"""One linear map W on image and text embeddings, towers frozen; its singular values are the slider.

With W = U S Vᵀ, W_t = U Sᵗ Vᵀ: t = 1 is the trained map, t = 0 the pre-trained model (an orthogonal map changes no
cosine), t < 0 the opposite behaviour, t > 1 an exaggeration (arXiv 2411.08923, §4).

Legend: D embedding dimension, E mapped dimension, R singular values, B batch, C texts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seaanchor.errors import SeaAnchorError
from seaanchor.types import Head, Needs


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


@dataclass(frozen=True)
class Spectrum:
    """W = U S Vᵀ in float64: decomposed once, any W_t is then a matter of powers of S.

    Attributes:
        u_ER, s_R, vh_RD: the thin singular value decomposition, R = min(E, D).
        dtype: of the map it came from.
    """

    u_ER: Tensor
    s_R: Tensor
    vh_RD: Tensor
    dtype: torch.dtype

    def powers(self, t: float) -> Tensor:
        """Sᵗ (R,). Singular values below 1e-6 of the largest are held there, or a negative t would blow them up.

        Raises:
            SeaAnchorError: t is no finite number, or takes a singular value out of the range of the map's precision.
        """
        powers_R = self.s_R.clamp(min=1e-6 * self.s_R.max()) ** t
        kept = torch.finfo(self.dtype)
        if not bool(powers_R.isfinite().all()) or powers_R.max() > kept.max or powers_R.max() < kept.tiny:
            low, high = self.s_R.min(), self.s_R.max()
            raise SeaAnchorError(
                f"t = {t} takes singular values of {low:.3g} to {high:.3g} out of range",
                "a number near 0 to 2",
                "choose a t nearer to 0",
            )
        return powers_R

    def check_rank(self, t: float) -> None:
        """Fail where W_t is no model any more: so many singular values vanish beside the largest that it loses rank
        against W.

        Raises:
            SeaAnchorError: so it is, or as `powers`.
        """
        left, rank = self._rank(self.powers(t)), self._rank(self.s_R)
        if left < rank:
            found = (
                f"t = {t} leaves {left} of {rank} directions of the map, whose singular values are "
                f"{self.s_R.min():.3g} to {self.s_R.max():.3g}"
            )
            raise SeaAnchorError(
                found, "a number near 0 to 2, which lets every direction count", "choose a t nearer to 0"
            )

    def _rank(self, s_R: Tensor) -> int:
        """How many singular values stand out from rounding in the map's precision, with numpy's and torch's
        tolerance."""
        tolerance = max(len(self.u_ER), self.vh_RD.shape[-1]) * torch.finfo(self.dtype).eps
        return int((s_R > tolerance * s_R.max()).sum())

    def at(self, t: float) -> Tensor:
        """W_t = U Sᵗ Vᵀ (E, D)."""
        return (self.u_ER * self.powers(t) @ self.vh_RD).to(self.dtype)

    def without_rotation(self, t: float = 1.0) -> Tensor:
        """V Sᵗ Vᵀ (D, D): it gives every cosine that W_t gives, and is the identity at t = 0, so that an export there
        is the pre-trained model itself."""
        return (self.vh_RD.T * self.powers(t) @ self.vh_RD).to(self.dtype)

    def rotate(self, embedding_BD: Tensor) -> Tensor:
        """Embeddings along the map's own axes, Vᵀ·I (B, R) in float64: times `powers(t)` they have the cosines of
        W_t·I, as U changes none."""
        return embedding_BD.double() @ self.vh_RD.T


def decompose(weight_ED: Tensor) -> Spectrum:
    """The singular value decomposition of a map, on the CPU in float64."""
    u_ER, s_R, vh_RD = torch.linalg.svd(weight_ED.detach().cpu().double(), full_matrices=False)
    return Spectrum(u_ER, s_R, vh_RD, weight_ED.dtype)


def scale_spectrum(weight_ED: Tensor, t: float) -> Tensor:
    """W_t = U Sᵗ Vᵀ (E, D); `decompose` once where several t are wanted.

    Args:
        weight_ED: the trained map.
        t: any number for which the singular values stay in range.

    Raises:
        SeaAnchorError: as `Spectrum.powers`.

    >>> w = torch.diag(torch.tensor([2.0, 0.5]))
    >>> bool(torch.allclose(scale_spectrum(w, 2.0), torch.diag(torch.tensor([4.0, 0.25]))))
    True
    """
    return decompose(weight_ED).at(t)


def without_rotation(weight_DD: Tensor) -> Tensor:
    """V S Vᵀ (D, D) for W = U S Vᵀ: see `Spectrum.without_rotation`."""
    return decompose(weight_DD).without_rotation()


@dataclass(frozen=True)
class Linear:
    """Adapter: only W moves.

    Args:
        orthogonality: weight of the penalty ‖W Wᵀ − 1‖_F, per batch.
    """

    orthogonality: float = 1.0
    needs: ClassVar[Needs] = Needs(stored_embeddings=True)

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
