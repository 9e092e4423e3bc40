"""The page itself, in gradio: controls that hand what they hold to `Handlers`, and the HTML that comes back."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from seaanchor.app.settings import (
    ATTACKS,
    EMPTY,
    HIGHEST,
    LARGEST,
    LOWEST,
    MOST_STEPS,
    WAITING,
    default_class_names,
    example_files,
)

if TYPE_CHECKING:
    from seaanchor.app.handlers import Handlers

TITLE = "Sea Anchor"
INTRO = """# Sea Anchor
The same picture, seen by an untouched encoder and by a hardened one. Change a few levels of its pixels, or stick a
word on it, and see whose answer moves."""


def slider(lowest: float, highest: float, value: float, step: float, label: str, name: str) -> Any:
    """A slider with a field, whose number is checked by `Handlers`: gradio's check would answer beside the page.

    Args:
        lowest, highest: its ends.
        value: at first.
        step: between two values.
        label: above it.
        name: of its element.
    """
    return gr.Slider(lowest, highest, value, step=step, label=label, elem_id=name, min_width=200)


@dataclass(frozen=True)
class Photo:
    """The left side: the photo, what may be answered, and which run is shown."""

    picture: Any
    names: Any
    rename: Any
    place: Any
    load: Any


@dataclass(frozen=True)
class Attacks:
    """The right side's controls: the attack and the word."""

    levels: Any
    steps: Any
    attack: Any
    word: Any
    stick: Any
    again: Any


def build_page(run: str, device: str | None, steered: bool, ready: threading.Event) -> gr.Blocks:
    """The page, not yet served. What computes is imported when a control first calls it: the page need not wait.

    Args:
        run: what stands beside the untouched model at first, as for `cast_of`.
        device: cpu, cuda, ...; the accelerator if there is one.
        steered: whether that run has a linear map.
        ready: set once the models are loaded.
    """

    def handlers() -> "Handlers":
        from seaanchor.app.handlers import Handlers

        return Handlers(device)

    def show(*values: Any) -> Iterator[str]:
        if not ready.is_set() and values[0] is not None:
            yield WAITING
        yield from handlers().show(*values)

    def move(*values: Any) -> str:
        return handlers().move(*values)

    def load(source: str, current: str) -> tuple[Any, Any, Any]:
        found = handlers().load(source)
        if found.cast is None:
            return current, found.said, gr.skip()
        return source, found.said, gr.update(visible=found.cast.steered is not None)

    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.Markdown(INTRO)
        source, seed = gr.State(run), gr.State(0)
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                photo = _photo(run)
            with gr.Column(scale=3, min_width=300):
                attacks = _attacks()
                said = gr.HTML(elem_id="said")
                shown = gr.HTML(EMPTY, elem_id="shown")
                with gr.Group(visible=steered) as with_map:
                    t = slider(LOWEST, HIGHEST, 1, 0.05, "t of the linear map", "t")
                    moved = gr.HTML(elem_id="moved")

        options: dict[str, Any] = {
            "show_progress": "hidden",
            "trigger_mode": "always_last",
            "api_visibility": "private",
        }
        options["preprocess"] = False  # values come as they are, so that their faults are told on the page
        attack = [attacks.levels, attacks.attack, attacks.steps]
        inputs = [photo.picture, photo.names, attacks.word, seed, *attack, t, source]
        changes = [photo.picture.change, *(control.input for control in attack), t.input, attacks.word.submit]
        gr.on([*changes, attacks.stick.click, photo.rename.click], show, inputs, shown, **options)
        again = attacks.again.click(lambda drawn: drawn + 1, seed, seed, **options)
        again.then(show, inputs, shown, **options)
        gr.on([t.input, page.load], move, [source, t], moved, **options | {"show_progress": "full"})
        asked = [photo.load.click, photo.place.submit]
        loaded = gr.on(asked, load, [photo.place, source], [source, said, with_map], **options)
        loaded.then(show, inputs, shown, **options).then(move, [source, t], moved, **options)
    return page


def _photo(run: str) -> Photo:
    picture = gr.Image(
        label="Photo", sources=["upload", "webcam", "clipboard"], height=240, buttons=[], elem_id="picture"
    )
    files = [[str(file)] for file in example_files()]
    gr.Examples(files, picture, label="Embedded photos", elem_id="examples")
    with gr.Accordion("What it may answer", open=False):
        text = "\n".join(default_class_names())
        names = gr.Textbox(text, lines=8, label="Classes, one on each line", elem_id="classes")
        rename = gr.Button("Use these classes", elem_id="rename")
    with gr.Accordion("A run of your own", open=False):
        place = gr.Textbox(run, label="Folder, such as runs/x", elem_id="run", max_lines=1)
        load = gr.Button("Load it", elem_id="load")
    return Photo(picture, names, rename, place, load)


def _attacks() -> Attacks:
    with gr.Row():
        levels = slider(0, LARGEST, 0, 0.25, "ε, in 255ths", "epsilon")
        steps = slider(1, MOST_STEPS, 10, 1, "Steps at most", "steps")
        attack = gr.Radio(list(ATTACKS), value=ATTACKS[0], label="Attack", elem_id="attack", min_width=200)
    with gr.Row():
        word = gr.Textbox(label="Word on the picture", placeholder="such as car", elem_id="word", max_lines=1, scale=3)
        stick = gr.Button("Stick it on", variant="primary", elem_id="stick", min_width=110)
        again = gr.Button("Draw it elsewhere", elem_id="again", min_width=110)
    return Attacks(levels, steps, attack, word, stick, again)
