"""One way in: a model name from any supported source to a `LoadedModel`."""

from importlib.resources import files
from pathlib import Path

from seaanchor.encoders.encoder import LoadedModel
from seaanchor.errors import SeaAnchorError

ZOO = Path(str(files("seaanchor"))) / "zoo" / "models"


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
    if (ZOO / name).is_dir():
        name_or_dir = f"local-dir:{ZOO / name}"
    elif (Path(name) / "open_clip_config.json").is_file():
        name_or_dir = f"local-dir:{Path(name).absolute()}"
    else:
        name_or_dir = name
    if name.startswith("timm:"):
        from seaanchor.encoders.timm import load_timm

        return load_timm(name, pretrained, image_size)
    if name.startswith("hf:"):
        from seaanchor.encoders.huggingface import load_hf

        return load_hf(name)
    from seaanchor.encoders.openclip import load_open_clip

    return load_open_clip(name, name_or_dir, pretrained, image_size)


def weights_error(name: str, weights: str, error: Exception) -> SeaAnchorError:
    """The one message for weights that do not fit an architecture."""
    first = "; ".join(line.strip() for line in str(error).splitlines()[:4])
    return SeaAnchorError(
        found=f"the weights {weights} do not fit {name}: {first[:400]}",
        expected="a checkpoint of exactly this architecture",
        change="name the architecture the checkpoint was trained with",
    )


def state_dict_of(path: Path) -> dict:
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
    except Exception as error:
        raise SeaAnchorError(f"{path} could not be read as weights ({error})"[:400], "safetensors, or a .pt with tensors only", "convert it") from error
    return state.get("state_dict", state)
