"""The files of a model of transformers: onto this disk, and what its configuration and its weights hold."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from seaanchor.encoders.weights import hub_error, read_weights
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.plain_files import read_object

PLAIN_NAME = re.compile(r"\w{1,40}")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
INDEX = ".index.json"  # of a file that was cut into several
SETTINGS = ("*.json", "*.txt", "*.model", "*.jinja")


def local_folder(name: str) -> Path:
    """The folder of `hf:PATH`, or of `hf:ORG/NAME` once it is on this disk.

    Raises:
        SeaAnchorError: it is neither a folder nor on the Hub, or the Hub cannot be reached.
    """
    source = name.removeprefix("hf:")
    if Path(source).is_dir():
        return Path(source).absolute()
    if source.count("/") != 1 or source.startswith((".", "/", "~")) or Path(source).parent.is_dir():
        raise SeaAnchorError(f"there is no folder {source}", "a folder, or ORG/NAME on the Hub", "correct the path")
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(source, allow_patterns=list(SETTINGS)))
        for file in WEIGHTS:
            stem, _, suffix = file.rpartition(".")
            snapshot_download(source, allow_patterns=[file, f"{stem}-*.{suffix}"])
            if any(folder.glob(f"{stem}*.{suffix}")):
                break
        return folder
    except Exception as error:  # the Hub, the network and a name that can be none each fail in their own way
        raise hub_error(name, error, "name a folder that transformers' `save_pretrained` wrote") from error


def read_json(file: Path) -> dict[str, Any]:
    """A file of settings; empty if there is none.

    Raises:
        SeaAnchorError: it holds no JSON object.
    """
    return read_object(file, change="copy it again") if os.path.lexists(file) else {}


def read_config(name: str, folder: Path) -> dict[str, Any]:
    """The model's `config.json`.

    Raises:
        SeaAnchorError: it is missing or another library's; it asks for code of its own, or its weights are quantised.
    """
    config = read_json(folder / "config.json")
    if "model_type" not in config:
        instead = "name a folder that transformers' `save_pretrained` wrote"
        if (folder / "open_clip_config.json").is_file():
            instead = f"for this OpenCLIP folder write local-dir:{folder}"
        elif "architecture" in config:
            instead = f"for this timm folder write timm:local-dir:{folder}"
        raise SeaAnchorError(f"{name} has no config.json with a model_type (it holds {held(folder)})", "one", instead)
    for file in ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json"):
        if "auto_map" in str(read_json(folder / file)):
            raise SeaAnchorError(
                f"{file} of {name} asks for code that comes with the model (auto_map), which is never run",
                "a model whose code is in transformers",
                "load it with transformers yourself, and pass its image tower to seaanchor.Encoder",
            )
    if named := sorted(_kernels(config)):
        raise SeaAnchorError(
            f"config.json of {name} names {named[0]!r} as its attention, code that would be fetched and run",
            "an attention of transformers itself, such as sdpa or eager",
            "remove the key attn_implementation, or _attn_implementation_internal, from config.json",
        )
    if config.get("quantization_config") or config.get("load_in_8bit") or config.get("load_in_4bit"):
        raise SeaAnchorError(
            f"{name} is quantised (quantization_config in its config.json)",
            "weights in 16 or 32 bits, which have gradients",
            "name the model it was made from",
        )
    if (folder / "adapter_config.json").is_file():
        raise SeaAnchorError(
            f"{name} holds an adapter (adapter_config.json)",
            "a model's own weights",
            "merge it with peft's `merge_and_unload`, and save the model",
        )
    return config


def _kernels(config: Any) -> Iterator[str]:
    """Names below the keys of the attention, anywhere in a configuration, that are places and no plain names."""
    if isinstance(config, list):
        for part in config:
            yield from _kernels(part)
    elif isinstance(config, dict):
        for key, value in config.items():
            if "attn_implementation" in key:
                yield from (text for text in _texts(value) if not PLAIN_NAME.fullmatch(text))
            else:
                yield from _kernels(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)
    elif value is not None:
        yield str(value)


def read_state(name: str, folder: Path) -> dict[str, Tensor]:
    """All weights of a folder in fp32, in one file or in several, without what wrappers put before their names.

    Raises:
        SeaAnchorError: there are none, a file is missing or broken, or they are quantised.
    """
    for file in WEIGHTS:
        for path in (folder / file, folder / f"{file}{INDEX}"):
            if path.is_file():
                return read_weights(path).state
    found = f"{name} has no {' or '.join(WEIGHTS)} (it holds {held(folder)})"
    raise SeaAnchorError(found, "the model's weights", "save it with transformers' `save_pretrained`")


def held(folder: Path) -> str:
    """The first names in a folder, for messages."""
    return ", ".join(sorted(file.name for file in folder.iterdir())[:6]) or "nothing"
