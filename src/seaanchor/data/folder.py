"""Folders of images: which images are there, and their classes."""

from collections.abc import Sequence
from pathlib import Path

from seaanchor.data.images import EXTENSIONS
from seaanchor.data.names import read_class_names
from seaanchor.data.types import ClassifiedImages, UnlabelledImages
from seaanchor.errors import SeaAnchorError

SPLITS = frozenset({"train", "val", "valid", "validation", "test"})


def list_images(root: Path, class_names: Path | None = None) -> UnlabelledImages | ClassifiedImages:
    """List a folder of images (unlabelled), of class folders (labelled), or Tiny-ImageNet's `train` and `val`.

    Args:
        root: the folder.
        class_names: file with names, as `read_class_names` takes it; by default the folders' own names, `_` read as a
            space.

    Raises:
        SeaAnchorError: no such folder, nothing in it, a class folder without images, or a folder of splits.
    """
    if not root.is_dir():
        raise SeaAnchorError(
            f"{root} is {'a file' if root.exists() else 'missing'}",
            "a folder of images or of class folders",
            "correct the path",
        )
    if (root / "val_annotations.txt").is_file():
        return _tiny_imagenet_val(root, class_names)
    folders = sorted(d for d in root.iterdir() if d.is_dir() and not d.name.startswith("."))
    if folders and {d.name for d in folders} <= SPLITS:
        raise SeaAnchorError(
            f"{root} holds the splits {', '.join(d.name for d in folders)}",
            "one split",
            f"name one, such as {folders[0]}",
        )
    loose = _image_files(root, deep=False)
    if not folders or (loose and all(not _image_files(d) for d in folders)):
        if not loose:
            raise SeaAnchorError(
                f"no image in {root}", f"files ending in {', '.join(sorted(EXTENSIONS))}", "name another folder"
            )
        return UnlabelledImages(root, tuple(loose))
    paths, labels, empty = [], [], []
    for label, folder in enumerate(folders):
        files = _image_files(folder)
        paths += files
        labels += [label] * len(files)
        empty += [] if files else [folder.name]
    if empty:
        raise SeaAnchorError(
            f"{len(empty)} class folder(s) of {root} without images: {', '.join(empty[:5])}",
            "at least one image in every class folder",
            "fill or remove them",
        )
    refused = tuple(f"{file.name} lies in no class folder" for file in loose)
    return ClassifiedImages(
        root, tuple(paths), tuple(labels), _names([d.name for d in folders], class_names, root.parent), refused=refused
    )


def _image_files(folder: Path, deep: bool = True) -> list[Path]:
    files = folder.rglob("*") if deep else folder.iterdir()
    return sorted(f for f in files if f.suffix.lower() in EXTENSIONS and not f.name.startswith(".") and f.is_file())


def _tiny_imagenet_val(root: Path, class_names: Path | None) -> ClassifiedImages:
    rows = [line.split("\t")[:2] for line in (root / "val_annotations.txt").read_text().splitlines() if line.strip()]
    if not rows or any(len(row) < 2 for row in rows):
        raise SeaAnchorError(
            f"{root / 'val_annotations.txt'} is no annotation table",
            "rows of file, tab, class folder",
            "unpack the data set again",
        )
    folders = sorted({folder for _, folder in rows})
    number = {folder: i for i, folder in enumerate(folders)}
    paths = tuple(root / "images" / file for file, _ in rows)
    return ClassifiedImages(
        root, paths, tuple(number[folder] for _, folder in rows), _names(folders, class_names, root.parent)
    )


def _names(folders: Sequence[str], class_names: Path | None, parent: Path) -> tuple[str, ...]:
    if class_names is not None:
        return read_class_names(class_names, folders)
    words = parent / "words.txt"
    if words.is_file() and all(len(f) == 9 and f.startswith("n") and f[1:].isdigit() for f in folders):
        synonyms = dict(line.split("\t", 1) for line in words.read_text().splitlines() if "\t" in line)
        return tuple(synonyms[f].split(",")[0].strip().lower() if f in synonyms else f for f in folders)
    return tuple(f.replace("_", " ") for f in folders)
