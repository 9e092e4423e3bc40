"""Which files a source of pre-training holds, and what each class may be called."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from seaanchor.data import names as own_names
from seaanchor.data.images import EXTENSIONS
from tools.pretraining.caltech import class_name, three_parts
from tools.pretraining.words import ROOT

_CALTECH_ALSO = {
    "Faces": ("face", "off-center face"),
    "Faces_easy": ("centered face", "face close-up"),
    "car_side": ("side of a car",),
    "cougar_body": ("body of a cougar",),
    "cougar_face": ("face of a cougar",),
    "crocodile_head": ("head of a crocodile",),
    "flamingo_head": ("head of a flamingo",),
    "snoopy": ("snoopy (cartoon beagle)",),
    "yin_yang": ("yin and yang symbol",),
}


@dataclass(frozen=True)
class Listing:
    """Files and the number of each one's class (-1: none); for each class its names as (set, text), the first of which
    is the one it has among its set; pixels of the side it is kept at; photos or drawings; whether the teacher sees
    them."""

    rows: tuple[tuple[Path, int], ...]
    labels: tuple[tuple[tuple[str, str], ...], ...]
    side: int
    photos: bool = True
    taught: bool = False

    def without(self, numbers: set[int]) -> "Listing":
        """The same, rows of these numbers left out."""
        return replace(self, rows=tuple(row for i, row in enumerate(self.rows) if i not in numbers))


@cache
def imagenet_names() -> tuple[str, ...]:
    """Names of ImageNet's 1,000 classes, all different, in the order of the classifier's answers."""
    return tuple(own_names.imagenet_names())


@cache
def _synset_number() -> dict[str, int]:
    from timm.data import ImageNetInfo

    return {synset: i for i, synset in enumerate(ImageNetInfo("imagenet-1k").label_names())}


def _caltech(name: str, root: Path) -> Listing:
    folders = [d for d in sorted(root.iterdir()) if d.is_dir() and not d.name.startswith("BACKGROUND")]
    rows = [(file, number) for number, folder in enumerate(folders) for file in three_parts(folder)[0]]
    background = root / "BACKGROUND_Google"
    rows += [(file, -1) for file in sorted(background.glob("*.jpg"))]
    labels = []
    for folder in folders:
        names = (class_name(folder.name), folder.name.replace("_", " ").lower(), *_CALTECH_ALSO.get(folder.name, ()))
        labels.append(tuple((name, text) for text in dict.fromkeys(names)))
    return Listing(tuple(rows), tuple(labels), 176, taught=True)


def _tiny_imagenet(name: str, root: Path) -> Listing:
    words = dict(line.split("\t") for line in (root / "words.txt").read_text().splitlines())
    folders = sorted((root / "train").iterdir())
    rows = [(file, i) for i, d in enumerate(folders) for file in sorted((d / "images").glob("*.JPEG"))]
    labels = []
    for folder in folders:
        own = (name, words[folder.name].split(",")[0].lower())
        number = _synset_number().get(folder.name)
        labels.append((own,) if number is None else (own, ("imagenet", imagenet_names()[number])))
    return Listing(tuple(rows), tuple(labels), 64)


def _cifar10(name: str, root: Path) -> Listing:
    return _folders(name, root / "train", 32, taught=False)


def _photos(name: str, root: Path) -> Listing:
    return _folders(name, root, 176, taught=True)


def _folders(name: str, root: Path, side: int, taught: bool) -> Listing:
    """One folder a class, named in words or, where all are, by an ImageNet synset."""
    folders = [d for d in sorted(root.iterdir()) if d.is_dir()]
    rows = [(file, i) for i, d in enumerate(folders) for file in images_of(d)]
    synsets = all(d.name in _synset_number() for d in folders)
    labels = [
        (("imagenet", imagenet_names()[_synset_number()[d.name]]),)
        if synsets
        else ((name, d.name.replace("_", " ").lower()),)
        for d in folders
    ]
    return Listing(tuple(rows), tuple(labels), side, taught=taught)


def _unlabelled(name: str, root: Path) -> Listing:
    return Listing(tuple((file, -1) for file in images_of(root)), (), 176, taught=True)


def images_of(folder: Path) -> Sequence[Path]:
    """Picture files below a folder, in the order of their paths; hidden ones left out."""
    found = (file for file in folder.rglob("*") if file.suffix.lower() in EXTENSIONS)
    return sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts))


def _emoji(name: str, root: Path) -> Listing:
    """Drawings named `object=NAME.png` and `person=GENDER ROLE=TONE.png`; of the 100 classes of the embedded set among
    one another, too."""
    files = sorted(root.glob("*.png"))
    names = tuple(dict.fromkeys(file.stem.split("=")[1] for file in files))
    classes = {folder.name for folder in (ROOT / "data" / "emoji" / "train").iterdir()}
    labels = [(("emoji", text), ("emoji-100", text)) if text in classes else (("emoji", text),) for text in names]
    rows = [(file, names.index(file.stem.split("=")[1])) for file in files]
    if name == "emoji-100":
        rows = [(file, number) for file, number in rows if names[number] in classes]
    return Listing(tuple(rows), tuple(labels), 128, photos=False)


LISTINGS: dict[str, Callable[[str, Path], Listing]] = {
    "caltech101": _caltech,
    "tiny-imagenet": _tiny_imagenet,
    "cifar10": _cifar10,
    "emoji": _emoji,
    "emoji-100": _emoji,
    "photos": _photos,
    "unlabelled": _unlabelled,
}
