"""Subcommands that make or inspect data. Nothing heavy is imported before a command needs it."""

from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

from seaanchor.errors import SeaAnchorError, printable

if TYPE_CHECKING:
    from seaanchor.data.preference_rows import Tally

data_app = App(name="data", help="Inspect data, write shards, and make preference data.")


@data_app.command
def inspect(source: str, /) -> None:
    """Try to read every image of a source; count those that can be read, classes and preferences, or the classes of
    masks.

    Parameters
    ----------
    source
        Folder, embedded set, or JSON lines file; or a folder of images with masks.
    """
    from collections import Counter

    from seaanchor.data.loader import ImageDataset, SkipLog, batches
    from seaanchor.data.masks import has_masks
    from seaanchor.data.preference_rows import tally
    from seaanchor.data.sources import open_images
    from seaanchor.data.types import LabelledImages, PreferenceImages, TypographicImages, texts_of
    from seaanchor.data.webdataset.read import only_split

    if has_masks(Path(source)):
        return _inspect_masks(Path(source))
    images = open_images(source, split=only_split(Path(source)) or "train")
    skip_log = SkipLog(images)
    stream = batches(ImageDataset(images, 32), 256, workers=0, order=None, skip_log=skip_log)
    read = [index for batch in stream for index in batch.index_B.tolist()]
    place = source if source.endswith(".jsonl") else images.root
    print(printable(f"{len(read)} images in {place}{'' if skip_log.summary() else ', all readable'}"))
    if isinstance(images, LabelledImages):
        count = Counter(images.labels[index] for index in read)
        sizes = [count[label] for label in set(images.labels)]
        each = f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
        print(
            f"{len(images.class_names)} classes of {each} images: "
            f"{printable(', '.join(images.class_names[:8]))}{' ...' if len(images.class_names) > 8 else ''}"
        )
    if isinstance(images, TypographicImages | PreferenceImages):
        print(f"{len(images.pairs)} preferences over {len(texts_of(images))} texts: {_kinds(tally(images.pairs))}")
    if skip_log.summary():  # also what could not be listed
        print(skip_log.summary())


def _inspect_masks(root: Path) -> None:
    """Images of every part that can be read, and how much of their masks each class has."""
    import numpy as np

    from seaanchor.data.loader import ImageDataset, SkipLog, batches
    from seaanchor.data.mask_files import classes_of
    from seaanchor.data.masks import open_segmented, splits_of

    parts = splits_of(root)
    for split in parts:
        images = open_segmented(root, split=split)
        skip_log = SkipLog(images)
        stream = batches(ImageDataset(images, 32), 256, workers=0, order=None, skip_log=skip_log)
        read = [index for batch in stream for index in batch.index_B.tolist()]
        pixels_256 = np.zeros(256, np.int64)
        for index in read:
            pixels_256 += np.bincount(classes_of(images, index).ravel(), minlength=256)
        share_256 = 100 * pixels_256 / max(1, pixels_256.sum())
        named = [f"{name} {share_256[number]:.1f} %" for number, name in enumerate(images.class_names)]
        without = f"{share_256[images.ignore_index]:.1f} % without a class"
        where = f"{root}, {split}" if len(parts) > 1 else f"{root}"
        print(printable(f"{len(read)} images with masks in {where}{'' if skip_log.summary() else ', all readable'}"))
        shown = ", ".join(named[:20]) + (" ..." if len(named) > 20 else "")
        print(printable(f"pixels of {len(named)} classes: {shown}; {without}"))
        if skip_log.summary():
            print(skip_log.summary())


@data_app.command
def pairs(
    *, data: str, output: Path, swap: str = "gender", flip: bool = False, class_names: Path | None = None
) -> None:
    """Make preferences from captions by swapping words: class folders whose names are captions, to a JSON lines file.

    Parameters
    ----------
    data
        Class folders named by captions, or emoji-people.
    output
        JSON lines file to write.
    swap
        The shipped word pairs gender, or a file with two words a line.
    flip
        Prefer the swapped caption.
    class_names
        File that gives the captions.
    """
    from seaanchor.data.preference_rows import swapped_captions, write_preferences
    from seaanchor.data.sources import open_images
    from seaanchor.utils.text import word_pairs

    images = swapped_captions(open_images(data, class_names), word_pairs(swap), flip=flip)
    write_preferences(images, output)
    print(f"{len(images.paths)} preferences written to {output}")


@data_app.command(name="import")
def import_(
    source: str,
    /,
    *,
    output: Path,
    split: str | None = None,
    subset: str | None = None,
    image_column: str = "image",
    chosen_column: str = "chosen",
    rejected_column: str = "rejected",
    text_column: str | None = None,
    label_column: str | None = None,
    samples: int | None = None,
) -> None:
    """Import preferences from the columns of a Hugging Face data set: images, and a JSON lines file to train on (extra
    data).

    Parameters
    ----------
    source
        Folder written by save_to_disk; a parquet, JSON, CSV or Arrow file, or a folder of them; or a name on the Hub.
    output
        New folder.
    split
        Such as train; may be left out where there is one split, or one called train.
    subset
        Configuration, where the data set has several.
    image_column
        Column with images, or with paths relative to the file.
    chosen_column
        Column with the preferred text.
    rejected_column
        Column with the rejected text.
    text_column
        Column with the text, where there is no chosen and rejected one. By default text, completion or caption.
    label_column
        Column that says whether that text is desirable: true or 1, false or 0. By default label or desirable.
    samples
        At most this many rows.
    """
    from seaanchor.data.huggingface.preferences import FILE, Columns, import_preferences

    if samples is not None and samples < 1:
        raise SeaAnchorError(f"--samples {samples}", "at least 1", "correct it")
    columns = Columns(image_column, chosen_column, rejected_column, text_column, label_column)
    done = import_preferences(source, output, columns, split, subset, samples)
    kinds = done.tally
    print(
        f"{sum(done.kinds.values())} preferences written to {output / FILE}: {_kinds(kinds)}; {done.pictures} "
        f"pictures in {output / 'images'}"
    )
    if done.left_out:
        total = done.left_out + sum(done.kinds.values())
        reasons = printable("; ".join(done.reasons))
        print(f"{done.left_out} of {total} rows are no preferences and were skipped ({reasons})")
    if not kinds.one_sided:
        recipe = "dpo" if kinds.desirable == kinds.undesirable == 0 else "kto"
        print(f"train on them: seaanchor train {recipe} --train-data {output / FILE} --perturbation.kind none")


def _kinds(kinds: "Tally") -> str:
    """Counts in words, and what they are good for."""
    said = f"{kinds.paired} paired, {kinds.desirable} only desirable, {kinds.undesirable} only undesirable"
    if kinds.one_sided:
        return f"{said} (nothing learns from one kind alone: kto needs both)"
    return said + ("" if kinds.desirable == kinds.undesirable == 0 else " (rows with one text are for kto)")
