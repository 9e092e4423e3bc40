"""Export to a folder that another library loads; it is reloaded by that library alone and compared before it counts.

Legend: B batch, N texts, D embedding dimension.
"""

import copy
import os
import shutil
from pathlib import Path

import torch

from seaanchor.encoders.encoder import LoadedModel, with_library_embedding
from seaanchor.encoders.head_file import NAME as HEAD
from seaanchor.encoders.head_file import write_head
from seaanchor.errors import SeaAnchorError, said_by
from seaanchor.export.card import write_card
from seaanchor.export.formats import FORMATS, format_of
from seaanchor.export.origin import Origin
from seaanchor.export.photos import agreement, relative_difference
from seaanchor.export.pixels import check_pixels
from seaanchor.export.reloaded import Reloaded, Target
from seaanchor.utils.checksums import NAME as CHECKSUMS
from seaanchor.utils.checksums import write_checksums

STAGING = ".partial"  # inside a folder that is there
HALF_TOLERANCE = 2e-2  # relative difference of embeddings that rounding to fp16 may leave
TEXTS = ("a photo of a cat.", "Two grand pianos, 3 dogs & a zebra!!!")


def export_model(
    model: LoadedModel,
    folder: Path,
    *,
    half: bool = False,
    format: str | None = None,
    origin: Origin | None = None,
) -> Path:
    """Write the model in a library's format with a model card and checksums, and verify it before it takes its place.
    Its own classifier goes into its place there; a probe or a head from a file lies beside the weights as
    `head.safetensors`.

    Args:
        model: what to export; its encoder's weights are those of its module.
        folder: where to write; of a folder that is there, files of the same names are replaced.
        half: store fp16 weights (the check then allows for their rounding).
        format: `open-clip`, `timm`, `hf`, `hf-vision` or `onnx`; by default that of the model's own library.
        origin: what the card says of the run and its evaluations; by default that none is known.

    Raises:
        SeaAnchorError: a format that has no place for the model, the disk is full or the folder cannot be written, or
            the reloaded model gives other embeddings.
    """
    name = format_of(model, format)
    model = model if model.family == "module" else with_library_embedding(model)
    inside = folder.is_dir()  # else the whole folder takes its place at once
    staging = folder / STAGING if inside else folder.absolute().with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(staging, ignore_errors=True)
        _write(model, name, Target(staging, folder, half), origin or Origin())
        verify(model, staging, HALF_TOLERANCE if half else None, format=name, home=folder)
        write_checksums(staging)
        _move(staging, folder, inside)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def _write(model: LoadedModel, name: str, target: Target, origin: Origin) -> None:
    try:
        target.folder.mkdir(parents=True)
        FORMATS[name].write(model, target)
        if model.stored_head is not None:
            write_head(model.stored_head, target.folder / HEAD)
        write_card(model, name, target, origin)
    except SeaAnchorError:
        raise
    except Exception as error:  # transformers and safetensors raise their own kinds of a full disk
        raise _not_written(target.home, error) from error


def _move(staging: Path, folder: Path, inside: bool) -> None:
    try:
        if not inside:
            staging.rename(folder)
            return
        # their checksums first: with them half a move is found, whatever was there before
        for file in sorted(staging.iterdir(), key=lambda file: file.name != CHECKSUMS):
            os.replace(file, folder / file.name)
    except OSError as error:
        raise _not_written(folder, error) from error


def _not_written(folder: Path, error: Exception) -> SeaAnchorError:
    return SeaAnchorError(
        f"{folder} could not be written: {said_by(error)}",
        "a folder with free space",
        "free some or name another, and export again",
    )


@torch.no_grad()
def verify(
    model: LoadedModel,
    folder: Path,
    tolerance: float | None = None,
    *,
    format: str | None = None,
    home: Path | None = None,
) -> float:
    """Reload an export with its library alone, and compare embeddings of images, normalised as the export says, and of
    texts, and how pictures become pixels.

    Args:
        model: what was exported.
        folder: where the export is.
        tolerance: relative difference of embeddings that is no error; by default what the format's rounding leaves.
        format: of the export; by default that of the model's own library.
        home: what the folder is called in messages.

    Returns:
        The largest relative difference.

    Raises:
        SeaAnchorError: the export does not load, they differ by more than `tolerance`, or its library reads pictures
            otherwise.
    """
    form, shown = FORMATS[format_of(model, format)], home or folder
    tolerance = form.tolerance if tolerance is None else tolerance
    seen = None
    try:
        theirs = form.reload(model, folder.absolute())
        difference = _image_difference(model, theirs)
        if model.encode_texts is not None and theirs.encode_texts is not None:
            difference = max(
                difference, relative_difference(model.encode_texts(TEXTS).cpu(), theirs.encode_texts(TEXTS))
            )
        if form.photos:
            seen = agreement(model, theirs)
            difference = max(difference, seen.difference)
    except Exception as error:  # whatever the library makes of a broken folder
        raise SeaAnchorError(
            f"the export in {shown} does not load again: {said_by(error)}",
            "a folder that its library loads",
            "export it again",
        ) from error
    if not difference <= tolerance:
        raise _differs(shown, f"gives embeddings that differ by {difference:.2g}", f"at most {tolerance:.0e}")
    if seen is not None and seen.same < seen.n:
        raise _differs(shown, f"answers {seen.n - seen.same} of {seen.n} photos otherwise", "the same answers")
    if theirs.see is not None:
        check_pixels(model.encoder, theirs.see, shown, rounds=theirs.rounds)
    return difference


def _differs(folder: Path, what: str, expected: str) -> SeaAnchorError:
    change = "report this with `seaanchor env`; the checkpoint itself is intact"
    return SeaAnchorError(f"the export in {folder} {what}", expected, change)


def _image_difference(model: LoadedModel, theirs: Reloaded) -> float:
    encoder = copy.deepcopy(model.encoder).cpu().eval()  # where the reload is: a GPU's convolutions round differently
    pixels_BCHW = torch.rand(4, 3, encoder.image_size, encoder.image_size, generator=torch.Generator().manual_seed(0))
    ours_BD = encoder(pixels_BCHW).float()
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (theirs.mean, theirs.std))
    normalised_BCHW = (pixels_BCHW - mean) / std
    difference = relative_difference(ours_BD, theirs.encode_image(normalised_BCHW).float())
    if theirs.named is not None and theirs.classify is not None:
        ours_BC = theirs.named.head.to("cpu")(ours_BD)
        difference = max(difference, relative_difference(ours_BC, theirs.classify(normalised_BCHW).float()))
    return difference
