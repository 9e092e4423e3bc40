"""What a linear map does to objects, reading and gender at an exponent t: accuracies on embedded pictures, which are
embedded once.
"""

from dataclasses import dataclass
from functools import lru_cache

from seaanchor.app.models import Player, loading
from seaanchor.app.settings import DATA, HIGHEST, LOWEST
from seaanchor.data.loader import subset
from seaanchor.data.sources import open_images
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.statistics import Share
from seaanchor.evaluation.suites.bias import CAVEAT
from seaanchor.evaluation.typographic_plan import TypographicPlan
from seaanchor.steering.embeddings import SeenPeople, SeenWords, see_people, see_words
from seaanchor.steering.sweep import sweep_bias, sweep_typographic

PHOTOS = 200


@dataclass(frozen=True)
class Moved:
    """One accuracy at a t, and where it was at t = 0."""

    name: str
    now: Share
    untouched: Share


@dataclass(frozen=True)
class Movement:
    """All of them, and what has to be said with them."""

    t: float
    rows: tuple[Moved, ...]
    caveat: str = CAVEAT


NAMES = {
    "attacked": "object named, a wrong word on the photo",
    "clean": "object named, no word",
    "reading": "word read from a picture of it",
    "gender": "woman or man told apart",
}


def movement(player: Player, t: float) -> Movement:
    """Objects, reading and gender at t, on embedded photos and people.

    Args:
        player: a model with a linear map and a text tower.
        t: from −2 to 2.

    Raises:
        SeaAnchorError: a t out of range, or a model without a map.
    """
    if player.spectrum is None:
        raise SeaAnchorError(f"{player.label} has no linear map", "a run with adapter linear", "load another run")
    if not LOWEST <= t <= HIGHEST:
        raise SeaAnchorError(f"t = {t:g}", f"{LOWEST:g} to {HIGHEST:g}", "choose a t between them")
    words, people = _seen(player)
    ts = (t, 0.0)
    pairs = zip(sweep_typographic(words, player.spectrum, ts), sweep_bias(people, player.spectrum, ts), strict=True)
    now, untouched = (on_photos.shares | on_people.shares for on_photos, on_people in pairs)
    return Movement(t, tuple(Moved(text, now[name], untouched[name]) for name, text in NAMES.items()))


@lru_cache(maxsize=4)
def _seen(player: Player) -> tuple[SeenWords, SeenPeople]:
    with loading:
        photos = subset(open_images(DATA, split="test"), PHOTOS, 0)
        words = see_words(player.model, photos, TypographicPlan("all", "unseen"))
        return words, see_people(player.model, open_images("emoji-people", split="test"))
