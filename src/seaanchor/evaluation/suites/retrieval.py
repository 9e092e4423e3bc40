"""Image-text retrieval: is one of an image's texts among the nearest texts, and one of a text's images among the
nearest images?

Legend: N images, M texts, D embedding dimension, Q queries.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from seaanchor.evaluation.context import EvaluationContext, Suite, Tables, needed
from seaanchor.evaluation.statistics import Share, share_of
from seaanchor.evaluation.suite_results import Retrieval

DEPTHS = (1, 5, 10)


def evaluate_retrieval(
    image_ND: Tensor,
    text_MD: Tensor,
    image_group_N: Tensor,
    text_group_M: Tensor,
    depths: Sequence[int] = DEPTHS,
    chunk: int = 1024,
) -> Retrieval:
    """Recall@k in both directions: the share of queries with at least one of their positives among the k nearest.

    A text belongs to an image if both are of the same group. For captions the group is the image's number: each image
    may have several texts. For class folders it is the label: each class prompt is one text, with several images.

    Args:
        image_ND, text_MD: unit embeddings.
        image_group_N, text_group_M: group of each.
        depths: values of k; one beyond the number of candidates takes all of them.
        chunk: queries compared at a time; memory grows with chunk · max(N, M), not with N · M.

    Returns:
        `recall@k` in both directions; queries without any positive are left out.

    Source: the definition is CLIP_benchmark's (`metrics/zeroshot_retrieval.py`), after Radford et al. 2021, App. E.
    """

    def recall(query: Tensor, candidate: Tensor, own: Tensor, other: Tensor) -> dict[str, Share]:
        asked = torch.isin(own, other)
        place_Q = first_hits(query[asked], candidate, own[asked], other, max(depths), chunk)
        return {f"recall@{k}": share_of(place_Q < k) for k in depths}

    return Retrieval(
        image_to_text=recall(image_ND, text_MD, image_group_N, text_group_M),
        text_to_image=recall(text_MD, image_ND, text_group_M, image_group_N),
    )


def first_hits(
    query_QD: Tensor, candidate_MD: Tensor, query_group_Q: Tensor, candidate_group_M: Tensor, depth: int, chunk: int
) -> Tensor:
    """Place (Q,) of the nearest positive, from 0; `depth` where none is among the first `depth`."""
    places = []
    for query, group in zip(query_QD.split(chunk), query_group_Q.split(chunk), strict=True):
        nearest = (query @ candidate_MD.T).topk(min(depth, len(candidate_MD)), dim=-1).indices
        hit = candidate_group_M[nearest] == group[:, None]
        places.append(torch.where(hit.any(-1), hit.int().argmax(-1), depth))
    return torch.cat(places) if places else query_group_Q.new_empty(0)


def _summarise(context: EvaluationContext, tables: Tables) -> Retrieval:
    """Of captioned images by their captions; of class folders each class prompt is one text, with the images of its
    class."""
    clean, text_MD = needed(tables.clean), context.head.weight_CD.cpu()
    if context.captions is None:
        image_group_N, text_group_M = clean["label"], torch.arange(len(text_MD))
    else:
        image_group_N, text_group_M = clean["index"], torch.tensor(context.captions.image_of_text)
    return evaluate_retrieval(F.normalize(clean["embedding"], dim=-1), text_MD, image_group_N, text_group_M)


SUITE = Suite(_summarise, embeddings=frozenset({"clean"}), texts=True, classes=False)
