"""What a processor of transformers does to a picture, as `Preprocessing` and a normalisation of pixels in [0, 1].

Legend: S side of the square in pixels, C channels.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seaanchor.data.preprocessing import Backend, Interpolation, Preprocessing, to_square
from seaanchor.encoders.huggingface.files import read_json
from seaanchor.encoders.huggingface.towers import pack
from seaanchor.errors import SeaAnchorError, note, said_by
from seaanchor.utils.json_text import to_json

WRONG_SETTINGS = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RuntimeError)
FILES = ("preprocessor_config.json", "processor_config.json")
PLAIN = frozenset({"CLIP", "ViT", "Bit", "DeiT", "Siglip"})
"""Processors that resize, crop, rescale and normalise, and nothing else."""
KNOWN = PLAIN | {"ConvNext", "DINOv3ViT", "Siglip2"}
ASSUMED = ("CLIPModel", "CLIPVisionModel", "CLIPVisionModelWithProjection", "SiglipModel", "SiglipVisionModel")
"""Classes whose published models agree on how pictures are prepared, so that a missing processor can be assumed."""
FILTERS: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
WARPED_FROM = 384  # ConvNeXt's processor crops below this side, and changes the proportions from it on
ROUNDED = 1 / 255  # the most that a picture resized in floats can be off once its pixels are 8 bits


@dataclass(frozen=True)
class Pixels:
    """How pictures become an encoder's input.

    Attributes:
        preprocessing: any picture → uint8 (3, S, S).
        mean: of the three channels, of pixels in [0, 1].
        std: as `mean`.
        files: the processor's files by their names, as an export writes them.
    """

    preprocessing: Preprocessing
    mean: tuple[float, ...]
    std: tuple[float, ...]
    files: dict[str, bytes]


def read_pixels(name: str, folder: Path, architecture: str, own_size: int | None, image_size: int | None) -> Pixels:
    """The processor in a model's folder.

    Args:
        name: of the model, for messages.
        folder: where its files are.
        architecture: class of the model.
        own_size: S of the model where it takes no other.
        image_size: S as the user asks for it; by default the processor's.

    Raises:
        SeaAnchorError: no processor where none can be assumed, one of an unknown kind, one that gives no squares, or
            one that contradicts the model.
    """
    processor, files = _load(name, folder, architecture, own_size)
    kind = _kind(name, processor)
    try:
        preprocessing = _preprocessing(processor, kind)
        mean, std = normalisation(processor)
    except WRONG_SETTINGS as error:
        raise _refused(name, f"its settings are not understood ({said_by(error)})") from error
    if own_size is not None and preprocessing.size != own_size:
        raise SeaAnchorError(
            f"the processor of {name} gives {preprocessing.size} pixels, and the model takes {own_size}",
            f"{own_size}",
            f"correct {' or '.join(files)}: it belongs to another model",
        )
    if image_size is not None and image_size != preprocessing.size:
        ratio = image_size / preprocessing.size
        settings = _at_size(json.loads(processor.to_json_string()), ratio)
        processor = type(processor).from_dict(settings)
        preprocessing = _preprocessing(processor, kind)
        if preprocessing.size != image_size:
            raise _refused(name, f"it gives {preprocessing.size} pixels where {image_size} are asked for")
        files = {
            file: to_json(_at_size(json.loads(content), ratio), indent=2).encode() for file, content in files.items()
        }
    try:
        _compare(name, processor, kind, preprocessing, mean, std)
    except WRONG_SETTINGS as error:
        raise _refused(name, f"it fails on a picture ({said_by(error)})") from error
    return Pixels(preprocessing, mean, std, files)


def _load(name: str, folder: Path, architecture: str, own_size: int | None) -> tuple[Any, dict[str, bytes]]:
    """The processor and its files; where there is none, the one that the class's published models have."""
    from transformers import AutoImageProcessor, CLIPImageProcessor, SiglipImageProcessor

    files = {file: (folder / file).read_bytes() for file in FILES if (folder / file).is_file()}
    if (folder / FILES[0]).is_file() or "image_processor" in read_json(folder / FILES[1]):
        try:
            return AutoImageProcessor.from_pretrained(str(folder), trust_remote_code=False), files
        except Exception as error:  # an unknown type, a broken file
            given = read_json(folder / FILES[1]).get("image_processor") or read_json(folder / FILES[0])
            reason = " ".join(str(error).split())[:200]
            raise SeaAnchorError(
                f"the processor of {name} ({given.get('image_processor_type')}) does not load: {reason}",
                f"a {FILES[0]} of transformers",
                "copy it again",
            ) from error
    if architecture not in ASSUMED or own_size is None:
        raise SeaAnchorError(
            f"{name} has no {FILES[0]}: neither size nor normalisation of its pictures is known",
            "the processor's file beside the weights",
            "copy it from the model that the weights were trained from",
        )
    size = {"height": own_size, "width": own_size}
    if architecture.startswith("CLIP"):
        processor = CLIPImageProcessor(size={"shortest_edge": own_size}, crop_size=size)
    else:
        processor = SiglipImageProcessor(size=size)
    note(
        f"{name} has no {FILES[0]}: pictures are prepared as for the published models of its kind "
        f"(mean {processor.image_mean}, std {processor.image_std})"
    )
    return processor, {**files, FILES[0]: processor.to_json_string().encode()}


