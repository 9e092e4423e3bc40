"""`seaanchor evaluate`: models on data sets, each beside its untouched reference, and whether the numbers can be believed."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from seaanchor.config import parse_epsilon
from seaanchor.errors import SeaAnchorError

ATTACKS = ("pgd", "apgd-ce", "apgd", "autoattack", "square")
SUITES = (
    "clean", "retrieval", *ATTACKS, "embedding", "typographic", "words-and-noise", "reading", "noise", "corruptions", "bias", "interpretability", "drift",
    "probe",
)  # fmt: skip


def evaluate(
    *,
    model: Annotated[list[str], Parameter(consume_multiple=True, negative=())],
    data: Annotated[list[str], Parameter(consume_multiple=True, negative=())],
    pretrained: str | None = None,
    reference: str | None = None,
    suite: str = "clean,pgd,apgd-ce,apgd",
    epsilon: str = "1/255,2/255,4/255",
    words: Literal["all", "even", "odd"] = "all",
    fonts: Literal["train", "unseen"] = "unseen",
    sizes: tuple[float, float] = (20 / 224, 40 / 224),
    norm: Literal["linf", "l2"] = "linf",
    num_steps: int = 10,
    attack_precision: Literal["fp32", "bf16"] = "fp32",
    num_queries: int = 1000,
    corruptions: Literal["core", "all"] = "core",
    samples: int | None = None,
    class_names: Path | None = None,
    templates: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = (),
    train_data: str | None = None,
    output: Path | None = None,
    batch_size: int = 100,
    workers: int = 0,
    device: str | None = None,
    seed: int = 0,
    skip_existing: bool = False,
) -> None:
    """What a model can do, clean and under attack, beside the untouched reference; killed, it goes on where it was.

    Parameters
    ----------
    model
        One or several: a run's `export` folder, an embedded model, or any name that `train` takes.
    data
        One or several: class folders, folders with captions.jsonl, or the embedded sets photos-mini, emoji and emoji-people.
    pretrained
        Tag or weights file for bare names.
    reference
        The untouched model; a run's export and the embedded variants know theirs.
    suite
        Any of clean, retrieval, the attacks pgd, apgd-ce, apgd (APGD-CE, then targeted APGD-DLR), autoattack and square, embedding (an attack on it),
        typographic (a wrong class word drawn on), words-and-noise (the worst of three words, then each attack named), reading, noise, corruptions,
        bias (sets of people in roles), interpretability, drift (distance from the reference), probe; joined by commas.
    epsilon
        Radii, joined by commas, such as 1/255,2/255.
    words
        Class names that may be drawn: all, or those of even or odd number.
    fonts
        Fonts of drawn words.
    sizes
        Smallest and largest glyph height of drawn words, as shares of the image's side.
    norm
        Norm of the ball.
    num_steps
        Gradient steps of each attack; autoattack always takes its own 100.
    attack_precision
        Of the gradients that pgd, apgd-ce and apgd follow; bf16 is faster. Whether an image is fooled is judged in fp32.
    num_queries
        Queries of the Square attack.
    corruptions
        The 8 kinds that need no extra, or all 15 of ImageNet-C.
    samples
        At most this many images of each set, balanced over the classes.
    class_names
        File that names the classes.
    templates
        Prompts with `{}`, files of them, or openai-imagenet; by default those that a data set brings, or "a photo of a {}.".
    train_data
        Training images for the probe; the train split beside each set by default.
    output
        Folder of the result files; RUN/evaluation for a run's export by default, else runs/evaluation.
    batch_size
        Images at a time; changes no result.
    workers
        Data-loading processes.
    device
        cpu, cuda, ...
    seed
        Of subsets and random starts.
    skip_existing
        Read results that are already there instead of computing them again.
    """
    wanted = chosen_suites(suite)
    check_numbers(
        ("--batch-size", batch_size, 1), ("--num-steps", num_steps, 0), ("--num-queries", num_queries, 1), ("--workers", workers, 0), ("--samples", samples, 1)
    )
    epsilons = tuple(sorted(parse_epsilon(e.strip(), norm) for e in epsilon.split(",")))
    from seaanchor.data.names import read_templates
    from seaanchor.evaluation.attacks import LOW_PRECISION, AttackPlan
    from seaanchor.evaluation.corruptions import CORE, KINDS
    from seaanchor.evaluation.run import Protocol, evaluate_all, output_of, require_sound
    from seaanchor.evaluation.typographic import TypographicPlan
    from seaanchor.report.table import print_results

    def plan(name: Any) -> AttackPlan:
        steps, precision = {"square": num_queries, "autoattack": 100}.get(name, num_steps), attack_precision if name in LOW_PRECISION else "fp32"
        return AttackPlan(name, norm, epsilons, steps, seed, precision)

    if attack_precision != "fp32" and not set(wanted) & set(LOW_PRECISION):
        raise SeaAnchorError(f"--attack-precision {attack_precision} without {', '.join(LOW_PRECISION)}", "an attack that may use it", "add one to --suite")

    protocol = Protocol(
        tuple(plan(name) for name in wanted if name in ATTACKS), read_templates(templates) if templates else (), samples, seed,
        suites=tuple(name for name in wanted if name not in ("clean", *ATTACKS)), typographic=TypographicPlan(words, fonts, sizes, seed),
        embedding=plan("embedding") if "embedding" in wanted else None, training=train_data,
        corruptions=KINDS[:15] if corruptions == "all" else CORE,
    )  # fmt: skip
    results = evaluate_all(
        model, data, protocol, output, pretrained=pretrained, reference=reference, class_names=class_names,
        batch_size=batch_size, workers=workers, device=device, skip_existing=skip_existing,
    )  # fmt: skip
    if not results:  # another process prints them
        return
    print_results(results)
    for result in results:
        print_checks(result)
    print(f"results: {', '.join(dict.fromkeys(str(output or output_of(name)) for name in model))}")
    require_sound(results)


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
        raise SeaAnchorError(f"unknown suite {', '.join(unknown) or repr(joined)}", f"any of {', '.join(SUITES)}", change)
    return list(dict.fromkeys(wanted))


def print_checks(result: dict[str, Any]) -> None:
    """Which checks passed: a row a check, a column for the model and one for every attack; what failed is spelled out below."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    split = {tuple(name.split(": ", 1)): value for name, value in result["checks"].items()}
    columns, kinds = (list(dict.fromkeys(part)) for part in (list(zip(*split, strict=True)) or ((), ())))
    table = Table(title=escape(f"checks of {result['model']} on {result['dataset']}"))
    for column in ("", *columns):
        table.add_column(column)
    marks = {True: "passed", False: "FAILED"}
    for kind in kinds:
        table.add_row(kind, *(marks[split[column, kind]["passed"]] if (column, kind) in split else "" for column in columns))
    console = Console()
    console.print(table)
    for line in _failures(result):
        console.print(escape(line))


def _failures(result: dict[str, Any]) -> Sequence[str]:
    return [f"{name}: {value['detail']}" for name, value in result["checks"].items() if not value["passed"]]
