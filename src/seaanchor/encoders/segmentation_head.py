"""A linear segmentation head on patch tokens: fitted once on clean images, then fixed.

Legend: B batch, N images, T patch tokens in raster order, D their width, C classes, S side of the square in pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.masks import read_mask
from seaanchor.data.types import SegmentedImages
from seaanchor.encoders.encoder import Encoder, LoadedModel
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.checkpoint import load_state, save_state
from seaanchor.utils.log import log

FILE = "segmentation_head.safetensors"
EPOCHS, STEPS = 10, 1000  # of fitting; more epochs where they are fewer steps
BATCH, LEARNING_RATE, WEIGHT_DECAY = 16, 2e-2, 1e-4  # of AdamW, on tokens of mean 0 and variance 1, cosine to 0
HELD = 2e9  # bytes of tokens and masks that are kept while fitting; beyond, they are computed again in every epoch


@dataclass(frozen=True)
class SegmentationHead:
    """Classes of pixels from patch tokens: a linear layer, whose logits are enlarged bilinearly to the images' size.

    Attributes:
        weight_CD, bias_C: of the layer, on raw tokens.
        class_names: C names.
        tower: hash of the tower that it was fitted on.
    """

    weight_CD: Tensor
    bias_C: Tensor
    class_names: tuple[str, ...]
    tower: str = ""

    def logits(self, tokens_BTD: Tensor, grid: tuple[int, int], side: int) -> Tensor:
        """Logits (B, C, S, S) of the pixels of images whose tokens lie in a grid of rows and columns."""
        cells_BTC = F.linear(tokens_BTD, self.weight_CD, self.bias_C)
        map_BCHW = cells_BTC.transpose(1, 2).unflatten(2, grid)
        return F.interpolate(map_BCHW, size=(side, side), mode="bilinear", align_corners=False)

    def to(self, device: torch.device | str) -> "SegmentationHead":
        """The head on a device."""
        return replace(self, weight_CD=self.weight_CD.to(device), bias_C=self.bias_C.to(device))

    @property
    def digest(self) -> str:
        """A short hash of its numbers and class names."""
        layer = torch.nn.Linear(*self.weight_CD.T.shape)
        layer.weight.data, layer.bias.data = self.weight_CD.cpu(), self.bias_C.cpu()
        names = torch.tensor(list("\n".join(self.class_names).encode()), dtype=torch.uint8)
        layer.register_buffer("names", names)
        return fingerprint(layer)


def check_dense(model: LoadedModel) -> tuple[int, int]:
    """The grid of a model that gives patch tokens.

    Raises:
        SeaAnchorError: it gives something else, or its patches lie in no known grid.
    """
    encoder = model.encoder
    if encoder.tokens != "patches":
        found = f"{model.name} with one embedding an image"
        raise SeaAnchorError(
            found, "patch tokens, of which a head makes a class for each pixel", "set --tokens patches"
        )
    if encoder.grid is None:
        raise SeaAnchorError(
            f"the patches of {model.name} lie in no known grid", "rows and columns", "return rows x columns tokens"
        )
    return encoder.grid


def check_fits(head: SegmentationHead, model: LoadedModel, class_names: Sequence[str], where: str) -> None:
    """Raise a SeaAnchorError if a head has another width than a model's tokens, or other classes than the images."""
    width = head.weight_CD.shape[1]
    if width != model.encoder.dim:
        raise SeaAnchorError(
            f"the segmentation head {where} reads tokens of {width} dimensions, and those of {model.name} have "
            f"{model.encoder.dim}",
            "a head for tokens of this width",
            "name another head, or leave it out to fit one",
        )
    if head.class_names != tuple(class_names):
        ours, theirs = len(class_names), len(head.class_names)
        differing = [b for a, b in zip(class_names, head.class_names, strict=False) if a != b][:3]
        raise SeaAnchorError(
            f"the segmentation head {where} has other classes than the images ({theirs} and {ours}"
            f"{': ' + ', '.join(differing) if differing else ''})",
            "the same classes in the same order",
            "name another head, or leave it out to fit one",
        )


def write_segmentation_head(head: SegmentationHead, file: Path) -> Path:
    """Write a head.

    Raises:
        SeaAnchorError: the file cannot be written.
    """
    values = {"weight": head.weight_CD, "bias": head.bias_C, "class_names": head.class_names, "tower": head.tower}
    save_state(file, values)
    return file


def read_segmentation_head(file: Path) -> SegmentationHead:
    """Read what `write_segmentation_head` wrote.

    Raises:
        SeaAnchorError: the file is no such head.
    """
    try:
        state = load_state(file)
        weight_CD, bias_C, names = state["weight"], state["bias"], tuple(state["class_names"])
        if weight_CD.dim() != 2 or bias_C.shape != weight_CD.shape[:1] or len(names) != len(weight_CD):
            raise KeyError(f"shapes {tuple(weight_CD.shape)}, {tuple(bias_C.shape)} and {len(names)} names")
        if not bool(weight_CD.isfinite().all() and bias_C.isfinite().all()):
            raise KeyError("numbers that are not finite")
    except (SeaAnchorError, KeyError, TypeError, AttributeError) as error:
        reason = error.found if isinstance(error, SeaAnchorError) else str(error)
        raise SeaAnchorError(
            f"{file} holds no segmentation head ({reason})",
            f"a file that an evaluation with the suite segmentation wrote, {FILE}",
            "name another file, or leave it out to fit a head",
        ) from error
    return SegmentationHead(weight_CD, bias_C, names, str(state.get("tower", "")))


