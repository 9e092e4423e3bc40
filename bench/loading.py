"""The bars of loading: images decoded and resized a second and core, beside Pillow with OpenCLIP's own transform and
beside webdataset.

Pictures are drawn, with a photograph's spectrum, so that files have a photograph's size; pixels must be equal to the
last bit on both sides. Times are processor seconds, whoever reads.

Legend: H W pixels, N images, S side of the square.
"""

import tempfile
from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.clock import compare
from bench.frame import Bar, Measurement, NotMeasured
from seaanchor.data import resampling
from seaanchor.data.folder import list_images
from seaanchor.data.images import read_image
from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.types import ClassifiedImages, Images
from seaanchor.data.webdataset.read import list_shards
from seaanchor.data.webdataset.write import build_shards

SIDE, QUALITY = 224, 90
SMALL, LARGE = (500, 375), (2000, 1500)
COUNTS = {SMALL: 24, LARGE: 4}  # images of a call


@cache
def folder() -> tempfile.TemporaryDirectory[str]:
    """Of all pictures, until the bench ends."""
    return tempfile.TemporaryDirectory(prefix="bench-loading-", ignore_cleanup_errors=True)


def photograph(size: tuple[int, int], seed: int) -> Image.Image:
    """Noise whose power falls with frequency as in photographs, the same in three channels but for some colour."""
    (width, height), rng = size, np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1.0

    def noise(power: float) -> np.ndarray:
        spectrum = rng.standard_normal((2, *frequency.shape))
        values_HW = np.fft.irfft2((spectrum[0] + 1j * spectrum[1]) / frequency**power, s=(height, width))
        return values_HW / values_HW.std()

    light_HW = noise(1.2)
    levels_HWC = np.stack([127 + 48 * (light_HW + 0.35 * noise(1.4)) for _ in range(3)], -1)
    return Image.fromarray(np.clip(levels_HWC, 0, 255).astype(np.uint8))


@cache
def pictures(size: tuple[int, int], ending: str) -> Images:
    """A folder of pictures of this size, in one class."""
    place = Path(folder().name) / f"{size[0]}-{ending}" / "class"
    place.mkdir(parents=True)
    settings: dict[str, Any] = {"quality": QUALITY, "subsampling": "4:2:0"} if ending == "jpg" else {}
    for number in range(COUNTS[size]):
        photograph(size, number).save(place / f"{number:03}.{ending}", **settings)
    return list_images(place.parent)


@cache
def transform() -> Callable[[Image.Image], Tensor]:
    """OpenCLIP's own for evaluation, with a mean of 0 and a deviation of 1, so that pixels can be compared."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    return image_transform_v2(PreprocessCfg(size=SIDE, mean=(0.0,) * 3, std=(1.0,) * 3), is_train=False)


def ours(images: Images) -> Tensor:
    """Pixels (N, 3, S, S) in [0, 1] of all images, as training and evaluation read them without loading processes."""
    stream = batches(ImageDataset(images, SIDE), 8, workers=0, order=None, skip_log=SkipLog(images))
    return torch.cat([batch.pixels_BCHW for batch in stream])


def pillow(images: Images) -> Tensor:
    """The same by Pillow and OpenCLIP's transform, in batches of as many."""
    read = [transform()(Image.open(str(item))) for item in images.paths]
    return torch.cat([torch.stack(read[i : i + 8]) for i in range(0, len(read), 8)])


def webdataset(shard: Path) -> Tensor:
    """The same by webdataset's own decoder and OpenCLIP's transform."""
    import webdataset as wds

    stream = wds.WebDataset(str(shard), shardshuffle=False).decode("pil").to_tuple("jpg").map_tuple(transform())
    read = [pixels_CHW for (pixels_CHW,) in stream]
    return torch.cat([torch.stack(read[i : i + 8]) for i in range(0, len(read), 8)])


def against(images: Images, theirs: Callable[[], Tensor], size: tuple[int, int]) -> Measurement:
    """Their seconds over ours for all images, whose pixels must be equal."""
    resampling.prepare(resampling.MANY, lambda: read_image(images.paths[0], SIDE))
    if not torch.equal(ours(images), theirs()):
        raise AssertionError("the pixels differ")
    times, count = compare(partial(ours, images), theirs), len(images.paths)
    details = {"images_per_s": count / times.first, "peer_images_per_s": count / times.second, "n": count}
    how = "resized by numba" if resampling.is_loaded() else "resized by Pillow: numba is not installed"
    note = f"{size[0]} × {size[1]}, {count / times.first:.0f} against {count / times.second:.0f} images a second; {how}"
    return Measurement(times.second / times.first, times.quiet, "processor", details, note)


def against_pillow(size: tuple[int, int], ending: str) -> Measurement:
    """Files of one size and format."""
    images = pictures(size, ending)
    return against(images, partial(pillow, images), size)


def against_webdataset() -> Measurement:
    """A shard of JPEGs."""
    if find_spec("webdataset") is None:
        raise NotMeasured("webdataset is not installed")
    images, root = pictures(SMALL, "jpg"), Path(folder().name) / "shards"
    if not root.exists():
        assert isinstance(images, ClassifiedImages)
        build_shards(images, root)
    return against(list_shards(root), partial(webdataset, root / "test" / "0.tar"), SMALL)


def _bar(name: str, what: str, measure: Callable[[], Measurement]) -> Bar:
    return Bar(name, f"images read a second and core: {what}", measure, at_least=1.0, aim=1.5, unit="×")


BARS = [
    _bar("load-jpeg", "JPEG, ours / Pillow and OpenCLIP's transform", partial(against_pillow, SMALL, "jpg")),
    _bar("load-jpeg-large", "large JPEG, ours / the same", partial(against_pillow, LARGE, "jpg")),
    _bar("load-png", "PNG, ours / the same", partial(against_pillow, SMALL, "png")),
    _bar("load-png-large", "large PNG, ours / the same", partial(against_pillow, LARGE, "png")),
    _bar("load-shards", "JPEG in shards, ours / webdataset and OpenCLIP's transform", against_webdataset),
]
