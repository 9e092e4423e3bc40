"""Any file gives RGB at the model's size, or a reason; normal pictures come out as OpenCLIP's own preprocessing gives
them."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seaanchor.data import images
from seaanchor.data.images import UnreadableImage, flat, read_image
from seaanchor.data.preprocessing import Preprocessing, to_square

SIZE = 24


def scene(width: int, height: int) -> np.ndarray:
    """A colourful picture with edges and slopes, uint8 (H, W, 3)."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    channels = [127 + 127 * np.sin(x / 5), 255 * y / height, 255 * ((x // 7 + y // 9) % 2)]
    return np.stack(channels, -1).astype(np.uint8)


def saved(tmp_path: Path, image: Image.Image, name: str, **settings) -> Path:
    image.save(tmp_path / name, **settings)
    return tmp_path / name


@pytest.mark.parametrize(
    "shape", [(64, 64), (37, 91), (91, 37), (24, 24), (24, 50), (10, 13), (200, 33), (25, 24), (46, 31), (31, 46)]
)
def test_equals_open_clips_own_preprocessing(tmp_path, shape):
    from open_clip.transform import PreprocessCfg, image_transform_v2

    path = saved(tmp_path, Image.fromarray(scene(*shape)), "picture.png")
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)
    transform = image_transform_v2(PreprocessCfg(size=SIZE, mean=mean, std=std), is_train=False)
    theirs = transform(Image.open(path)) * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1)
    assert (read_image(path, SIZE).float() / 255 - theirs).abs().max() <= 1 / 255 + 1e-6


def test_mode_conversions(tmp_path):
    """Every way of storing one grey square reads as the same grey; 200 is 200 whatever the depth."""
    grey = np.full((30, 40), 200, np.uint8)
    images = {
        "l.png": Image.fromarray(grey),
        "rgb.png": Image.fromarray(grey).convert("RGB"),
        "rgba.png": Image.fromarray(grey).convert("RGBA"),
        "la.png": Image.fromarray(grey).convert("LA"),
        "palette.png": Image.fromarray(grey).convert("P"),
        "palette.gif": Image.fromarray(grey).convert("P"),
        "16bit.png": Image.fromarray(grey.astype(np.uint16) * 257),
        "16bit.tif": Image.fromarray(grey.astype(np.uint16) * 257),
        "32bit.tif": Image.fromarray(grey.astype(np.int32)),
        "float.tif": Image.fromarray((grey / 255).astype(np.float32)),
        "float255.tif": Image.fromarray(grey.astype(np.float32)),
        "cmyk.jpg": Image.fromarray(grey).convert("RGB").convert("CMYK"),
        "cmyk.tif": Image.fromarray(grey).convert("RGB").convert("CMYK"),
        "ycbcr.jpg": Image.fromarray(grey).convert("YCbCr"),
        "l.bmp": Image.fromarray(grey),
        "l.webp": Image.fromarray(grey),
        "l.pgm": Image.fromarray(grey),
    }
    for name, image in images.items():
        pixels = read_image(saved(tmp_path, image, name), SIZE)
        assert pixels.shape == (3, SIZE, SIZE)
        assert pixels.dtype == torch.uint8
        assert (pixels.int() - 200).abs().max() <= 2, name


def test_16_bit_keeps_its_slope(tmp_path):
    ramp = np.linspace(0, 65535, 48).astype(np.uint16)[None].repeat(48, 0)
    pixels = read_image(saved(tmp_path, Image.fromarray(ramp), "ramp.png"), 48)
    assert (pixels[0, 0].float() - torch.linspace(0, 255, 48)).abs().max() <= 1


def test_black_and_white_bits(tmp_path):
    bits = Image.fromarray(np.eye(30, dtype=np.uint8) * 255).convert("1")
    for name in ("bits.png", "bits.tif", "bits.pbm"):
        pixels = read_image(saved(tmp_path, bits, name), 30)
        assert torch.equal(pixels[0] > 127, torch.eye(30, dtype=torch.bool))


