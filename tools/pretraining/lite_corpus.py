"""What `seaanchor-lite` is pre-trained on: photos, emoji art and drawn words at 128 pixels, and batches made of them.

Everything is decoded once into arrays under the cache folder. A batch is a pure function of (seed, step). A photo may
have several names, of several sets: a class of Tiny-ImageNet is one of 200 by the first of its names, and one of 1,000
by ImageNet's. Legend: N images, B batch, V texts, H W pixels, C channels.
"""

import hashlib
import json
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from seaanchor.attacks.drawing import draw_word
from seaanchor.attacks.fonts import font_files
from seaanchor.utils.log import log
from tools.pretraining.augment import jitter, letter, random_views, view
from tools.pretraining.copies import near_copies
from tools.pretraining.corpus import read_square
from tools.pretraining.listings import LISTINGS, Listing, imagenet_names
from tools.pretraining.words import common_words

SIZE = 128  # pixels of an image
STORED = 176  # pixels of a photo as it is kept, of which a view is taken
DRAWINGS = (32, 6)  # of each class name, of each other text
IMAGENET = "imagenet"
WORDS = "words"


@dataclass(frozen=True)
class Label:
    """A text among the texts of a set; where it is another name of a class, it stands in for the class's first one."""

    set: int
    text: int
    first: int


@dataclass(frozen=True)
class Bank:
    """Decoded images: pixels (N, H, W, C) uint8 with C = 3, or 4 with transparency; class (N,), -1 without a label; the
    labels of each class; whether the teacher sees them."""

    pixels: np.ndarray
    class_N: np.ndarray
    labels: tuple[tuple[Label, ...], ...]
    taught: bool


@dataclass(frozen=True)
class Words:
    """Masks (N, 2, H, W) of drawn texts; their order, text after text and the largest letters first; and where each
    text's places in that order start and how many there are."""

    masks: np.ndarray
    order_N: np.ndarray
    start_V: np.ndarray
    count_V: np.ndarray


@dataclass(frozen=True)
class LiteCorpus:
    """All banks, the drawn words, all texts, which of them (V,) belong to each set of names, and the text of each of
    ImageNet's classes; how many photos of each source were left out, and the files of all others."""

    texts: tuple[str, ...]
    imagenet: Tensor
    sets: tuple[str, ...]
    member_SV: Tensor
    banks: dict[str, Bank]
    words: Words
    dropped: dict[str, int]
    photos: tuple[Path, ...]


@dataclass(frozen=True)
class LiteMix:
    """Shares of the sources in a batch (what is not there is left out); the share of photos that carry their own name;
    of drawn words the share of names of some sets, that of names of any photos, and the sets; the share of drawings of
    each word that is used, those with the largest letters; and the share of words on plain grounds."""

    shares: tuple[tuple[str, float], ...]
    matching_word_rate: float = 0.2
    often_rate: float = 0.0
    class_word_rate: float = 0.7
    often: tuple[str, ...] = ()
    largest: float = 1.0
    plain: float = 0.6


@dataclass(frozen=True)
class LiteBatch:
    """pixels (B, 3, H, W) in [0, 1]; set, text and first name (B,) of each image, -1 without a label; teacher's views
    (T, 3, H', W') and which images of the batch (T,) they are of."""

    pixels: Tensor
    set_B: Tensor
    text_B: Tensor
    first_B: Tensor
    teacher_views: Tensor
    teacher_rows: Tensor


