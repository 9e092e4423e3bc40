"""`seaanchor evaluate`: models on data sets, each beside its reference, with checks of the numbers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from seaanchor.config.schema import parse_epsilon
from seaanchor.errors import SeaAnchorError

if TYPE_CHECKING:
    from seaanchor.evaluation.results import EvaluationResult
    from seaanchor.evaluation.run import Protocol

ATTACKS = ("pgd", "apgd-ce", "apgd", "autoattack", "square")
SUITES = (
    "clean",
    "retrieval",
    *ATTACKS,
    "embedding",
    "typographic",
    "words-and-noise",
    "reading",
    "noise",
    "corruptions",
    "bias",
    "interpretability",
    "drift",
    "probe",
    "segmentation",
)
SUITE_HELP = (
    "Any of clean, retrieval, the attacks pgd, apgd-ce, apgd (APGD-CE, then targeted APGD-DLR), autoattack "
    "and square, embedding (an attack on it), "
    "typographic (a wrong class word drawn on), words-and-noise (the worst of three words, then each attack "
    "named), reading, noise, corruptions, "
    "bias (sets of people in roles), interpretability, drift (distance from the reference), probe, segmentation (mean "
    "IoU by a linear head on --tokens patches, clean and under two attacks); joined by commas."
)
MANY = Parameter(consume_multiple=True, negative=())


@dataclass(frozen=True)
class EvaluationOptions:
    """What is measured, as flags: everything here decides the numbers."""

    suite: Annotated[str, Parameter(help=SUITE_HELP)] = "clean,pgd,apgd-ce,apgd"
    epsilon: str = "1/255,2/255,4/255"
    """Radii, joined by commas, such as 1/255,2/255."""
    words: Literal["all", "even", "odd"] = "all"
    """Class names that may be drawn: all, or those of even or odd number."""
    fonts: Literal["train", "unseen"] = "unseen"
    """Fonts of drawn words."""
    sizes: tuple[float, float] = (20 / 224, 40 / 224)
    """Smallest and largest glyph height of drawn words, as shares of the image's side."""
    norm: Literal["linf", "l2"] = "linf"
    """Norm of the ball."""
    num_steps: int = 10
    """Gradient steps of each attack; autoattack always takes 100."""
    attack_precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the gradients of pgd, apgd-ce and apgd; bf16 is faster. Whether an image is fooled is decided in
    fp32."""
    num_queries: int = 1000
    """Queries of the Square attack."""
    corruptions: Literal["core", "all"] = "core"
    """The 8 kinds that need no extra, or all 15 of ImageNet-C."""
    samples: int | None = None
    """At most this many images of each set, balanced over the classes."""
    templates: Annotated[tuple[str, ...], MANY] = ()
    """Prompts with `{}`, files of them, or openai-imagenet; by default those that a data set brings, or "a photo of a
    {}."."""
    head: str | None = None
    """What turns embeddings into answers: text; classifier, the model's own; probe, fitted once on the clean embeddings
    of --train-data by the reference; or a file with a linear head. By default the head that a run was trained with,
    else text, else classifier."""
    train_data: str | None = None
    """Training images for the suite and the head called probe, or images with masks for segmentation; the train split
    beside each set by default."""
    preprocess: str | None = None
    """Resizing and normalisation in place of the models' own, and of their references': a tag of an OpenCLIP name, or
    settings such as resize_mode=squash,interpolation=bilinear,mean=0.5,std=0.5."""
    tokens: Literal["class", "mean", "patches"] | None = None
    """What of the towers is the embedding; by default what a run was trained with, else the library's own."""
    segmentation_head: Path | None = None
    """File of a segmentation head; by default one is fitted on the reference."""
    seed: int = 0
    """Random seed of subsets and starting points."""


@dataclass(frozen=True)
class RuntimeOptions:
    """Of which models and classes, where results go, and how they are computed, as flags."""

    pretrained: str | None = None
    """Tag or weights file for bare names; BASE+FILE for an image tower's file over the text side of BASE, which is then
    the reference."""
    reference: str | None = None
    """The model before training; a run's export and the embedded variants know theirs; none for none."""
    class_names: Path | None = None
    """File that names the classes."""
    output: Path | None = None
    """Folder of the result files; RUN/evaluation for a run's export by default, else runs/evaluation."""
    batch_size: int = 100
    """Images in a batch; changes no result."""
    workers: int = 0
    """Data-loading processes; 0 reads ahead in threads."""
    device: str | None = None
    """cpu, cuda, ..."""
    skip_existing: bool = False
    """Read results that are already there instead of computing them again."""


def evaluate(
    *,
    model: Annotated[list[str], MANY],
    data: Annotated[list[str], MANY],
    asked: Annotated[EvaluationOptions, Parameter(name="*")] = EvaluationOptions(),
    manner: Annotated[RuntimeOptions, Parameter(name="*")] = RuntimeOptions(),
) -> None:
    """Measure models on data sets, clean and under attack, beside the reference before training. An evaluation that
    was interrupted goes on where it was.

    Parameters
    ----------
    model
        One or several: a run's `export` folder, an embedded model, or any name that `train` takes.
    data
        One or several: class folders, folders with captions.jsonl, or the embedded sets photos, photos-mini, emoji and
            emoji-people.
    """
    check_numbers(("--batch-size", manner.batch_size, 1), ("--workers", manner.workers, 0))
    protocol = protocol_of(asked)
    from seaanchor.evaluation.run import evaluate_all, output_of, require_sound
    from seaanchor.report.table import print_results

    results = evaluate_all(model, data, protocol, **asdict(manner))
    if not results:  # another process prints them
        return
    print_results(results)
    for result in results:
        print_checks(result)
    print(f"results: {', '.join(dict.fromkeys(str(manner.output or output_of(name)) for name in model))}")
    require_sound(results)


def protocol_of(asked: EvaluationOptions) -> "Protocol":
    """The protocol that the flags describe.

    Raises:
        SeaAnchorError: an unknown suite, a number out of range, or a flag that nothing uses.
    """
    wanted = chosen_suites(asked.suite)
    check_numbers(
        ("--num-steps", asked.num_steps, 0), ("--num-queries", asked.num_queries, 1), ("--samples", asked.samples, 1)
    )
    epsilons = tuple(sorted(parse_epsilon(e.strip(), asked.norm) for e in asked.epsilon.split(",")))
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
