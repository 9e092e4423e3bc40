"""The page itself, in gradio: controls that hand what they hold to `Handlers`, and the HTML that comes back."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from seaanchor.app.answers import default_class_names
from seaanchor.app.attack import ATTACKS, LARGEST
from seaanchor.app.cards import EMPTY
from seaanchor.app.handlers import Handlers
from seaanchor.app.models import cast_of
from seaanchor.app.movement import HIGHEST, LOWEST
from seaanchor.app.pictures import example_files

TITLE = "Sea Anchor"
INTRO = """# Sea Anchor
The same picture, seen by an untouched encoder and by a hardened one. Change a few levels of its pixels, or stick a
word on it, and see whose answer moves."""


def number(lowest: float, highest: float, value: float, step: float, label: str, name: str) -> Any:
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


def build_page(run: str, device: str | None) -> gr.Blocks:
    """The page, not yet served. Embedded models are loaded when they are first asked for.

    Args:
        run: what stands beside the untouched model at first, as for `cast_of`.
        device: cpu, cuda, ...; the accelerator if there is one.

    Raises:
        SeaAnchorError: the run cannot be loaded.
    """
    steered = bool(run) and cast_of(run, device).steered is not None
    handlers = Handlers(device)

    def load(source: str, current: str) -> tuple[Any, Any, Any]:
        found = handlers.load(source)
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
                with gr.Group(visible=steered) as slider:
                    t = number(LOWEST, HIGHEST, 1, 0.05, "t of the linear map", "t")
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
        gr.on([*changes, attacks.stick.click, photo.rename.click], handlers.show, inputs, shown, **options)
        again = attacks.again.click(lambda drawn: drawn + 1, seed, seed, **options)
        again.then(handlers.show, inputs, shown, **options)
        gr.on([t.input, page.load], handlers.move, [source, t], moved, **options | {"show_progress": "full"})
        asked = [photo.load.click, photo.place.submit]
        loaded = gr.on(asked, load, [photo.place, source], [source, said, slider], **options)
        loaded.then(handlers.show, inputs, shown, **options).then(handlers.move, [source, t], moved, **options)
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
        levels = number(0, LARGEST, 0, 0.25, "ε of the attack, in 255ths", "epsilon")
        steps = number(1, 40, 10, 1, "Steps at most", "steps")
        attack = gr.Radio(list(ATTACKS), value=ATTACKS[0], label="Attack", elem_id="attack", min_width=200)
    with gr.Row(equal_height=True):
        word = gr.Textbox(label="Word on the picture", placeholder="such as car", elem_id="word", max_lines=1, scale=3)
        stick = gr.Button("Stick it on", variant="primary", elem_id="stick", min_width=110)
        again = gr.Button("Draw it elsewhere", elem_id="again", min_width=110)
    return Attacks(levels, steps, attack, word, stick, again)
