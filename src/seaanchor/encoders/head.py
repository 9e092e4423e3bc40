"""The zero-shot classifier: class names and prompt templates to unit text embeddings.

Legend: N texts, C classes, T templates, D embedding dimension.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.text import warn_overlong
from seaanchor.errors import SeaAnchorError
from seaanchor.parts import Head
from seaanchor.wording import check_distinct

DEFAULT_TEMPLATES = ("a photo of a {}.",)


@torch.no_grad()
def build_head(model: LoadedModel, class_names: Sequence[str], templates: Sequence[str] = DEFAULT_TEMPLATES, batch_size: int = 512) -> Head:
    """Average the unit embeddings of each class over the templates, and normalise again (Radford et al. 2021, §3.1.4).

    Args:
        class_names: C distinct names.
        templates: prompts with one `{}` each.
        batch_size: texts encoded at a time.

    Raises:
        SeaAnchorError: the model has no text tower, fewer than two classes, a name given twice (capitals and spaces aside), no template, or one without `{}`.
    """
    if model.encode_texts is None:
        raise SeaAnchorError(f"{model.name} has no text tower", "a CLIP model for zero-shot classification", "choose an OpenCLIP or HF CLIP model")
    _check(class_names, templates)
    texts = [template.replace("{}", name) for name in class_names for template in templates]
    if model.text_limit is not None:
        warn_overlong(texts, model.text_limit)
    chunks = [model.encode_texts(texts[i : i + batch_size]) for i in range(0, len(texts), batch_size)]
    unit_ND = F.normalize(torch.cat(chunks).float(), dim=-1)
    mean_CD = unit_ND.view(len(class_names), len(templates), -1).mean(1)
    return Head(F.normalize(mean_CD, dim=-1), model.logit_scale)


def _check(class_names: Sequence[str], templates: Sequence[str]) -> None:
    if len(class_names) < 2:
        raise SeaAnchorError(f"a class list of {len(class_names)}", "at least two classes: with one, every answer is right", "name more classes")
    check_distinct(class_names)
    if not templates:
        raise SeaAnchorError("there is no template", "at least one prompt with {}", "leave --templates out for 'a photo of a {}.'")
    for template in templates:
        if "{}" not in template:
            raise SeaAnchorError(f"the template {template!r} has no {{}}", "a place for the class name, as in 'a photo of a {}.'", "add {}")