def load_lite_corpus(
    sources: dict[str, Path], held_out: Sequence[Path], fonts: Sequence[Path], cache: Path
) -> LiteCorpus:
    """Read the sources, or what was cached of them, without photos that are near copies of held-out ones.

    Args:
        sources: kind of listing, or `photos:NAME` and `unlabelled:NAME` → folder.
        held_out: photos that must not be seen in training.
        fonts: further font files for drawn words.
        cache: folder of decoded images.
    """
    listings = {name: LISTINGS[name.partition(":")[0]](name, path) for name, path in sources.items()}
    dropped = {}
    for name, listing in listings.items():
        if listing.photos:
            copies = set(near_copies([file for file, _ in listing.rows], held_out, cache))
            dropped[name] = len(copies)
            listings[name] = listing.without(copies)
            kept = len(listings[name].rows)
            log.info(f"{name}: {kept:,} photos, without {len(copies)} that look like held-out ones")
    names = {IMAGENET: list(imagenet_names())}
    for listing in listings.values():
        for options in listing.labels:
            for group, text in _first_names(options).items():
                names.setdefault(group, []).append(text)
    spoken = [text for group in names.values() for text in group]
    photos = [listing for listing in listings.values() if listing.photos]
    aliases = [text for listing in photos for options in listing.labels for _, text in options]
    texts = tuple(dict.fromkeys([*spoken, *aliases, *common_words()]))
    index = {text: i for i, text in enumerate(texts)}
    sets = (*names, WORDS)
    member_SV = torch.zeros(len(sets), len(texts), dtype=torch.bool)
    for row, group in enumerate(names.values()):
        member_SV[row, [index[text] for text in group]] = True
    member_SV[-1] = True
    banks = {
        name: Bank(
            _decoded(name, listing, cache),
            np.array([number for _, number in listing.rows]),
            tuple(
                tuple(Label(sets.index(g), index[t], index[_first_names(options)[g]]) for g, t in options)
                for options in listing.labels
            ),
            listing.taught,
        )
        for name, listing in listings.items()
    }
    of_classes = {text for name in names if name != "emoji" for text in names[name]} | set(aliases)
    imagenet = torch.tensor([index[text] for text in imagenet_names()])
    words = _drawn(texts, of_classes, fonts, cache)
    files = tuple(file for listing in photos for file, _ in listing.rows)
    return LiteCorpus(texts, imagenet, sets, member_SV, banks, words, dropped, files)


