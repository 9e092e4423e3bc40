"""`seaanchor sweep`: many runs as one. Nothing heavy is imported before a command needs it."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from seaanchor.cli.settings import Settings
from seaanchor.config.schema import RunConfig, parse_epsilon
from seaanchor.errors import SeaAnchorError

Many = Parameter(consume_multiple=True, negative=())


def sweep(
    recipe: str,
    /,
    *,
    vary: Annotated[list[str] | None, Many] = None,
    points: Path | None = None,
    seeds: str = "0",
    data: Annotated[list[str], Many],
    suite: str = "clean,apgd-ce",
    epsilon: str = "2/255",
    num_steps: int = 10,
    samples: int | None = None,
    words: Literal["all", "even", "odd"] = "all",
    fonts: Literal["train", "unseen"] = "unseen",
    sizes: tuple[float, float] = (20 / 224, 40 / 224),
    x: str | None = None,
    y: str | None = None,
    config: Settings = RunConfig(),  # noqa: B008 (frozen)
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
    suite
        As in `seaanchor evaluate`.
    epsilon
        Radii of attacks in evaluation.
    num_steps
        Gradient steps of attacks in evaluation.
    samples
        At most this many images of each set.
    words
        Words drawn in evaluation.
    fonts
        Their fonts.
    sizes
        Their heights as shares of the image's side.
    x
        Measure on the first axis of the figure, such as clean, lettered, typographic.attacked, drift.distance.mean; by
        default clean, or where retrieval is measured instead of it retrieval.image_to_text.recall@1.
    y
        Measure on the second axis; by default the last attack at the largest radius, or typographic.attacked;
        retrieval.text_to_image.recall@1 beside the other way.
    config
        Any setting of the recipe; OUTPUT is the sweep's folder.
    """
    from seaanchor.cli.evaluate import ATTACKS, check_numbers, chosen_suites
    from seaanchor.evaluation.attacks import AttackPlan
    from seaanchor.evaluation.run import Protocol
    from seaanchor.evaluation.typographic_plan import TypographicPlan
    from seaanchor.sweeps.engine import EvaluationSpec
    from seaanchor.sweeps.sweep import parse_vary, read_points
    from seaanchor.sweeps.sweep import sweep as run

    wanted = chosen_suites(suite)
    check_numbers(("--num-steps", num_steps, 0), ("--samples", samples, 1))
    radii = tuple(sorted(parse_epsilon(e.strip()) for e in epsilon.split(",")))
    attacks = [name for name in wanted if name in ATTACKS]
    # checked above
    plans = tuple(AttackPlan(name, "linf", radii, num_steps) for name in attacks)  # type: ignore[arg-type]
    others = tuple(name for name in wanted if name not in ("clean", *ATTACKS))
    found = "retrieval" in wanted and not {"clean", "typographic", *attacks} & set(wanted)
    x = x or ("retrieval.image_to_text.recall@1" if found else "clean")
    y = y or (
        f"{attacks[-1]} {round(255 * radii[-1], 3):g}/255"
        if attacks
        else "retrieval.text_to_image.recall@1"
        if found
        else "typographic.attacked"
    )
    embedding = AttackPlan("embedding", "linf", radii, num_steps) if "embedding" in others else None
    protocol = Protocol(
        plans, samples=samples, suites=others, typographic=TypographicPlan(words, fonts, sizes), embedding=embedding
    )
    run(
        config,
        parse_vary(vary or []),
        read_points(points) if points else [],
        parse_seeds(seeds),
        EvaluationSpec(tuple(data), protocol),
        x,
        y,
    )


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
    return seeds
