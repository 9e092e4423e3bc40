"""Labelled images as WebDataset shards in CLIP_benchmark's layout, which its `wds/NAME` data sets and
`seaanchor.data.webdataset.read` read."""

import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from PIL import Image

from seaanchor.data.images import FORMATS, Item, UnreadableImage, check_png, flat, read_image, upright
from seaanchor.data.loader import SkipLog
from seaanchor.data.name_pairing import clean_names
from seaanchor.data.preprocessing import Preprocessing
from seaanchor.data.types import Images, LabelledImages, templates_of
from seaanchor.data.webdataset.read import CLASSES, COUNT, TEMPLATES
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.checkpoint import write_atomic
from seaanchor.utils.staging import staged

COPIED = {
    "JPEG": "jpg",
    "PNG": "png",
    "WEBP": "webp",
}  # formats that CLIP_benchmark reads, and the endings it gives them
STORED = ("1", "L", "P", "RGB", "CMYK")  # modes that are kept; PNG takes all but the last
DEFAULT_TEMPLATES = ("a photo of a {}.",)


@dataclass(frozen=True)
class Built:
    """What was written: images, shards, and what was skipped, in words."""

    images: int
    shards: int
    skipped: str


def build_shards(
    images: Images,
    output: Path,
    split: str = "test",
    *,
    shard_size: int = 10_000,
    image_size: int | Preprocessing | None = None,
    templates: Sequence[str] | None = None,
) -> Built:
    """Write `output/SPLIT/0.tar`, ... with `nshards.txt`, and `classnames.txt` and
    `zeroshot_classification_templates.txt` beside the split.

    JPEG, PNG and WebP that every reader shows alike are copied byte for byte; anything else becomes PNG of what Sea
    Anchor reads in it. The same images give the same bytes. The split appears as a whole at the end, or not at all; a
    second split of the same classes may join it.

    Args:
        images: labelled images with class names.
        shard_size: images in a tar.
        image_size: side in pixels to scale and crop to, or the preprocessing of the models that the set is for; None
            leaves them as they are. A model with another preprocessing sees them resized or cropped twice.
        templates: prompts with `{}`; by default the data set's own, or `a photo of a {}.`

    Raises:
        SeaAnchorError: images without classes, a split that is there, another data set's files, nothing readable, or a
            full disk.
    """
    if not isinstance(images, LabelledImages):
        raise SeaAnchorError(
            f"{images.root} has no classes",
            "labelled images",
            "name class folders, or give --class-names to a table without names",
        )
    if shard_size < 1 or (isinstance(image_size, int) and image_size < 1) or not split.isidentifier():
        raise SeaAnchorError(
            f"shards of {shard_size}, image size {image_size}, split {split!r}",
            "at least 1, and a word such as test",
            "correct it",
        )
    prompts = [t.replace("{}", "{c}") for t in templates or templates_of(images) or DEFAULT_TEMPLATES]
    lines = {CLASSES: clean_names(images.class_names, str(images.root)), TEMPLATES: prompts}
    texts = {file: "".join(f"{line}\n" for line in listed) for file, listed in lines.items()}
    _check_free(output, split, texts)
    return _build(images, output, split, texts, shard_size, image_size)


def _build(
    images: LabelledImages,
    output: Path,
    split: str,
    texts: dict[str, str],
    shard_size: int,
    how: int | Preprocessing | None,
) -> Built:
    """Write the shards and rename them into place, or leave nothing."""
    skip_log = SkipLog(images)
    with staged(output / split) as partial:
        written = _write(_samples(images, how, skip_log), partial, shard_size)
        if written == 0:
            raise SeaAnchorError(f"no image in {images.root} could be read", "readable images", skip_log.summary())
        shards = -(-written // shard_size)
        write_atomic(partial / COUNT, f"{shards}\n")
        for file, text in texts.items():
            write_atomic(output / file, text)
    return Built(written, shards, skip_log.summary())


def _check_free(output: Path, split: str, texts: dict[str, str]) -> None:
    if output.exists() and not output.is_dir():
        raise SeaAnchorError(f"{output} is a file", "a new folder", "name another --output")
    if (output / split).exists():
        raise SeaAnchorError(
            f"{output / split} exists",
            "a split that is not there yet",
            "name another --output or --split, or remove it",
        )
    for file, text in texts.items():
        if (output / file).exists() and (output / file).read_text(encoding="utf-8") != text:
            raise SeaAnchorError(
                f"{output / file} differs", "splits of the same classes with the same prompts", "name another --output"
            )


def _samples(
    images: LabelledImages, how: int | Preprocessing | None, skip_log: SkipLog
) -> Iterator[tuple[str, bytes, int]]:
    """Ending, bytes and class number of every image that can be read."""
    for index, (item, label) in enumerate(zip(images.paths, images.labels, strict=True)):
        try:
            yield *_encode(item, how), label
        except UnreadableImage as error:
            skip_log.add([(index, str(error))])


def _encode(item: Item, how: int | Preprocessing | None) -> tuple[str, bytes]:
    """An image's bytes with the ending of their format."""
    if how is not None:
        pixels = read_image(item, how).permute(1, 2, 0).contiguous().numpy()
        return "png", _png(Image.fromarray(pixels))
    try:
        with item.open("rb") as file:
            data = file.read()
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.format == "PNG":
                check_png(io.BytesIO(data))
            image.load()
            if image.format in COPIED and _reads_alike(image):
                return COPIED[image.format], data
            return "png", _png(flat(upright(image)))
    except Exception as error:  # decoders raise whatever they like on broken bytes
        known = isinstance(error, Image.UnidentifiedImageError)  # whose own text holds an address in memory
        reason = "cannot identify an image in it" if known else str(error)[:120]
        raise UnreadableImage(f"{item.name}: {type(error).__name__}: {reason}") from error


def _reads_alike(image: Image.Image) -> bool:
    """Whether a reader that only converts to RGB sees what `read_image` sees: 8 bits, no transparency, upright, one
    frame."""
    plain = image.mode in STORED and "transparency" not in image.info and getattr(image, "n_frames", 1) == 1
    return plain and image.getexif().get(0x0112, 1) == 1


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    (image if image.mode in STORED[:4] else image.convert("RGB")).save(stream, "PNG")
    return stream.getvalue()


def _write(samples: Iterator[tuple[str, bytes, int]], folder: Path, shard_size: int) -> int:
    """Fill shards one after the other; returns how many samples there were."""
    count = 0
    for first in samples:  # a shard begins only when there is something for it
        with (folder / f"{count // shard_size}.tar").open("wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
                for ending, data, label in chain([first], islice(samples, shard_size - 1)):
                    _add(archive, f"s{count:07d}.{ending}", data)
                    _add(archive, f"s{count:07d}.cls", str(label).encode())
                    count += 1
            file.flush()
            os.fsync(file.fileno())
    return count


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)  # without time and owner: the same images give the same bytes
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))
