"""`seaanchor attack`: attacked images as files."""

import json
from pathlib import Path

from PIL import Image

from seaanchor.data.folder import FolderDataset, ImageList, SkipLog, batches
from seaanchor.errors import SeaAnchorError
from seaanchor.perturbations.typographic import Typographic


def write_typographic(images: ImageList, attack: Typographic, image_size: int, output: Path) -> tuple[int, str]:
    """Draw on every image and write `label=X_text=Y_N.png` with `boxes.jsonl` (file, box, font, size, fill, stroke).

    Returns:
        How many were written, and what was skipped, in words.

    Raises:
        SeaAnchorError: images without labels, a folder in use, or a full disk.
    """
    if images.labels is None:
        raise SeaAnchorError(f"{images.root} has no class folders", "labelled images, so that it is known which word is wrong", "sort them into class folders")
    if output.exists() and any(output.iterdir()):
        raise SeaAnchorError(f"{output} is not empty", "a new or empty folder", "name another --output")
    output.mkdir(parents=True, exist_ok=True)
    skip_log, table = SkipLog(images), []
    names = images.class_names or ()
    try:
        for batch in batches(FolderDataset(images, image_size), 64, workers=0, order=None, skip_log=skip_log):
            for row, (index, label) in enumerate(zip(batch.index_B.tolist(), (batch.label_B if batch.label_B is not None else []), strict=True)):
                for variant in range(max(1, attack.variants)):
                    word, lettering = attack.draw(index, int(label), variant, image_size)
                    picture = attack.overlay(batch.pixels_BCHW[row : row + 1], [lettering])[0]
                    name = f"label={names[int(label)]}_text={names[word]}_{index * max(1, attack.variants) + variant}.png"
                    Image.fromarray((picture.permute(1, 2, 0) * 255).round().byte().numpy()).save(output / name)
                    table.append({
                        "file": name, "box": lettering.box, "font": lettering.font, "size": lettering.size, "fill": lettering.fill, "stroke": lettering.stroke,
                    })  # fmt: skip
        (output / "boxes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in table))
    except OSError as error:
        raise SeaAnchorError(f"{output} could not be written: {error.strerror or error}", "free disk space", "free some and try again") from error
    return len(table), skip_log.summary()
