"""What `seaanchor attack` works with: a folder or one picture, a model with its classes, and the attack on it.

Legend: B images.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from seaanchor.attacks.ball import Ball
from seaanchor.attacks.classification import Logits
from seaanchor.attacks.classifiers import APGD, PGD
from seaanchor.data.files import is_image_name
from seaanchor.data.loader import subset
from seaanchor.data.name_pairing import name_key
from seaanchor.data.names import read_class_names
from seaanchor.data.sources import open_images
from seaanchor.data.types import (
    ClassifiedImages,
    Images,
    LabelledImages,
    PreferenceImages,
    UnlabelledImages,
    templates_of,
)
from seaanchor.data.typographic.read import check_names
from seaanchor.encoders.classifiers import kind_of, own_classifier
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.heads import DEFAULT_TEMPLATES, build_head
from seaanchor.errors import SeaAnchorError, note
from seaanchor.evaluation.attacked_files import Attack, Victim
from seaanchor.evaluation.zeroshot import classifier
from seaanchor.perturbations.typographic import Typographic


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


def against(
    model: LoadedModel, images: Images, class_names: Path | None, device: torch.device
) -> tuple[Victim, Images]:
    """The model with its classes, and the images with labels among them.

    Args:
        model: with a text tower, a head beside it, or a classifier of its own.
        images: from `open_pictures`.
        class_names: of images without class folders.
        device: where it runs.

    Raises:
        SeaAnchorError: images without classes and no names for them, a model that answers nothing, a class that it
            does not know, or names that no folder can hold.
    """
    if kind_of(model, None) == "text":
        names = _texts(images, class_names)
        head = build_head(model, names, templates_of(images) or DEFAULT_TEMPLATES)
    else:
        named = own_classifier(model) if model.stored_head is None else model.stored_head
        head = named.head
        names = named.class_names or tuple(f"class {number}" for number in range(len(head.weight_CD)))
        images = _among(images, names, model.name)
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


def _among(images: Images, names: Sequence[str], model: str) -> Images:
    """Labels as numbers of the head's classes, matched by name."""
    if not isinstance(images, LabelledImages):
        return images
    place = {name_key(name): number for number, name in enumerate(names)}
    unknown = [name for name in images.class_names if name_key(name) not in place]
    if unknown:
        note(f"{model} has no class {unknown[0]!r}: its own answers to the clean images count as right")
        return UnlabelledImages(images.root, images.paths, images.refused, images.damaged)
    labels = tuple(place[name_key(images.class_names[label])] for label in images.labels)
    if isinstance(images, ClassifiedImages):
        return replace(images, labels=labels, class_names=tuple(names))
    return ClassifiedImages(images.root, images.paths, labels, tuple(names), refused=images.refused)
