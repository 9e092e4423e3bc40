"""Scenes as HTML: a card for each model, and the bars of a linear map. Everything from outside is escaped."""

from collections.abc import Sequence
from html import escape

from torch import Tensor

from seaanchor.app.answers import Answer
from seaanchor.app.movement import Movement
from seaanchor.app.pictures import data_address
from seaanchor.app.scene import Scene, Side
from seaanchor.errors import SeaAnchorError


def cards(scene: Scene, note: str = "") -> str:
    """A card for each model, side by side.

    Args:
        scene: what to show.
        note: a sentence above the cards; empty for none.
    """
    above = f'<p class="sa-note" role="status">{escape(note)}</p>' if note else ""
    spoken = "" if scene.running else " ".join(f"{side.label}: {verdict(side, scene)}." for side in scene.sides)
    sides = "".join(_card(side, scene) for side in scene.sides)
    return f'{above}<div class="sa-cards">{sides}</div><p class="sa-spoken" role="status">{escape(spoken)}</p>'


def verdict(side: Side, scene: Scene) -> str:
    """A model's view in half a sentence.

    Args:
        side: the model's view.
        scene: what it belongs to.
    """
    first, now = side.before[0].name, side.now[0].name
    if side.step is not None and not side.step.last:
        return f"step {side.step.number} of {side.step.total}: {now}"
    if not scene.word and side.step is None:
        return f"answers {now}"
    if not side.changed:
        return f"still answers {now}"
    if side.step is None or side.step.number == 0:
        cause = "the word" if side.lettered[0].name != first else "noise alone"
        return f"answers {now} instead of {first}: {cause} is enough"
    steps = "1 step" if side.step.number == 1 else f"{side.step.number} steps"
    return f"answers {now} instead of {first} after {steps}"


def problem(error: SeaAnchorError) -> str:
    """An error as it stands on the page.

    Args:
        error: what was found, what was expected, what to change.
    """
    lines = f"<strong>{escape(_capital(error.found))}.</strong>"
    lines += f" Expected: {escape(error.expected)}. {escape(_capital(error.change))}." if error.expected else ""
    return f'<div class="sa-problem" role="alert">{lines}</div>'


def movement_bars(found: Movement) -> str:
    """Accuracies at t as bars, with a mark where the untouched model is.

    Args:
        found: the accuracies.
    """
    rows = "".join(
        f"<tr><th scope='row'>{escape(row.name)}</th><td>{_bar(row.now.accuracy, row.untouched.accuracy)}</td>"
        f"<td>{row.now.accuracy:.0%}</td><td>{row.untouched.accuracy:.0%}</td><td>{row.now.n}</td></tr>"
        for row in found.rows
    )
    head = "".join(f"<th scope='col'>{name}</th>" for name in ("", "", f"t = {found.t:g}", "t = 0", "pictures"))
    return (
        f'<table class="sa-moved"><caption>What t moves, on embedded pictures</caption><thead><tr>{head}</tr></thead>'
        f'<tbody>{rows}</tbody></table><p class="sa-hint">{escape(found.caveat)}</p>'
    )


def _card(side: Side, scene: Scene) -> str:
    state = "now" if side.step is not None and not side.step.last else "changed" if side.changed else "kept"
    plain = not scene.word and side.step is None
    pictures = _picture(side.seen_1CHW[0], f"The picture as {side.label} sees it")
    if side.step is not None:
        delta_CHW = (side.seen_1CHW - side.drawn_1CHW)[0]
        shown = 0.5 + delta_CHW / (2 * scene.epsilon)
        pictures += _picture(shown, f"What the attack added, {0.5 / scene.epsilon:.0f} times as strong")
    before = "" if plain else f'<p class="sa-before">Before: {_first(side.before)}</p>'
    progress = ""
    if side.step is not None and not side.step.last:
        progress = f'<progress max="{side.step.total}" value="{side.step.number}">attack</progress>'
    return (
        f'<section class="sa-card sa-{"plain" if plain else state}"><h3>{escape(side.label)}</h3>'
        f'<div class="sa-pictures">{pictures}</div>'
        f'<p class="sa-verdict">{escape(_capital(verdict(side, scene)))}</p>'
        f"{progress}{_bars(side.now)}{before}</section>"
    )


def _picture(pixels_CHW: Tensor, text: str) -> str:
    return f'<figure><img src="{data_address(pixels_CHW)}" alt=""><figcaption>{escape(text)}</figcaption></figure>'


def _bars(answers: Sequence[Answer]) -> str:
    rows = "".join(
        f"<li><span>{escape(answer.name)}</span>{_bar(answer.share)}<span>{answer.share:.0%}</span></li>"
        for answer in answers
    )
    return f'<ol class="sa-bars">{rows}</ol>'


def _bar(share: float, mark: float | None = None) -> str:
    line = "" if mark is None else f'<i style="left:{100 * mark:.1f}%"></i>'
    return f'<span class="sa-bar" aria-hidden="true"><b style="width:{100 * share:.1f}%"></b>{line}</span>'


def _first(answers: Sequence[Answer]) -> str:
    return f"{escape(answers[0].name)}, {answers[0].share:.0%}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
