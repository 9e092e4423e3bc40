"""One way in: a model name from any supported source to a `LoadedModel`."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from seaanchor.encoders.encoder import LoadedModel
from seaanchor.errors import SeaAnchorError

ZOO = Path(str(files("seaanchor"))) / "zoo" / "models"


def embedded_models() -> list[str]:
    """Names of the models that ship inside the package."""
    return sorted(p.name for p in ZOO.iterdir() if p.is_dir()) if ZOO.is_dir() else []


def load_model(name: str, pretrained: str | None = None, image_size: int | None = None) -> LoadedModel:
    """Load a model.

    Args:
        name: `seaanchor-tiny` and its variants (embedded); an OpenCLIP name such as `ViT-B-32` (with `pretrained`); `local-dir:PATH` or
            the path of an OpenCLIP folder; `hf-hub:ORG/REPO` (OpenCLIP on the Hub); `timm:NAME` or `timm:local-dir:PATH`;
            `hf:NAME_OR_PATH` (Hugging Face `CLIPModel`, extra `hf`).
        pretrained: for bare OpenCLIP and timm names: a tag, a weights file, or `none` for random weights.
        image_size: input side in pixels where the architecture allows another than its own.

    Returns:
        Encoder in eval mode on the CPU in fp32, with its text side.

    Raises:
        SeaAnchorError: unknown name or tag (with the nearest ones), unreachable hub, weights that do not fit, missing extra.
    """
    if name.startswith("timm:"):
        from seaanchor.encoders.timm import load_timm

        return load_timm(name, pretrained, image_size)
    if name.startswith("hf:"):
        from seaanchor.encoders.huggingface import load_hf

        return load_hf(name, image_size)
    from seaanchor.encoders.openclip import load_open_clip

    if name in embedded_models():
        source = f"local-dir:{ZOO / name}"
    elif (Path(name) / "open_clip_config.json").is_file():
        source = f"local-dir:{Path(name).absolute()}"
    else:
        source = name
    return load_open_clip(name, source, pretrained, image_size)


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
        raise SeaAnchorError(f"{path} could not be read as weights ({reason})", "safetensors, or a .pt with tensors only", "convert it") from error
    if not isinstance(state, dict):
        raise SeaAnchorError(f"{path} holds {type(state).__name__}", "a dictionary of tensors", "save the model's state_dict")
    return state.get("state_dict", state)
