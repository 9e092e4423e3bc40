"""Noise and other corruptions that nobody chose to do harm: a sweep of Gaussian noise, and the types of ImageNet-C.

Every image's randomness depends on (seed, image) alone, so batch size and order change nothing.

The constants of ImageNet-C were set for photos of 224 pixels. They are used here at any size, as the package
`imagecorruptions` does: the same blur or block is a larger part of a smaller picture, and the authors' own sets of 32
and 64 pixels (CIFAR-10-C, Tiny-ImageNet-C) use gentler ones. Compare models at one image size only.

Legend: B batch, C channels, H W pixels.
"""

import contextlib
import io
import random
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from seaanchor.errors import SeaAnchorError

SIGMAS = tuple(sigma / 255 for sigma in (8, 16, 32, 64, 128))  # LORE (arXiv 2505.18884), in pixel units
SEVERITIES = (1, 2, 3, 4, 5)
CORE = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "brightness",
    "contrast",
    "pixelate",
    "jpeg_compression",
)
EXTRA = (
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "elastic_transform",
    "speckle_noise",
    "gaussian_blur",
    "spatter",
    "saturate",
)
KINDS = CORE + EXTRA
"""The benchmark's 15 types are all but the last four, which its authors keep for tuning."""
SMALLEST = 32  # pixels; the package takes no smaller image

CONSTANTS: dict[str, tuple[float, ...]] = {
    "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),
    "shot_noise": (60, 25, 12, 5, 3),
    "impulse_noise": (0.03, 0.06, 0.09, 0.17, 0.27),
    "defocus_blur": (3, 4, 6, 8, 10),
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
    "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),
    "jpeg_compression": (25, 18, 15, 10, 7),
}
"""By type and severity: standard deviation, photons, share of pixels, radius, added value, kept contrast, kept side,
JPEG quality.
Source: Hendrycks & Dietterich 2019, `ImageNet-C/imagenet_c/imagenet_c/corruptions.py` of their public code."""


def gaussian_noise(pixels_BCHW: Tensor, sigma: float, index_B: Tensor, seed: int = 0) -> Tensor:
    """Images with noise of standard deviation `sigma` (in pixel units), clipped to [0, 1], not rounded. The same
    picture gets the same noise at every sigma, only larger."""
    noise = [torch.randn(pixels_BCHW.shape[1:], generator=_rng(seed, index)) for index in index_B.tolist()]
    return (pixels_BCHW + sigma * torch.stack(noise).to(pixels_BCHW)).clamp(0, 1) if noise else pixels_BCHW


def corrupt(pixels_BCHW: Tensor, kind: str, severity: int, index_B: Tensor, seed: int = 0) -> Tensor:
    """Corrupt images as ImageNet-C does.

    Images are taken as 8-bit pictures and come out as such, cut rather than rounded, as in the authors' code.

    Args:
        pixels_BCHW: RGB in [0, 1], at least 32 pixels a side.
        kind: one of `KINDS`; those outside `CORE` need the extra `corruptions`.
        severity: 1 to 5.
        index_B: each image's number in its data set.
        seed: with the number, decides every random draw.

    Raises:
        SeaAnchorError: another kind or severity, a smaller or a grey image, or the extra is missing.
    """
    _check(pixels_BCHW, kind, severity)
    images = (pixels_BCHW * 255).round().to(torch.uint8).cpu()
    if kind in CORE:
        act = _ACTIONS[kind]
        found = [
            act(image, CONSTANTS[kind][severity - 1], _rng(seed, index))
            for image, index in zip(images, index_B.tolist(), strict=True)
        ]
    else:
        found = [
            _by_package(image, kind, severity, index, seed)
            for image, index in zip(images, index_B.tolist(), strict=True)
        ]
    return torch.stack(found).to(pixels_BCHW) / 255 if found else pixels_BCHW


def _check(pixels_BCHW: Tensor, kind: str, severity: int) -> None:
    if kind not in KINDS:
        raise SeaAnchorError(f"corruption {kind!r}", ", ".join(KINDS), "choose one of them")
    if severity not in SEVERITIES:
        raise SeaAnchorError(f"severity {severity!r}", "1, 2, 3, 4 or 5", "choose one of them")
    if pixels_BCHW.shape[1] != 3 or min(pixels_BCHW.shape[2:]) < SMALLEST:
        shape = " x ".join(map(str, pixels_BCHW.shape[1:]))
        raise SeaAnchorError(
            f"images of {shape}", f"3 channels and at least {SMALLEST} pixels a side", "use a larger --image-size"
        )


def _rng(seed: int, index: int) -> torch.Generator:
    return torch.Generator().manual_seed(random.Random(f"{seed} {index} corruption").getrandbits(63))


def _cut(values_CHW: Tensor) -> Tensor:
    """[0, 1] to 8 bits as numpy's cast does it: towards zero."""
    return (values_CHW.clamp(0, 1) * 255).to(torch.uint8)


def _gaussian(image: Tensor, sigma: float, rng: torch.Generator) -> Tensor:
    return _cut(image / 255 + sigma * torch.randn(image.shape, generator=rng))


