"""The images of an evaluation: a source with its classes or captions, and the training images of a probe."""

import hashlib
import json
from pathlib import Path

from seaanchor.data.images import name_below, num_bytes
from seaanchor.data.loader import subset
from seaanchor.data.sources import NAMES as EMBEDDED_SETS
from seaanchor.data.sources import open_images
from seaanchor.data.types import Images, LabelledImages, labels_of, texts_of
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.captions import CAPTION_FILES, Captions, read_captions
from seaanchor.evaluation.protocol import Protocol
from seaanchor.evaluation.suites.registry import SUITES
from seaanchor.evaluation.zeroshot import labelled


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


def training_images(source: str, protocol: Protocol, images: Images) -> LabelledImages:
    """The training images beside a data set, with the same classes.

    Raises:
        SeaAnchorError: there are none, or other classes.
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
    found = open_images(chosen, None, split="train")
    if not isinstance(found, LabelledImages) or len(found.class_names) != len(texts_of(images)):
        raise SeaAnchorError(
            f"{chosen} has other classes than {source}", "class folders of the same names", "correct --train-data"
        )
    return found


def listing(images: Images, captions: Captions | None = None) -> str:
    """A short hash of which images these are, and of their labels or captions."""
    digest = hashlib.sha256()
    for item, label in zip(images.paths, labels_of(images) or [None] * len(images.paths), strict=True):
        size = num_bytes(item)
        line = f"{name_below(item, images.root)} {'missing' if size is None else size} {label}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    if captions is not None:
        digest.update(json.dumps([captions.texts, captions.image_of_text]).encode())
    return digest.hexdigest()[:16]
