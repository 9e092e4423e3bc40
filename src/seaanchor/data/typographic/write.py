"""`seaanchor attack`: attacked images as files."""

import errno
import json
from pathlib import Path
from typing import Any

from PIL import Image

from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.types import Images, LabelledImages
from seaanchor.data.typographic.read import check_names
from seaanchor.errors import SeaAnchorError
from seaanchor.perturbations.typographic import Typographic
from seaanchor.utils.checkpoint import write_atomic

UNFINISHED = ".unfinished"


def write_typographic(images: Images, attack: Typographic, image_size: int, output: Path) -> tuple[int, str]:
    """Draw on every image and write `label=X_text=Y_N.png` with `boxes.jsonl` (file, box, font, size, fill, stroke).
    After an interruption the same call begins again.

    Returns:
        How many were written, and what was skipped, in words.

    Raises:
        SeaAnchorError: images without labels, class names that no file name can hold or that do not fit the image, a
            folder in use, or one that cannot be written.
    """
    if not isinstance(images, LabelledImages):
        raise SeaAnchorError(
            f"{images.root} has no class folders",
            "labelled images, so that it is known which word is wrong",
            "sort them into class folders",
        )
    check_names(images.class_names)
    attack.check_size(image_size)
    begun = f"{attack!r}\n{image_size}\n{len(images.paths)}\n{images.root}\n"
    mark = output / UNFINISHED
    again = mark.is_file() and mark.read_bytes() == begun.encode("utf-8", "backslashreplace")
    if not again and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise SeaAnchorError(
            f"{output} is {'not empty' if output.is_dir() else 'a file'}",
            "a new or empty folder",
            "name another --output",
        )
    skip_log = SkipLog(images)
    try:
        write_atomic(mark, begun)
        table = _draw_all(images, attack, image_size, output, skip_log)
    except OSError as error:
        change = (
            "free some space, remove what was written, and try again"
            if error.errno == errno.ENOSPC
            else "name another --output"
        )
        raise SeaAnchorError(
            f"{output} could not be written: {error.strerror or error}",
            "free space in a folder that can be written",
            change,
        ) from error
    write_atomic(output / "boxes.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in table))
    mark.unlink()
    return len(table), skip_log.summary()


def _draw_all(
    images: LabelledImages, attack: Typographic, image_size: int, output: Path, skip_log: SkipLog
) -> list[dict[str, Any]]:
    """Write all variants of every image that can be read; a row for each file, with what was drawn where."""
    table: list[dict[str, Any]] = []
    names, variants = images.class_names, max(1, attack.variants)
    for batch in batches(ImageDataset(images, image_size), 64, workers=0, order=None, skip_log=skip_log):
        for row, index in enumerate(batch.index_B.tolist()):
            label = images.labels[index]
            for variant in range(variants):
                word, lettering = attack.draw(index, label, variant, image_size)
                picture = attack.overlay(batch.pixels_BCHW[row : row + 1], [lettering])[0]
                name = f"label={names[label]}_text={names[word]}_{index * variants + variant}.png"
                Image.fromarray((picture.permute(1, 2, 0) * 255).round().byte().numpy()).save(output / name)
                drawn = {key: getattr(lettering, key) for key in ("box", "font", "size", "fill", "stroke")}
                table.append({"file": name, **drawn})
    return table