def _kind(name: str, processor: Any) -> str:
    kind = type(processor).__name__
    for suffix in ("Pil", "Fast", "ImageProcessor", "FeatureExtractor"):
        kind = kind.removesuffix(suffix)
    if kind not in KNOWN:
        known = ", ".join(f"{each}ImageProcessor" for each in sorted(KNOWN))
        raise _refused(name, f"image_processor_type is {type(processor).__name__}, not one of {known}")
    return kind


def _refused(name: str, reason: str) -> SeaAnchorError:
    return SeaAnchorError(
        f"the processor of {name} cannot be followed: {reason}",
        "one that resizes, crops, rescales and normalises pictures to one square",
        f"correct {FILES[0]}, or pass the model's image tower to seaanchor.Encoder with a Preprocessing of your own",
    )


def _preprocessing(processor: Any, kind: str) -> Preprocessing:
    interpolation = FILTERS[int(processor.resample if processor.resample is not None else 2)]
    backend: Backend = "torchvision" if _by_torchvision(processor) else "pillow"
    plain = Preprocessing(1, "none", interpolation, crop="down", colours="rgb", backend=backend)
    if getattr(processor, "do_pad", None):
        raise ValueError("do_pad is true")
    if kind == "Siglip2":
        side = int(processor.patch_size) * isqrt(int(processor.max_num_patches))
        return replace(plain, size=side, resize_mode="squash")
    size, crop = _sides(processor.size), _sides(getattr(processor, "crop_size", None))
    cropped = _square(crop, "crop_size") if getattr(processor, "do_center_crop", None) else None
    if not processor.do_resize:
        if cropped is None:
            raise ValueError("do_resize and do_center_crop are false, so that pictures keep their own sizes")
        return replace(plain, size=cropped)
    if kind == "ConvNext":
        short = size["shortest_edge"]
        if cropped not in (None, short):
            raise ValueError(f"it crops to {short}, and then to {cropped}")
        if short >= WARPED_FROM:
            return replace(plain, size=short, resize_mode="squash")
        return replace(plain, size=short, resize_mode="shortest", resize_size=int(short / processor.crop_pct))
    if set(size) == {"shortest_edge"}:
        if cropped is None:
            raise ValueError("size has a shortest_edge and do_center_crop is false, which gives no squares")
        return replace(plain, size=cropped, resize_mode="shortest", resize_size=size["shortest_edge"])
    side = _square(size, "size")
    return replace(plain, size=cropped or side, resize_mode="squash", resize_size=side)


