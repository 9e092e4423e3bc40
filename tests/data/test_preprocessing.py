"""Pictures of all shapes and modes become the pixels that open_clip's, timm's and torchvision's own transforms give, to
the last bit."""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import seaanchor
from seaanchor.data.images import flat, upright
from seaanchor.data.preprocessing import Preprocessing, preprocessing_of, to_square
from seaanchor.errors import SeaAnchorError

SIZE = 32
SHAPES = [
    (600, 20),
    (13, 700),
    (64, 64),
    (37, 91),
    (91, 37),
    (32, 32),
    (200, 33),
    (33, 200),
    (33, 32),
    (46, 31),
    (31, 46),
    (7, 5),
    (1, 1),
]
MODES = ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV"]


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A colourful picture with edges and slopes."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    channels = [127 + 127 * np.sin(x / 5), 255 * y / height, 255 * ((x // 7 + y // 9) % 2)]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8)).convert(mode)


def read(image: Image.Image, how: Preprocessing) -> torch.Tensor:
    return to_square(flat(upright(image)), how)


def uint8(pixels_CHW: torch.Tensor) -> torch.Tensor:
    """Levels of pixels in [0, 1] that came from levels."""
    levels_CHW = (pixels_CHW * 255).round()
    assert (levels_CHW / 255 - pixels_CHW).abs().max() < 1e-6
    return levels_CHW.byte()


