"""What a finished run exports: the trained weights in the model's own format, whatever adapter trained them.

Legend: D embedding dimension, E mapped dimension, W width before a projection.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from seaanchor.adapters.linear_map import LinearMap, without_rotation
from seaanchor.adapters.lora import has_updates, merge
from seaanchor.encoders.encoder import LoadedModel, copied
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.errors import SeaAnchorError
from seaanchor.export.folder import export_model
from seaanchor.export.origin import Origin
from seaanchor.utils.checkpoint import load_state, save_state

MAP = "linear_map.safetensors"


def export_trained(model: LoadedModel, policy: nn.Module, folder: Path, origin: Origin | None = None) -> Path:
    """Export a trained policy: low-rank updates are merged into a copy of the weights, a linear map is folded into both
    projections (the map itself is stored beside the export's weights for `seaanchor steer`).

    Raises:
        SeaAnchorError: as `export_model`, or a model whose projections cannot take a map.
    """
    if isinstance(policy, LinearMap):
        weight_ED = policy.weight.detach().cpu()
        file = folder.parent / (MAP if folder.name == "export" else f"{folder.name}-{MAP}")
        save_state(file, {"weight": weight_ED, "reference": fingerprint(model.encoder)})
        with folded(model, without_rotation(weight_ED)):
            return export_model(model, folder, origin=origin)
    return export_model(merged(model) if has_updates(policy) else model, folder, origin=origin)


def read_map(run: Path, model: LoadedModel | None = None) -> Tensor:
    """The trained map W (E, D) of a run.

    Args:
        run: folder of the run.
        model: the untouched model the map is for, to be sure that it is the one it was trained on.

    Raises:
        SeaAnchorError: the run trained none, or trained it on another model.
    """
    file = run / MAP
    if not file.is_file():
        around = Path(os.path.abspath(run)).parent
        raise SeaAnchorError(
            f"{run} has no {MAP}",
            "the folder of a run with adapter linear, such as recipe dpo-linear",
            f"name the run itself, {run.parent}" if (around / MAP).is_file() else "name another run",
        )
    state = load_state(file)
    weight_ED = state.get("weight") if isinstance(state, dict) else None
    if not isinstance(weight_ED, Tensor) or not _is_map(weight_ED):
        raise SeaAnchorError(
            f"{file} holds no linear map", "one matrix of finite numbers", "copy it again, or train the map again"
        )
    trained_on = state.get("reference")
    if model is not None and (
        trained_on not in (None, fingerprint(model.encoder)) or weight_ED.shape[1] != model.encoder.dim
    ):
        found = f"{file} was trained on an encoder with other weights than {model.name} has now"
        raise SeaAnchorError(
            found, "the model that the run started from", "put those weights back, or train the map again"
        )
    return weight_ED


def _is_map(weight: Tensor) -> bool:
    """Whether this is a matrix that has a singular value decomposition."""
    is_matrix = weight.dim() == 2 and weight.is_floating_point() and weight.numel() > 0
    return is_matrix and bool(weight.isfinite().all())


def merged(model: LoadedModel) -> LoadedModel:
    """A copy of the model with low-rank updates folded into the weights; the model itself trains on."""
    other = copied(model)
    merge(other.encoder)
    return other


@contextmanager
def folded(model: LoadedModel, weight_ED: Tensor) -> Iterator[LoadedModel]:
    """Inside, both projections of the model carry the map, so that its embeddings are W·I(x) and W·T(y); outside they
    are as before.

    Raises:
        SeaAnchorError: the model has no projection on one of its sides, or E differs from D.
    """
    out, dim = weight_ED.shape
    if out != dim:
        raise SeaAnchorError(
            f"a map from {dim} to {out} dimensions", "as many out as in", "train it with the default dimension"
        )
    slots = projections(model)
    before = [parameter.detach().clone() for parameter, _ in slots]
    try:
        with torch.no_grad():
            for parameter, rows_are_inputs in slots:
                map_ED, value = weight_ED.to(parameter).double(), parameter.double()
                parameter.copy_((value @ map_ED.T if rows_are_inputs else map_ED @ value).to(parameter))
        yield model
    finally:
        with torch.no_grad():
            for (parameter, _), value in zip(slots, before, strict=True):
                parameter.copy_(value)


def projections(model: LoadedModel) -> list[tuple[Tensor, bool]]:
    """The last linear maps of image and text side: (parameter, whether its rows are the inputs). A bias is one more
    output-first parameter.

    Raises:
        SeaAnchorError: a side has none.
    """
    module = model.module
    if model.family == "hf":
        found = [getattr(module, "visual_projection", None), getattr(module, "text_projection", None)]
    else:
        visual, text = (
            getattr(module, "visual", None),
            module if hasattr(module, "text_projection") else getattr(module, "text", None),
        )
        head = getattr(visual, "head", None)
        image_side = getattr(visual, "proj", None) if head is None else getattr(head, "proj", None)
        found = [image_side, getattr(text, "text_projection", None)]
    slots: list[tuple[Tensor, bool]] = []
    for side, projection in zip(("image", "text"), found, strict=True):
        if isinstance(projection, nn.Parameter):
            slots.append((projection, True))
        elif isinstance(projection, nn.Linear):
            slots.append((projection.weight, False))
            slots += [(projection.bias, False)] if projection.bias is not None else []
        else:
            found_instead = f"the {side} side of {model.name} does not end in a linear projection"
            raise SeaAnchorError(
                found_instead, "one that a map can be folded into", "train adapter full, last_blocks or lora"
            )
    return slots
