"""What an experiment is: a claim, the runs that test it, and the section it writes."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from seaanchor.config.schema import RunConfig
from seaanchor.errors import SeaAnchorError
from seaanchor.sweeps.arms import recipe_of
from seaanchor.utils.checkpoint import write_atomic
from studies.verdicts import Verdict

SEEDS, ONE_SEED = (0, 1, 2), (0,)
SHOWN = 4  # effects of a verdict in the table of all


@dataclass(frozen=True)
class Bench:
    """Where an experiment works, and what it may use.

    Attributes:
        output: its folder: runs, evaluations, numbers.csv, tables, figures.
        seeds: of every run.
        extra: further labelled data sets by name, such as `cifar10`, for what took no part in training; `train` names
            other training photos.
        recipes: of the runs it has asked for so far, by their names in tables.
    """

    output: Path
    seeds: tuple[int, ...] = SEEDS
    extra: tuple[tuple[str, str], ...] = ()
    recipes: dict[str, dict[str, Any]] = field(default_factory=dict, compare=False)

    def keep(self, name: str, config: RunConfig, **described: Any) -> None:
        """Note the recipe of a run, to be published with what came of it; `described` says in words what would name a
        folder of this machine."""
        self.recipes[name] = recipe_of(config) | described

    def over_seeds(self) -> str:
        """Which seeds the numbers of a table come from, and how they are put together, in words."""
        one = len(self.seeds) == 1
        return (
            f"seed {self.seeds[0]}" if one else f"mean over seeds {', '.join(map(str, self.seeds))}, range in brackets"
        )

    def elsewhere(self) -> dict[str, str]:
        """Data sets that take no part in any training, by label."""
        return {label: path for label, path in (("emoji", "emoji/test"), *self.extra) if label != "train"}

    def source(self, name: str, default: str) -> str:
        """The data set of that name, where one is given."""
        return dict(self.extra).get(name, default)


@dataclass(frozen=True)
class Section:
    """What an experiment found: Markdown, with the names of its figures, which lie beside it, and what became of its
    claims."""

    text: str
    figures: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """A claim and what tests it.

    Attributes:
        name: on the command line.
        title: of its section.
        claim: what is claimed, and by whom.
        minutes: on two cores with AVX2 alone, from nothing, for its seeds: half of what one core was measured to take.
        run: trains, measures, and writes tables and figures into the bench's folder.
        seeds: by default; what compares many settings takes one, and its intervals hold the spread over images alone.
    """

    name: str
    title: str
    claim: str
    minutes: int
    run: Callable[[Bench], Section]
    seeds: tuple[int, ...] = SEEDS


def write_section(experiment: Experiment, section: Section, bench: Bench, docs: Path | None) -> Path:
    """Write the section beside its runs, and into a document between its marks, or at its end.

    Raises:
        SeaAnchorError: the document has the first mark without the second.
    """
    options = "".join(f" --extra {name}={name.upper()}" for name, _ in bench.extra)
    asked = "" if bench.seeds == experiment.seeds else f" --seeds {','.join(map(str, bench.seeds))}"
    command = f"```bash\npython -m studies {experiment.name}{asked}{options}\n```"
    found = "".join(f"{verdict.line()}\n\n" for verdict in section.verdicts)
    listed = "\nRecipes of all runs: [recipes.yaml](recipes.yaml).\n" if bench.recipes else ""
    body = f"## {experiment.title}\n\n{experiment.claim}\n\n{command}\n\n{found}{section.text.strip()}\n{listed}"
    write_atomic(bench.output / "section.md", body)
    recipes = yaml.safe_dump(bench.recipes, sort_keys=False, allow_unicode=True)
    write_atomic(bench.output / "recipes.yaml", recipes)
    if docs is None:
        return bench.output / "section.md"
    figures = docs.parent / "figures"
    for figure in section.figures:
        body = body.replace(f"]({figure})", f"](figures/{experiment.name}-{figure})")
        figures.mkdir(parents=True, exist_ok=True)
        write_atomic(figures / f"{experiment.name}-{figure}", (bench.output / figure).read_text())
    for table in bench.output.glob("table*.csv"):
        write_atomic(docs.parent / "tables" / f"{experiment.name}{table.name.removeprefix('table')}", table.read_text())
    if bench.recipes:
        write_atomic(docs.parent / "tables" / f"{experiment.name}.yaml", recipes)
        body = body.replace("[recipes.yaml](recipes.yaml)", f"[{experiment.name}.yaml](tables/{experiment.name}.yaml)")
    put_between(docs, experiment.name, body)
    known = verdicts_of(docs) | {
        experiment.name: [verdict.__dict__ | {"seeds": len(bench.seeds)} for verdict in section.verdicts]
    }
    write_atomic(docs.parent / "tables" / "verdicts.json", json.dumps(known, indent=1, ensure_ascii=False) + "\n")
    return docs


def verdicts_of(docs: Path) -> dict[str, list[dict[str, Any]]]:
    """Experiment → what became of its claims and over how many seeds, kept beside a document so that its table does not
    need every run again."""
    file = docs.parent / "tables" / "verdicts.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def put_between(docs: Path, name: str, body: str) -> None:
    """Write a part of a document anew, between its two marks; at the end, where there are none yet.

    Raises:
        SeaAnchorError: the document has the first mark without the second.
    """
    begin, end = (f"<!-- {word} {name} -->" for word in ("begin", "end"))
    text = docs.read_text() if docs.is_file() else "# Results\n"
    if begin in text and end not in text:
        raise SeaAnchorError(f"{docs} has {begin} without {end}", "both marks, or neither", "put the second one back")
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    parts = (before.strip(), f"{begin}\n{body}{end}", after.strip())
    write_atomic(docs, "\n\n".join(part for part in parts if part) + "\n")


def summary(experiments: Iterable[Experiment], docs: Path) -> str:
    """Every verdict that stands beside a document, as a table: the claim, what came of it, the first effects, the
    section that has all."""
    known = verdicts_of(docs)
    lines = [
        "| claim | here | effect, points with 95 % interval | seeds | section |",
        "| --- | --- | --- | --- | --- |",
    ]
    for experiment in experiments:
        anchor = "".join(c for c in experiment.title.lower().replace(" ", "-") if c.isalnum() or c == "-")
        found = known.get(experiment.name, ())
        section = f"[{experiment.title}](#{anchor})"
        lines += [
            f"| {v['claim']} | {v['outcome']} | {_first(v['effect'])} | {v.get('seeds', '')} | {section} |"
            for v in found
        ]
    return "\n".join(lines) + "\n"


def _first(effects: str) -> str:
    """The first few of a list of effects, and how many more there are."""
    listed = effects.split("; ")
    return "; ".join(listed if len(listed) <= SHOWN else [*listed[:SHOWN], f"and {len(listed) - SHOWN} more"])