def open_clips(image: Image.Image, how: Preprocessing) -> torch.Tensor:
    """Of open_clip's own transform, with nothing to normalise."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    config = PreprocessCfg(
        size=how.size,
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        interpolation=how.interpolation,
        resize_mode=how.resize_mode,
        fill_color=how.fill,
    )
    return uint8(image_transform_v2(config, is_train=False)(image))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_equals_open_clips_own_transform(mode, resize_mode, interpolation):
    for fill in (0, 100) if resize_mode == "longest" else (0,):
        how = Preprocessing(SIZE, resize_mode, interpolation, fill=fill)
        for shape in SHAPES:
            image = picture(*shape, mode)
            assert torch.equal(read(image, how), open_clips(image, how)), (shape, fill)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_opaque_picture_is_what_it_is_without_its_opacity(mode):
    for resize_mode in ("shortest", "longest", "squash"):
        how = Preprocessing(SIZE, resize_mode)
        image = picture(91, 37, mode)
        assert torch.equal(read(image, how), open_clips(image, how))


def test_the_ways_of_resizing_differ():
    ways = [
        Preprocessing(SIZE, mode, interpolation)
        for mode in ("shortest", "longest", "squash", "none")
        for interpolation in ("bicubic", "bilinear")
    ][:-1]
    ways += [Preprocessing(SIZE, resize_size=40)]
    for i, one in enumerate(ways):
        for other in ways[i + 1 :]:
            assert not torch.equal(read(picture(91, 37), one), read(picture(91, 37), other)), (one, other)


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("crop_pct", [0.875, 0.95, 1.0])
def test_equals_timms_own_transform(crop_mode, crop_pct):
    from timm.data import create_transform

    mean, side = (0.485, 0.456, 0.406), math.floor(SIZE / crop_pct)
    modes = {"center": "shortest", "squash": "squash", "border": "longest"}
    for interpolation in ("bicubic", "bilinear", "nearest", "lanczos"):
        theirs = create_transform(
            (3, SIZE, SIZE),
            interpolation=interpolation,
            mean=mean,
            crop_pct=crop_pct,
            crop_mode=crop_mode,
            normalize=False,
        )
        fill = tuple(round(255 * level) for level in mean) if crop_mode == "border" else 0
        how = Preprocessing(SIZE, modes[crop_mode], interpolation, side, fill, colours="rgb")
        for shape in SHAPES:
            for mode in ("RGB", "L", "P", "CMYK"):
                image = picture(*shape, mode)
                assert torch.equal(read(image, how), theirs(image.convert("RGB"))), (shape, mode, interpolation)


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_equals_resizing_of_tensors_by_torchvision(mode):
    from torchvision.transforms.v2 import functional

    for shape in SHAPES:
        image = picture(*shape, mode)
        pixels_CHW = functional.pil_to_tensor(image.convert("RGB"))
        for interpolation in ("bicubic", "bilinear"):
            how = Preprocessing(SIZE, "squash", interpolation, backend="torchvision")
            squashed = functional.resize(pixels_CHW, [SIZE, SIZE], functional.InterpolationMode(interpolation))
            assert torch.equal(read(image, how), squashed)
            how = Preprocessing(SIZE, "shortest", interpolation, 40, crop="down", backend="torchvision")
            resized = functional.resize(pixels_CHW, [40], functional.InterpolationMode(interpolation))
            top, left = (int((side - SIZE) / 2) for side in resized.shape[1:])
            assert torch.equal(read(image, how), functional.crop(resized, top, left, SIZE, SIZE))


def test_without_resizing_the_middle_is_cropped_or_padded():
    for backend in ("pillow", "torchvision"):
        how = Preprocessing(SIZE, "none", fill=(9, 8, 7), colours="rgb", backend=backend)
        pixels_CHW = read(picture(50, 21), how)
        assert torch.equal(pixels_CHW[:, 5:26], read(picture(50, 21), replace(how, fill=0))[:, 5:26])
        assert torch.equal(pixels_CHW[:, 5:26], torch.from_numpy(np.array(picture(50, 21)))[:, 9:41].permute(2, 0, 1))
        assert pixels_CHW[:, :5].flatten(1).unique(dim=1).tolist() == [[9], [8], [7]]
        assert pixels_CHW[:, 26:].flatten(1).unique(dim=1).tolist() == [[9], [8], [7]]


@pytest.mark.parametrize("shape", [(3000, 1), (1, 3000), (20_000, 30)])
def test_endless_pictures_are_squashed_and_padded(shape):
    image = Image.new("RGB", shape, (10, 200, 30))
    for mode in ("shortest", "longest", "squash"):
        pixels_CHW = read(image, Preprocessing(SIZE, mode))
        assert pixels_CHW.amax((1, 2)).tolist() == [10, 200, 30]
        assert (pixels_CHW.amin() == 0) == (mode == "longest")


def test_in_words():
    assert str(Preprocessing(224)) == "size=224" == str(Preprocessing(224, resize_size=224))
    how = Preprocessing(32, "squash", "bilinear", 40, (1, 2, 3), colours="rgb")
    assert str(how) == "size=32,resize_mode=squash,interpolation=bilinear,resize_size=40,fill=1/2/3,colours=rgb"
    assert preprocessing_of(7) == Preprocessing(7) and preprocessing_of(how) is how


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"size": 0}, "size is 0"),
        ({"size": 2.5}, r"size is 2\.5"),
        ({"resize_size": -1}, "resize_size is -1"),
        ({"resize_mode": "middle"}, "resize_mode is 'middle'"),
        ({"interpolation": "random"}, "interpolation is 'random'"),
        ({"crop": "up"}, "crop is 'up'"),
        ({"colours": "grey"}, "colours is 'grey'"),
        ({"backend": "opencv"}, "backend is 'opencv'"),
        ({"fill": 256}, "fill is 256"),
        ({"fill": (1, 2), "colours": "rgb"}, r"fill is \(1, 2\)"),
        ({"fill": (1, 2, 3)}, r"fill is \(1, 2, 3\)"),
    ],
)
def test_what_is_no_preprocessing(settings, found):
    with pytest.raises(SeaAnchorError, match=found):
        Preprocessing(**{"size": SIZE} | settings)


def test_whatever_reads_images_for_a_model_takes_its_preprocessing():
    """A side alone is for data that is drawn or counted, and not shown to a model."""
    sides = {"cli/data.py", "data/typographic/write.py"}
    root = Path(seaanchor.__file__).parent
    for file in root.rglob("*.py"):
        for call in re.findall(r"(?<!class )(?:ImageDataset|read_image)\((?!self)([^()]*)\)", file.read_text()):
            if ":" in call or str(file.relative_to(root)) in sides:
                continue
            assert re.search(r"\b(how|\w*\.?preprocessing)\b", call), f"{file}: {call}"
