"""The zero-shot classifier: class names and prompt templates to unit text embeddings.

Legend: N texts, C classes, T templates, D embedding dimension.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from seaanchor.encoders.distinct_texts import check_classes_apart
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.text import overlong, warn_overlong
from seaanchor.errors import SeaAnchorError
from seaanchor.types import Head
from seaanchor.utils import disk_cache
from seaanchor.utils.stages import stage
from seaanchor.utils.text import check_distinct

DEFAULT_TEMPLATES = ("a photo of a {}.",)
AT_ONCE = 8192  # texts turned into tokens; they go through the tower in smaller lots


def build_head(
    model: LoadedModel,
    class_names: Sequence[str],
    templates: Sequence[str] = DEFAULT_TEMPLATES,
    batch_size: int = AT_ONCE,
    *,
    classes: bool = True,
) -> Head:
    """Average the unit embeddings of each class over the templates, and normalise again (Radford et al. 2021, §3.1.4).

    Args:
        class_names: C distinct names.
        templates: prompts with one `{}` each.
        batch_size: texts turned into tokens at a time.
        classes: whether the names are classes, which must differ in what the model reads of them; of other texts some
            may be cut to the same.

    Raises:
        SeaAnchorError: the model has no text tower, fewer than two classes, a name given twice (capitals and spaces
            aside) or cut to the same tokens as another, no template, or one without `{}`.
    """
    _check(class_names, templates)
    return Head(
        F.normalize(class_means(model, class_names, templates, batch_size, apart=classes), dim=-1), model.logit_scale
    )


def class_means(
    model: LoadedModel,
    class_names: Sequence[str],
    templates: Sequence[str],
    batch_size: int = AT_ONCE,
    *,
    apart: bool = False,
) -> Tensor:
    """The mean over the templates of each class's unit embeddings (C, D), from the cache where it has them; its length
    says how far they agree.

    Raises:
        SeaAnchorError: the model has no text tower, or classes that must differ (`apart`) become the same tokens.
    """

    def texts() -> list[str]:
        return [template.replace("{}", name) for name in class_names for template in templates]

    def compute() -> disk_cache.Entry:
        unit_ND = F.normalize(_encode(model, texts(), batch_size), dim=-1)
        return {"mean": unit_ND.view(len(class_names), len(templates), -1).mean(1), "cut": _cut(model, texts())}

    found = _cached("classes", model, [list(class_names), list(templates)], compute)
    if apart and model.text_limit is not None:
        check_classes_apart(model.text_limit, class_names, templates)
    if (cut := found["cut"]).numel() and model.text_limit is not None:  # logged whenever such texts are asked for
        warn_overlong(len(cut), len(class_names) * len(templates), texts()[int(cut[0])], model.text_limit)
    return found["mean"].to(model.encoder.mean.device)


def embed_texts(model: LoadedModel, texts: Sequence[str], batch_size: int = AT_ONCE) -> Tensor:
    """Unit embeddings (N, D) of N texts, in fp32.

    Raises:
        SeaAnchorError: the model has no text tower.
    """
    found = _cached(
        "texts", model, list(texts), lambda: {"unit": F.normalize(_encode(model, texts, batch_size), dim=-1)}
    )
    return found["unit"].to(model.encoder.mean.device)


def _cached(kind: str, model: LoadedModel, asked: list, compute: Callable[[], disk_cache.Entry]) -> disk_cache.Entry:
    """From the cache, where the model says what its texts depend on."""
    if model.encode_texts is None:
        raise SeaAnchorError(
            f"{model.name} has no text tower",
            "a CLIP model for zero-shot classification",
            "choose an OpenCLIP or HF CLIP model",
        )
    if model.text_identity is None or disk_cache.location() is None or (identity := model.text_identity()) is None:
        return compute()
    return disk_cache.get_or_compute(kind, lambda: [identity, asked], compute)


@torch.no_grad()
def _encode(model: LoadedModel, texts: Sequence[str], batch_size: int) -> Tensor:
    # None was refused
    with stage(f"{model.name}: texts", len(texts), "texts"):
        chunks = [model.encode_texts(texts[i : i + batch_size]) for i in range(0, len(texts), batch_size)]  # type: ignore[misc]
    return torch.cat(chunks).float()


def _cut(model: LoadedModel, texts: Sequence[str]) -> Tensor:
    """Numbers of the texts that the tokenizer cuts."""
    return torch.tensor([] if model.text_limit is None else overlong(texts, model.text_limit), dtype=torch.long)


def _check(class_names: Sequence[str], templates: Sequence[str]) -> None:
    if len(class_names) < 2:
        raise SeaAnchorError(
            f"a class list of {len(class_names)}",
            "at least two classes: with one, every answer is right",
            "name more classes",
        )
    check_distinct(class_names)
    if not templates:
        raise SeaAnchorError(
            "there is no template", "at least one prompt with {}", "leave --templates out for 'a photo of a {}.'"
        )
    for template in templates:
        if "{}" not in template:
            raise SeaAnchorError(
                f"the template {template!r} has no {{}}",
                "a place for the class name, as in 'a photo of a {}.'",
                "add {}",
            )