def _first_names(options: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Set → the name that a class has among it."""
    first: dict[str, str] = {}
    for group, text in options:
        first.setdefault(group, text)
    return first


def _decoded(name: str, listing: Listing, cache: Path) -> np.ndarray:
    key = hashlib.sha256(json.dumps([listing.side, *(str(f) for f, _ in listing.rows)]).encode()).hexdigest()[:16]
    file = cache / f"{name.replace(':', '-')}-{key}.npy"
    mode = "RGB" if listing.photos else "RGBA"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        shape = (len(listing.rows), listing.side, listing.side, len(mode))
        part = file.with_suffix(".part.npy")
        array = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)

        def fill(row: int) -> None:
            array[row] = read_square(listing.rows[row][0], mode, listing.side)

        with ThreadPoolExecutor() as pool:
            list(pool.map(fill, range(len(listing.rows))))
        array.flush()
        part.rename(file)
    return np.load(file, mmap_mode="r")


def _drawn(texts: Sequence[str], of_classes: set[str], fonts: Sequence[Path], cache: Path) -> Words:
    """Each text drawn several times, class names more often."""
    counts = [DRAWINGS[0] if text in of_classes else DRAWINGS[1] for text in texts]
    key = hashlib.sha256(json.dumps([list(texts), counts, [f.name for f in fonts]]).encode()).hexdigest()[:16]
    file = cache / f"lite-words-{key}.npy"
    text_N = np.repeat(np.arange(len(texts)), counts)
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        rng, faces = random.Random(0), [*font_files("train"), *fonts]
        part = file.with_suffix(".part.npy")
        masks = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=(len(text_N), 2, SIZE, SIZE))
        for row, text in enumerate(text_N):
            size = round(10 * (40 / 10) ** rng.random())
            masks[row] = draw_word(texts[text], rng.choice(faces), size, SIZE, rng, stroke=rng.choice((1, 1, 2)))[0]
        masks.flush()
        part.rename(file)
    start_V, masks = np.concatenate([[0], np.cumsum(counts)[:-1]]), np.load(file, mmap_mode="r")
    ink_N = np.array([int(mask[0, ::2, ::2].sum()) for mask in masks])
    return Words(masks, np.lexsort((-ink_N, text_N)), start_V, np.array(counts))


def make_lite_batch(
    corpus: LiteCorpus, seed: int, step: int, batch_size: int, mix: LiteMix, size: int, teacher_size: int
) -> LiteBatch:
    """The batch of one step at `size` pixels: photos, emoji and drawn words, augmented; the teacher's views at
    `teacher_size`."""
    rng = torch.Generator().manual_seed(seed * 1_000_003 + step)
    present = {name: share for name, share in mix.shares if name in corpus.banks or name == WORDS}
    total, parts = sum(present.values()), list[_Part]()
    for name, share in present.items():
        count = max(1, round(batch_size * share / total))
        parts.append(
            _words(corpus, count, mix, rng, size)
            if name == WORDS
            else _images(corpus, corpus.banks[name], count, mix, rng, size, teacher_size)
        )
    begins = np.cumsum([0, *(len(part.labels) for part in parts)])
    labels = [label for part in parts for label in part.labels]
    set_B, text_B, first_B = (
        torch.tensor([-1 if label is None else value(label) for label in labels])
        for value in (lambda x: x.set, lambda x: x.text, lambda x: x.first)
    )
    taught = [
        (part.teacher_views, begin)
        for part, begin in zip(parts, begins, strict=False)
        if part.teacher_views is not None
    ]
    views = torch.cat([v for v, _ in taught]) if taught else torch.zeros(0, 3, teacher_size, teacher_size)
    rows = [torch.arange(len(v)) + int(begin) for v, begin in taught]
    return LiteBatch(
        torch.cat([part.pixels for part in parts]), set_B, text_B, first_B, views,
        torch.cat(rows) if rows else torch.zeros(0, dtype=torch.long),
    )  # fmt: skip


@dataclass(frozen=True)
class _Part:
    pixels: Tensor
    labels: list[Label | None]
    teacher_views: Tensor | None = None


def _images(
    corpus: LiteCorpus, bank: Bank, count: int, mix: LiteMix, rng: torch.Generator, size: int, teacher_size: int
) -> _Part:
    rows = torch.randint(len(bank.pixels), (count,), generator=rng).sort().values.numpy()
    images = torch.from_numpy(np.array(bank.pixels[rows])).permute(0, 3, 1, 2).float().div_(255)
    labels = [_label(bank, int(number), rng) for number in bank.class_N[rows]]
    if images.shape[1] == 4:
        return _Part(_emoji(images, rng, size), labels)
    enlarged = images.shape[-1] < size
    theta_B23 = random_views(count, rng, (0.7, 1.05) if enlarged else (0.55, 1.0), 0.12, flip=True)
    pixels = view(images, theta_B23, size, "bicubic" if enlarged else "bilinear").clamp_(0, 1)
    views = view(images, theta_B23, teacher_size) if bank.taught else None
    pixels = jitter(pixels, rng, 0.2)
    lettered = torch.rand(count, generator=rng) < mix.matching_word_rate
    lettered &= torch.tensor([label is not None for label in labels])
    if lettered.any():
        texts = [label.text for label, own in zip(labels, lettered, strict=True) if own and label is not None]
        pixels[lettered] = letter(pixels[lettered], _masks(corpus.words, texts, rng, size), rng)
    return _Part(pixels, labels, views)


def _label(bank: Bank, number: int, rng: torch.Generator) -> Label | None:
    options = bank.labels[number] if number >= 0 else ()
    return options[int(torch.randint(len(options), (1,), generator=rng))] if options else None


def _masks(words: Words, texts: Sequence[int], rng: torch.Generator, size: int, largest: float = 1.0) -> Tensor:
    """A random drawing (N, 2, H, W) of each text, among the share of them that has the largest letters."""

    def place(text: int) -> int:
        among = max(1, round(largest * int(words.count_V[text])))
        return int(words.start_V[text]) + int(torch.randint(among, (1,), generator=rng))

    masks = words.masks[words.order_N[[place(text) for text in texts]]]
    if size < SIZE:
        masks = np.stack([_around(mask, size, rng) for mask in masks])
    return torch.from_numpy(np.array(masks)).float() / 255


def _around(mask: np.ndarray, size: int, rng: torch.Generator) -> np.ndarray:
    """A part of `size` pixels of a mask (2, H, W), at a random place around what is drawn: letters keep their size."""
    begin = []
    for axis in (0, 1):
        inked = np.flatnonzero(mask[1].any(1 - axis))
        low, high = int(inked[-1]) + 1 - size, int(inked[0])  # between them all of it is inside
        low, high = sorted((max(0, min(low, SIZE - size)), max(0, min(high, SIZE - size))))
        begin.append(low + int(torch.randint(high - low + 1, (1,), generator=rng)))
    top, left = begin
    return mask[:, top : top + size, left : left + size]


def _emoji(images: Tensor, rng: torch.Generator, size: int) -> Tensor:
    count = len(images)
    warped = view(images, random_views(count, rng, (0.8, 1.4), 0.35, flip=True), size)
    ground = torch.where(
        torch.rand(count, 1, 1, 1, generator=rng) < 0.5, torch.ones(1), torch.rand(count, 3, 1, 1, generator=rng)
    )
    art = jitter(warped[:, :3], rng, 0.4)
    shuffled = art[:, torch.randperm(3, generator=rng)]  # colours differ between art styles, shapes less
    art = torch.where(torch.rand(count, 1, 1, 1, generator=rng) < 0.2, shuffled, art)
    return art * warped[:, 3:] + ground * (1 - warped[:, 3:])


def _words(corpus: LiteCorpus, count: int, mix: LiteMix, rng: torch.Generator, size: int) -> _Part:
    """Words on flat and shaded grounds, on dimmed photos and on photos as they are."""
    words = corpus.words
    own = torch.from_numpy(np.flatnonzero(words.count_V == words.count_V.max()))
    often = torch.nonzero(corpus.member_SV[[corpus.sets.index(name) for name in mix.often]].any(0)).flatten()
    pools = ((often if len(often) else own, mix.often_rate), (own, mix.class_word_rate))
    texts = [pool[torch.randint(len(pool), (round(count * rate),), generator=rng)] for pool, rate in pools]
    rest = max(0, count - sum(map(len, texts)))
    texts = torch.cat([*texts, torch.randint(len(corpus.texts), (rest,), generator=rng)])[:count].tolist()
    flat = torch.rand(count, 3, 1, 1, generator=rng).expand(-1, -1, size, size)
    ramp = torch.linspace(-0.25, 0.25, size)[None, None, None] * torch.rand(count, 3, 1, 1, generator=rng)
    photos = [bank for bank in corpus.banks.values() if bank.taught]
    bank = photos[int(torch.randint(len(photos), (1,), generator=rng))]
    rows = torch.randint(len(bank.pixels), (count,), generator=rng).numpy()
    photo = torch.from_numpy(np.array(bank.pixels[rows])).permute(0, 3, 1, 2).float().div_(255)
    photo = view(photo, random_views(count, rng, (0.5, 1.0), 0.12, flip=True), size)
    kind = torch.rand(count, 1, 1, 1, generator=rng)
    dim = mix.plain + (1 - mix.plain) / 2
    ground = torch.where(kind < mix.plain / 2, flat, torch.where(kind < mix.plain, (flat + ramp).clamp(0, 1), photo))
    ground = torch.where((kind > mix.plain) & (kind < dim), 0.3 + 0.4 * photo, ground)
    pixels = letter(ground, _masks(words, texts, rng, size, mix.largest), rng)
    label = len(corpus.sets) - 1
    return _Part(pixels, [Label(label, text, text) for text in texts])