def fit_segmentation_head(
    model: LoadedModel,
    images: SegmentedImages,
    *,
    batch_size: int = 100,
    workers: int = 0,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> SegmentationHead:
    """Fit a head on clean images, as linear segmentation probes are fitted (DINOv2: Oquab et al. 2023, section 7.4,
    without its batch normalisation): cross-entropy of pixels on bilinearly enlarged logits, pixels without a class left
    out. Tokens are brought to mean 0 and variance 1, which is folded into the layer afterwards; AdamW from zero.

    Args:
        model: the untouched model, with patch tokens.
        images: with masks.
        batch_size, workers: how images are embedded, which changes nothing but rounding.
        device: where the tower and the fit run.
        seed: of the order of images.

    Raises:
        SeaAnchorError: no image could be read, no pixel has a class, a mask that is unreadable, of another size or with
            a number that no class has.
    """
    grid, encoder = check_dense(model), model.encoder.to(device).eval()
    source = _Tokens(encoder, images, batch_size, workers)
    mean_D, std_D = source.first_pass()
    classes, side = len(images.class_names), encoder.image_size
    weight_CD = mean_D.new_zeros(classes, len(mean_D)).requires_grad_()
    bias_C = mean_D.new_zeros(classes).requires_grad_()
    optimizer = torch.optim.AdamW([weight_CD, bias_C], lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    per_epoch = -(-source.count // BATCH)
    epochs = max(EPOCHS, -(-STEPS // per_epoch))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * per_epoch)
    rng = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for tokens_BTD, mask_BSS in source.epoch(rng):
            unit = SegmentationHead(weight_CD, bias_C, images.class_names)
            with torch.enable_grad():
                logits_BCSS = unit.logits((tokens_BTD - mean_D) / std_D, grid, side)
                loss = F.cross_entropy(logits_BCSS, mask_BSS, ignore_index=images.ignore_index, reduction="sum")
                optimizer.zero_grad()
                (loss / (mask_BSS != images.ignore_index).sum().clamp(min=1)).backward()
            optimizer.step()
            schedule.step()
    folded_CD = (weight_CD / std_D).detach()
    return SegmentationHead(folded_CD, (bias_C - folded_CD @ mean_D).detach(), images.class_names, fingerprint(encoder))


class _Tokens:
    """Clean tokens and masks of a data set in any order, held where there is room for all of them."""

    def __init__(self, encoder: Encoder, images: SegmentedImages, batch_size: int, workers: int) -> None:
        self.encoder, self.images = encoder, images
        self.device = encoder.mean.device
        rows, columns = encoder.grid or (1, 1)
        per_image = 4 * rows * columns * encoder.dim + encoder.image_size**2
        self.held = len(images.paths) * per_image <= HELD
        self.parts: list[tuple[Tensor, Tensor]] = []
        self.readable: list[int] = []
        self._load = partial(self._embedded, batch_size, workers)

    @property
    def count(self) -> int:
        """Images that can be read."""
        return len(self.readable)

    def first_pass(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (D,) of all tokens.

        Raises:
            SeaAnchorError: no image could be read, or no pixel of them has a class.
        """
        total, squares = torch.zeros(2, self.encoder.dim, dtype=torch.float64, device=self.device)
        tokens = classed = 0
        skip_log = SkipLog(self.images)
        for index_B, tokens_BTD, mask_BSS in self._load(None, skip_log):
            flat_ND = tokens_BTD.flatten(0, 1).double()
            total, squares, tokens = total + flat_ND.sum(0), squares + flat_ND.square().sum(0), tokens + len(flat_ND)
            classed += int((mask_BSS != self.images.ignore_index).sum())
            self.readable += index_B.tolist()
            if self.held:
                self.parts.append((tokens_BTD.cpu(), mask_BSS.byte().cpu()))
        if summary := skip_log.summary():
            log.info(summary)
        if not classed:
            raise SeaAnchorError(
                f"no pixel of {self.images.root} has a class that could be learnt ({self.count} images were read)",
                "readable images whose masks hold classes",
                "correct --train-data",
            )
        mean_D = total / tokens
        std_D = (squares / tokens - mean_D.square()).clamp(min=0).sqrt()
        return mean_D.float(), std_D.float().clamp(min=1e-6)

    def epoch(self, rng: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of tokens (B, T, D) and masks (B, S, S) in a random order."""
        order = torch.randperm(self.count, generator=rng)
        if not self.held:
            chosen = [self.readable[i] for i in order.tolist()]
            for _, tokens_BTD, mask_BSS in self._load(chosen, SkipLog(self.images), BATCH):
                yield tokens_BTD, mask_BSS
            return
        if len(self.parts) > 1:
            self.parts = [(torch.cat([a for a, _ in self.parts]), torch.cat([b for _, b in self.parts]))]
        tokens_NTD, mask_NSS = self.parts[0]
        for rows in order.split(BATCH):
            yield tokens_NTD[rows].to(self.device), mask_NSS[rows].to(self.device).long()

    @torch.no_grad()
    def _embedded(
        self, batch_size: int, workers: int, order: list[int] | None, skip_log: SkipLog, size: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        dataset = ImageDataset(self.images, self.encoder.preprocessing)
        for batch in batches(dataset, size or batch_size, workers=workers, order=order, skip_log=skip_log):
            if len(batch.index_B):
                tokens_BTD = self.encoder(batch.pixels_BCHW.to(self.device)).float()
                yield batch.index_B, tokens_BTD, masks_of(self.images, batch.index_B, self.encoder).to(self.device)


def masks_of(images: SegmentedImages, index_B: Tensor, encoder: Encoder) -> Tensor:
    """Class numbers (B, S, S) of the pixels that an encoder is shown, `ignore_index` where there is none; errors as
    `read_mask`."""
    return torch.stack([read_mask(images, index, encoder.preprocessing) for index in index_B.tolist()])
