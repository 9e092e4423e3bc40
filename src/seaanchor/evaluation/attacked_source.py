"""What `seaanchor attack` works with: a folder or one picture, a model with its classes, and the attack on it.

Legend: B images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from seaanchor.attacks.ball import Ball
from seaanchor.attacks.classification import Logits
from seaanchor.attacks.classifiers import APGD, PGD
from seaanchor.data.class_matching import match_answers
from seaanchor.data.files import is_image_name
from seaanchor.data.loader import subset
from seaanchor.data.names import read_class_names
from seaanchor.data.sources import open_images
from seaanchor.data.types import Images, LabelledImages, PreferenceImages, UnlabelledImages, templates_of, texts_of
from seaanchor.data.typographic.read import check_names
from seaanchor.distributed.process_group import ProcessGroup
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.heads import DEFAULT_TEMPLATES, build_head
from seaanchor.errors import SeaAnchorError, note
from seaanchor.evaluation.attacked_files import Attack, Victim
from seaanchor.evaluation.context import ChosenHead
from seaanchor.evaluation.heads import HeadChooser
from seaanchor.evaluation.model_pair import ModelPair
from seaanchor.evaluation.prepare import OF, DataSet, among_answers
from seaanchor.evaluation.protocol import Protocol
from seaanchor.evaluation.table import ExecutionOptions
from seaanchor.evaluation.zeroshot import classifier
from seaanchor.perturbations.typographic import Typographic


@dataclass(frozen=True)
class AskedHead:
    """What is asked for of the head.

    Attributes:
        head: as `evaluate` takes it.
        train_data: of a probe.
        class_names: file that names the classes, of test and training images alike.
        seed: of a probe.
        batch_size: images at once.
    """

    head: str | None = None
    train_data: str | None = None
    class_names: Path | None = None
    seed: int = 0
    batch_size: int = 50


def open_pictures(data: str, class_names: Path | None, samples: int | None = None, seed: int = 0) -> Images:
    """The images of a source, or one picture.

    Args:
        data: a picture, or anything that `open_images` takes.
        class_names: names for class folders.
        samples: at most this many, balanced over the classes.
        seed: of the choice.

    Raises:
        SeaAnchorError: no such source, preferences, or fewer than one sample.
    """
    file = Path(data)
    if file.is_file() and is_image_name(file.name):
        return UnlabelledImages(file.parent, (file,))
    images = open_images(data, class_names, split="test")
    if isinstance(images, PreferenceImages):
        raise SeaAnchorError(f"{data} holds preferences", "a picture, a folder or class folders", "name the images")
    if samples is not None and samples < 1:
        raise SeaAnchorError(f"--samples {samples}", "at least 1", "correct it")
    return images if samples is None else subset(images, samples, seed)


def head_for(model: LoadedModel, asked: AskedHead, data: str, images: Images, device: torch.device) -> ChosenHead:
    """The head that answers, chosen as an evaluation chooses it.

    Args:
        model: under attack.
        asked: what the user asked for.
        data: the source of the images.
        images: from `open_pictures`.
        device: where a probe's embeddings are computed.

    Raises:
        SeaAnchorError: as `HeadChooser.choose`, or a model of patch tokens.
    """
    if model.encoder.tokens == "patches":
        found = f"{model.name} gives patch tokens, which give no image a class"
        raise SeaAnchorError(found, "a model with one embedding an image", "name another --model")
    protocol = Protocol((), seed=asked.seed, training=asked.train_data, head=asked.head)
    options = ExecutionOptions(asked.batch_size, 0, device, ProcessGroup())
    chooser = HeadChooser(protocol, asked.class_names, options)
    return chooser.choose(ModelPair(model, None, None, None), data, images, None)


def against(
    model: LoadedModel,
    chosen: ChosenHead,
    data: str,
    images: Images,
    class_names: Path | None,
    device: torch.device,
) -> tuple[Victim, Images]:
    """The model with its classes, and the images with labels among them.

    Args:
        model: under attack.
        chosen: its head, from `head_for`.
        data: the source of the images, for messages.
        images: from `open_pictures`.
        class_names: of images without class folders.
        device: where it runs.

    Raises:
        SeaAnchorError: classes or names that are not those of the head, no names where texts answer, or names that no
            folder can hold.
    """
    if chosen.named is None:
        names = _texts(images, class_names)
        head = build_head(model, names, templates_of(images) or DEFAULT_TEMPLATES)
    else:
        head = chosen.named.head
        if isinstance(images, LabelledImages):
            images = _among(images, chosen, data)
            names = texts_of(images)
        else:
            names = _named(chosen, class_names)
    check_names(names)
    return Victim(classifier(model, head, device), names, model.encoder.preprocessing, device), images


def gradient_attack(kind: str, ball: Ball, num_steps: int, seed: int) -> Attack:
    """PGD or APGD (on the cross-entropy, then targeted) away from the labels.

    Raises:
        SeaAnchorError: settings out of range.
    """
    if num_steps < 1:
        raise SeaAnchorError(f"--num-steps {num_steps}", "at least 1", "correct it")
    make = PGD if kind == "pgd" else APGD
    attack = make(ball.epsilon, norm=ball.norm, num_steps=num_steps, seed=seed)

    def attacked(logits: Logits, pixels_BCHW: Tensor, label_B: Tensor, index_B: Tensor) -> tuple[Tensor, None]:
        return attack.attack(logits, pixels_BCHW, label_B, index_B).pixels_BCHW, None

    return attacked


def typographic_attack(drawing: Typographic) -> Attack:
    """A wrong class name on every image."""

    def attacked(logits: Logits, pixels_BCHW: Tensor, label_B: Tensor, index_B: Tensor) -> tuple[Tensor, Sequence[int]]:
        size = pixels_BCHW.shape[-1]
        drawn = [drawing.draw(i, y, 0, size) for i, y in zip(index_B.tolist(), label_B.tolist(), strict=True)]
        return drawing.overlay(pixels_BCHW, [one for _, one in drawn]), [word for word, _ in drawn]

    return attacked


def _texts(images: Images, class_names: Path | None) -> tuple[str, ...]:
    if isinstance(images, LabelledImages):
        return tuple(images.class_names)
    if class_names is None:
        raise SeaAnchorError(
            f"{images.root} has no class folders, and no names say what the model may answer",
            "--class-names FILE, with a name on each line, or names joined by commas",
            "add it, such as --class-names cat,dog,car",
        )
    return tuple(read_class_names(class_names, None))


def _among(images: Images, chosen: ChosenHead, data: str) -> Images:
    """Labels as numbers of the head's classes, as an evaluation finds them."""
    try:
        return among_answers(DataSet(data, images), chosen, None)[0]
    except SeaAnchorError as error:
        instead = "name pictures without class folders, of which the model's own answers count as right"
        raise SeaAnchorError(error.found, error.expected, f"{error.change}; or {instead}") from error


def _named(chosen: ChosenHead, class_names: Path | None) -> tuple[str, ...]:
    """Names of a linear head's classes in their order, for pictures that have none."""
    assert chosen.named is not None
    own, count = chosen.named.class_names, len(chosen.named.head.weight_CD)
    of = OF.get(chosen.kind, "the head")
    if class_names is None:
        if own is None:
            note(f"{of} has no names for its {count} classes, called by number here; --class-names gives names")
        return own or tuple(f"class {number}" for number in range(count))
    given = read_class_names(class_names, None)
    if len(given) != count:
        raise SeaAnchorError(
            f"--class-names {class_names} has {len(given)} names, and {of} {count} classes",
            f"{count} names, as a linear head answers among all of its classes",
            "correct the names, or leave them out",
        )
    place = match_answers(given, own, count, f"--class-names {class_names}", of)
    return tuple(given[place.index(number)] for number in range(count))
