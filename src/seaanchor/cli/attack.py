"""Subcommands of `attack`: attacked images as files. Nothing heavy is imported before a command needs it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from seaanchor.cli.option_groups import as_flags, shown
from seaanchor.errors import SeaAnchorError

if TYPE_CHECKING:
    from seaanchor.attacks.ball import Ball
    from seaanchor.evaluation.attacked_files import Attack
    from seaanchor.perturbations.typographic import Typographic

attack_app = App(name="attack", help="Write attacked images to a folder.")
SMALLEST = 16  # pixels, of an image to draw a word on


@dataclass(frozen=True)
class Victims:
    """The model under attack and its pictures, as flags."""

    pretrained: str | None = None
    """Tag or weights file for bare names."""
    preprocess: str | None = None
    """Resizing and normalisation in place of the model's own, as for `train`."""
    head: str | None = None
    """What turns embeddings into answers: text; classifier, the model's own; probe, fitted on --train-data; or a file
    with a linear head. By default the head that a run was trained with, else text, else classifier."""
    train_data: str | None = None
    """Training images for the head called probe; the train split beside the data by default."""
    class_names: Path | None = None
    """File that names the classes, or names joined by commas: of class folders, of a linear head without names, or what
    texts may answer of pictures without class folders."""
    samples: int | None = None
    """At most this many images, balanced over the classes."""
    seed: int = 0
    """Random seed of the attack and of the choice of images."""
    batch_size: int = 50
    """Images at once; changes no result."""
    device: str | None = None
    """Where the model runs: cpu, cuda, ..."""


@dataclass(frozen=True)
class Norms:
    """The ball of an attack, as flags."""

    epsilon: str = "4/255"
    """Largest change, in pixel units: of a pixel in l-inf, of the whole image in l2."""
    norm: Literal["linf", "l2"] = "linf"
    """Norm of the change."""


if TYPE_CHECKING:
    VictimFlags = Victims
    NormFlags = Norms
else:
    VictimFlags = Annotated[as_flags(Victims, {}), Parameter(name="*")]
    NormFlags = Annotated[as_flags(Norms, {}), Parameter(name="*")]


@attack_app.command
def pgd(
    *,
    data: str,
    output: Path,
    model: str = "seaanchor-tiny",
    ball: NormFlags = Norms(),
    num_steps: int = 10,
    victim: VictimFlags = Victims(),
) -> None:
    """Attack images by projected gradient descent: attacked images, what was added, and what the model answers before
    and after, as answers.json and a table. What was interrupted goes on.

    Parameters
    ----------
    data
        A picture, a folder, class folders, or an embedded set.
    output
        New folder.
    model
        Anything `train` takes as a model.
    num_steps
        Gradient steps.
    """
    _by_gradient("pgd", data, output, model, ball, num_steps, victim)


@attack_app.command
def apgd(
    *,
    data: str,
    output: Path,
    model: str = "seaanchor-tiny",
    ball: NormFlags = Norms(),
    num_steps: int = 100,
    victim: VictimFlags = Victims(),
) -> None:
    """Attack images by Auto-PGD, on the cross-entropy and then towards other classes; what is written is as for `pgd`.

    Parameters
    ----------
    data
        A picture, a folder, class folders, or an embedded set.
    output
        New folder.
    model
        Anything `train` takes as a model.
    num_steps
        Gradient steps, of every target anew.
    """
    _by_gradient("apgd", data, output, model, ball, num_steps, victim)


@attack_app.command
def typographic(
    *,
    data: str,
    output: Path,
    model: str | None = None,
    words: Literal["all", "even", "odd"] = "all",
    fonts: Literal["train", "unseen"] = "train",
    sizes: Annotated[tuple[float, float], Parameter(negative=(), show_default=shown)] = (20 / 224, 40 / 224),
    image_size: int | None = None,
    variants: int = 1,
    victim: VictimFlags = Victims(),
) -> None:
    """Draw a wrong class word on every image: `label=X_text=Y` files, and a table with the text boxes; with --model
    what `attack pgd` writes instead.

    Parameters
    ----------
    data
        Class folders, or an embedded set; with --model also a picture or a folder.
    output
        New folder.
    model
        Write what this model answers before and after, and images of its size.
    words
        Class names that may be drawn: all, or those of even or odd number.
    fonts
        Which shipped fonts.
    sizes
        Smallest and largest glyph height as shares of the image's side.
    image_size
        Side of the written images in pixels; 224 by default.
    variants
        Drawings of each image.
    """
    from seaanchor.perturbations.typographic import Typographic

    if model is None:
        drawing = Typographic(None, words, fonts, sizes, variants, victim.seed)
        _lettered(data, output, victim, drawing, 224 if image_size is None else image_size)
        return
    if image_size is not None or variants != 1:
        raise SeaAnchorError(
            "--image-size or --variants beside --model", "one drawing of the model's own size", "leave them out"
        )

    def attack(names: Sequence[str], size: int) -> tuple["Attack", None]:
        from seaanchor.evaluation.attacked_source import typographic_attack

        drawing = Typographic(names, words, fonts, sizes, 1, victim.seed)
        drawing.check_size(size)
        return typographic_attack(drawing), None

    settings = {"attack": "typographic", "words": words, "fonts": fonts, "sizes": sizes}
    _write(data, output, model, victim, attack, settings)


