"""Export to a folder that the model's own library loads; it is reloaded by that library alone and compared before it
counts.

Legend: B batch, N texts, D embedding dimension.
"""

import copy
import json
from pathlib import Path

import torch
from torch import Tensor

from seaanchor.encoders.encoder import LoadedModel, with_library_embedding
from seaanchor.encoders.head_file import NAME as HEAD
from seaanchor.encoders.head_file import write_head
from seaanchor.encoders.own_module import SETTINGS, WEIGHTS, load_encoder, write_settings
from seaanchor.encoders.remote_code import check_tokenizer_settings, remote_code_refused
from seaanchor.errors import SeaAnchorError
from seaanchor.export.huggingface import reload_hf, write_hf
from seaanchor.export.pixels import check_pixels
from seaanchor.export.reloaded import Reloaded, weights_of
from seaanchor.export.timm import reload_timm, write_timm
from seaanchor.export.tokenizer import write_tokenizer
from seaanchor.utils.checkpoint import write_atomic
from seaanchor.utils.checksums import NAME as CHECKSUMS
from seaanchor.utils.checksums import write_checksums

TOLERANCE = 1e-5  # relative difference of embeddings that rounding may leave
HALF_TOLERANCE = 2e-2
TEXTS = ("a photo of a cat.", "Two grand pianos, 3 dogs & a zebra!!!")


def export_model(model: LoadedModel, folder: Path, *, half: bool = False) -> Path:
    """Write the model in its own library's format, verify it, and write the checksums of its files. Its own classifier
    goes into its place there; a probe or a head from a file lies beside the weights as `head.safetensors`.

    Args:
        model: what to export; its encoder's weights are those of its module.
        folder: where to write.
        half: store fp16 weights (the check then allows for their rounding).

    Raises:
        SeaAnchorError: the disk is full or the folder cannot be written, or the reloaded model gives other embeddings.
    """
    model = model if model.family == "module" else with_library_embedding(model)
    writers = {"open_clip": _write_open_clip, "timm": write_timm, "hf": write_hf, "module": _write_module}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CHECKSUMS).unlink(missing_ok=True)
        writers[model.family](model, folder, half)
        if model.stored_head is not None:
            write_head(model.stored_head, folder / HEAD)
    except SeaAnchorError:
        raise
    except Exception as error:  # transformers and safetensors raise their own kinds of a full disk
        raise SeaAnchorError(
            f"{folder} could not be written: {error}",
            "a folder with free space",
            "free some or name another, and export again",
        ) from error
    verify(model, folder, HALF_TOLERANCE if half else TOLERANCE)
    write_checksums(folder)
    return folder


def _write_open_clip(model: LoadedModel, folder: Path, half: bool) -> None:
    from safetensors.torch import save

    export = model.export_config
    if export["tokenizer"] is None:
        raise SeaAnchorError(
            f"{model.name} was loaded without its tokenizer, whose files were not on this disk",
            "a tokenizer, without which open_clip does not load a folder",
            "load the model where the Hub can be reached once, and export it then",
        )
    config = {"model_cfg": json.loads(json.dumps(export["model_cfg"])), "preprocess_cfg": export["preprocess_cfg"]}
    if ours := write_tokenizer(export["tokenizer"], export["bpe_file"], config["model_cfg"]["text_cfg"], folder):
        config["seaanchor"] = ours
    write_atomic(
        folder / "open_clip_model.safetensors", save(weights_of(model.module, half), metadata={"format": "pt"})
    )
    write_atomic(folder / "open_clip_config.json", json.dumps(config, indent=2))


def _write_module(model: LoadedModel, folder: Path, half: bool) -> None:
    from safetensors.torch import save

    write_atomic(folder / WEIGHTS, save(weights_of(model.module, half), metadata={"format": "pt"}))
    write_atomic(folder / SETTINGS, write_settings(model))


@torch.no_grad()
def verify(model: LoadedModel, folder: Path, tolerance: float = TOLERANCE) -> float:
    """Reload the export with its own library alone, and compare embeddings of images, normalised as the export says,
    and of texts, and how pictures become pixels; returns the largest relative difference.

    Raises:
        SeaAnchorError: the export does not load, they differ by more than `tolerance`, or its library reads pictures
            otherwise.
    """
    try:
        theirs = _reload(model, folder.absolute())
        difference = _image_difference(model, theirs)
        if model.encode_texts is not None and theirs.encode_texts is not None:
            difference = max(difference, _relative(model.encode_texts(TEXTS).cpu(), theirs.encode_texts(TEXTS)))
    except Exception as error:  # whatever the library makes of a broken folder
        raise SeaAnchorError(
            f"the export in {folder} does not load again: {error}", "a folder that its library loads", "export it again"
        ) from error
    if not difference <= tolerance:
        raise SeaAnchorError(
            f"the export in {folder} gives embeddings that differ by {difference:.2g}",
            f"at most {tolerance:.0e}",
            "report this with `seaanchor env`; the checkpoint itself is intact",
        )
    if theirs.see is not None:
        check_pixels(model.encoder, theirs.see, folder)
    return difference


def _image_difference(model: LoadedModel, theirs: Reloaded) -> float:
    encoder = copy.deepcopy(model.encoder).cpu().eval()  # where the reload is: a GPU's convolutions round differently
    pixels_BCHW = torch.rand(4, 3, encoder.image_size, encoder.image_size, generator=torch.Generator().manual_seed(0))
    ours_BD = encoder(pixels_BCHW).float()
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (theirs.mean, theirs.std))
    normalised_BCHW = (pixels_BCHW - mean) / std
    difference = _relative(ours_BD, theirs.encode_image(normalised_BCHW).float())
    if model.classifier is not None and theirs.classify is not None:
        ours_BC = model.classifier.head.to("cpu")(ours_BD)
        difference = max(difference, _relative(ours_BC, theirs.classify(normalised_BCHW).float()))
    return difference


def _relative(ours: Tensor, theirs: Tensor) -> float:
    """Largest distance of a row's two embeddings, as a share of its length; infinite where that is no number."""
    share = (ours - theirs).norm(dim=-1) / ours.norm(dim=-1)
    return float(share.nan_to_num(nan=torch.inf).max())


def _reload(model: LoadedModel, folder: Path) -> Reloaded:
    if model.family == "module":
        return _reload_module(model, folder)
    return {"open_clip": _reload_open_clip, "timm": reload_timm, "hf": reload_hf}[model.family](folder)


def _reload_module(model: LoadedModel, folder: Path) -> Reloaded:
    """In a module that the user's factory builds, or else in a copy of the trained one."""
    factory = model.export_config["module"].factory
    encoder = load_encoder(folder, copy.deepcopy(model.module).cpu() if factory is None else factory())
    return Reloaded(encoder.tower, encoder.mean.flatten().tolist(), encoder.std.flatten().tolist(), None)


def _reload_open_clip(folder: Path) -> Reloaded:
    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2

    name = f"local-dir:{folder}"
    check_tokenizer_settings(
        str(folder), json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"]
    )
    with remote_code_refused():
        model = open_clip.create_model(name).eval()
        preprocess = open_clip.get_model_preprocess_cfg(model)
        tokenizer = open_clip.get_tokenizer(name)
    return Reloaded(
        lambda pixels_BCHW: model.encode_image(pixels_BCHW, normalize=False),
        preprocess["mean"],
        preprocess["std"],
        lambda texts: model.encode_text(tokenizer(list(texts)), normalize=False),
        see=image_transform_v2(PreprocessCfg(**preprocess), is_train=False),
    )
