"""`seaanchor steer --data`: measure a trained linear map at every t, and write table, steering.json and picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seaanchor.adapters.linear_map import decompose
from seaanchor.data.loader import subset
from seaanchor.data.sources import open_images
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.steering_record import SteeringCurve
from seaanchor.evaluation.suites.bias import caveat
from seaanchor.evaluation.typographic_plan import TypographicPlan
from seaanchor.export.trained import read_map
from seaanchor.plotting.slider import steering_picture
from seaanchor.steering.embeddings import TEMPLATES, see_people, see_words
from seaanchor.steering.export import base_model
from seaanchor.steering.sweep import TS, sweep_bias, sweep_typographic
from seaanchor.steering.table import steering_lines
from seaanchor.utils.checkpoint import write_atomic
from seaanchor.utils.json_text import to_json
from seaanchor.utils.log import log
from seaanchor.utils.numbers import check_count
from seaanchor.utils.paths import portable
from seaanchor.utils.records import to_plain


def steering_curve(
    run: Path,
    data: str,
    ts: Sequence[float] = (),
    words: str = "all",
    sizes: tuple[float, float] = (20 / 224, 40 / 224),
    seed: int = 0,
    samples: int | None = None,
) -> SteeringCurve:
    """Evaluate every t, print a table, and write steering.json and steering.png into the run folder.

    Args:
        run: folder of a run with a linear map.
        data: labelled images, or a set of people.
        ts: exponents of the singular values; `TS` if none are given.
        words: class names that may be drawn: all, even or odd.
        sizes: smallest and largest glyph height, as shares of the image's side.
        seed: of the drawn words, and of which images are taken.
        samples: images to take, as many of each class as it allows; all if None. Not for a set of people.

    Raises:
        SeaAnchorError: no linear map in the run, or one of another model; a t or a number out of range, or data that
            cannot be evaluated.
    """
    check_count("samples", samples)
    read_map(run)  # before a model is loaded
    model, ts = base_model(run), tuple(ts) or TS
    spectrum = decompose(read_map(run, model))
    for t in ts:
        spectrum.powers(t)  # before anything is embedded
    images = open_images(data, split="test")
    people, plan = (images.root / "people.jsonl").is_file(), TypographicPlan(words, "unseen", sizes, seed)
    if samples is not None:
        if people:
            raise SeaAnchorError(f"samples = {samples}", "a set of people as a whole", "leave samples out")
        images = subset(images, samples, seed)
    curve = SteeringCurve(
        tuple(
            sweep_bias(see_people(model, images), spectrum, ts)
            if people
            else sweep_typographic(see_words(model, images, plan), spectrum, ts)
        ),
        model=portable(model.name),
        data=portable(data),
        templates=TEMPLATES,
        plan=None if people else plan.settings(),
        caveat=caveat(images) if people else "",
    )
    _write(curve, run)
    return curve


def _write(curve: SteeringCurve, run: Path) -> None:
    log.info("\n".join([*steering_lines(curve.rows), *filter(None, (curve.caveat,))]))
    rows = [_known(point) for point in to_plain(curve.rows)]
    protocol = {key: _known(value) for key, value in to_plain(curve).items() if key != "rows"}
    write_atomic(run / "steering.json", to_json(protocol | {"rows": rows}, indent=1))
    steering_picture(rows, run / "steering.png", curve.caveat)
    log.info(f"picture: {run / 'steering.png'}")


def _known(value: Any) -> Any:
    """Plain data, an object without its empty members."""
    if not isinstance(value, dict):
        return value
    return {key: item for key, item in value.items() if item is not None and item != {}}
