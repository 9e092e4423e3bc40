"""WebDataset shards in CLIP_benchmark's layout: `NAME/SPLIT/0.tar`, ..., `NAME/SPLIT/nshards.txt`,
`NAME/classnames.txt` and `NAME/zeroshot_classification_templates.txt`.

The order, the count and where a run was are those of a folder of files, and nothing is held in memory.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from seaanchor.data.files import is_hidden
from seaanchor.data.labels import class_numbers, own_names
from seaanchor.data.name_lists import lines_of
from seaanchor.data.name_pairing import WHOLE_NUMBER, clean_names
from seaanchor.data.names import note_unused, read_class_names, read_template_file
from seaanchor.data.splits import kind_within, split_kind
from seaanchor.data.types import ClassifiedImages, DamagedShards, UnlabelledImages
from seaanchor.data.webdataset.tar import Member, index_shard
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.plain_files import read_text

COUNT, CLASSES, TEMPLATES, KIND = (
    "nshards.txt",
    "classnames.txt",
    "zeroshot_classification_templates.txt",
    "dataset_type.txt",
)

MOST_SHARDS = 10**6


def is_shards(root: Path) -> bool:
    """Whether this is a tar, tars named by a pattern, a folder of shards, or a folder with splits of shards."""
    return root.suffix == ".tar" or _holds_shards(root) or bool(_splits_of(root))


def _splits_of(root: Path) -> dict[str, Path]:
    """The folders of shards inside a folder that are called as splits are, by name."""
    if not root.is_dir():
        return {}
    return {d.name: d for d in sorted(root.iterdir()) if split_kind(d.name) is not None and _holds_shards(d)}


def only_split(root: Path) -> str | None:
    """The split of shards that a folder holds, where that is one alone; None for anything else."""
    there = list(_splits_of(root))
    return there[0] if len(there) == 1 else None


def _holds_shards(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    return (folder / COUNT).is_file() or (
        bool(_tars(folder)) and not any(f.is_dir() and not is_hidden(f.name) for f in folder.iterdir())
    )


def _tars(folder: Path, pattern: str = "*.tar") -> list[Path]:
    """The tars in a folder: 10.tar comes after 9.tar."""
    found = [file for file in folder.glob(pattern) if not is_hidden(file.name)]
    return sorted(found, key=lambda file: (len(file.name), file.name))


def list_shards(
    root: Path, class_names: Path | None = None, split: str = "test"
) -> UnlabelledImages | ClassifiedImages:
    """List the images of a tar, of a folder of shards, or of a split of a folder that holds several.

    A shard that is damaged gives what lies before the damage; it and those that are missing are the list's `damaged`. A
    member without a class number is named among what is `refused`; classes without any image are logged. Texts in place
    of class numbers are class names. Without class names, from the texts, `classnames.txt` or given, the images are
    unlabelled.

    Args:
        root: a tar, a folder, or `FOLDER/PATTERN.tar` with `*` for parts of names.
        class_names: as `read_class_names` takes it; a mapping is from the data set's own names.
        split: taken where a folder holds one folder for each split.

    Raises:
        SeaAnchorError: no such tar or split, shards of several splits in one folder, a data set that is not one of
            classification, a class number without a name, or nothing to read in it.
    """
    folder, shards, lost = _locate(root, split)
    expected, refused = len(shards) + len(lost), []
    home = next(
        (d for d in (folder, folder.parent) if (d / CLASSES).is_file() or (d / TEMPLATES).is_file()), folder.parent
    )
    if (home / KIND).is_file() and (kind := read_text(home / KIND).strip().lower()) not in ("", "classification"):
        raise SeaAnchorError(f"{home} is a data set for {kind}", "one class for each image", "name another data set")
    templates = tuple(read_template_file(home / TEMPLATES)) if (home / TEMPLATES).is_file() else None
    images: list[Member] = []
    values: list[str | None] = []
    wheres: list[str] = []
    for shard in shards:
        samples, damage = index_shard(shard)
        lost += damage
        for sample in samples:
            where = f"{shard.name}/{sample.key}"
            if sample.image is None:
                refused.append(f"{where} has no image")
                continue
            images.append(sample.image)
            values.append(sample.label)
            wheres.append(where)
    own = _own_names(home / CLASSES) or own_names(values)
    names = own if class_names is None else read_class_names(class_names, own)
    if names is None and images:
        return UnlabelledImages(folder, tuple(images), tuple(refused), _damaged(lost, expected))
    found = class_numbers(values, names or (), own, str(root), wheres)
    labelled = [(image, label) for image, (label, reason) in zip(images, found, strict=True) if not reason]
    refused += [reason for _, reason in found if reason]
    if not labelled:
        reasons = f": {'; '.join([*lost, *refused][:3])}" if lost or refused else ""
        raise SeaAnchorError(
            f"no image in {root}{reasons}",
            "members such as s0.jpg and s0.cls in at least one tar",
            "name another data set",
        )
    paths, labels = zip(*labelled, strict=True)
    note_unused(names or (), labels, root)
    return ClassifiedImages(
        folder, paths, labels, names or (), templates, tuple(sorted(refused)), _damaged(lost, expected)
    )


def _damaged(lost: Sequence[str], expected: int) -> DamagedShards | None:
    return DamagedShards(tuple(lost), expected) if lost else None


def _own_names(file: Path) -> tuple[str, ...] | None:
    """The lines of `classnames.txt`, whose numbers are those of the classes."""
    if not file.is_file():
        return None
    text = read_text(file, "text in UTF-8 with one class name a line")
    return clean_names(lines_of(text, file), str(file))


def _locate(root: Path, split: str) -> tuple[Path, list[Path], list[str]]:
    """The folder of the shards, the shards in order, and which are missing, in words."""
    if root.suffix == ".tar":
        shards = [root] if root.is_file() else _tars(root.parent, root.name) if "*" in root.name else []
        if not shards:
            reason = "a folder" if root.is_dir() else "the name of no tar" if "*" in root.name else "missing"
            raise SeaAnchorError(f"{root} is {reason}", "a tar of images", "correct the path")
        return root.parent, shards, []
    if not _holds_shards(root):
        root = _chosen_split(root, split)
    if not (root / COUNT).is_file():
        shards = _tars(root)
        _check_one_split(root, shards)
        return root, shards, []
    text = read_text(root / COUNT).strip()
    if not WHOLE_NUMBER.fullmatch(text) or int(text) > MOST_SHARDS:
        raise SeaAnchorError(
            f"{root / COUNT} says {text[:40]!r}",
            "the number of shards",
            "correct it, or remove the file to read every tar beside it",
        )
    shards = [root / f"{number}.tar" for number in range(int(text))]
    missing = [f"{shard.name} is missing" for shard in shards if not shard.is_file()]
    return root, [shard for shard in shards if shard.is_file()], missing


def _chosen_split(root: Path, split: str) -> Path:
    """The folder called as the split, or the one folder that is called so in another spelling."""
    there = _splits_of(root)
    alike = [folder for name, folder in there.items() if split_kind(name) == split_kind(split)]
    if split not in there and (len(alike) != 1 or split_kind(split) is None):
        raise SeaAnchorError(
            f"{root} holds the splits {', '.join(there)}",
            f"{split}, or one that is named",
            f"name one, such as {root / next(iter(there))}",
        )
    return there.get(split, alike[0] if alike else root)


def _check_one_split(root: Path, shards: Sequence[Path]) -> None:
    kinds = {kind_within(shard.stem): shard for shard in shards}
    named = [kind for kind in kinds if kind is not None]
    if len(named) > 1:
        example = re.sub("[0-9]+", "*", kinds[named[0]].name)
        raise SeaAnchorError(
            f"{root} holds shards of the splits {', '.join(sorted(named))}",
            "one split",
            f"name one, such as '{root / example}', or give each split a folder",
        )