def _lettered(data: str, output: Path, victim: Victims, drawing: "Typographic", image_size: int) -> None:
    """The data set of `label=X_text=Y` files, which needs no model."""
    from seaanchor.data.sources import open_images
    from seaanchor.data.types import PreferenceImages, TypographicImages, texts_of
    from seaanchor.data.typographic.write import write_typographic
    from seaanchor.utils.text import plural

    if image_size < SMALLEST:
        raise SeaAnchorError(
            f"--image-size {image_size}",
            f"at least {SMALLEST}, or no word fits an image",
            "give the input size of the models to be attacked",
        )
    given = {name: value for name, value in asdict(victim).items() if name not in ("class_names", "seed")}
    if given != {name: value for name, value in asdict(Victims()).items() if name in given}:
        names = [name for name, value in given.items() if value != getattr(Victims(), name)]
        flags = ", ".join("--" + name.replace("_", "-") for name in names)
        raise SeaAnchorError(f"{flags} without --model", "a model to attack", "add --model, or leave it out")
    images = open_images(data, victim.class_names)
    if isinstance(images, TypographicImages | PreferenceImages):
        kind = "preferences" if isinstance(images, PreferenceImages) else "images that carry a word already"
        raise SeaAnchorError(
            f"{data} holds {kind}",
            "clean images in class folders",
            "name those the words were drawn on, or evaluate this folder as it is",
        )
    attack = replace(drawing, class_names=texts_of(images))
    written, skipped = write_typographic(images, attack, image_size, output)
    print(f"{plural(written, 'image')} written to {output}{'; ' + skipped if skipped else ''}")


def _by_gradient(kind: str, data: str, output: Path, model: str, ball: Norms, num_steps: int, victim: Victims) -> None:
    from seaanchor.attacks.ball import Ball
    from seaanchor.config.schema import parse_epsilon
    from seaanchor.evaluation.attacked_pixels import check_levels
    from seaanchor.evaluation.attacked_source import gradient_attack

    def attack(names: Sequence[str], size: int) -> tuple["Attack", Ball]:
        around = Ball(ball.norm, parse_epsilon(ball.epsilon, ball.norm, size))
        check_levels(around)
        return gradient_attack(kind, around, num_steps, victim.seed), around

    _write(data, output, model, victim, attack, {"attack": kind, **asdict(ball), "num_steps": num_steps})


def _write(
    data: str,
    output: Path,
    model: str,
    victim: Victims,
    attack: "Callable[[Sequence[str], int], tuple[Attack, Ball | None]]",
    settings: dict[str, Any],
) -> None:
    """Attack the images and print what became of them; `attack` makes one of class names and a side in pixels."""
    from seaanchor.cli.attack_record import evaluate_command, print_record
    from seaanchor.encoders.fingerprint import fingerprint
    from seaanchor.encoders.load import load_model
    from seaanchor.evaluation.attacked_files import write_attacked
    from seaanchor.evaluation.attacked_rows import FORMAT
    from seaanchor.evaluation.attacked_source import AskedHead, against, head_for, open_pictures
    from seaanchor.evaluation.device import device_named
    from seaanchor.evaluation.heads import head_record
    from seaanchor.evaluation.model_pair import tokens_of

    if victim.batch_size < 1:
        raise SeaAnchorError(f"--batch-size {victim.batch_size}", "at least 1", "correct it")
    images, device = open_pictures(data, victim.class_names, victim.samples, victim.seed), device_named(victim.device)
    loaded = load_model(model, victim.pretrained, tokens=tokens_of(model), preprocess=victim.preprocess)
    weights = fingerprint(loaded.encoder)
    asked = AskedHead(victim.head, victim.train_data, victim.class_names, victim.seed, victim.batch_size)
    chosen = head_for(loaded, asked, data, images, device)
    seen, images = against(loaded, chosen, data, images, victim.class_names, device)
    what, ball = attack(seen.names, seen.how.size)
    head = head_record(chosen)
    settings |= {"data": data, "samples": victim.samples, "seed": victim.seed, "model": model, "weights": weights}
    settings |= {"preprocessing": str(seen.how), "class_names": list(seen.names), "images": len(images.paths)}
    settings |= {"format": FORMAT, "head": {"kind": head.kind, "digest": head.digest}}
    record = write_attacked(images, seen, what, ball, output, settings, victim.batch_size)
    print_record(record, output, model)
    if command := evaluate_command(record, output, model, asdict(victim), chosen):
        print(f"evaluate them: {command}")
