"""The images of an evaluation: a source with its classes or captions, and the training images of a probe."""

import hashlib
from pathlib import Path
from typing import cast

from seaanchor.data.class_matching import relabelled
from seaanchor.data.images import name_below, num_bytes
from seaanchor.data.loader import subset
from seaanchor.data.name_pairing import name_key
from seaanchor.data.names import is_mapping
from seaanchor.data.places import NAMES as EMBEDDED_SETS
from seaanchor.data.sources import open_images
from seaanchor.data.types import Images, LabelledImages, labels_of, texts_of
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.captions import CAPTION_FILES, Captions, read_captions
from seaanchor.evaluation.protocol import Protocol
from seaanchor.evaluation.suites.registry import SUITES
from seaanchor.evaluation.zeroshot import labelled
from seaanchor.utils.json_text import to_json


def open_source(source: str, class_names: Path | None, protocol: Protocol) -> tuple[Images, Captions | None]:
    """The images of a source, at most `protocol.samples` of them, with labels; or with captions, where there is a file
    of them.

    Raises:
        SeaAnchorError: neither classes nor captions, or classes are asked for and there are captions only.
    """
    if not any((Path(source) / name).is_file() for name in CAPTION_FILES):
        return labelled(source, class_names, protocol.samples, protocol.seed), None
    captions = read_captions(Path(source))
    wanting = [plan.name for plan in protocol.plans] + [name for name in protocol.suites if SUITES[name].classes]
    if wanting or not protocol.suites:
        able = ", ".join(name for name, suite in SUITES.items() if not suite.classes)
        raise SeaAnchorError(
            f"{source} has captions and no classes, which {', '.join(wanting) or 'clean'} needs",
            able,
            "correct --suite",
        )
    if protocol.samples is None or protocol.samples >= len(captions.images.paths):
        return captions.images, captions
    few = subset(captions.images, protocol.samples, protocol.seed)
    position, paths = {path: i for i, path in enumerate(few.paths)}, captions.images.paths
    pairs = [
        (text, position[paths[i]])
        for text, i in zip(captions.texts, captions.image_of_text, strict=True)
        if paths[i] in position
    ]
    return few, Captions(few, tuple(text for text, _ in pairs), tuple(i for _, i in pairs))


def training_source(source: str, protocol: Protocol) -> str:
    """The training images that are named, or those beside a data set.

    Raises:
        SeaAnchorError: there are none.
    """
    name, _, part = source.partition("/")
    embedded = name in EMBEDDED_SETS and not Path(source).exists()
    chosen = protocol.training or (
        f"{name}/train" if embedded and part != "train" else str(Path(source).parent / "train")
    )
    if (
        protocol.training is None
        and not embedded
        and (not Path(chosen).is_dir() or Path(chosen).resolve() == Path(source).resolve())
    ):
        raise SeaAnchorError(
            f"{source} has no train split beside it",
            "training images of the same classes, for the probe",
            "name them with --train-data",
        )
    return chosen


def training_images(source: str, protocol: Protocol, class_names: Path | None = None) -> LabelledImages:
    """The training images of a data set, with classes of their own numbers.

    Args:
        source: the data set.
        protocol: which names training images, or none.
        class_names: file that names the classes of both.

    Raises:
        SeaAnchorError: there are none, they have no classes, or a list names classes whose folders are others.
    """
    chosen = training_source(source, protocol)
    found = open_images(chosen, class_names, split="train")
    if not isinstance(found, LabelledImages):
        raise SeaAnchorError(f"{chosen} has no class folders", "labelled images, for the probe", "correct --train-data")
    if class_names is not None:
        _check_one_list(source, chosen, class_names)
    return found


def _check_one_list(source: str, chosen: str, class_names: Path) -> None:
    """A list names classes by their number, so it fits both sets only where both have the same folders."""
    try:
        test = texts_of(open_images(source, None, split="test"))
        training = texts_of(open_images(chosen, None, split="train"))
    except SeaAnchorError:
        return  # classes that have numbers and no names of their own
    if test and test != training and not is_mapping(class_names, training):
        raise SeaAnchorError(
            f"{class_names} lists names in the order of the classes, and {source} and {chosen} have other classes",
            "a JSON mapping folder → name, which fits both",
            "write a mapping",
        )


def aligned(training: LabelledImages, images: Images, chosen: str, source: str) -> LabelledImages:
    """Training images with the class numbers of a data set, matched by name; classes that it lacks come after its own.

    Raises:
        SeaAnchorError: a class of the data set has no training images.
    """
    names, theirs = texts_of(images), training.class_names
    number = {name_key(name): i for i, name in enumerate(names)}
    used = {name_key(theirs[label]) for label in set(training.labels)}
    tested = [names[label] for label in sorted(set(labels_of(images) or ()))]
    if missing := [name for name in tested if name_key(name) not in used]:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise SeaAnchorError(
            f"{chosen} has no images of {', '.join(missing[:5])}{more}, which {source} has",
            "training images of every class of the data",
            "correct --train-data, or name the classes of both alike with --class-names",
        )
    extra = [name for name in theirs if name_key(name) not in number]
    number |= {name_key(name): len(names) + i for i, name in enumerate(extra)}
    moved = relabelled(training, [number[name_key(name)] for name in theirs], (*names, *extra))
    return cast(LabelledImages, moved)


def listing(images: Images, captions: Captions | None = None) -> str:
    """A short hash of which images these are, and of their labels or captions."""
    digest = hashlib.sha256()
    for item, label in zip(images.paths, labels_of(images) or [None] * len(images.paths), strict=True):
        size = num_bytes(item)
        line = f"{name_below(item, images.root)} {'missing' if size is None else size} {label}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    if captions is not None:
        digest.update(to_json([captions.texts, captions.image_of_text]).encode())
    return digest.hexdigest()[:16]
