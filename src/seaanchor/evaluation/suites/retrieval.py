"""Image-text retrieval: is one of an image's texts among the nearest texts, and one of a text's images among the
nearest images?

Legend: N images, M texts, D embedding dimension, Q queries.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seaanchor.data.types import UnlabelledImages
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.statistics import proportion

DEPTHS = (1, 5, 10)
CAPTION_FILES = ("captions.jsonl", "metadata.jsonl")  # the second as Hugging Face's image folders name it
EXAMPLE = '{"image": "a.jpg", "captions": ["a dog", "a dog in the snow"]}'


def evaluate_retrieval(
    image_ND: Tensor,
    text_MD: Tensor,
    image_group_N: Tensor,
    text_group_M: Tensor,
    depths: Sequence[int] = DEPTHS,
    chunk: int = 1024,
) -> dict[str, dict[str, float]]:
    """Recall@k in both directions: the share of queries with at least one of their positives among the k nearest.

    A text belongs to an image if both are of the same group. For captions the group is the image's number: each image
    may have several texts. For class folders it is the label: each class prompt is one text, with several images.

    Args:
        image_ND, text_MD: unit embeddings.
        image_group_N, text_group_M: group of each.
        depths: values of k; one beyond the number of candidates looks at all of them.
        chunk: queries compared at a time; memory grows with chunk · max(N, M), not with N · M.

    Returns:
        `text_retrieval_recall@k` (queries are images) and `image_retrieval_recall@k` (queries are texts), each with
        interval and n; queries without any positive are left out.

    Source: the definition and the names are CLIP_benchmark's (`metrics/zeroshot_retrieval.py`), after Radford et al.
    2021, App. E.
    """
    result: dict[str, dict[str, float]] = {}
    for direction, (query, candidate, own, other) in {
        "text": (image_ND, text_MD, image_group_N, text_group_M),
        "image": (text_MD, image_ND, text_group_M, image_group_N),
    }.items():
        asked = torch.isin(own, other)
        place_Q = first_hits(query[asked], candidate, own[asked], other, max(depths), chunk)
        result |= {f"{direction}_retrieval_recall@{k}": proportion(place_Q < k) for k in depths}
    return result


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


@dataclass(frozen=True)
class Captions:
    """Images with their texts.

    Attributes:
        images: the images.
        texts: M texts, not necessarily distinct.
        image_of_text: which image each belongs to.
    """

    images: UnlabelledImages
    texts: tuple[str, ...]
    image_of_text: tuple[int, ...]


def read_captions(root: Path) -> Captions:
    """Captions of images from JSON lines: `captions.jsonl` or `metadata.jsonl` in a folder, or a file named itself.

    A line names an image (`image`, `file` or `file_name`, relative to the file) and its text or texts (`captions`,
    `caption` or
    `text`: a string or a list of strings). Several lines may name one image.

    Raises:
        SeaAnchorError: there is no such file, a line is no such row, an image is missing, or there is no row at all.
    """
    file = (
        root
        if root.is_file()
        else next((root / name for name in CAPTION_FILES if (root / name).is_file()), root / CAPTION_FILES[0])
    )
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SeaAnchorError(
            f"{file} could not be read ({error})", f"a JSON lines file such as {CAPTION_FILES[0]}", "correct the path"
        ) from error
    number: dict[Path, int] = {}
    texts, owners = [], []
    for at, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            name, captions = _to_row(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise SeaAnchorError(
                f"{file}, line {at}: {str(error) or line[:80]}", "an image and its captions", f"write {EXAMPLE}"
            ) from error
        path = file.parent / name
        if not path.is_file():
            raise SeaAnchorError(
                f"{file}, line {at}: {path} is missing", "an image file, relative to the JSON file", "correct the path"
            )
        owner = number.setdefault(path, len(number))
        texts += captions
        owners += [owner] * len(captions)
    if not texts:
        raise SeaAnchorError(f"{file} holds no caption", "at least one row", f"write lines such as {EXAMPLE}")
    return Captions(UnlabelledImages(file.parent, tuple(number)), tuple(texts), tuple(owners))


def _to_row(data: Mapping[str, Any]) -> tuple[str, list[str]]:
    name = next((data[key] for key in ("image", "file", "file_name") if key in data), None)
    captions = next((data[key] for key in ("captions", "caption", "text") if key in data), None)
    captions = [captions] if isinstance(captions, str) else captions
    if not isinstance(name, str) or not isinstance(captions, list) or not captions:
        raise ValueError(f"image {name!r}, captions {captions!r}")
    if not all(isinstance(text, str) and text.strip() for text in captions):
        raise ValueError(f"captions {captions!r} of {name}")
    return name, captions
