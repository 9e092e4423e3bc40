"""What the page shows for a picture, a word, a radius and a t: every model's answers before and after, side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from PIL import Image
from torch import Tensor

from seaanchor.app.answers import Answer, Classifier, answers, classifier
from seaanchor.app.attack import Step, attack_steps, radius
from seaanchor.app.models import Cast
from seaanchor.app.pictures import lettered, pixels_of


@dataclass(frozen=True)
class Asked:
    """What somebody set on the page.

    Attributes:
        picture: in RGB, square.
        class_names: what a model may answer.
        word: to draw on the picture; empty for none.
        seed: of the drawing.
        levels: ε in 255ths; 0 for no attack.
        attack: `PGD` or `APGD`.
        num_steps: gradient steps at most.
        t: exponent of a linear map.
    """

    picture: Image.Image
    class_names: Sequence[str]
    word: str = ""
    seed: int = 0
    levels: float | None = 0
    attack: str = "PGD"
    num_steps: int = 10
    t: float = 1.0


@dataclass(frozen=True)
class Side:
    """One model's view.

    Attributes:
        label: of the model.
        drawn_1CHW: the picture with the word on it.
        seen_1CHW: the picture as it is now, with the word and under the attack.
        before: the likeliest classes of the clean picture.
        lettered: those of the picture with the word on it; as `before` without one.
        now: those of the picture as it is now.
        step: of the attack; None where there is none.
    """

    label: str
    drawn_1CHW: Tensor
    seen_1CHW: Tensor
    before: tuple[Answer, ...]
    lettered: tuple[Answer, ...]
    now: tuple[Answer, ...]
    step: Step | None = None

    @property
    def changed(self) -> bool:
        """Whether the first answer is another one now."""
        return self.now[0].name != self.before[0].name


@dataclass(frozen=True)
class Scene:
    """All models' views of one picture.

    Attributes:
        sides: one for each model, the untouched one first.
        word: what is drawn on the picture; empty for nothing.
        epsilon: radius of the attack in pixel units.
        attack: its name.
        running: whether an attack still goes on.
    """

    sides: tuple[Side, ...]
    word: str
    epsilon: float
    attack: str
    running: bool


def scenes(cast: Cast, asked: Asked) -> Iterator[Scene]:
    """The answers to the picture with its word, then, if ε is above 0, every step of the attack on each model.

    An attack acts on each model by itself and leads away from the model's own answer to the clean picture.

    Args:
        cast: the models.
        asked: what is to be shown.

    Raises:
        SeaAnchorError: class names, a word, a radius, an attack or a t that is not possible.
    """
    epsilon = radius(asked.levels)
    word, names = " ".join(asked.word.split()), asked.class_names
    drawn = lettered(asked.picture, word, asked.seed)
    seen = [classifier(player, names, asked.t) for player in cast.players]
    sides = [_unattacked(one, asked.picture, drawn) for one in seen]
    yield Scene(tuple(sides), word, epsilon, asked.attack, epsilon > 0)
    if epsilon == 0:
        return
    attacks = [
        attack_steps(one, side.seen_1CHW, _first(one, side), epsilon, asked.attack, asked.num_steps)
        for one, side in zip(seen, sides, strict=True)
    ]
    while not all(side.step is not None and side.step.last for side in sides):
        for number, steps in enumerate(attacks):
            if (step := next(steps, None)) is not None:
                sides[number] = replace(sides[number], seen_1CHW=step.pixels_1CHW, now=step.answers, step=step)
        running = not all(side.step is not None and side.step.last for side in sides)
        yield Scene(tuple(sides), word, epsilon, asked.attack, running)


def _unattacked(seen: Classifier, clean: Image.Image, drawn: Image.Image) -> Side:
    pixels_1CHW = pixels_of(seen.player, clean)
    drawn_1CHW = pixels_1CHW if drawn is clean else pixels_of(seen.player, drawn)
    before = answers(seen, pixels_1CHW)
    after = before if drawn is clean else answers(seen, drawn_1CHW)
    return Side(seen.player.label, drawn_1CHW, drawn_1CHW, before, after, after)


def _first(seen: Classifier, side: Side) -> int:
    return seen.class_names.index(side.before[0].name)
