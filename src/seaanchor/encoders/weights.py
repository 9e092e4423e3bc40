"""Weights from a file, and the errors that every way of loading a model shares."""

from pathlib import Path
from typing import Any

from seaanchor.errors import SeaAnchorError


def weights_error(name: str, weights: str, error: Exception) -> SeaAnchorError:
    """The one message for weights that do not fit an architecture."""
    first = "; ".join(line.strip() for line in str(error).splitlines()[:4])
    return SeaAnchorError(
        found=f"the weights {weights} do not fit {name}: {first[:400]}",
        expected="a checkpoint of exactly this architecture",
        change="name the architecture the checkpoint was trained with",
    )


def hub_error(name: str, error: Exception, instead: str) -> SeaAnchorError:
    """The one message for a model that could not be fetched."""
    first = " ".join(str(error).split())
    return SeaAnchorError(
        found=f"{name} could not be loaded; the Hub may be unreachable: {first[:300]}",
        expected="files that can be downloaded, or are on this disk",
        change=f"check the name and the connection to the Hub, or {instead}",
    )


def state_dict_of(path: Path) -> dict[str, Any]:
    """Weights of a .safetensors or .pt file; pickled code is never run (`weights_only`).

    Raises:
        SeaAnchorError: the file holds no plain weights.
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # every format fails in its own way
        reason = " ".join(str(error).split())[:300]
        raise SeaAnchorError(
            f"{path} could not be read as weights ({reason})", "safetensors, or a .pt with tensors only", "convert it"
        ) from error
    if not isinstance(state, dict):
        raise SeaAnchorError(
            f"{path} holds {type(state).__name__}", "a dictionary of tensors", "save the model's state_dict"
        )
    return state.get("state_dict", state)
