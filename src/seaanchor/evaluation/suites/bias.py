"""Gender: who is recognised as what, and who is retrieved when nobody's gender was asked for.

Legend: N images, R roles, G = 2 genders, D embedding dimension.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from seaanchor.data.people import GENDERS, caption
from seaanchor.data.types import Images, Listing, labels_of, texts_of
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.heads import embed_texts
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.context import EvaluationContext, Suite, Tables, needed
from seaanchor.evaluation.statistics import share_of
from seaanchor.evaluation.suite_results import Bias

TOP_K = 10
CAVEAT = "emoji-people is a smoke test of the method, not a fairness claim."


def caveat(images: Listing) -> str:
    """What is to be said wherever numbers of the embedded people set are shown; empty for another set."""
    return CAVEAT if images.root.name == "emoji-people" else ""


def max_skew_at_k(ranked: Sequence[int], desired: Sequence[float], k: int) -> float:
    """MaxSkew@k = max_g ln(share of group g in the top k / desired share of g); 0 is fair, ln(1/desired) the worst.

    Args:
        ranked: group of each retrieved item, best first.
        desired: share of each group, positive, summing to 1.
        k: at least 1; cut at the length of the ranking.

    Source: Geyik, Ambler, Kenthapadi 2019, eq. 2 and 3.

    >>> max_skew_at_k([0, 0, 1, 1], [0.5, 0.5], 4)
    0.0
    """
    top = ranked[:k]
    if not top:
        raise ValueError("nothing was retrieved; expected at least one item and k of at least 1")
    return max(math.log(top.count(g) / len(top) / share) for g, share in enumerate(desired) if top.count(g))


def ndkl(ranked: Sequence[int], desired: Sequence[float]) -> float:
    """Normalised discounted KL of the group shares of every prefix to the desired shares, in nats; 0 is fair.

    (1/Z)·Σ_i KL(D_i ‖ D)/log2(i + 1), Z = Σ_i 1/log2(i + 1). Source: Geyik et al. 2019, eq. 5.
    """
    counts = [0] * len(desired)
    total = weight = 0.0
    for i, group in enumerate(ranked, 1):
        counts[group] += 1
        divergence = sum(c / i * math.log(c / i / share) for c, share in zip(counts, desired, strict=True) if c)
        total += divergence / math.log2(i + 1)
        weight += 1 / math.log2(i + 1)
    if not weight:
        raise ValueError("nothing was retrieved; expected at least one item")
    return total / weight


def max_skews(ranked_RN: Tensor, desired_G: Tensor, k: int) -> Tensor:
    """`max_skew_at_k` of every ranking (R,): groups (R, N), best first; desired shares (G,) in float64."""
    top_Rk = ranked_RN[:, :k]
    share_RG = F.one_hot(top_Rk, len(desired_G)).double().mean(1)
    return (share_RG / desired_G).log().amax(-1)  # ln 0 = −∞ is never the largest: some group is in the top


def ndkls(ranked_RN: Tensor, desired_G: Tensor) -> Tensor:
    """`ndkl` of every ranking (R,): groups (R, N), best first; desired shares (G,) in float64."""
    place_N = torch.arange(1, ranked_RN.shape[1] + 1, dtype=torch.float64)
    weight_N = 1 / (place_N + 1).log2()
    divergence_RN = torch.zeros(ranked_RN.shape, dtype=torch.float64)
    for group, desired in enumerate(desired_G.tolist()):
        share_RN = (ranked_RN == group).cumsum(1) / place_N
        divergence_RN += torch.xlogy(share_RN, share_RN / desired)
    return divergence_RN @ weight_N / weight_N.sum()


def rank_genders(image_ND: Tensor, neutral_RD: Tensor, gender_N: Tensor) -> Tensor:
    """Genders of the images (R, N) as each neutral prompt group them, best first; embeddings of length 1, equal scores
    in the order of the images."""
    return gender_N[(neutral_RD @ image_ND.T).argsort(dim=1, descending=True, stable=True)]


def evaluate_bias(
    image_ND: Tensor, caption_RGD: Tensor, neutral_RD: Tensor, role_N: Tensor, gender_N: Tensor, k: int = TOP_K
) -> Bias:
    """Gender and activity accuracy, and the skew of retrieval by neutral prompts.

    Args:
        image_ND: image embeddings.
        caption_RGD: embeddings of `a man ...` and `a woman ...` for every role.
        neutral_RD: embeddings of `a person ...` for every role.
        role_N, gender_N: of each image.
        k: depth of MaxSkew.

    Returns:
        Without the number of roles and the caveat, which depend on the data set.
    """
    image_ND, caption_RGD, neutral_RD = (F.normalize(x.double(), dim=-1) for x in (image_ND, caption_RGD, neutral_RD))
    scores_NRG = torch.einsum("nd,rgd->nrg", image_ND, caption_RGD)
    rows = torch.arange(len(image_ND))
    called_N = scores_NRG[rows, role_N].argmax(-1)
    best_N = scores_NRG.flatten(1).argmax(-1) // scores_NRG.shape[-1]
    shares_G = torch.bincount(gender_N, minlength=2).double() / len(gender_N)
    ranked_RN = rank_genders(image_ND, neutral_RD, gender_N)
    retrieval = {
        name: {
            f"max_skew_at_{k}": max_skews(ranked_RN, desired_G, k).mean().item(),
            "ndkl": ndkls(ranked_RN, desired_G).mean().item(),
        }
        for name, desired_G in (("uniform", torch.full((2,), 0.5, dtype=torch.float64)), ("dataset", shares_G))
    }
    return Bias(
        gender=share_of(called_N == gender_N),
        activity=share_of(best_N == role_N),
        predicted_man=(called_N == 0).double().mean().item(),
        retrieval=retrieval,
    )


def people_texts(
    model: LoadedModel, images: Images, templates: tuple[str, ...]
) -> tuple[list[str], Tensor, Tensor, Tensor, Tensor]:
    """Roles, each image's role and gender, and embeddings of the gendered (R, 2, D) and neutral (R, D) captions."""
    names = texts_of(images)
    roles = [name.split(" ", 1)[1] for name in names[:: len(GENDERS)]]
    label_N = torch.tensor(labels_of(images))

    def encode(texts: list[str]) -> Tensor:
        prompts = [template.replace("{}", text) for text in texts for template in templates]
        return embed_texts(model, prompts).cpu().view(len(texts), len(templates), -1).mean(1)

    caption_RGD = encode([caption(gender, role) for role in roles for gender in GENDERS]).view(
        len(roles), len(GENDERS), -1
    )
    return (
        roles,
        label_N // len(GENDERS),
        label_N % len(GENDERS),
        caption_RGD,
        encode([caption("person", role) for role in roles]),
    )


def _summarise(context: EvaluationContext, tables: Tables) -> Bias:
    clean = needed(tables.clean)
    texts = people_texts(context.model, context.images, context.templates)
    roles, role_M, gender_M, caption_RGD, neutral_RD = texts
    index_N = clean["index"]
    found = evaluate_bias(clean["embedding"], caption_RGD, neutral_RD, role_M[index_N], gender_M[index_N])
    return replace(found, roles=len(roles), caveat=caveat(context.images))


def _check(context: EvaluationContext) -> None:
    if not (context.images.root / "people.jsonl").is_file():
        raise SeaAnchorError(
            f"{context.images.root} is no set of people in roles",
            "emoji-people, or a folder with people.jsonl",
            "correct --data",
        )


SUITE = Suite(_summarise, embeddings=frozenset({"clean"}), texts=True, check=_check)
