"""Folders of images: which images are there, and their classes."""

import os
from collections.abc import Sequence
from pathlib import Path

from seaanchor.data.files import FoundImages, find_images, is_folder, visible
from seaanchor.data.images import EXTENSIONS
from seaanchor.data.name_lists import by_wordnet_id
from seaanchor.data.name_pairing import WORDNET_ID, class_order, clean_names, note_numbers, pair_names
from seaanchor.data.names import read_class_names
from seaanchor.data.splits import are_splits, shared_subfolders, split_kind
from seaanchor.data.types import ClassifiedImages, UnlabelledImages
from seaanchor.errors import SeaAnchorError, note
from seaanchor.utils.plain_files import read_text


def list_images(root: Path, class_names: Path | Sequence[str] | None = None) -> UnlabelledImages | ClassifiedImages:
    """List a folder of images (unlabelled), of class folders (labelled), or Tiny-ImageNet's `train` and `val`.

    Class folders are in the order of their names, by number where all of them are numbers. What looks like an image
    and cannot be one is named among what is `refused`.

    Args:
        root: the folder.
        class_names: file with names, as `read_class_names` takes it, or the names in the order of the class folders; by
            default the folders' own names, `_` read as a space.

    Raises:
        SeaAnchorError: no such folder, nothing in it, a class folder without images or in two classes, or a folder of
            splits.
    """
    if not root.is_dir():
        raise SeaAnchorError(
            f"{root} is {'a file' if root.exists() else 'missing'}",
            "a folder of images or of class folders",
            "correct the path",
        )
    if (root / "val_annotations.txt").is_file():
        return _tiny_imagenet_val(root, class_names)
    folders = _class_folders(root)
    loose = find_images(root, deep=False)
    found = [find_images(folder) for folder in folders]
    _check_subfolders(root, folders, found)
    if not folders or (loose.images and not any(inside.images for inside in found)):
        if not loose.images:
            reasons = f" ({'; '.join(loose.refused[:3])})" if loose.refused else ""
            endings = f"files ending in {', '.join(sorted(EXTENSIONS))}"
            raise SeaAnchorError(f"no image in {root}{reasons}", endings, "name another folder")
        return UnlabelledImages(root, loose.images, loose.refused)
    _check_classes(root, folders, found)
    names = _names([folder.name for folder in folders], class_names, root)
    labels = tuple(label for label, inside in enumerate(found) for _ in inside.images)
    refused = [reason for inside in found for reason in inside.refused]
    refused += [f"{file.name} lies in no class folder" for file in loose.images]
    return ClassifiedImages(
        root, tuple(path for inside in found for path in inside.images), labels, names, refused=tuple(refused)
    )


def _class_folders(root: Path) -> list[Path]:
    """The folders in `root`, in the order of their class numbers.

    Raises:
        SeaAnchorError: they are splits, or a link leads nowhere.
    """
    entries = visible(root)
    names = [entry.name for entry in entries if is_folder(entry)]
    dead = [root / entry.name for entry in entries if entry.is_symlink() and not os.path.exists(entry.path)]
    dead = [path for path in dead if not path.suffix]  # that of a file is named elsewhere
    if dead and names:
        raise SeaAnchorError(
            f"{dead[0]} is a link to {os.readlink(dead[0])}, which is missing",
            "class folders that are there",
            "correct or remove the link",
        )
    if are_splits(names):
        raise SeaAnchorError(
            f"{root} holds the splits {', '.join(names)}", "one split", f"name one, such as {root / names[0]}"
        )
    return [root / name for name in class_order(names)]


def _check_subfolders(root: Path, folders: Sequence[Path], found: Sequence[FoundImages]) -> None:
    """Folders that hold the same folders are no classes: they are splits, or each of them holds the splits."""
    inside = {folder: found.subfolders for folder, found in zip(folders, found, strict=True)}
    deep = [folder for folder in folders if len(inside[folder]) > 1]
    for folder in deep:
        kinds = {name: kind for name in sorted(inside[folder]) if (kind := split_kind(name)) is not None}
        if len(set(kinds.values())) > 1:
            raise SeaAnchorError(
                f"{folder}, which would be a class, holds the splits {', '.join(kinds)}",
                "class folders of one split",
                f"name one, such as {folder / next(iter(kinds))}, or move each split into a folder of its own",
            )
    if shared := sorted(shared_subfolders(list(inside.values()))):
        raise SeaAnchorError(
            f"{', '.join(folder.name for folder in folders[:5])} in {root} hold the same folders "
            f"{', '.join(shared[:5])}, as splits of the same classes do",
            "a folder of class folders",
            f"name one, such as {folders[0]}",
        )
    if deep and all(split_kind(folder.name) is not None for folder in deep):
        raise SeaAnchorError(
            f"{root} holds {', '.join(folder.name for folder in folders[:5])}, and {deep[0].name} holds folders as a "
            "split does",
            "a folder of class folders",
            f"name it: {deep[0]}",
        )
    if deep:
        first = deep[0].name
        note(f"the classes are the folders directly in {root}; those inside them, as in {first}, are not told apart")


def _check_classes(root: Path, folders: Sequence[Path], found: Sequence[FoundImages]) -> None:
    """Every class has images, and no folder of images has two classes."""
    empty = [folder.name for folder, inside in zip(folders, found, strict=True) if not inside.images]
    if empty:
        reasons = [reason for inside in found if not inside.images for reason in inside.refused]
        raise SeaAnchorError(
            f"{len(empty)} class folder(s) of {root} without images: {', '.join(empty[:5])}"
            f"{' (' + '; '.join(reasons[:3]) + ')' if reasons else ''}",
            "at least one image in every class folder",
            "fill or remove them",
        )
    owner: dict[tuple[int, int], str] = {}
    for folder, inside in zip(folders, found, strict=True):
        for place in inside.folders:
            other = owner.setdefault(place, folder.name)
            if other != folder.name:
                raise SeaAnchorError(
                    f"by a link the same images are in the classes {other} and {folder.name} of {root}",
                    "images with one class each",
                    "remove the link",
                )


def _tiny_imagenet_val(root: Path, class_names: Path | Sequence[str] | None) -> ClassifiedImages:
    text = read_text(root / "val_annotations.txt")
    rows = [line.split("\t")[:2] for line in text.splitlines() if line.strip()]
    if not rows or any(len(row) < 2 for row in rows):
        raise SeaAnchorError(
            f"{root / 'val_annotations.txt'} is no annotation table",
            "rows of file, tab, class folder",
            "unpack the data set again",
        )
    folders = class_order(sorted({folder for _, folder in rows}))
    number = {folder: i for i, folder in enumerate(folders)}
    paths = tuple(root / "images" / file for file, _ in rows)
    return ClassifiedImages(
        root, paths, tuple(number[folder] for _, folder in rows), _names(folders, class_names, root)
    )


def _names(folders: Sequence[str], class_names: Path | Sequence[str] | None, root: Path) -> tuple[str, ...]:
    if isinstance(class_names, Path):
        return read_class_names(class_names, folders)
    if class_names is not None:
        return clean_names(pair_names(class_names, folders, "the list of class names"), "the list")
    words = root.parent / "words.txt"
    if words.is_file() and all(map(WORDNET_ID.fullmatch, folders)):
        synonyms = by_wordnet_id(read_text(words).splitlines()) or {}
        return clean_names([synonyms[f].lower() if f in synonyms else f for f in folders], str(words))
    note_numbers(folders, str(root))
    return clean_names([f.replace("_", " ") for f in folders], str(root))
