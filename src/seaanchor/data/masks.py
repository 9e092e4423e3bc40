"""Images with masks: folders of both, and the layouts of ADE20K and Pascal VOC."""

import csv
from collections.abc import Sequence
from pathlib import Path

from seaanchor.data.files import find_images
from seaanchor.data.mask_files import checked, highest, read_mask
from seaanchor.data.name_lists import lines_of
from seaanchor.data.name_pairing import WHOLE_NUMBER
from seaanchor.data.names import read_class_names
from seaanchor.data.splits import split_kind
from seaanchor.data.types import SegmentedImages
from seaanchor.errors import SeaAnchorError, note
from seaanchor.utils.plain_files import read_text
from seaanchor.utils.text import plain

VOID = 255
IMAGES, MASKS = "images", ("masks", "annotations", "labels")
NAMES = ("classnames.txt", "class_names.txt", "classes.txt")
ADE20K_CLASSES = 150
_VOC = """background, aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, dining table, dog, horse,
motorbike, person, potted plant, sheep, sofa, train, tv monitor"""
VOC_CLASSES = tuple(" ".join(name.split()) for name in _VOC.split(","))


def open_segmented(
    source: str | Path, class_names: Path | None = None, split: str = "val", ignore_index: int = VOID
) -> SegmentedImages:
    """List images with their masks.

    Args:
        source: a folder with `images` and `masks`, of files with the same names before their endings; one in ADE20K's
            layout (`images/validation`, `annotations/validation`); or one in Pascal VOC's (`JPEGImages`,
            `SegmentationClass`, `ImageSets/Segmentation/val.txt`).
        class_names: as `read_class_names` takes it; by default the layout's own names, or `classnames.txt` beside
            `images`; without either, classes are called by their numbers.
        split: which part, where there are several.
        ignore_index: what stands for no class, in [0, 255]; ADE20K's 0 does so in any case.

    Raises:
        SeaAnchorError: another layout, no such split, an image without a mask, masks of another size than their
            images, with numbers that no class has, of colours, or without any class.
    """
    root = Path(source)
    if not 0 <= ignore_index <= 255:
        raise SeaAnchorError(f"ignore_index is {ignore_index}", "a number in [0, 255]", "correct it")
    if not root.is_dir():
        reason = "a file" if root.exists() else "missing"
        raise SeaAnchorError(f"{root} is {reason}", "a folder of images and masks", "correct the path")
    if (root / "JPEGImages").is_dir():
        return voc(root, class_names, split, ignore_index)
    if is_ade20k(root):
        return ade20k(root, class_names, split, ignore_index)
    return mask_folder(root, class_names, split, ignore_index)


def has_masks(root: Path) -> bool:
    """Whether a folder holds images with masks in one of these layouts; annotations that are no pictures, such as
    boxes or captions, are no masks."""
    layouts = [("JPEGImages", "SegmentationClass"), *((IMAGES, name) for name in MASKS)]
    there = [root / masks for images, masks in layouts if (root / images).is_dir() and (root / masks).is_dir()]
    return any(find_images(folder).images for folder in there)


def splits_of(root: Path) -> tuple[str, ...]:
    """The parts that a folder of images with masks has, as its layout calls them; one where it has no parts."""
    if (root / "JPEGImages").is_dir():
        return tuple(sorted(file.stem for file in (root / "ImageSets" / "Segmentation").glob("*.txt")))
    folders = [path.name for path in sorted((root / IMAGES).iterdir()) if path.is_dir() and split_kind(path.name)]
    return tuple(folders) or ("val",)


def is_ade20k(root: Path) -> bool:
    """Whether a folder has ADE20K's names of folders and splits."""
    folders = [root / kind / split for kind in ("images", "annotations") for split in ("training", "validation")]
    return (root / "objectInfo150.txt").is_file() or all(folder.is_dir() for folder in folders)


def mask_folder(
    root: Path, class_names: Path | None = None, split: str = "val", ignore_index: int = VOID
) -> SegmentedImages:
    """A folder with `images` and `masks` (or `labels`), or with these for each split. For the rest see
    `open_segmented`."""
    images, masks = _both(root)
    images, masks = _split_folder(images, split), _split_folder(masks, split)
    paths, found, refused = _paired(images, masks)
    file = class_names or _names_beside(root)
    if file is not None:
        names = read_class_names(file, None)
    else:
        names = tuple(str(number) for number in range(highest(found, ignore_index) + 1))
        note(f"the classes of {root} are called by their numbers; --class-names or {NAMES[0]} gives them names")
    return checked(SegmentedImages(root, paths, found, names, ignore_index, refused=refused))


def _names_beside(root: Path) -> Path | None:
    return next((root / name for name in NAMES if (root / name).is_file()), None)


def ade20k(
    root: Path, class_names: Path | None = None, split: str = "val", ignore_index: int = VOID
) -> SegmentedImages:
    """ADE20K as in the scene parsing challenge: 150 classes, numbered from 1; 0 is no class. For the rest see
    `open_segmented`."""
    images, masks = (_split_folder(root / kind, split) for kind in ("images", "annotations"))
    paths, found, refused = _paired(images, masks)
    if class_names is not None:
        names = read_class_names(class_names, None)
    else:
        names = _ade20k_names(root / "objectInfo150.txt")
    return checked(SegmentedImages(root, paths, found, names, ignore_index, first=1, refused=refused))


