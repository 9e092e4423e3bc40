"""Export to an OpenCLIP folder that plain `open_clip` loads, and to timm; the export is reloaded and compared before it counts.

Legend: B batch, D embedding dimension.
"""

import json
import shutil
from pathlib import Path

import torch
from torch import Tensor

from seaanchor.checkpoint import write_atomic
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.errors import SeaAnchorError

TOLERANCE = 1e-5  # relative difference of embeddings that rounding may leave


def export_model(model: LoadedModel, folder: Path, *, half: bool = False) -> Path:
    """Write the model in its own library's format and verify it.

    Args:
        model: what to export; its encoder's weights are those of its module.
        folder: where to write.
        half: store fp16 weights (the check then allows for their rounding).

    Raises:
        SeaAnchorError: the disk is full, or the reloaded model gives other embeddings.
    """
    writers = {"open_clip": _write_open_clip, "timm": _write_timm, "hf": _write_hf}
    folder.mkdir(parents=True, exist_ok=True)
    writers[model.family](model, folder, half)
    verify(model, folder, TOLERANCE if not half else 2e-2)
    return folder


def _weights(module: torch.nn.Module, half: bool) -> dict[str, Tensor]:
    state = {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}
    return {k: v.half() if half and v.is_floating_point() else v for k, v in state.items()}


def _write_open_clip(model: LoadedModel, folder: Path, half: bool) -> None:
    from safetensors.torch import save

    config = json.loads(json.dumps(model.export_config["model_cfg"]))
    kwargs = config["text_cfg"].get("tokenizer_kwargs", {})
    if kwargs.get("bpe_path"):
        source = _bpe_file(model)
        target = folder / Path(kwargs["bpe_path"]).name
        if source.resolve() != target.resolve():
            shutil.copyfile(source, target)
        kwargs["bpe_path"] = str(target.absolute())
    write_atomic(folder / "open_clip_model.safetensors", save(_weights(model.module, half), metadata={"format": "pt"}))
    preprocess = model.export_config["preprocess_cfg"]
    write_atomic(folder / "open_clip_config.json", json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=2))


def _bpe_file(model: LoadedModel) -> Path:
    """The tokenizer's merges: beside the weights the model came from, or beside those whose text tower it shares."""
    name = Path(model.export_config["model_cfg"]["text_cfg"]["tokenizer_kwargs"]["bpe_path"])
    folder = Path(model.export_config["tokenizer_folder"])
    for candidate in (folder / name.name, *folder.parent.glob(f"*/{name.name}"), name):
        if candidate.is_file():
            return candidate
    raise SeaAnchorError(f"{name} is missing", "the tokenizer's merges beside the weights", "copy the whole folder of the model")


def _write_timm(model: LoadedModel, folder: Path, half: bool) -> None:
    from safetensors.torch import save

    export = model.export_config
    config = {
        "architecture": export["architecture"], "num_classes": 0, "num_features": model.encoder.dim,
        "model_args": export["model_args"],
        "pretrained_cfg": {"input_size": export["input_size"], "mean": export["mean"], "std": export["std"], "num_classes": 0, "custom_load": False},
    }  # fmt: skip
    write_atomic(folder / "model.safetensors", save(_weights(model.module, half), metadata={"format": "pt"}))
    write_atomic(folder / "config.json", json.dumps(config, indent=2))


def _write_hf(model: LoadedModel, folder: Path, half: bool) -> None:
    module = model.module.half() if half else model.module
    try:
        module.save_pretrained(folder, safe_serialization=True)
        model.export_config["tokenizer"].save_pretrained(folder)
    except OSError as error:
        raise SeaAnchorError(f"{folder} could not be written: {error}", "free disk space", "free some and export again") from error
    size = model.encoder.image_size
    processor = {
        "image_processor_type": "CLIPImageProcessor", "do_resize": True, "size": {"shortest_edge": size}, "resample": 3,
        "do_center_crop": True, "crop_size": {"height": size, "width": size}, "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": list(model.export_config["mean"]), "image_std": list(model.export_config["std"]),
    }  # fmt: skip
    write_atomic(folder / "preprocessor_config.json", json.dumps(processor, indent=2))


@torch.no_grad()
def verify(model: LoadedModel, folder: Path, tolerance: float = TOLERANCE) -> float:
    """Reload the export with its own library alone and compare image embeddings; returns the largest relative difference.

    Raises:
        SeaAnchorError: they differ by more than `tolerance`.
    """
    encoder = model.encoder
    was_training, device = encoder.training, encoder.mean.device
    encoder.eval()
    size = encoder.image_size
    pixels_BCHW = torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    ours_BD = encoder(pixels_BCHW).float().cpu()
    theirs_BD = _reload(model, folder)(((pixels_BCHW - encoder.mean) / encoder.std).cpu()).float()
    encoder.train(was_training)
    difference = ((ours_BD - theirs_BD).norm() / ours_BD.norm()).item()
    if not difference <= tolerance:
        raise SeaAnchorError(
            f"the export in {folder} gives embeddings that differ by {difference:.2g}",
            f"at most {tolerance:.0e}",
            "report this with `seaanchor env`; the checkpoint itself is intact",
        )
    return difference


def _reload(model: LoadedModel, folder: Path):
    if model.family == "open_clip":
        import open_clip

        return open_clip.create_model(f"local-dir:{folder.absolute()}").eval().encode_image
    if model.family == "timm":
        import timm

        return timm.create_model(f"local-dir:{folder.absolute()}", pretrained=True, num_classes=0).eval()
    from seaanchor.encoders.huggingface import load_hf

    return load_hf(f"hf:{folder}").encoder.tower