def _shot(image: Tensor, photons: float, rng: torch.Generator) -> Tensor:
    return _cut(torch.poisson(image / 255 * photons, generator=rng) / photons)


def _impulse(image: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Salt and pepper in equal parts, on each channel by itself."""
    hit, salt = torch.rand((2, *image.shape), generator=rng).unbind()
    return torch.where(hit < share, torch.where(salt < 0.5, 255, 0).to(torch.uint8), image)


def _defocus(image: Tensor, radius: float, rng: torch.Generator) -> Tensor:
    """A disk, its edge softened by a small Gaussian, over the image mirrored at its border; by Fourier transform, which
    is 9 to 100 times faster in double precision than `conv2d` at 64 to 224 pixels on a CPU."""
    disk = _disk(int(radius), 0.1 if radius == 3 else 0.5)
    around = disk.shape[-1] // 2
    padded = F.pad((image.double() / 255)[:, None], (around, around, around, around), mode="reflect")[:, 0]
    size = padded.shape[-2:]
    blurred = torch.fft.irfft2(torch.fft.rfft2(padded) * torch.fft.rfft2(disk, s=size), s=size)
    return _cut(blurred[:, 2 * around :, 2 * around :])


def _disk(radius: int, softness: float) -> Tensor:
    """The kernel in single precision, as the package has it: where a mean falls on a whole grey level, its last digit
    decides the cut."""
    reach, taps = (8, 1) if radius <= 8 else (radius, 2)
    squares = torch.arange(-reach, reach + 1).square()
    disk = (squares[:, None] + squares <= radius**2).float()
    bell = torch.exp(-torch.arange(-taps, taps + 1, dtype=torch.float64).square() / (2 * softness**2))
    bell = (bell / bell.sum()).float()
    padded = F.pad((disk / disk.sum())[None, None], (taps, taps, taps, taps), mode="reflect")
    return F.conv2d(padded, (bell[:, None] * bell)[None, None])[0, 0].double()


def _brightness(image: Tensor, more: float, rng: torch.Generator) -> Tensor:
    """Raises HSV's value, which is the largest channel. Hue and saturation stay, so all channels grow by one factor;
    black turns grey."""
    pixels = image.double() / 255
    value = pixels.amax(0, keepdim=True)
    raised = (value + more).clamp(max=1)
    return _cut(torch.where(value > 0, pixels * raised / value.clamp(min=1 / 255), raised))


def _contrast(image: Tensor, kept: float, rng: torch.Generator) -> Tensor:
    pixels = image.double() / 255
    mean = pixels.mean((1, 2), keepdim=True)
    return _cut((pixels - mean) * kept + mean)


def _pixelate(image: Tensor, kept: float, rng: torch.Generator) -> Tensor:
    picture = _to_picture(image)
    small = picture.resize((int(picture.width * kept), int(picture.height * kept)), Image.Resampling.BOX)
    return _to_tensor(small.resize(picture.size, Image.Resampling.NEAREST))


def _jpeg(image: Tensor, quality: float, rng: torch.Generator) -> Tensor:
    file = io.BytesIO()
    _to_picture(image).save(file, "JPEG", quality=int(quality))
    return _to_tensor(Image.open(file))


_ACTIONS: dict[str, Callable[[Tensor, float, torch.Generator], Tensor]] = dict(
    zip(CORE, (_gaussian, _shot, _impulse, _defocus, _brightness, _contrast, _pixelate, _jpeg), strict=True)
)


def _to_picture(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def _to_tensor(picture: Image.Image | np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


SYSTEM = {
    "libGL": "libgl1",
    "libgthread": "libglib2.0-0",
    "libglib": "libglib2.0-0",
}  # library → Debian's package of it


def _missing(kind: str, error: ImportError) -> SeaAnchorError:
    """The package, or one of the system libraries that its OpenCV loads and that servers often lack."""
    found = f"the corruption {kind} needs imagecorruptions ({error})"
    for name, package in SYSTEM.items():
        if name in str(error):
            return SeaAnchorError(
                found,
                f"the system library {name}, or one of {', '.join(CORE)}",
                f"install Debian's or Ubuntu's package {package}",
            )
    return SeaAnchorError(
        found, f"the extra `corruptions`, or one of {', '.join(CORE)}", "pip install 'seaanchor[corruptions]'"
    )


def _by_package(image: Tensor, kind: str, severity: int, index: int, seed: int) -> Tensor:
    """One of the 19 types by the package, which draws from numpy's global state: it is set for this image, and put
    back."""
    try:
        import imagecorruptions
    except ImportError as error:  # the package, or a system library that OpenCV needs
        raise _missing(kind, error) from error
    draw = random.Random(f"{seed} {index} corruption").getrandbits(32)
    own = {"seed": draw} if kind in ("impulse_noise", "glass_blur") else {}  # these two draw elsewhere
    before = np.random.get_state()
    np.random.seed(draw)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints about shapes that it then puts right
            return _to_tensor(imagecorruptions.corrupt(image.permute(1, 2, 0).numpy(), severity, kind, **own))
    finally:
        np.random.set_state(before)