def _by_torchvision(processor: Any) -> bool:
    backend = getattr(processor, "backend", None)  # before transformers 5 the class's name tells
    return type(processor).__name__.endswith("Fast") if backend is None else backend == "torchvision"


def _sides(size: Any) -> dict[str, int]:
    return {key: int(value) for key, value in dict(size or {}).items() if value}


def _square(size: Mapping[str, int], which: str) -> int:
    if set(size) != {"height", "width"} or size["height"] != size["width"]:
        raise ValueError(f"{which} is {dict(size)}, which is no square")
    return size["height"]


def normalisation(processor: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of pixels in [0, 1] that give what the processor's rescaling and normalising give of 8-bit ones.

    Raises:
        ValueError: they are not three numbers, or a factor or a std is not positive.
    """
    scale = 255 * float(processor.rescale_factor) if processor.do_rescale else 255.0
    scale = 1.0 if abs(scale - 1) < 1e-9 else scale
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else (0.0, 1.0)
    mean, std = ([x] * 3 if isinstance(x, int | float) else list(x) for x in (mean, std))
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0 or scale <= 0:
        raise ValueError(f"image_mean {mean}, image_std {std}, rescale_factor {processor.rescale_factor}")
    return tuple(x / scale for x in mean), tuple(x / scale for x in std)


def _at_size(settings: dict[str, Any], ratio: float) -> dict[str, Any]:
    """A processor's settings for pictures of another size, all else as it was."""
    if "image_processor" in settings:
        return settings | {"image_processor": _at_size(settings["image_processor"], ratio)}
    changed = dict(settings)
    for key in ("size", "crop_size"):
        value = settings.get(key)
        if isinstance(value, dict):
            changed[key] = {side: round(pixels * ratio) if pixels else pixels for side, pixels in value.items()}
        elif value:
            changed[key] = round(value * ratio)
    if "max_num_patches" in settings:
        changed["max_num_patches"] = round(settings["max_num_patches"] * ratio**2)
    return changed


def _compare(
    name: str, processor: Any, kind: str, how: Preprocessing, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    """Two pictures through the processor itself and as it was understood; a difference refuses the model.

    Raises:
        SeaAnchorError: the pixels or their normalisation differ.
    """
    from PIL import Image

    rng = torch.Generator().manual_seed(0)
    side = how.size
    shapes = [(side + 5, side + 5)] if kind == "Siglip2" else [(side * 2 + 3, side + 37), (side // 2 + 5, side)]
    mean_C11, std_C11 = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))
    for height, width in shapes:
        noise = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=rng)
        picture = Image.fromarray(noise.numpy())
        ours = to_square(picture, how)
        raw = _processed(processor, picture, kind, do_rescale=False, do_normalize=False)
        wanted = _processed(processor, picture, kind)
        if kind == "Siglip2":
            ours = pack(ours[None], int(processor.patch_size))[0]
            mean_C11, std_C11 = (values.flatten().repeat(ours.shape[1] // 3) for values in (mean_C11, std_C11))
        if raw.shape != ours.shape or not torch.equal(raw.float(), ours.float()):
            raise _refused(name, "it gives other pixels than its settings say")
        off = float(((wanted * std_C11 + mean_C11) - ours / 255).abs().max())
        if off > (ROUNDED if kind == "DINOv3ViT" else 1e-5):
            raise _refused(name, f"it gives pixels that are {off:.2g} off those that its settings say")
    if kind == "DINOv3ViT" and processor.do_rescale:
        note(f"the processor of {name} resizes pictures in floats; here their pixels are rounded to 1/255 after that")
    if kind == "Siglip2":
        note(f"the processor of {name} keeps proportions; here pictures are squashed to {side} x {side} pixels")


def _processed(processor: Any, picture: Any, kind: str, **settings: bool) -> Tensor:
    pixels = processor(images=[picture], return_tensors="pt", **settings)["pixel_values"]
    return torch.as_tensor(pixels)[0]
