"""Multinomial logistic regression on embeddings: the linear probe.

Legend: N training images, M other images, C classes, D embedding dimension.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from seaanchor.errors import SeaAnchorError

PENALTIES = tuple(10.0**power for power in range(1, -7, -1))  # strong to weak, on the mean loss
HELD_OUT = 5  # one training image of each class in this many chooses the penalty
MOST_STEPS = 1000  # of L-BFGS (Radford et al. 2021, App. A.3)


@dataclass(frozen=True)
class LinearProbe:
    """A fitted regression in float64, on dimensions that are centred and scaled.

    Attributes:
        penalty: the one that was chosen.
        weight_CD, bias_C: of the scaled dimensions.
        mean_D, std_D: of the training embeddings.
    """

    penalty: float
    weight_CD: Tensor
    bias_C: Tensor
    mean_D: Tensor
    std_D: Tensor

    def __call__(self, embedding_MD: Tensor) -> Tensor:
        """Logits (M, C) of raw embeddings."""
        return F.linear((embedding_MD.double() - self.mean_D) / self.std_D, self.weight_CD, self.bias_C)

    def on_raw(self) -> tuple[Tensor, Tensor]:
        """Weight (C, D) and bias (C,) in fp32 that give the same logits of raw embeddings."""
        weight_CD = self.weight_CD / self.std_D
        return weight_CD.float(), (self.bias_C - weight_CD @ self.mean_D).float()


def fit_probe(train_ND: Tensor, label_N: Tensor, num_classes: int, seed: int = 0) -> LinearProbe:
    """Fit multinomial logistic regression, with a penalty chosen on held-out images.

    Dimensions are centred and scaled by the training images. One image of each class in five is held out, the penalty
    of the highest accuracy on them is taken (of equals the strongest), and the regression is fitted again on all
    training images.

    Args:
        train_ND: raw embeddings.
        label_N: their classes.
        num_classes: C.
        seed: of the choice of the images held out.

    Raises:
        SeaAnchorError: no class has two images.
    """
    mean_D, std_D = train_ND.double().mean(0), train_ND.double().std(0, correction=0).clamp(min=1e-8)
    train_ND = (train_ND.double() - mean_D) / std_D
    held_N = held_out(label_N, seed)
    best, penalty = -1.0, PENALTIES[0]
    fit: tuple[Tensor, Tensor] | None = None
    for candidate in PENALTIES:
        fit = fit_logistic(train_ND[~held_N], label_N[~held_N], num_classes, candidate, fit)
        answer_N = F.linear(train_ND[held_N], *fit).argmax(-1)
        accuracy = (answer_N == label_N[held_N]).double().mean().item()
        if accuracy > best:
            best, penalty = accuracy, candidate
    return LinearProbe(penalty, *fit_logistic(train_ND, label_N, num_classes, penalty), mean_D, std_D)


def held_out(label_N: Tensor, seed: int) -> Tensor:
    """Which training images (N,) choose the penalty: of each class with n ≥ 2 images, ⌈(n − 1)/5⌉ at random.

    Raises:
        SeaAnchorError: no class has two images.
    """
    order = torch.randperm(len(label_N), generator=torch.Generator().manual_seed(seed)).to(label_N.device)
    held_N = torch.zeros_like(label_N, dtype=torch.bool)
    for label in label_N.unique():
        held_N[order[label_N[order] == label][1::HELD_OUT]] = True
    if not held_N.any():
        raise SeaAnchorError(
            "no class with two training images",
            "at least two of a class, to choose the penalty on",
            "give a larger train split",
        )
    return held_N


def fit_logistic(
    feature_ND: Tensor, label_N: Tensor, num_classes: int, penalty: float, start: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Weights (C, D) and bias (C,) that minimise the mean cross-entropy + penalty/2 · ‖W‖², by L-BFGS; the bias is
    free.

    scikit-learn's C is 1/(penalty · N). `start` is where to begin, which changes the time and not the minimum.
    """
    begin = (
        (feature_ND.new_zeros(num_classes, feature_ND.shape[1]), feature_ND.new_zeros(num_classes))
        if start is None
        else start
    )
    weight_CD, bias_C = (x.detach().clone().requires_grad_() for x in begin)
    optimizer = torch.optim.LBFGS(
        [weight_CD, bias_C],
        max_iter=MOST_STEPS,
        tolerance_grad=1e-7,
        tolerance_change=1e-12,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (
            F.cross_entropy(F.linear(feature_ND, weight_CD, bias_C), label_N) + penalty / 2 * weight_CD.square().sum()
        )
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return weight_CD.detach(), bias_C.detach()
