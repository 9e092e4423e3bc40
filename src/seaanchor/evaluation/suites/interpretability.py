"""Interpretability of embeddings: how near a clean image lies to sentences about its class, beside sentences about the
others.

Legend: N images, C classes, T templates, D embedding dimension.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.heads import AT_ONCE, class_means
from seaanchor.evaluation.context import EvaluationContext, Suite, Tables, needed
from seaanchor.evaluation.suite_results import Interpretability


def openai_templates() -> tuple[str, ...]:
    """The 80 ImageNet prompts of Radford et al. 2021, as open_clip has them, with `{}` for the class name."""
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)


@torch.no_grad()
def mean_prompts(
    model: LoadedModel, class_names: Sequence[str], templates: Sequence[str] | None = None, batch_size: int = AT_ONCE
) -> Tensor:
    """The mean of each class's unit prompt embeddings (C, D), not normalised again.

    A cosine is linear in either unit vector: the mean cosine with T prompts is the dot product with their mean, so no
    more than (C, D) is ever stored.

    Args:
        templates: with one `{}` each; the 80 of `openai_templates` by default.
        batch_size: texts turned into tokens at a time.

    Raises:
        SeaAnchorError: the model has no text tower.
    """
    return class_means(model, class_names, openai_templates() if templates is None else templates, batch_size)


def evaluate_interpretability(
    image_ND: Tensor, label_N: Tensor, mean_CD: Tensor, chunk: int = 4096
) -> Interpretability:
    """Mean cosine of clean images with the prompts of their own class and, beside it, with those of all other classes.

    Args:
        image_ND: raw or unit embeddings of clean images.
        label_N: their classes.
        mean_CD: as `mean_prompts` gives it, of C ≥ 2 classes.
        chunk: images compared at a time.

    Returns:
        `own`, `other`, their difference `margin`, and n. A cosine alone says little, as all of a model's texts may lie
        near all of its images; the margin does.

    Raises:
        ValueError: no image, or fewer than two classes.

    Source: LORE (Khodabandeh et al. 2025, arXiv 2505.18884), the comparison of image embeddings with template
    embeddings; the other classes are added here.
    """
    num_classes = len(mean_CD)
    if len(image_ND) == 0 or num_classes < 2:
        raise ValueError(
            f"{len(image_ND)} images and {num_classes} classes; expected at least one image and two classes"
        )
    own = other = 0.0
    for image, label in zip(image_ND.split(chunk), label_N.split(chunk), strict=True):
        cosine_BC = F.normalize(image.double(), dim=-1) @ mean_CD.double().T
        mine = cosine_BC.gather(1, label[:, None]).sum().item()
        own += mine
        other += (cosine_BC.sum().item() - mine) / (num_classes - 1)
    n = len(image_ND)
    return Interpretability(own / n, other / n, (own - other) / n, n)


def _summarise(context: EvaluationContext, tables: Tables) -> Interpretability:
    clean, templates = needed(tables.clean), openai_templates()
    mean_CD = mean_prompts(context.model, context.class_names, templates).cpu()
    found = evaluate_interpretability(clean["embedding"], clean["label"], mean_CD)
    return replace(found, templates=len(templates))


SUITE = Suite(_summarise, embeddings=frozenset({"clean"}), texts=True)
