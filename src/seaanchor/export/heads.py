"""The linear heads that go with an export: the model's own classifier, and the one that lies beside its weights.

Legend: D embedding dimension.
"""

from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.head_file import NAME, reads_tokens_of, spoken
from seaanchor.types import NamedHead
from seaanchor.utils.text import plural


def reads_embedding(named: NamedHead, model: LoadedModel) -> bool:
    """Whether a head was made for the embedding that the model gives: the same tokens, as many dimensions."""
    return reads_tokens_of(named, model.encoder) and named.head.weight_CD.shape[1] == model.encoder.dim


def answering(model: LoadedModel) -> NamedHead | None:
    """The head that evaluations take by default, of those that are linear: the one that lies with the model, else its
    own classifier. None without any, and where the first reads another embedding: the classifier would then give other
    answers than those that were measured."""
    stored = model.stored_head
    if stored is None:
        return model.classifier
    return stored if reads_embedding(stored, model) else None


def head_lines(model: LoadedModel, format: str) -> list[str]:
    """What a model card says of them.

    Args:
        model: what is exported, with the embedding that it has in the format.
        format: by its name.
    """
    stored, of_graph = model.stored_head, format == "onnx"
    if stored is None:
        return ["\n`logits` are those of the model's own classifier."] if of_graph and model.classifier else []
    count, width = stored.head.weight_CD.shape
    what = f"\n`{NAME}` is {called(stored.head.kind)} of {plural(count, 'class', 'classes')}"
    what += "" if stored.class_names else ", whose names are not known"
    if not reads_embedding(stored, model):
        known = stored.tokens is not None and not reads_tokens_of(stored, model.encoder)
        other = spoken(stored.tokens) if known else f"an embedding of {width} dimensions"
        none = ", so that there are no `logits`" if of_graph else ""
        return [f"{what}. It reads {other} and not the embedding that this format gives{none}."]
    if of_graph:
        return [f"{what}: `logits` are its answers."]
    own = "" if model.classifier is None else " The model's own classifier is another, with other answers."
    return [f"{what}, by which `seaanchor evaluate` takes answers unless `--head` names another.{own}"]


def called(kind: str) -> str:
    """A kind of linear head in words."""
    return "a linear probe" if kind == "probe" else "a linear head"
