"""An encoder around the user's own module, with everything that training, evaluation and export ask of a model.

Legend: N texts, D embedding dimension.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seaanchor.data.preprocessing import Preprocessing
from seaanchor.encoders.checks import measured_dim
from seaanchor.encoders.encoder import Encoder, LoadedModel
from seaanchor.errors import SeaAnchorError, said_by
from seaanchor.utils.checksums import check_checksums
from seaanchor.utils.json_text import to_json
from seaanchor.utils.plain_files import read_object

SETTINGS, WEIGHTS = "encoder.json", "model.safetensors"
TEXTS = ("a photo of a cat.", "a photo of a dog.")


@dataclass(frozen=True)
class ModuleExport:
    """How an export of an own module is built again.

    Attributes:
        class_path: `package.module:Class` of the module.
        factory: builds the module with any weights; None where none was given.
    """

    class_path: str
    factory: Callable[[], nn.Module] | None


def from_encoder(
    encoder: Encoder,
    name: str | None = None,
    *,
    encode_texts: Callable[[Sequence[str]], Tensor] | None = None,
    logit_scale: float = 1.0,
    factory: Callable[[], nn.Module] | None = None,
) -> LoadedModel:
    """A model of an encoder around the user's own module. The module is copied: training does not change it.

    Args:
        encoder: `Encoder(module, image_size, ...)`.
        name: for messages and results; by default the name of the module's class.
        encode_texts: N texts → embeddings (N, D), for zero-shot classification; None for a tower without text.
        logit_scale: multiplies cosines of images and texts.
        factory: builds the module with any weights, so that an export is verified in a new one.

    Raises:
        SeaAnchorError: the module or `encode_texts` does not give finite embeddings of D dimensions, as
            `measured_dim`; the module cannot be copied; a logit scale that is not positive.
    """
    kind = type(encoder.tower)
    name = name or kind.__name__
    dim = measured_dim(encoder, encoder.image_size)
    if dim != encoder.dim:
        raise SeaAnchorError(
            f"{name} gives embeddings of {dim} dimensions and dim is {encoder.dim}",
            "the number of dimensions that it gives",
            "leave dim out",
        )
    if not logit_scale > 0:
        raise SeaAnchorError(f"logit_scale is {logit_scale}", "a positive number, such as 100", "correct it")
    if encode_texts is not None:
        if encoder.tokens == "patches":
            raise SeaAnchorError(
                f"{name} gives patch tokens and has encode_texts",
                "one embedding an image, to compare texts with",
                "leave encode_texts out, or take tokens class or mean",
            )
        _check_texts(encode_texts, dim)
    try:
        own = copy.deepcopy(encoder).cpu().eval().requires_grad_(False)
    except Exception as error:  # whatever a module holds raises what it likes
        raise SeaAnchorError(
            f"{name} cannot be copied ({type(error).__name__}: {error})",
            "a module that copy.deepcopy copies: a frozen copy is the reference",
            "keep open files, locks and tensors with a gradient history out of it",
        ) from error
    export = ModuleExport(f"{kind.__module__}:{kind.__qualname__}", factory)
    return LoadedModel(name, "module", own, own.library_tower, logit_scale, encode_texts, {"module": export})


def _check_texts(encode_texts: Callable[[Sequence[str]], Tensor], dim: int) -> None:
    with torch.no_grad():
        found: Any = encode_texts(TEXTS)
    if not isinstance(found, Tensor) or tuple(found.shape) != (len(TEXTS), dim) or not found.is_floating_point():
        shown = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise SeaAnchorError(
            f"encode_texts gives {shown} for {len(TEXTS)} texts",
            f"floats of shape (N, {dim}), as wide as the embeddings of images",
            "correct encode_texts, or leave it out",
        )


def write_settings(model: LoadedModel) -> str:
    """What an export says beside the weights, as JSON text."""
    encoder, export = model.encoder, model.export_config["module"]
    settings = {
        "class": export.class_path,
        "image_size": encoder.image_size,
        "dim": encoder.dim,
        "mean": encoder.mean.flatten().tolist(),
        "std": encoder.std.flatten().tolist(),
        "preprocessing": asdict(encoder.preprocessing),
        "tokens": encoder.tokens,
    }
    return to_json(settings, indent=2)


def load_encoder(folder: str | Path, module: nn.Module) -> Encoder:
    """An exported encoder, in the user's own module.

    Args:
        folder: an export of a run that trained an own module.
        module: of the same layers; its weights are replaced by those of the export.

    Raises:
        SeaAnchorError: the folder is no such export, or its weights do not fit the module.
    """
    from safetensors.torch import load_file

    folder = Path(folder)
    check_checksums(folder)
    try:
        settings = read_object(folder / SETTINGS)
        size, dim, mean, std = (settings[key] for key in ("image_size", "dim", "mean", "std"))
        how = _read_preprocessing(settings)
        weights = load_file(folder / WEIGHTS)
    except Exception as error:  # missing and broken files, each in its own way
        raise SeaAnchorError(
            f"{folder} could not be read as an export ({type(error).__name__}: {said_by(error)})",
            f"a folder with {SETTINGS} and {WEIGHTS}",
            "name the export of a run that trained an encoder of your own",
        ) from error
    current = module.state_dict()
    weights = {key: value.to(current[key].dtype) if key in current else value for key, value in weights.items()}
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise SeaAnchorError(
            f"the weights in {folder} do not fit {type(module).__name__}: {' '.join(str(error).split())[:300]}",
            f"a module of the same layers, {settings.get('class')}",
            "build the module with the settings it was trained with",
        ) from error
    return Encoder(module, size, dim, mean, std, how, settings.get("tokens")).eval()


def _read_preprocessing(settings: dict[str, Any]) -> Preprocessing:
    """Exports of older versions say nothing of it: they were trained with the default."""
    stored = dict(settings.get("preprocessing") or {"size": settings["image_size"]})
    fill = stored.get("fill", 0)
    return Preprocessing(**stored | {"fill": tuple(fill) if isinstance(fill, list) else fill})
