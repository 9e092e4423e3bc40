"""A linear head as a file: one layer's weight and bias, with the names of its classes where there are any.

Legend: C classes, D embedding dimension.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seaanchor.data.name_pairing import WHOLE_NUMBER
from seaanchor.encoders.encoder import Encoder
from seaanchor.encoders.weights import read_weights
from seaanchor.errors import SeaAnchorError
from seaanchor.types import Head, NamedHead
from seaanchor.utils.checkpoint import check_sum, write_checked
from seaanchor.utils.json_text import to_json
from seaanchor.utils.plain_files import parse_json, read_json

LIBRARY = "library"
NAME = "head.safetensors"
"""The head's file in a run, or in a model's folder."""
EXPECTED = "one linear layer: `weight` of shape (C, D), `bias` of shape (C,) or none"


def read_head(file: str | Path) -> NamedHead:
    """A linear head of raw embeddings.

    Args:
        file: safetensors or .pt with a weight (C, D) and a bias (C,) or none, under any one prefix such as `fc.` or
            `head.`. Class names are in the file's metadata, or in a JSON file of the same name beside it: a list, or
            `id2label`, or a mapping number → name.

    Raises:
        SeaAnchorError: no such file, a damaged one, no or several linear layers in it, a bias or names of another
            number of classes, fewer than two classes; as `read_weights`.
    """
    path = Path(file)
    if not path.is_file():
        raise SeaAnchorError(
            f"the head {path} is missing", "text, classifier, probe, or a file with a linear head", "correct --head"
        )
    _check_whole(path)
    weight_CD, bias_C = _layer(read_weights(path).state, path)
    if len(weight_CD) < 2:
        raise SeaAnchorError(f"{path} has {len(weight_CD)} class", "at least two classes", "name another head")
    said = _metadata(path)
    head = Head(weight_CD, bias_C=bias_C, unit=False, kind=said.get("kind", "file"))
    return NamedHead(head, _class_names(said, path, len(weight_CD)), said.get("tokens"))


def _check_whole(path: Path) -> None:
    """Raise a SeaAnchorError where a head of ours is not what was written; other files carry no checksum."""
    try:
        if path.suffix == ".safetensors" and path.stat().st_size:
            check_sum(path)
    except ValueError as error:
        raise SeaAnchorError(f"{path}: {error}", "the file as it was written", "copy or fit the head again") from error


def write_head(named: NamedHead, file: Path) -> None:
    """Write a linear head so that `read_head` gives the same.

    Raises:
        SeaAnchorError: the disk is full or the folder cannot be written.
    """
    head = named.head
    if head.unit or head.logit_scale != 1:
        raise ValueError(f"a head of kind {head.kind} is no linear layer of raw embeddings")
    tensors = {"weight": head.weight_CD} | ({} if head.bias_C is None else {"bias": head.bias_C})
    said = {"format": "pt", "kind": head.kind}
    said |= {} if named.class_names is None else {"class_names": to_json(named.class_names)}
    said |= {} if named.tokens is None else {"tokens": named.tokens}
    write_checked(file, {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, said)


def head_digest(named: NamedHead) -> str:
    """A short hash of a head's numbers and class names."""
    digest = hashlib.blake2b(to_json(named.class_names).encode(), digest_size=8)
    for tensor in (named.head.weight_CD, named.head.bias_C):
        if tensor is not None:
            digest.update(tensor.detach().cpu().float().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_width(named: NamedHead, dim: int, model: str, of: str) -> None:
    """Raise a SeaAnchorError where a head was made for embeddings of another number of dimensions."""
    width = named.head.weight_CD.shape[1]
    if width == dim:
        return
    twice = (
        " (twice as many: as DINOv2's public heads, it reads the class token beside the mean of the patches)"
        if width == 2 * dim
        else ""
    )
    raise SeaAnchorError(
        f"{of} reads embeddings of {width} dimensions and {model} gives {dim}{twice}",
        "a head that was made for this tower's embeddings",
        "name another head, or fit one with --head probe",
    )


def tokens_read(encoder: Encoder) -> str:
    """What a head of an encoder's embeddings was made for, as `NamedHead.tokens` holds it."""
    return encoder.tokens or LIBRARY


def reads_tokens_of(named: NamedHead, encoder: Encoder) -> bool:
    """Whether a head was made for the encoder's kind of embedding; one that says nothing may have been."""
    return named.tokens in (None, tokens_read(encoder))


def check_tokens(named: NamedHead, encoder: Encoder, model: str, of: str) -> None:
    """Raise a SeaAnchorError where a head was made for other tokens: they may have as many dimensions, and other
    values."""
    if not reads_tokens_of(named, encoder):
        raise SeaAnchorError(
            f"{of} reads {spoken(named.tokens)} and {model} gives {spoken(tokens_read(encoder))}",
            "a head that was made for this embedding",
            "set --tokens to that of the head, name another head, or fit one with --head probe",
        )


def spoken(tokens: str | None) -> str:
    """What of a tower is read, in words."""
    return "the library's own embedding" if tokens == LIBRARY else f"--tokens {tokens}"


def _layer(state: Mapping[str, Tensor], path: Path) -> tuple[Tensor, Tensor | None]:
    """The weight (C, D) and bias (C,) of the one linear layer; a convolution of 1 × 1 is one, too."""
    weights = [key for key in state if key == "weight" or key.endswith(".weight")]
    others = [key for key in state if key not in weights and key.rpartition(".")[2] != "bias"]
    if len(weights) != 1 or others or len(state) > 2:
        listed = ", ".join(list(state)[:4]) + (", ..." if len(state) > 4 else "")
        raise SeaAnchorError(f"{path} holds {len(state)} tensors: {listed}", EXPECTED, "save the last layer alone")
    weight = state[weights[0]]
    weight = weight.flatten(1) if weight.dim() == 4 and weight.shape[2:] == (1, 1) else weight
    bias = next((state[key] for key in state if key not in weights), None)
    if weight.dim() != 2 or (bias is not None and bias.shape != weight.shape[:1]):
        shapes = ", ".join(f"{key} {tuple(tensor.shape)}" for key, tensor in state.items())
        raise SeaAnchorError(f"{path} holds {shapes}", EXPECTED, "save the last layer alone")
    return weight.float().contiguous(), None if bias is None else bias.float().contiguous()


def _metadata(path: Path) -> dict[str, str]:
    if path.suffix != ".safetensors":
        return {}
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def _class_names(said: Mapping[str, str], path: Path, count: int) -> tuple[str, ...] | None:
    """From the metadata, or from a JSON file beside the head; None where there are none."""
    beside = path.with_suffix(".json")
    try:
        if "class_names" in said:
            source, data = str(path), parse_json(said["class_names"])
        elif beside.is_file():
            source, data = str(beside), read_json(beside, "a JSON list of names", "correct them")
        else:
            return None
    except ValueError as error:
        raise SeaAnchorError(
            f"the class names of {path} could not be read ({error})", "a JSON list of names", "correct them"
        ) from error
    names = _listed(data)
    if names is None or len(names) != count:
        held = "no list of names" if names is None else f"{len(names)} names"
        raise SeaAnchorError(f"{source} holds {held}", f"a name for each of {count} classes", "correct it")
    return names


def _listed(data: Any) -> tuple[str, ...] | None:
    """Names in the order of the classes, None where the data is no such list."""
    if isinstance(data, dict):
        data = data.get("class_names", data.get("id2label", data))
    if isinstance(data, dict):
        numbers = {int(key): name for key, name in data.items() if WHOLE_NUMBER.fullmatch(str(key))}
        complete = len(numbers) == len(data) and set(numbers) == set(range(len(data)))
        data = [numbers[i] for i in range(len(data))] if complete else None
    valid = isinstance(data, list) and all(isinstance(name, str) and name.strip() for name in data)
    return tuple(data) if valid and data is not None else None
