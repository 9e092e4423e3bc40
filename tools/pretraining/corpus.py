"""What the embedded model is pre-trained on: photos, emoji art and drawn words as uint8 arrays, and batches made of
them.

Everything is decoded once into arrays under the cache folder. A batch is a pure function of (seed, step), so resuming
needs no random state. Legend: N images, B batch, U distinct concepts of a batch, H W pixels, C channels.
"""

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from seaanchor.attacks.drawing import draw_word
from seaanchor.attacks.fonts import font_files
from tools.pretraining.augment import jitter, overlay, warp
from tools.pretraining.caltech import class_name, split_files
from tools.pretraining.copies import opened
from tools.pretraining.words import ROOT, common_words

SIZE = 64


@dataclass(frozen=True)
class Mix:
    """What a batch is made of.

    Attributes:
        shares: source → share of the batch; sources that are not there are left out.
        matching_word_rate: share of photos that carry their own name, as on the web.
        class_word_rate: share of drawn words that are a class name of the photos or of the 100 emoji; the others are
            common words.
        emoji_class_rate: share of emoji art taken from those 100.
    """

    shares: tuple[tuple[str, float], ...]
    matching_word_rate: float
    class_word_rate: float
    emoji_class_rate: float


@dataclass(frozen=True)
class Bank:
    """Decoded images with the concept each shows: pixels (N, H, W, C) uint8 with C = 3, or 4 with transparency."""

    pixels: np.ndarray
    concept: np.ndarray


@dataclass(frozen=True)
class Corpus:
    """All banks, the word masks (N, 2, H, W), the names that concept numbers stand for, which of them are
    class words, and which rows of the emoji bank show one of the 100 classes."""

    names: tuple[str, ...]
    banks: dict[str, Bank]
    masks: Bank
    class_words: Tensor
    emoji_rows: np.ndarray


@dataclass(frozen=True)
class CaptionedBatch:
    """pixels (B, 3, H, W) in [0, 1]; concepts (U,) of the batch; target (B,), each image's index into them."""

    pixels: Tensor
    concepts: Tensor
    target: Tensor


def load_corpus(sources: dict[str, Path], cache: Path) -> Corpus:
    """Read `sources` (`tiny-imagenet`, `cifar10`, `caltech101`, `emoji` → folder) or what was cached of them."""
    listings = {name: _LISTINGS[name](path) for name, path in sources.items()}
    class_names = sorted({concept for rows in listings.values() for _, concept in rows})
    names = tuple(dict.fromkeys([*class_names, *common_words()]))
    index = {name: i for i, name in enumerate(names)}
    banks = {name: _decode(name, rows, index, cache) for name, rows in listings.items()}
    class_words = {c for name, rows in listings.items() for f, c in rows if name != "emoji" or c in _emoji_classes()}
    emoji_rows = np.array([i for i, (_, c) in enumerate(listings.get("emoji", [])) if c in _emoji_classes()])
    return Corpus(
        names,
        banks,
        _word_masks(class_names, index, cache),
        torch.tensor(sorted(index[c] for c in class_words)),
        emoji_rows,
    )


def _emoji_classes() -> set[str]:
    return {folder.name for folder in (ROOT / "data" / "emoji" / "train").iterdir()}


def _tiny_imagenet(root: Path) -> list[tuple[Path, str]]:
    words = dict(line.split("\t") for line in (root / "words.txt").read_text().splitlines())
    folders = sorted((root / "train").iterdir())
    return [(f, words[d.name].split(",")[0].lower()) for d in folders for f in sorted((d / "images").glob("*.JPEG"))]


def _class_folders(root: Path) -> list[tuple[Path, str]]:
    return [(f, d.name.lower()) for d in sorted((root / "train").iterdir()) for f in sorted(d.iterdir())]


def _caltech(root: Path) -> list[tuple[Path, str]]:
    folders = [d for d in sorted(root.iterdir()) if d.is_dir() and not d.name.startswith(("BACKGROUND", "Faces_easy"))]
    return [(f, class_name(d.name)) for d in folders for f in split_files(d)[0]]


def _emoji(root: Path) -> list[tuple[Path, str]]:
    return [(f, f.stem.split("=")[1]) for f in sorted(root.glob("*.png"))]


_LISTINGS: dict[str, Callable[[Path], list[tuple[Path, str]]]] = {
    "tiny-imagenet": _tiny_imagenet,
    "cifar10": _class_folders,
    "caltech101": _caltech,
    "emoji": _emoji,
}


def _decode(name: str, rows: Sequence[tuple[Path, str]], index: dict[str, int], cache: Path) -> Bank:
    key = hashlib.sha256(json.dumps([[str(f), c] for f, c in rows]).encode()).hexdigest()[:16]
    file = cache / f"{name}-{key}.npy"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        mode = "RGBA" if name == "emoji" else "RGB"
        with ThreadPoolExecutor() as pool:
            np.save(file, np.stack(list(pool.map(lambda row: read_square(row[0], mode), rows))))
    return Bank(np.load(file, mmap_mode="r"), np.array([index[concept] for _, concept in rows]))


