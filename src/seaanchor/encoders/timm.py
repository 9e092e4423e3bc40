"""timm image towers, such as DINOv2: no text side, raw pooled features as embeddings."""

from difflib import get_close_matches
from pathlib import Path

from torch import nn

from seaanchor.encoders.encoder import Encoder, LoadedModel
from seaanchor.encoders.load import state_dict_of, weights_error
from seaanchor.errors import SeaAnchorError


def load_timm(name: str, pretrained: str | None, image_size: int | None) -> LoadedModel:
    """Load `timm:NAME` (with a weights file, the default weights, or `none`) or `timm:local-dir:PATH`; errors as in `load_model`."""
    import timm

    source = name.removeprefix("timm:")
    size = {"img_size": image_size} if image_size else {}
    file = Path(pretrained) if pretrained and Path(pretrained).is_file() else None
    download = not source.startswith("local-dir:") and file is None and pretrained != "none"
    if not source.startswith("local-dir:"):
        _check_name(source)
    try:
        model = timm.create_model(source, pretrained=download or source.startswith("local-dir:"), num_classes=0, **size)
    except Exception as error:
        raise SeaAnchorError(
            f"{name} could not be loaded: {str(error)[:300]}",
            "weights that can be downloaded, or are on this disk",
            "check the connection to the Hub, give --pretrained a weights file, or 'none' for random weights",
        ) from error
    if file is not None:
        _load_weights(model, name, file)
    model.eval().requires_grad_(False)
    config = timm.data.resolve_data_config(model=model, use_test_size=False)
    side = image_size or config["input_size"][-1]
    encoder = Encoder(model, side, model.num_features, config["mean"], config["std"]).eval()
    export = {
        "architecture": model.pretrained_cfg.get("architecture", source.split(".")[0]),
        "input_size": [3, side, side], "mean": list(config["mean"]), "std": list(config["std"]), "model_args": size,
    }  # fmt: skip
    return LoadedModel(name, "timm", encoder, model, 1.0, None, export)


def _check_name(source: str) -> None:
    import timm

    architecture = source.split("/")[-1].split(".")[0]
    if not source.startswith("hf-hub:") and not timm.is_model(architecture):
        near = get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.5)
        raise SeaAnchorError(f"timm has no model {architecture!r}", "a timm name", f"nearest names: {', '.join(near) or 'none'}")


def _load_weights(model: nn.Module, name: str, file: Path) -> None:
    from timm.models import clean_state_dict

    state = {k: v for k, v in clean_state_dict(state_dict_of(file)).items() if not k.startswith(("head.", "fc.", "classifier."))}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise weights_error(name, str(file), error) from error
