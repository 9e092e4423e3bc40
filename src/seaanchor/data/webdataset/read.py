"""WebDataset shards in CLIP_benchmark's layout: `NAME/SPLIT/0.tar`, ..., `NAME/SPLIT/nshards.txt`,
`NAME/classnames.txt` and `NAME/zeroshot_classification_templates.txt`.

The headers of every shard are read once; then a member is read by seeking to it. So the order, the count and where a
run was are those of a folder of files, and nothing is held in memory.
"""

import io
import re
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, Any

from seaanchor.data.folder import SPLITS
from seaanchor.data.images import EXTENSIONS
from seaanchor.data.names import note_unused, read_class_names, read_template_file
from seaanchor.data.types import ClassifiedImages, DamagedShards, UnlabelledImages
from seaanchor.errors import SeaAnchorError

COUNT, CLASSES, TEMPLATES, KIND = (
    "nshards.txt",
    "classnames.txt",
    "zeroshot_classification_templates.txt",
    "dataset_type.txt",
)
KEY = re.compile(
    r"((?:.*/|)[^.]+)[.]([^/]*)"
)  # a sample's name ends at the first dot of its base name, as WebDataset has it
BLOCK = 512  # bytes; a tar ends with two blocks of zeros


@dataclass(frozen=True, slots=True)
class Member:
    """An image inside a tar: which, what it is called there, and where its bytes are."""

    shard: Path
    member: str
    offset: int
    size: int

    @property
    def name(self) -> str:
        """`0.tar/s0000001.jpg`."""
        return f"{self.shard.name}/{self.member}"

    def __str__(self) -> str:
        return f"{self.shard}/{self.member}"

    def open(self, mode: Any = "rb") -> IO[Any]:
        """The member's bytes.

        Raises:
            OSError: the shard is gone or has become shorter.
        """
        with self.shard.open("rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) < self.size:
            raise OSError(f"{self.shard.name} ends inside it")
        return io.BytesIO(data)


@dataclass(frozen=True, slots=True)
class Sample:
    """What the members of one key say: its image, and the text of its class number; None for what is not there."""

    key: str
    image: Member | None
    label: str | None


def is_shards(root: Path) -> bool:
    """Whether this is a tar, a folder of shards, or a folder with splits of shards."""
    return root.suffix == ".tar" or _holds_shards(root) or any(_holds_shards(root / split) for split in SPLITS)


def _holds_shards(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    return (folder / COUNT).is_file() or (
        any(folder.glob("*.tar")) and not any(f.is_dir() and not f.name.startswith(".") for f in folder.iterdir())
    )


def list_shards(
    root: Path, class_names: Path | None = None, split: str = "test"
) -> UnlabelledImages | ClassifiedImages:
    """List the images of a tar, of a folder of shards, or of a split of a folder that holds several.

    A shard that is damaged gives what lies before the damage; it and those that are missing are the list's `damaged`. A
    member without a class number and a number that no class has are named among what is `refused`; classes without any
    image are logged. Without class names, from `classnames.txt` or given, the images are unlabelled.

    Args:
        class_names: as `read_class_names` takes it; a mapping is from the data set's own names.

    Raises:
        SeaAnchorError: no such tar or split, a data set that is not one of classification, or nothing to read in it.
    """
    folder, shards, lost = _locate(root, split)
    expected, refused = len(shards) + len(lost), []
    home = next(
        (d for d in (folder, folder.parent) if (d / CLASSES).is_file() or (d / TEMPLATES).is_file()), folder.parent
    )
    if (home / KIND).is_file() and (kind := (home / KIND).read_text().strip().lower()) not in ("", "classification"):
        raise SeaAnchorError(f"{home} is a data set for {kind}", "one class for each image", "name another data set")
    own = (
        tuple(line.strip() for line in (home / CLASSES).read_text(encoding="utf-8").splitlines())
        if (home / CLASSES).is_file()
        else None
    )
    names = own if class_names is None else read_class_names(class_names, own)
    templates = tuple(read_template_file(home / TEMPLATES)) if (home / TEMPLATES).is_file() else None
    images: list[Member] = []
    labels: list[int] = []
    for shard in shards:
        samples, damage = index_shard(shard)
        lost += damage
        for sample in samples:
            label, reason = class_number(sample.label, names, f"{shard.name}/{sample.key}")
            if sample.image is None or reason:
                refused.append(reason if sample.image is not None else f"{shard.name}/{sample.key} has no image")
                continue
            images.append(sample.image)
            labels.append(label)
    if not images:
        reasons = f": {'; '.join([*lost, *refused][:3])}" if lost or refused else ""
        raise SeaAnchorError(
            f"no image in {root}{reasons}",
            "members such as s0.jpg and s0.cls in at least one tar",
            "name another data set",
        )
    damaged = DamagedShards(tuple(lost), expected) if lost else None
    if names is None:
        return UnlabelledImages(folder, tuple(images), tuple(refused), damaged)
    note_unused(names, labels, root)
    return ClassifiedImages(folder, tuple(images), tuple(labels), names, templates, tuple(refused), damaged)


def class_number(value: Any, names: tuple[str, ...] | None, where: str) -> tuple[int, str]:
    """The class number that is written for an image, or why it cannot be one; without class names every image is taken
    as it is."""
    if names is None:
        return -1, ""
    if value is None:
        return -1, f"{where} has no class number"
    try:
        label = int(value)
    except (TypeError, ValueError):
        return -1, f"{where}: {str(value)[:20]!r} is no class number"
    return (label, "") if 0 <= label < len(names) else (-1, f"{where}: class {label} of {len(names)}")


def _locate(root: Path, split: str) -> tuple[Path, list[Path], list[str]]:
    """The folder of the shards, the shards in order, and which are missing, in words."""
    if root.suffix == ".tar":
        if not root.is_file():
            raise SeaAnchorError(
                f"{root} is {'a folder' if root.is_dir() else 'missing'}", "a tar of images", "correct the path"
            )
        return root.parent, [root], []
    if not _holds_shards(root):
        there = sorted(name for name in SPLITS if _holds_shards(root / name))
        if split not in there:
            raise SeaAnchorError(
                f"{root} holds the splits {', '.join(there)}",
                f"{split}, or one that is named",
                f"name one, such as {root / there[0]}",
            )
        root = root / split
    if not (root / COUNT).is_file():
        return root, sorted(root.glob("*.tar"), key=lambda f: (len(f.name), f.name)), []  # 10.tar comes after 9.tar
    text = (root / COUNT).read_text().strip()
    if not text.isdigit():
        raise SeaAnchorError(
            f"{root / COUNT} says {text[:40]!r}",
            "the number of shards",
            "correct it, or remove the file to read every tar beside it",
        )
    shards = [root / f"{number}.tar" for number in range(int(text))]
    return (
        root,
        [shard for shard in shards if shard.is_file()],
        [f"{shard.name} is missing" for shard in shards if not shard.is_file()],
    )


def index_shard(shard: Path) -> tuple[list[Sample], list[str]]:
    """The samples of a tar in order, and what is wrong with it, in words; what belongs to no sample, such as a readme,
    is left out."""
    members, damage = _headers(shard)
    samples: list[Sample] = []
    if not members:  # perhaps it cannot even be opened
        return samples, damage
    with shard.open("rb") as file:
        for key, group in groupby(members, key=lambda m: _split_name(m.member)[0]):
            sample = _as_sample(key, group, file)
            if sample.image is not None or sample.label is not None:
                samples.append(sample)
    if damage and samples and (samples[-1].image is None or samples[-1].label is None):
        samples.pop()  # its other half is in the part that is lost
    return samples, [
        f"{reason}, after {sum(sample.image is not None for sample in samples)} images" for reason in damage
    ]


def _split_name(name: str) -> tuple[str, str]:
    found = KEY.fullmatch(name)
    return (found[1], found[2].lower()) if found else (name, "")


def _as_sample(key: str, group: Iterable[Member], file: IO[bytes]) -> Sample:
    image = label = None
    for member in group:
        ending = _split_name(member.member)[1]
        if ending == "cls" and member.size < BLOCK:
            file.seek(member.offset)
            label = file.read(member.size).decode("ascii", "replace").strip()
        elif f".{ending}" in EXTENSIONS:
            image = image or member
    return Sample(key, image, label)


def _headers(shard: Path) -> tuple[list[Member], list[str]]:
    """Every file in a tar that is there as a whole, and the damage. Python's `tarfile` takes a broken header in the
    middle for the end, so where it stops is looked at."""
    members: list[Member] = []
    length = shard.stat().st_size
    try:
        with tarfile.open(shard, "r:") as archive:
            while (info := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined] # it would keep them all
                if info.isfile() and info.offset_data + info.size <= length:
                    members.append(Member(shard, info.name, info.offset_data, info.size))
            end = archive.offset
    except (tarfile.TarError, OSError, ValueError) as error:  # numbers in broken headers
        return members, [f"{shard.name} is damaged or cut short: {error}"]
    with shard.open("rb") as file:
        file.seek(end)
        block = file.read(BLOCK)
    if len(block) < BLOCK:
        return members, [f"{shard.name} is cut short at byte {length}"]
    return members, [] if block == bytes(BLOCK) else [f"{shard.name} is damaged at byte {end}"]
