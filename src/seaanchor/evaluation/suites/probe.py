"""What frozen embeddings hold, without any text: a linear probe and nearest neighbours.

Legend: N training images, M test images, C classes, D embedding dimension.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.context import EvaluationContext, Suite, Tables, needed
from seaanchor.evaluation.statistics import share_of
from seaanchor.evaluation.suite_results import Probe

NEIGHBOURS = 20
TEMPERATURE = 0.07
PENALTIES = tuple(10.0**power for power in range(1, -7, -1))  # strong to weak, on the mean loss
HELD_OUT = 5  # one training image of each class in this many chooses the penalty
MOST_STEPS = 1000  # of L-BFGS (Radford et al. 2021, App. A.3)


def evaluate_probe(
    train_ND: Tensor,
    train_label_N: Tensor,
    test_MD: Tensor,
    test_label_M: Tensor,
    *,
    k: int = NEIGHBOURS,
    seed: int = 0,
) -> Probe:
    """Test accuracy of a linear probe and of k nearest neighbours on frozen embeddings.

    Args:
        train_ND, test_MD: raw embeddings.
        train_label_N, test_label_M: of one list of classes.
        k: neighbours, cut at N.
        seed: of the choice of validation images.

    Raises:
        SeaAnchorError: no training class has two images, so that no penalty can be chosen.
    """
    if len(test_MD) == 0:
        raise ValueError("there is no test image; expected at least one")
    num_classes = int(max(train_label_N.max(), test_label_M.max())) + 1
    penalty, linear_M = linear_probe(train_ND, train_label_N, test_MD, num_classes, seed)
    near_M = nearest_neighbours(train_ND, train_label_N, test_MD, num_classes, k)
    return Probe(
        linear=share_of(linear_M == test_label_M),
        knn=share_of(near_M == test_label_M),
        k=min(k, len(train_ND)),
        penalty=penalty,
        train=len(train_ND),
    )


@torch.no_grad()
def nearest_neighbours(
    train_ND: Tensor,
    train_label_N: Tensor,
    test_MD: Tensor,
    num_classes: int,
    k: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
    chunk: int = 1024,
) -> Tensor:
    """Class (M,) of most votes among the k nearest training images by cosine, each vote weighing exp(cosine /
    temperature).

    Source: DINO (Caron et al. 2021, §4.1 and `eval_knn.py`: k = 20, temperature 0.07), after Wu et al. 2018.
    """
    unit_ND = F.normalize(train_ND.double(), dim=-1)
    answers = []
    for test_BD in test_MD.split(chunk):
        nearest = (F.normalize(test_BD.double(), dim=-1) @ unit_ND.T).topk(min(k, len(unit_ND)), dim=-1)
        votes_BC = nearest.values.new_zeros(len(test_BD), num_classes)
        votes_BC.scatter_add_(1, train_label_N[nearest.indices], (nearest.values / temperature).exp())
        answers.append(votes_BC.argmax(-1))
    return torch.cat(answers)


def linear_probe(
    train_ND: Tensor, train_label_N: Tensor, test_MD: Tensor, num_classes: int, seed: int = 0
) -> tuple[float, Tensor]:
    """The chosen penalty, and the class (M,) of each test image by multinomial logistic regression.

    Dimensions are centred and scaled by the training images. One image of each class in five is held out, the penalty
    of the highest accuracy on them is taken (of equals the strongest), and the regression is fitted again on all
    training images.
    """
    mean, std = train_ND.double().mean(0), train_ND.double().std(0, correction=0).clamp(min=1e-8)
    train, test = ((x.double() - mean) / std for x in (train_ND, test_MD))
    held_N = held_out(train_label_N, seed)
    best, penalty = -1.0, PENALTIES[0]
    fit: tuple[Tensor, Tensor] | None = None
    for candidate in PENALTIES:
        fit = fit_logistic(train[~held_N], train_label_N[~held_N], num_classes, candidate, fit)
        accuracy = (_answers(train[held_N], *fit) == train_label_N[held_N]).double().mean().item()
        if accuracy > best:
            best, penalty = accuracy, candidate
    return penalty, _answers(test, *fit_logistic(train, train_label_N, num_classes, penalty))


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


def _answers(feature_MD: Tensor, weight_CD: Tensor, bias_C: Tensor) -> Tensor:
    return F.linear(feature_MD, weight_CD, bias_C).argmax(-1)


def _summarise(context: EvaluationContext, tables: Tables) -> Probe:
    clean, training = needed(tables.clean), needed(tables.training)
    return evaluate_probe(
        training["embedding"],
        training["label"],
        clean["embedding"],
        clean["label"],
        seed=context.protocol.seed,
    )


SUITE = Suite(_summarise, embeddings=frozenset({"clean", "training"}))