def _ade20k_names(file: Path) -> tuple[str, ...]:
    """The first word of each class, all of its words where two classes begin alike; numbers without the file."""
    if not file.is_file():
        note(f"{file} is missing; the classes are called by their numbers")
        return tuple(str(number) for number in range(1, ADE20K_CLASSES + 1))
    rows = list(csv.reader(lines_of(read_text(file), file), delimiter="\t"))
    words = [[cell.strip() for cell in row] for row in rows if row and WHOLE_NUMBER.fullmatch(row[0].strip())]
    if [int(row[0]) for row in words] != list(range(1, len(words) + 1)) or len({len(row) for row in words}) != 1:
        raise SeaAnchorError(
            f"{file} is no table of numbered classes", "rows of number, ..., name, by tabs", "unpack the data set again"
        )
    first = [plain(row[-1].split(",")[0]) for row in words]
    return tuple(row[-1] if first.count(name) > 1 else name for row, name in zip(words, first, strict=True))


def voc(root: Path, class_names: Path | None = None, split: str = "val", ignore_index: int = VOID) -> SegmentedImages:
    """Pascal VOC's segmentation: 21 classes with the background, palettes read as numbers, 255 at the borders of
    objects. For the rest see `open_segmented`."""
    lists = {file.stem: file for file in sorted((root / "ImageSets" / "Segmentation").glob("*.txt"))}
    chosen = [file for name, file in lists.items() if name == split or split_kind(name) == split_kind(split)]
    if len(chosen) != 1:
        raise SeaAnchorError(
            f"{root / 'ImageSets' / 'Segmentation'} holds {', '.join(lists) or 'no list'}",
            f"{split}.txt, with a file name without ending on each line",
            "name another split",
        )
    images = {path.stem: path for path in find_images(root / "JPEGImages").images}
    masks = {path.stem: path for path in find_images(root / "SegmentationClass").images}
    wanted = [line.split()[0] for line in lines_of(read_text(chosen[0]), chosen[0], gaps=True)]
    for found, folder in ((images, "JPEGImages"), (masks, "SegmentationClass")):
        _check_there([name for name in wanted if name not in found], root / folder, f"{chosen[0]} names")
    file = class_names or _names_beside(root)
    names = VOC_CLASSES if file is None else read_class_names(file, None)
    paths = tuple(images[name] for name in wanted)
    return checked(SegmentedImages(root, paths, tuple(masks[name] for name in wanted), names, ignore_index))


def _both(root: Path) -> tuple[Path, Path]:
    there = [root / name for name in MASKS if (root / name).is_dir()]
    if not (root / IMAGES).is_dir() or len(there) != 1:
        inside = ", ".join(sorted(path.name for path in root.iterdir() if path.is_dir())) or "no folder"
        raise SeaAnchorError(
            f"{root} holds {inside}",
            "images and masks; or ADE20K's images and annotations; or VOC's JPEGImages and SegmentationClass",
            "name the folder that holds both",
        )
    return root / IMAGES, there[0]


def _split_folder(folder: Path, split: str) -> Path:
    """The folder itself, or the one inside it that is called as the split."""
    if not folder.is_dir():
        raise SeaAnchorError(f"{folder} is missing", "a folder of images and one of masks", "name the folder above it")
    splits = {path.name: path for path in sorted(folder.iterdir()) if path.is_dir() and split_kind(path.name)}
    if not splits:
        return folder
    alike = [path for name, path in splits.items() if name == split or split_kind(name) == split_kind(split)]
    if len(alike) != 1:
        raise SeaAnchorError(f"{folder} holds the splits {', '.join(splits)}", split, "name one of them as the split")
    return alike[0]


def _paired(images: Path, masks: Path) -> tuple[tuple[Path, ...], tuple[Path, ...], tuple[str, ...]]:
    """Images and their masks, which have the same path before the ending; and what is no image."""
    found, mask_of = find_images(images), _by_stem(masks, find_images(masks).images)
    image_of = _by_stem(images, found.images)
    if not image_of:
        raise SeaAnchorError(f"no image in {images}", "images", "name another folder")
    _check_there([name for name in image_of if name not in mask_of], masks, f"{images} has")
    spare = [f"{path.relative_to(masks.parent)} has no image" for name, path in mask_of.items() if name not in image_of]
    return tuple(image_of.values()), tuple(mask_of[name] for name in image_of), (*found.refused, *spare)


def _by_stem(root: Path, paths: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        other = found.setdefault(str(path.relative_to(root).with_suffix("")), path)
        if other != path:
            raise SeaAnchorError(
                f"{other} and {path.name} differ only in their endings", "one file for each image", "remove one"
            )
    return found


def _check_there(missing: Sequence[str], folder: Path, who: str) -> None:
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise SeaAnchorError(
            f"{who} {', '.join(missing[:3])}{more}, which {folder} lacks",
            "a file of the same name, but for its ending, in both folders",
            "add it, or leave the image out",
        )


__all__ = ["SegmentedImages", "ade20k", "has_masks", "mask_folder", "open_segmented", "read_mask", "splits_of", "voc"]
