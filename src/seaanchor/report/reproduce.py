"""The commands that make a page's numbers and the page again."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from seaanchor.config.schema import format_epsilon
from seaanchor.data.names import TEMPLATE_LISTS, read_templates
from seaanchor.encoders.classifiers import stored_head_file
from seaanchor.encoders.heads import DEFAULT_TEMPLATES
from seaanchor.evaluation.corruptions import CORE
from seaanchor.evaluation.model_pair import NONE, reference_of
from seaanchor.evaluation.results import AttackSettings, EvaluationResult, GivenOptions, ProtocolRecord
from seaanchor.evaluation.suite_results import TypographicSettings
from seaanchor.report.sources import Entry, ResultFile
from seaanchor.utils.paths import expanded, portable

DRAWN = ("typographic", "words-and-noise", "reading")
"""Suites that draw words."""
FEW = 8  # prompts that fit into a command
HOME = re.compile(r"((?:[\w.-]*[:+])*)~/(.+)", re.DOTALL)
OWN_COUNT = ("square", "autoattack")  # attacks whose number of steps --num-steps does not set


def evaluate_commands(entries: Sequence[Entry]) -> list[str]:
    """`seaanchor evaluate` with the options of every result, one command for the data sets that share all others."""
    sets: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        for file in entry.results:
            head = _command(["seaanchor", "evaluate", "--model", file.result.model, "--data"])
            options = _command([*_options(file), "--output", portable(str(file.path.parent))])
            names = sets.setdefault((head, options), [])
            names += [name for name in [_command([file.result.dataset])] if name not in names]
    return [f"{head} {' '.join(names)} {options}" for (head, options), names in sets.items()]


def report_command(
    paths: Sequence[Path], page: Path, gallery: int, title: str | None, allow: Sequence[str] = ()
) -> str:
    """`seaanchor report` with its options."""
    words = ["seaanchor", "report", *(portable(str(path)) for path in paths)]
    words += ["--output", portable(str(page)), "--gallery", str(gallery)]
    words += [word for name in allow for word in ("--allow", portable(name))]
    return _command([*words, *(["--title", title] if title else [])])


def _command(words: Sequence[str]) -> str:
    """Words as a shell reads them; a `~` at the beginning of a path stays open for the shell."""
    return " ".join(map(quoted, words))


def quoted(word: str) -> str:
    """A word with its `~` open; behind a prefix such as `local-dir:` or `openai+` the shell reads `$HOME` alone."""
    found = HOME.fullmatch(word)
    if found is None:
        return shlex.quote(word)
    return f'{found[1]}"$HOME"/{shlex.quote(found[2])}' if found[1] else f"~/{shlex.quote(found[2])}"


def _options(file: ResultFile) -> list[str]:
    result, protocol = file.result, file.result.protocol
    words = ["--suite", ",".join(["clean", *(plan.name for plan in protocol.plans), *protocol.suites])]
    words += _attack_options(protocol)
    if set(protocol.suites) & set(DRAWN) and protocol.typographic is not None:
        words += _drawing_options(protocol.typographic)
    if "corruptions" in protocol.suites and len(protocol.corruptions) > len(CORE):
        words += ["--corruptions", "all"]
    if protocol.samples is not None:
        words += ["--samples", str(protocol.samples)]
    words += _template_options(protocol.templates)
    words += _head_options(file)
    if protocol.training is not None:
        words += ["--train-data", protocol.training]
    if protocol.tokens is not None:
        words += ["--tokens", protocol.tokens]
    words += _given_options(result.given)
    words += _reference_options(result)
    return [*words, "--seed", str(protocol.seed or 0)]


def _attack_options(protocol: ProtocolRecord) -> list[str]:
    plans = [*protocol.plans, *filter(None, [protocol.embedding])]
    if not plans:
        return []
    first, steps = plans[0], _count([plan for plan in plans if plan.name not in OWN_COUNT])
    words = ["--norm", first.norm or "linf", "--epsilon", ",".join(str(format_epsilon(e)) for e in first.epsilons)]
    words += ["--num-steps", str(steps)] if steps is not None else []
    queries = _count([plan for plan in plans if plan.name == "square"])
    words += ["--num-queries", str(queries)] if queries is not None else []
    return words + (["--attack-precision", "bf16"] if any(plan.precision == "bf16" for plan in plans) else [])


def _count(plans: Sequence[AttackSettings]) -> int | None:
    return next((plan.num_steps for plan in plans), None)


def _drawing_options(plan: TypographicSettings) -> list[str]:
    return ["--words", plan.words, "--fonts", plan.fonts, "--sizes", *(repr(size) for size in plan.sizes)]


def _head_options(file: ResultFile) -> list[str]:
    """`--head` where it has to be given: a head without a source lay with the model; where it is gone, its copy beside
    the result answers."""
    head, stored = file.result.protocol.head, stored_head_file(expanded(file.result.model)) is not None
    if head.kind == "text":
        return ["--head", "text"] if stored and file.result.protocol.tokens != "patches" else []
    if head.kind == "classifier":
        return ["--head", "classifier"]
    if head.source is not None:
        return ["--head", "probe" if head.kind == "probe" else head.source]
    if stored or head.file is None:
        return []
    return ["--head", portable(str(file.path.parent / Path(head.file).name))]


def _given_options(given: GivenOptions | None) -> list[str]:
    named = {} if given is None else {f.name: getattr(given, f.name) for f in fields(given)}
    return [w for name, said in named.items() if said for w in (f"--{name.replace('_', '-')}", said)]


def says_all(entries: Sequence[Entry]) -> bool:
    """Whether every result says which weights, classes and preprocessing were named; older files do not."""
    return all(file.result.given is not None for entry in entries for file in entry.results)


def _template_options(templates: Sequence[str]) -> list[str]:
    """`--templates` where prompts are few, or those of a list that has a name; many others may be the data set's."""
    if templates in ((), DEFAULT_TEMPLATES):
        return []
    if len(templates) <= FEW:
        return ["--templates", *templates]
    named = [name for name in TEMPLATE_LISTS if read_templates([name]) == tuple(templates)]
    return ["--templates", named[0]] if named else []


def _reference_options(result: EvaluationResult) -> list[str]:
    """What names the reference, where the model does not name this one by itself; its tag stands beside it, unless the
    model took one, too."""
    own, own_tag = portable(reference_of(expanded(result.model)))
    reference = result.reference
    if reference is None:
        return [] if own is None else ["--reference", NONE]
    tag = own_tag if reference.given is None else reference.given.pretrained
    if (reference.model, tag) == (own, own_tag):
        return []
    words = ["--reference", reference.model]
    named = result.given is not None and result.given.pretrained
    return words if tag is None or named else [*words, "--pretrained", tag]
