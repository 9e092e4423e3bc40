"""What the page's controls call: their values in, HTML out. Every fault becomes one message on the page."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from seaanchor.app.answers import class_names
from seaanchor.app.cards import cards, movement_bars, problem
from seaanchor.app.models import Cast, cast_kept, cast_of, gone
from seaanchor.app.movement import movement
from seaanchor.app.pictures import read_upload
from seaanchor.app.scene import Asked, scenes
from seaanchor.app.settings import EMPTY, HIGHEST, LOWEST, MOST_STEPS, number
from seaanchor.errors import SeaAnchorError


@dataclass(frozen=True)
class Loaded:
    """What asking for another run gave.

    Attributes:
        cast: its models; None where it could not be loaded, and what was shown before stays.
        said: what the page says of it.
    """

    cast: Cast | None
    said: str


@dataclass(frozen=True)
class Handlers:
    """All of them, with the device that the models compute on (by default the accelerator if there is one)."""

    device: str | None

    def show(
        self,
        upload: Mapping[str, Any] | None,
        names: str,
        word: str,
        seed: int,
        levels: Any,
        attack: str,
        steps: Any,
        t: Any,
        source: str,
    ) -> Iterator[str]:
        """The cards after a change of any control: at first the answers, then each step of an attack.

        Args:
            upload: the picture's file, under `path`.
            names: a text of class names.
            word: to draw.
            seed: of the drawing.
            levels: ε in 255ths.
            attack: its name.
            steps: at most.
            t: of a linear map.
            source: what stands beside the untouched model.
        """
        if upload is None:
            yield EMPTY
            return
        try:
            picture = read_upload(upload["path"])
            num_steps = int(number(steps, "the number of steps", 1, MOST_STEPS))
            exponent = number(t, "t", LOWEST, HIGHEST)
            cast = cast_kept(source, self.device)
            asked = Asked(picture, class_names(names), word, seed, levels, attack, num_steps, exponent)
            for scene in scenes(cast, asked):
                yield cards(scene, gone(cast))
        except SeaAnchorError as error:
            yield problem(error)

    def move(self, source: str, t: Any) -> str:
        """What t moves; nothing where there is no linear map."""
        try:
            player = cast_kept(source, self.device).steered
            return "" if player is None else movement_bars(movement(player, number(t, "t", LOWEST, HIGHEST)))
        except SeaAnchorError as error:
            return problem(error)

    def load(self, source: str) -> Loaded:
        """Another run."""
        try:
            cast = cast_of(source, self.device)
        except SeaAnchorError as error:
            return Loaded(None, problem(error))
        text = " and ".join(player.label for player in cast.players)
        return Loaded(cast, f'<p class="sa-note" role="status">Shown: {escape(text)}.</p>')
