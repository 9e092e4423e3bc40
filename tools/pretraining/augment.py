"""Random views, colours and lettering of images, as functions of a generator.

Legend: B images, H W pixels; pixels are in [0, 1], a mask (B, 2, H, W) is the fill of a word and its fill with outline.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def warp(pixels: Tensor, rng: torch.Generator, zoom: tuple[float, float], turn: float, flip: bool) -> Tensor:
    """Random scale, aspect, rotation (radians), shift and mirror, in one resampling; the size stays."""
    theta = random_views(len(pixels), rng, zoom, turn, flip)
    return view(pixels, theta, pixels.shape[-1])


def view(pixels: Tensor, theta_B23: Tensor, size: int, mode: str = "bilinear") -> Tensor:
    """What `theta` shows of each image, at `size` pixels."""
    shape = [len(pixels), pixels.shape[1], size, size]
    grid = F.affine_grid(theta_B23, shape, align_corners=False)
    return F.grid_sample(pixels, grid, mode=mode, padding_mode="reflection", align_corners=False)


def random_views(count: int, rng: torch.Generator, zoom: tuple[float, float], turn: float, flip: bool) -> Tensor:
    """Affine maps (count, 2, 3) of random scale, aspect, rotation (radians), shift and mirror."""

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=rng) * (high - low) + low

    scale, aspect, angle = uniform(*zoom), uniform(-0.12, 0.12).exp(), uniform(-turn, turn)
    mirror = torch.where(torch.rand(count, generator=rng) < 0.5, -1.0, 1.0) if flip else torch.ones(count)
    slack = (1 - scale).abs().clamp(min=0.06)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = scale * aspect * angle.cos() * mirror, -scale * angle.sin()
    theta[:, 1, 0], theta[:, 1, 1] = scale * angle.sin() * mirror, scale / aspect * angle.cos()
    theta[:, 0, 2], theta[:, 1, 2] = uniform(-1, 1) * slack, uniform(-1, 1) * slack
    return theta


def jitter(pixels: Tensor, rng: torch.Generator, strength: float) -> Tensor:
    """Brightness, contrast, saturation and, where strong, channel mixing; result in [0, 1]."""
    count = len(pixels)

    def around_one(amount: float) -> Tensor:
        return 1 + (torch.rand(count, 1, 1, 1, generator=rng) * 2 - 1) * amount

    grey = pixels.mean(1, keepdim=True)
    pixels = grey + (pixels - grey) * around_one(2 * strength)
    mean = pixels.mean((1, 2, 3), keepdim=True)
    return ((pixels - mean) * around_one(strength) + mean * around_one(strength)).clamp_(0, 1)


def overlay(pixels: Tensor, masks_N2HW: Tensor, rng: torch.Generator) -> Tensor:
    """Draw masks with a random fill and outline; glyphs are shifted, scaled a little, and always stand out from the
    ground."""
    count = len(pixels)
    masks = warp(F.pad(masks_N2HW.float() / 255, (4, 4, 4, 4)), rng, (0.95, 1.15), 0.08, flip=False)[..., 4:-4, 4:-4]
    inner, outer = masks[:, :1], masks[:, 1:]
    mean = (pixels * outer).sum((2, 3), keepdim=True) / outer.sum((2, 3), keepdim=True).clamp(min=1)
    fill = torch.rand(count, 3, 1, 1, generator=rng)
    fill = torch.where(
        (fill.mean(1, keepdim=True) - mean.mean(1, keepdim=True)).abs() < 0.3, (mean < 0.5).float(), fill
    )
    edge = torch.where(fill.mean(1, keepdim=True) < 0.5, 1.0, 0.0)
    outlined = torch.rand(count, 1, 1, 1, generator=rng) < 0.6
    pixels = torch.where(outlined, pixels * (1 - outer) + edge * outer, pixels)
    return pixels * (1 - inner) + fill * inner


def letter(pixels: Tensor, masks_N2HW: Tensor, rng: torch.Generator) -> Tensor:
    """Draw masks in any colour with an outline of any other, such that fill and what surrounds it differ; glyphs are
    turned, shifted and scaled a little."""
    count, size = len(pixels), pixels.shape[-1]
    margin = size // 16
    padded = F.pad(masks_N2HW, (margin,) * 4)
    moved = view(padded, random_views(count, rng, (0.95, 1.12), 0.08, flip=False), padded.shape[-1])
    masks = moved[..., margin:-margin, margin:-margin]
    inner, outer = masks[:, :1], masks[:, 1:]
    fill, edge = (_colours(count, rng) for _ in range(2))
    outlined = torch.rand(count, 1, 1, 1, generator=rng) < 0.7
    ground = (pixels * outer).sum((2, 3), keepdim=True) / outer.sum((2, 3), keepdim=True).clamp(min=1)
    around = torch.where(outlined, edge, ground)
    alike = (fill - around).abs().mean(1, keepdim=True) < 0.25
    fill = torch.where(alike, (around.mean(1, keepdim=True) < 0.5).float(), fill)
    pixels = torch.where(outlined, pixels * (1 - outer) + edge * outer, pixels)
    return pixels * (1 - inner) + fill * inner


def _colours(count: int, rng: torch.Generator) -> Tensor:
    """Half any colour, half pure ones (count, 3, 1, 1)."""
    any_colour = torch.rand(count, 3, 1, 1, generator=rng)
    return torch.where(torch.rand(count, 1, 1, 1, generator=rng) < 0.5, any_colour, any_colour.round())