def transparent(mode: str) -> Image.Image:
    """Left half opaque dark (60), right half fully transparent over black."""
    alpha = np.zeros((30, 30), np.uint8)
    alpha[:, :15] = 255
    grey = np.full((30, 30), 60, np.uint8) * (alpha > 0)
    layers = (grey, alpha) if mode == "LA" else (grey, grey, grey, alpha)
    return Image.merge(mode, [Image.fromarray(layer) for layer in layers])


def test_transparency_is_laid_on_white(tmp_path):
    rgba = transparent("RGBA")
    palette = rgba.quantize(4)  # palette with transparency
    colour_key = Image.fromarray(np.where(np.arange(30)[None] < 15, 60, 0).astype(np.uint8).repeat(30, 0))
    files = [
        saved(tmp_path, rgba, "rgba.png"),
        saved(tmp_path, transparent("LA"), "la.png"),
        saved(tmp_path, rgba, "rgba.webp", lossless=True),
        saved(tmp_path, palette, "palette.png"),
        saved(tmp_path, rgba, "palette.gif"),
        saved(tmp_path, colour_key, "key.png", transparency=0),
        saved(tmp_path, colour_key.convert("RGB"), "keyrgb.png", transparency=(0, 0, 0)),
    ]
    for file in files:
        pixels = read_image(file, 30)
        assert (pixels[:, :, :14].int() - 60).abs().max() <= 2, file.name
        assert pixels[:, :, 16:].min() >= 253, file.name


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (30, 30), colour) for colour in ("red", "lime", "blue")]
    for name in ("moving.gif", "moving.webp", "pages.tif"):
        path = saved(tmp_path, frames[0], name, save_all=True, append_images=frames[1:])
        red, green, blue = read_image(path, SIZE).float().mean((1, 2))
        assert red > 200
        assert green < 60
        assert blue < 60


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (20000, 1), (2, 20000), (7, 5)])
def test_tiny_and_endless_pictures(tmp_path, size):
    pixels = read_image(saved(tmp_path, Image.new("RGB", size, (10, 200, 30)), "odd.png"), SIZE)
    assert pixels.shape == (3, SIZE, SIZE)
    assert torch.equal(pixels.amax((1, 2)), torch.tensor([10, 200, 30], dtype=torch.uint8))


def test_an_endless_picture_costs_no_memory(monkeypatch):
    """Scaled as a whole, 20,000 x 1 at 224 pixels would be 224 x 4,480,000."""
    asked = []
    real = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda self, size, *args: asked.append(size) or real(self, size, *args))
    assert to_square(Image.new("RGB", (20000, 1)), Preprocessing(224)).shape == (3, 224, 224)
    ((width, height),) = asked
    assert height == 224 and 8 * 224 < width <= 2**24 / 224


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path, orientation):
    upright = Image.fromarray(scene(40, 40)).resize((40, 40))
    exif = Image.Exif()
    exif[0x0112] = orientation
    undo = {
        2: "FLIP_LEFT_RIGHT",
        3: "ROTATE_180",
        4: "FLIP_TOP_BOTTOM",
        5: "TRANSPOSE",
        6: "ROTATE_90",
        7: "TRANSVERSE",
        8: "ROTATE_270",
    }
    stored = upright.transpose(Image.Transpose[undo[orientation]]) if orientation > 1 else upright
    pixels = read_image(saved(tmp_path, stored, "turned.png", exif=exif), 40)
    assert torch.equal(pixels.permute(1, 2, 0), torch.from_numpy(np.array(upright)))


def test_a_broken_exif_block_costs_nothing_but_the_rotation(tmp_path):
    picture = Image.fromarray(scene(30, 30))
    for name in ("a.png", "a.webp", "a.jpg"):
        path = saved(tmp_path, picture, name, exif=b"Exif\0\0garbage" if name.endswith("jpg") else b"garbage")
        assert read_image(path, SIZE).shape == (3, SIZE, SIZE)


