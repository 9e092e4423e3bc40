"""What frozen embeddings hold, without any text: a linear probe and nearest neighbours.

Legend: N training images, M test images, C classes, D embedding dimension.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from seaanchor.evaluation.context import EvaluationContext, Suite, Tables, needed
from seaanchor.evaluation.statistics import share_of
from seaanchor.evaluation.suite_results import Probe
from seaanchor.functional.logistic import fit_probe

NEIGHBOURS = 20
TEMPERATURE = 0.07


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
    """The chosen penalty, and the class (M,) of each test image, by `seaanchor.functional.logistic.fit_probe`."""
    probe = fit_probe(train_ND, train_label_N, num_classes, seed)
    return probe.penalty, probe(test_MD).argmax(-1)


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