def read_square(path: Path, mode: str = "RGB", size: int = SIZE) -> np.ndarray:
    """Shorter side to `size`, centre crop, as uint8 (H, W, C).

    Raises:
        SeaAnchorError: the file cannot be read.
    """
    image = opened(path, mode)
    scale = size / min(image.size)
    image = image.resize([max(size, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


def _word_masks(class_names: Sequence[str], index: dict[str, int], cache: Path) -> Bank:
    key = hashlib.sha256(json.dumps([list(class_names), list(common_words())]).encode()).hexdigest()[:16]
    file = cache / f"words-{key}.npy"
    jobs = [(name, i) for name in class_names for i in range(24)] + [
        (word, i) for word in common_words() for i in range(5)
    ]
    if not file.exists():
        rng = random.Random(0)
        faces = font_files("train")
        np.save(file, np.stack([draw_word(w, rng.choice(faces), rng.randint(11, 26), SIZE, rng)[0] for w, _ in jobs]))
    return Bank(np.load(file, mmap_mode="r"), np.array([index[word] for word, _ in jobs]))


def make_batch(corpus: Corpus, seed: int, step: int, batch_size: int, size: int, mix: Mix) -> CaptionedBatch:
    """The batch of one step at `size` pixels: photos, emoji and drawn words, augmented."""
    rng = torch.Generator().manual_seed(seed * 1_000_003 + step)
    present = {name: share for name, share in mix.shares if name in corpus.banks or name == "words"}
    total = sum(present.values())
    pixels, concepts = [], []
    for name, share in present.items():
        count = round(batch_size * share / total)
        make = _words if name == "words" else _emoji_images if name == "emoji" else _photos
        images, concept = make(corpus, name, count, mix, rng)
        pixels.append(_resize(images, size))
        concepts.append(concept)
    unique, target = torch.unique(torch.cat(concepts), return_inverse=True)
    return CaptionedBatch(torch.cat(pixels), unique, target)


def _resize(pixels: Tensor, size: int) -> Tensor:
    if pixels.shape[-1] == size:
        return pixels
    return F.interpolate(pixels, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


def _draw(bank: Bank, count: int, rng: torch.Generator, among: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
    rows = (
        torch.randint(len(bank.pixels) if among is None else len(among), (count,), generator=rng).sort().values.numpy()
    )
    rows = rows if among is None else among[rows]
    images = torch.from_numpy(np.array(bank.pixels[rows]))
    return images.float().div_(255), torch.from_numpy(bank.concept[rows])


def _photos(corpus: Corpus, name: str, count: int, mix: Mix, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    images, concept = _draw(corpus.banks[name], count, rng)
    pixels = jitter(warp(images.permute(0, 3, 1, 2), rng, (0.6, 1.05), 0.15, flip=True), rng, 0.25)
    lettered = torch.rand(count, generator=rng) < mix.matching_word_rate
    if lettered.any():
        rows = _mask_rows(concept[lettered], rng)
        pixels[lettered] = overlay(pixels[lettered], torch.from_numpy(np.array(corpus.masks.pixels[rows.numpy()])), rng)
    return pixels, concept


def _mask_rows(concept: Tensor, rng: torch.Generator) -> Tensor:
    """A random mask row for each concept (class names stand first in the bank, 24 rows each, in the order of their
    numbers)."""
    return concept * 24 + torch.randint(24, (len(concept),), generator=rng)


def _emoji_images(corpus: Corpus, name: str, count: int, mix: Mix, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    of_class = round(count * mix.emoji_class_rate)
    some, some_concept = _draw(corpus.banks[name], of_class, rng, corpus.emoji_rows)
    others, others_concept = _draw(corpus.banks[name], count - of_class, rng)
    images, concept = torch.cat([some, others]), torch.cat([some_concept, others_concept])
    warped = warp(images.permute(0, 3, 1, 2), rng, (0.8, 1.25), 0.35, flip=True)
    ground = torch.where(
        torch.rand(count, 1, 1, 1, generator=rng) < 0.5, torch.ones(1), torch.rand(count, 3, 1, 1, generator=rng)
    )
    art = jitter(warped[:, :3], rng, 0.4)
    shuffled = art[:, torch.randperm(3, generator=rng)]  # colours differ between art styles, shapes less
    art = torch.where(torch.rand(count, 1, 1, 1, generator=rng) < 0.2, shuffled, art)
    return art * warped[:, 3:] + ground * (1 - warped[:, 3:]), concept


def _words(corpus: Corpus, name: str, count: int, mix: Mix, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    of_class = round(count * mix.class_word_rate)
    rows = (
        torch.cat(
            [
                _mask_rows(corpus.class_words[torch.randint(len(corpus.class_words), (of_class,), generator=rng)], rng),
                torch.randint(len(corpus.masks.pixels), (count - of_class,), generator=rng),
            ]
        )
        .sort()
        .values
    )
    masks = torch.from_numpy(np.array(corpus.masks.pixels[rows.numpy()]))
    flat = torch.rand(count, 3, 1, 1, generator=rng).expand(-1, -1, SIZE, SIZE)
    ramp = torch.linspace(-0.25, 0.25, SIZE)[None, None, None] * torch.rand(count, 3, 1, 1, generator=rng)
    photo = _draw(corpus.banks["tiny-imagenet"], count, rng)[0].permute(0, 3, 1, 2)[
        torch.randperm(count, generator=rng)
    ]
    kind = torch.rand(count, 1, 1, 1, generator=rng)
    ground = torch.where(kind < 0.4, flat, torch.where(kind < 0.7, (flat + ramp).clamp(0, 1), 0.3 + 0.4 * photo))
    return overlay(ground, masks, rng), torch.from_numpy(corpus.masks.concept[rows.numpy()])