def test_a_wrong_suffix_is_no_obstacle(tmp_path):
    path = saved(tmp_path, Image.fromarray(scene(30, 30)), "picture.png").rename(tmp_path / "picture.jpg")
    assert read_image(path, 30).permute(1, 2, 0).numpy().tolist() == scene(30, 30).tolist()


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its data do not fill."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def broken_files(tmp_path: Path) -> list[Path]:
    """One of each kind of file that gives no picture."""
    whole = io.BytesIO()
    Image.fromarray(scene(200, 200)).save(whole, "JPEG")
    noise = np.random.default_rng(0).integers(0, 256, 3000, dtype=np.uint8).tobytes()
    contents = {
        "zero.jpg": b"",
        "text.png": b"hello",
        "truncated.jpg": whole.getvalue()[: len(whole.getvalue()) // 2],
        "noise.bmp": noise,
        "header.jpg": whole.getvalue()[:30],
        "huge.png": png_claiming(20000, 20000),
        "short.png": png_claiming(300, 300),
        "postscript.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n",
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder.jpg").mkdir()
    return [*(tmp_path / name for name in contents), tmp_path / "folder.jpg", tmp_path / "missing.jpg"]


def test_what_gives_no_picture_gives_a_reason(tmp_path):
    for file in broken_files(tmp_path):
        with pytest.raises(UnreadableImage) as caught:
            read_image(file, SIZE)
        assert str(caught.value).startswith(f"{file.name}: ")
        assert "\n" not in str(caught.value)
        if file.name == "postscript.jpg":  # Pillow would start another program for it
            assert "UnidentifiedImageError" in str(caught.value)


def test_a_flipped_bit_is_never_read_as_a_black_picture(tmp_path):
    """Whatever the damage, a picture is refused, or is nearly what it was: no half of it is missing."""
    rng, refused = np.random.default_rng(0), 0
    for number in range(60):
        whole = io.BytesIO()
        pixels_HWC = np.clip(scene(48, 48) + rng.integers(0, 40, (48, 48, 3)), 60, 255).astype(np.uint8)
        Image.fromarray(pixels_HWC).save(whole, "PNG")
        data = bytearray(whole.getvalue())
        data[int(rng.integers(60, len(data) - 20))] ^= 1 << int(rng.integers(8))
        path = tmp_path / f"{number}.png"
        path.write_bytes(data)
        try:
            read = read_image(path, 48)
        except UnreadableImage:
            refused += 1
        else:
            assert (read.amax(0) < 60).float().mean() < 0.02, number
    assert refused >= 58


def test_no_warning_about_a_large_picture(tmp_path, monkeypatch):
    """Between Pillow's limit and twice that it only warns; beyond, the picture is left out."""
    path = saved(tmp_path, Image.fromarray(scene(40, 40)), "large.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        assert read_image(path, SIZE).shape == (3, SIZE, SIZE)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
        with pytest.raises(UnreadableImage, match="DecompressionBombError"):
            read_image(path, SIZE)


@pytest.mark.parametrize(
    "mode",
    [
        "1",
        "L",
        "P",
        "RGB",
        "RGBA",
        "CMYK",
        "YCbCr",
        "LAB",
        "HSV",
        "I",
        "F",
        "LA",
        "PA",
        "RGBX",
        "RGBa",
        "I;16",
        "I;16L",
        "I;16B",
    ],
)
def test_every_mode_of_pillow(mode):
    assert to_square(flat(Image.new(mode, (3, 2))), Preprocessing(2)).shape == (3, 2, 2)


@pytest.mark.parametrize("band", [1, 70, 1 << 20])
def test_bands_give_the_pixels_of_the_whole(monkeypatch, band):
    monkeypatch.setattr(images, "BAND", band)
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 65_536, (31, 45), dtype=np.uint16)
    expected = np.rint(deep / 257).astype(np.uint8)
    assert np.array_equal(np.asarray(flat(Image.fromarray(deep))), expected)
    low = rng.random((31, 45), dtype=np.float32)
    assert np.array_equal(np.asarray(flat(Image.fromarray(low))), np.rint(low * 255.0).astype(np.uint8))
    rgba = Image.fromarray(rng.integers(0, 256, (31, 45, 4), dtype=np.uint8))
    white = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    assert np.array_equal(np.asarray(flat(rgba)), np.asarray(white))
    keyed = rgba.convert("RGB").quantize(7)
    keyed.info["transparency"] = 2
    theirs = keyed.convert("RGBA")
    white = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), theirs).convert("RGB")
    assert np.array_equal(np.asarray(flat(keyed)), np.asarray(white))
