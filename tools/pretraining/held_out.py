"""Photos that no pre-training saw, as class folders that `seaanchor evaluate` reads: links, nothing is copied."""

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from seaanchor.data.names import imagenet_names
from seaanchor.errors import SeaAnchorError
from tools.pretraining.caltech import class_name, three_parts
from tools.pretraining.listings import images_of

SETS = ("caltech101", "imagenet", "nips2017", "tiny-imagenet")
"""Caltech-101's test part; photos called `SYNSET_NAME.JPEG`, of any classes of ImageNet; the photos of the NIPS 2017
competition on adversarial examples, with its `dev_dataset.csv`; the validation part of Tiny-ImageNet, with its
`words.txt`."""


def arrange(name: str, root: Path, output: Path, named: bool = False) -> int:
    """Link the photos of a set into one folder a class; ImageNet's classes are called by their synsets.

    Args:
        name: one of `SETS`.
        root: the unpacked set.
        output: a new folder.
        named: call ImageNet's classes by the names that `--class-names imagenet` gives them, for what reads the names
            of folders only.

    Returns:
        How many photos there are.

    Raises:
        SeaAnchorError: no such set, no photo of it in the folder, a photo is missing, or the output exists.
    """
    if name not in SETS:
        raise SeaAnchorError(f"no set {name!r}", f"one of {', '.join(SETS)}", "correct the name")
    if output.exists():
        raise SeaAnchorError(f"{output} exists", "a new folder", "name another, or remove it")
    rows = list(_READERS[name](root))
    missing = [file for _, file in rows if not file.is_file()]
    if missing or not rows:
        what = f"{missing[0]} and {len(missing) - 1} more are missing" if missing else f"{root} holds no photo of it"
        raise SeaAnchorError(what, f"the photos of {name}", "unpack the set again")
    names = _names(root) if named and name != "caltech101" else {}
    for folder, file in rows:
        folder = names.get(folder, folder)
        (output / folder).mkdir(parents=True, exist_ok=True)
        (output / folder / file.name).symlink_to(file.resolve())
    return len(rows)


def _caltech(root: Path) -> Iterator[tuple[str, Path]]:
    for folder in sorted(d for d in root.iterdir() if d.is_dir() and not d.name.startswith("BACKGROUND")):
        yield from ((class_name(folder.name), file) for file in three_parts(folder)[2])


def _by_file_name(root: Path) -> Iterator[tuple[str, Path]]:
    for file in images_of(root):
        if synset := re.match(r"n\d{8}(?=_)", file.name):
            yield synset.group(), file


def _nips2017(root: Path) -> Iterator[tuple[str, Path]]:
    from timm.data import ImageNetInfo

    synsets = ImageNetInfo("imagenet-1k").label_names()
    with (root / "dev_dataset.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            yield synsets[int(row["TrueLabel"]) - 1], root / "images" / f"{row['ImageId']}.png"


def _tiny_imagenet(root: Path) -> Iterator[tuple[str, Path]]:
    with (root / "val" / "val_annotations.txt").open() as file:
        for line in file:
            photo, synset = line.split("\t")[:2]
            yield synset, root / "val" / "images" / photo


def _names(root: Path) -> dict[str, str]:
    """Synset → name: ImageNet's 1,000, or the first word of WordNet where the set has a list of those."""
    from timm.data import ImageNetInfo

    names = dict(zip(ImageNetInfo("imagenet-1k").label_names(), imagenet_names(), strict=True))
    if (root / "words.txt").is_file():
        lines = (root / "words.txt").read_text().splitlines()
        names = {synset: words.split(",")[0] for synset, words in (line.split("\t") for line in lines)} | names
    return {synset: name.replace("/", " or ") for synset, name in names.items()}


_READERS: dict[str, Callable[[Path], Iterator[tuple[str, Path]]]] = {
    "caltech101": _caltech,
    "imagenet": _by_file_name,
    "nips2017": _nips2017,
    "tiny-imagenet": _tiny_imagenet,
}
