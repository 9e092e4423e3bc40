"""`seaanchor evaluate`: models on data sets, each beside its reference, with checks of the numbers."""

from collections.abc import Sequence
from dataclasses import asdict
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from seaanchor.cli.evaluate_options import (
    ATTACKS,
    MANY,
    PANELS,
    SUITES,
    EvaluationFlags,
    EvaluationOptions,
    RuntimeFlags,
    RuntimeOptions,
)
from seaanchor.config.schema import parse_epsilon
from seaanchor.errors import SeaAnchorError

if TYPE_CHECKING:
    from seaanchor.evaluation.results import EvaluationResult
    from seaanchor.evaluation.run import Protocol


def evaluate(
    *,
    model: Annotated[list[str], MANY, Parameter(group=PANELS["model"])],
    data: Annotated[list[str], MANY, Parameter(group=PANELS["data"])],
    asked: EvaluationFlags = EvaluationOptions(),  # noqa: B008 (frozen)
    manner: RuntimeFlags = RuntimeOptions(),  # noqa: B008 (frozen)
) -> None:
    """Measure models on data sets, clean and under attack, beside the reference before training. An evaluation that
    was interrupted goes on where it was.

    Parameters
    ----------
    model
        One or several: a run's `export` folder, an embedded model, or any name that `train` takes.
    data
        One or several: class folders, folders with captions.jsonl, or the embedded sets photos/test, photos-mini, emoji
        and emoji-people.
    """
    check_numbers(("--batch-size", manner.batch_size, 1), ("--workers", manner.workers, 0))
    check_output(manner, len(model) * len(data))
    suites_and_radii(asked)  # mistakes that cost no import come first
    from seaanchor.data.places import check_there

    for source in data:
        check_there(source, "test")
    protocol = protocol_of(asked)
    from seaanchor.evaluation.advice import report_command
    from seaanchor.evaluation.run import evaluate_all, output_of, require_sound
    from seaanchor.report.table import print_results

    results = evaluate_all(model, data, protocol, **asdict(manner))
    if not results:  # another process prints them
        return
    print_results(results)
    for result in results:
        print_checks(result)
    outputs = list(dict.fromkeys(manner.output or output_of(name) for name in model))
    print(f"results: {', '.join(map(str, outputs))}")
    print(f"show them on one page: {report_command(outputs, [*model, manner.reference, manner.pretrained])}")
    require_sound(results)


def check_output(manner: RuntimeOptions, results: int) -> None:
    """A result file is of one model on one data set, and computed anew.

    Raises:
        SeaAnchorError: it is to hold several, or to be read as well.
    """
    if manner.output is None or manner.output.suffix != ".json" or manner.output.is_dir():
        return
    if results > 1:
        found = f"{results} results for one file, --output {manner.output}"
        raise SeaAnchorError(found, "one model and one data set beside a .json file", "name a folder")
    if manner.skip_existing:
        found = f"--skip-existing beside the file --output {manner.output}"
        raise SeaAnchorError(found, "a folder, in which results are found by what decides them", "name a folder")


def suites_and_radii(asked: EvaluationOptions) -> tuple[list[str], tuple[float, ...]]:
    """The suites and the radii that the flags name, before any library is imported.

    Raises:
        SeaAnchorError: an unknown suite, or a number out of range.
    """
    wanted = chosen_suites(asked.suite)
    check_numbers(
        ("--num-steps", asked.num_steps, 0), ("--num-queries", asked.num_queries, 1), ("--samples", asked.samples, 1)
    )
    return wanted, tuple(sorted(parse_epsilon(e.strip(), asked.norm) for e in asked.epsilon.split(",")))


def protocol_of(asked: EvaluationOptions) -> "Protocol":
    """The protocol that the flags describe.

    Raises:
        SeaAnchorError: an unknown suite, a number out of range, or a flag that nothing uses.
    """
    wanted, epsilons = suites_and_radii(asked)
    from seaanchor.data.names import read_templates
    from seaanchor.evaluation.attacks import LOW_PRECISION, AttackPlan
    from seaanchor.evaluation.corruptions import CORE, KINDS
    from seaanchor.evaluation.run import Protocol
    from seaanchor.evaluation.typographic_plan import TypographicPlan

    def plan(name: Any) -> AttackPlan:
        steps = {"square": asked.num_queries, "autoattack": 100}.get(name, asked.num_steps)
        return AttackPlan(
            name, asked.norm, epsilons, steps, asked.seed, asked.attack_precision if name in LOW_PRECISION else "fp32"
        )

    if asked.attack_precision != "fp32" and not set(wanted) & set(LOW_PRECISION):
        found = f"--attack-precision {asked.attack_precision} without {', '.join(LOW_PRECISION)}"
        raise SeaAnchorError(found, "an attack that may use it", "add one to --suite")
    drawing = TypographicPlan(asked.words, asked.fonts, asked.sizes, asked.seed)
    return Protocol(
        tuple(plan(name) for name in wanted if name in ATTACKS),
        read_templates(asked.templates) if asked.templates else (),
        asked.samples,
        asked.seed,
        preprocess=asked.preprocess,
        suites=tuple(name for name in wanted if name not in ("clean", *ATTACKS)),
        typographic=drawing,
        embedding=plan("embedding") if {"embedding", "segmentation"} & set(wanted) else None,
        training=asked.train_data,
        head=asked.head,
        tokens=asked.tokens,
        segmentation_head=None if asked.segmentation_head is None else str(asked.segmentation_head),
        corruptions=KINDS[:15] if asked.corruptions == "all" else CORE,
    )


def check_numbers(*numbers: tuple[str, int | None, int]) -> None:
    """Flags with their value and the least they may be; None is not looked at.

    Raises:
        SeaAnchorError: one is less.
    """
    for flag, value, least in numbers:
        if value is not None and value < least:
            raise SeaAnchorError(f"{flag} {value}", f"at least {least}", "correct it")


def chosen_suites(joined: str) -> list[str]:
    """The suites named, each once.

    Raises:
        SeaAnchorError: there is none, or one that is not known.
    """
    wanted = [name.strip() for name in joined.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in SUITES]
    if unknown or not wanted:
        near = get_close_matches(unknown[0], SUITES, n=1, cutoff=0.4) if unknown else []
        change = f"did you mean {near[0]}?" if near else "correct --suite"
        raise SeaAnchorError(
            f"unknown suite {', '.join(unknown) or repr(joined)}", f"any of {', '.join(SUITES)}", change
        )
    return list(dict.fromkeys(wanted))


def print_checks(result: "EvaluationResult") -> None:
    """Which checks passed: a row a check, a column for the model and one for every attack; what failed is spelled out
    below."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    split = {tuple(name.split(": ", 1)): value for name, value in result.checks.items()}
    columns, kinds = (list(dict.fromkeys(part)) for part in (list(zip(*split, strict=True)) or ((), ())))
    table = Table(title=escape(f"checks of {result.model} on {result.dataset}"))
    for column in ("", *columns):
        table.add_column(column)
    marks = {True: "passed", False: "FAILED"}
    for kind in kinds:
        table.add_row(
            kind, *(marks[split[column, kind].passed] if (column, kind) in split else "" for column in columns)
        )
    console = Console()
    console.print(table)
    for line in _failures(result):
        console.print(escape(line))


def _failures(result: "EvaluationResult") -> Sequence[str]:
    return [f"{name}: {value.detail}" for name, value in result.checks.items() if not value.passed]
