"""`seaanchor sweep`: many runs as one. Nothing heavy is imported before a command needs it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from seaanchor.cli.option_groups import as_flags, panels
from seaanchor.cli.settings import SweepSettings
from seaanchor.config.io import from_dict, to_dict
from seaanchor.config.schema import RunConfig
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.numbers import check_seed

if TYPE_CHECKING:
    from seaanchor.evaluation.run import Protocol

Many = Parameter(consume_multiple=True, negative=())


@dataclass(frozen=True)
class SweepEvaluation:
    """What every run of a sweep is evaluated under, as flags."""

    suite: str = "clean,apgd-ce"
    """As in `seaanchor evaluate`."""
    epsilon: str = "2/255"
    """Radii of attacks in evaluation, joined by commas."""
    num_steps: int = 10
    """Gradient steps of attacks in evaluation."""
    samples: int | None = None
    """At most this many images of each set."""
    words: Literal["all", "even", "odd"] = "all"
    """Class names that may be drawn in evaluation."""
    fonts: Literal["train", "unseen"] = "unseen"
    """Their fonts."""
    sizes: tuple[float, float] = (20 / 224, 40 / 224)
    """Their smallest and largest height, as shares of the image's side."""


PANELS = panels(
    {
        "Sweep": ("vary", "points", "seeds", "data", "x", "y", "dry_run"),
        "Evaluation": tuple(one.name for one in fields(SweepEvaluation)),
    },
    first=-1,
)
OWN = Parameter(group=PANELS["vary"])
if TYPE_CHECKING:
    SweepFlags = SweepEvaluation
else:
    SweepFlags = Annotated[as_flags(SweepEvaluation, PANELS), Parameter(name="*")]


def sweep(
    recipe: str,
    /,
    *,
    vary: Annotated[list[str] | None, Many, OWN] = None,
    points: Annotated[Path | None, OWN] = None,
    seeds: Annotated[str, OWN] = "0",
    data: Annotated[list[str], Many, OWN],
    evaluation: SweepFlags = SweepEvaluation(),
    x: Annotated[str | None, OWN] = None,
    y: Annotated[str | None, OWN] = None,
    dry_run: Annotated[bool, OWN, Parameter(negative=())] = False,
    config: SweepSettings = RunConfig(),  # noqa: B008 (frozen)
) -> None:
    """Train a recipe with several settings, evaluate every run, and draw the front of the results. A sweep that was
    interrupted goes on where it was.

    Parameters
    ----------
    recipe
        A shipped recipe or a YAML file.
    vary
        Settings with their values, such as anchor.rho=0.03,0.1; several make a grid.
    points
        YAML list of settings, for points that do not form a grid.
    seeds
        Random seeds joined by commas; every point is trained with each of them.
    data
        Labelled sets to evaluate on, or folders with captions for the suite retrieval.
    x
        Measure on the first axis of the figure, such as clean, lettered, typographic.attacked, drift.distance.mean; by
        default clean, or where retrieval is measured instead of it retrieval.image_to_text.recall@1.
    y
        Measure on the second axis; by default the last attack at the largest radius, or typographic.attacked, or
        drift.distance.mean; retrieval.text_to_image.recall@1 beside the other way.
    dry_run
        Take one step of every point that costs something else than another, and print what the grid would take; train
        nothing.
    config
        Any setting of the recipe; OUTPUT is the sweep's folder.
    """
    from seaanchor.cli.evaluate import EvaluationOptions, chosen_suites, protocol_of
    from seaanchor.sweeps.engine import EvaluationSpec
    from seaanchor.sweeps.sweep import parse_vary, read_points
    from seaanchor.sweeps.sweep import sweep as run

    config = from_dict(RunConfig, to_dict(config))  # options get the types that their part asks for
    protocol = protocol_of(EvaluationOptions(**asdict(evaluation)))
    default_x, default_y = default_axes(chosen_suites(evaluation.suite), protocol)
    y = y or default_y
    if y is None:
        found = f"--suite {evaluation.suite} names no measure for the front's second axis"
        raise SeaAnchorError(found, "two measures", "add a suite, such as apgd-ce, typographic or drift, or give --y")
    grid, listed = parse_vary(vary or []), read_points(points) if points else []
    spec, axes = EvaluationSpec(tuple(data), protocol), (x or default_x, y)
    run(config, grid, listed, parse_seeds(seeds), spec, *axes, dry_run=dry_run)


def default_axes(suites: Sequence[str], protocol: "Protocol") -> tuple[str, str | None]:
    """The measures on the front's axes where none are named: clean accuracy against the last attack at the largest
    radius, typographic attacks or the distance to the untouched embeddings; recall both ways where nothing but
    retrieval is measured. None where the suites give no second measure that stands out."""
    if protocol.plans:
        last = protocol.plans[-1]
        return "clean", f"{last.name} {round(255 * max(last.epsilons), 3):g}/255"
    if "retrieval" in suites and not {"clean", "typographic"} & set(suites):
        return "retrieval.image_to_text.recall@1", "retrieval.text_to_image.recall@1"
    second = {"typographic": "typographic.attacked", "drift": "drift.distance.mean"}
    return "clean", next((measure for suite, measure in second.items() if suite in suites), None)


def parse_seeds(text: str) -> tuple[int, ...]:
    """`0,1,2` → (0, 1, 2).

    Raises:
        SeaAnchorError: no whole numbers, or one twice.
    """
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise SeaAnchorError(
            f"--seeds {text}", "whole numbers joined by commas, such as 0,1,2", "write it so"
        ) from None
    if len(set(seeds)) < len(seeds):
        raise SeaAnchorError(f"--seeds {text}", "each seed once", "remove one")
    return tuple(check_seed(seed, "--seeds") for seed in seeds)
