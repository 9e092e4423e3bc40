"""What an embedding depends on besides the image or the text itself: weights, layers, tokenizer, code. Entries of the
cache are named by it.

Legend: N texts, L tokens, D embedding.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seaanchor.encoders.encoder import Encoder, Family
from seaanchor.utils import disk_cache
from seaanchor.utils.json_text import to_json


def fingerprint(module: nn.Module) -> str:
    """A short hash of all weights and buffers, normalisation included, whatever their memory layout: two models of one
    name are never taken for each other."""
    digest = hashlib.blake2b(digest_size=8)
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def image_side(encoder: Encoder, family: Family) -> list[Any]:
    """Everything that an image's embedding depends on besides its pixels, as JSON values; the device and its precision
    among them, for rounding."""
    code = [_behaviour(encoder)] if family == "module" else []
    precision = [*arithmetic(encoder.mean.device), str(next(encoder.parameters()).dtype)]
    return [_code(), fingerprint(encoder), repr(encoder), encoder.image_size, precision, _versions(family), *code]


def arithmetic(device: torch.device) -> list[str]:
    """What decides how a device computes, as far as it moves embeddings beyond the rounding of fp32: its kind, the
    precision of products and convolutions of fp32, and autocast.

    What is left out reorders sums and moves an embedding of length 1 by at most 2e-7: threads, deterministic kernels,
    instruction sets, whether oneDNN is used, the kind of attention.
    """
    kind, autocast = device.type, ""
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        autocast = str(torch.get_autocast_dtype(kind))
    modes = [value for name, value in sorted(os.environ.items()) if name.endswith("NN_DEFAULT_FPMATH_MODE")]
    return [kind, *_fp32_precision(kind), autocast, *(modes if kind == "cpu" else [])]  # oneDNN's or DNNL's


def _fp32_precision(kind: str) -> list[str]:
    """Of matrix products and convolutions; torch before 2.9 has one setting for all devices."""
    backends: Any = torch.backends
    if not hasattr(backends, "fp32_precision"):
        return [torch.get_float32_matmul_precision(), str(backends.cudnn.allow_tf32 if kind == "cuda" else "")]
    parts = {"cpu": (backends.mkldnn.matmul, backends.mkldnn.conv), "cuda": (backends.cuda.matmul, backends.cudnn.conv)}
    found = [part.fp32_precision for part in parts.get(kind, ())]
    return ["ieee" if each == "none" else each for each in found]


@torch.no_grad()
def _behaviour(encoder: Encoder) -> str:
    """A hash of the embeddings of two random images: weights and layers do not show what the user's own code does."""
    rng, was_training = torch.Generator().manual_seed(0), encoder.training
    pixels_BCHW = torch.rand(2, 3, encoder.image_size, encoder.image_size, generator=rng).to(encoder.mean.device)
    embedding_BD = encoder.eval()(pixels_BCHW).float().cpu().contiguous()
    encoder.train(was_training)
    return hashlib.blake2b(embedding_BD.numpy().tobytes(), digest_size=8).hexdigest()


def text_side(module: nn.Module, tower: nn.Module, tokenizer: Any, config: object) -> list[Any] | None:
    """Everything that a text's embedding depends on besides the text, as JSON values; None if the tokenizer is of an
    unknown kind.

    Args:
        module: the whole model.
        tower: its image tower, which no text passes.
        tokenizer: open_clip's or transformers'.
        config: JSON values of the text tower's settings; layers do not show all of it, such as the number of heads.
    """
    reads = tokenizer_identity(tokenizer)
    if reads is None:
        return None
    seen = {id(tensor) for tensor in (*tower.parameters(), *tower.buffers())}
    digest, device = hashlib.sha256(), torch.device("cpu")
    for name, tensor in _tensors(module):
        if id(tensor) not in seen:
            device = tensor.device
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    layers = [
        repr(child) for child in module.children() if not any(id(tensor) in seen for _, tensor in _tensors(child))
    ]
    code = [_code(), _versions("open_clip"), _versions("hf")]
    return [digest.hexdigest()[:32], layers, config, reads, arithmetic(device), *code]


def tokenizer_identity(tokenizer: Any) -> list[Any] | None:
    """How texts become tokens, as JSON values: vocabulary, merges and settings; None for an unknown kind."""
    inner = getattr(tokenizer, "tokenizer", tokenizer)  # open_clip wraps transformers'
    if backend := getattr(inner, "backend_tokenizer", None):
        rules = to_json(
            json.loads(backend.to_str()) | {"padding": None, "truncation": None}
        )  # left there by the last call, given in each
    elif hasattr(inner, "bpe_ranks") and hasattr(inner, "encoder"):
        rules = "\n".join([*inner.encoder, *map(" ".join, inner.bpe_ranks)])
    elif hasattr(inner, "get_vocab"):
        rules = repr(sorted(inner.get_vocab().items()))
    else:
        return None
    plain = {
        name: value for name, value in vars(tokenizer).items() if isinstance(value, str | int | float | bool | None)
    }
    functions = [getattr(getattr(tokenizer, name, None), "__name__", None) for name in ("clean_fn", "reduction_fn")]
    special = (
        str(getattr(inner, "special_tokens_map", None)),
        getattr(inner, "padding_side", None),
        getattr(inner, "model_max_length", None),
    )
    return [
        type(tokenizer).__name__,
        type(inner).__name__,
        hashlib.sha256(rules.encode()).hexdigest()[:32],
        plain,
        functions,
        list(map(str, special)),
    ]


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from sorted((dict(module.named_parameters()) | dict(module.named_buffers())).items())


@cache
def _code() -> str:
    """Of this package: how towers are put together, and how texts become classifiers."""
    return disk_cache.code(*sorted(Path(__file__).parent.rglob("*.py")))


@cache
def _versions(family: Family) -> list[str]:
    """Of the libraries whose code computes the embedding."""
    from importlib.metadata import PackageNotFoundError, version

    found = []
    packages = {"open_clip": ("open_clip_torch", "timm"), "timm": ("timm",), "hf": ("transformers",), "module": ()}
    for name in packages[family]:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} -")
    return found
