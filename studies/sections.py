"""The section of a study: Markdown beside its runs, and between its marks in a document."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from seaanchor.errors import SeaAnchorError
from seaanchor.utils.checkpoint import write_atomic
from studies.declare import Section, Study
from studies.workspace import Workspace

SHOWN = 4  # effects of a verdict in the table of all


def write_section(
    study: Study, section: Section, workspace: Workspace, docs: Path | None, earlier: Sequence[str] = ()
) -> Path:
    """Write the section beside its runs, and into a document: between its marks, or else behind the last of the earlier
    sections that stands there, or at the end.

    Raises:
        SeaAnchorError: the document has the first mark without the second.
    """
    options = "".join(f" --extra {name}={name.upper()}" for name, _ in workspace.extra)
    asked = "" if workspace.seeds == study.seeds else f" --seeds {','.join(map(str, workspace.seeds))}"
    command = f"```bash\npython -m studies {study.name}{asked}{options}\n```"
    found = "".join(f"{verdict.line()}\n\n" for verdict in section.verdicts)
    listed = "\nRecipes of all runs: [recipes.yaml](recipes.yaml).\n" if workspace.recipes else ""
    body = f"## {study.title}\n\n{study.claim}\n\n{command}\n\n{found}{section.text.strip()}\n{listed}"
    write_atomic(workspace.output / "section.md", body)
    recipes = yaml.safe_dump(workspace.recipes, sort_keys=False, allow_unicode=True)
    write_atomic(workspace.output / "recipes.yaml", recipes)
    if docs is None:
        return workspace.output / "section.md"
    figures = docs.parent / "figures"
    for figure in section.figures:
        body = body.replace(f"]({figure})", f"](figures/{study.name}-{figure})")
        figures.mkdir(parents=True, exist_ok=True)
        write_atomic(figures / f"{study.name}-{figure}", (workspace.output / figure).read_text())
    for table in workspace.output.glob("table*.csv"):
        write_atomic(docs.parent / "tables" / f"{study.name}{table.name.removeprefix('table')}", table.read_text())
    if workspace.recipes:
        write_atomic(docs.parent / "tables" / f"{study.name}.yaml", recipes)
        body = body.replace("[recipes.yaml](recipes.yaml)", f"[{study.name}.yaml](tables/{study.name}.yaml)")
    put_between(docs, study.name, body, earlier)
    known = verdicts_of(docs) | {
        study.name: [verdict.__dict__ | {"seeds": len(workspace.seeds)} for verdict in section.verdicts]
    }
    write_atomic(docs.parent / "tables" / "verdicts.json", json.dumps(known, indent=1, ensure_ascii=False) + "\n")
    return docs


def verdicts_of(docs: Path) -> dict[str, list[dict[str, Any]]]:
    """Experiment → what became of its claims and over how many seeds, kept beside a document so that its table does not
    need every run again."""
    file = docs.parent / "tables" / "verdicts.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def put_between(docs: Path, name: str, body: str, earlier: Sequence[str] = ()) -> None:
    """Write a part of a document anew, between its two marks; where there are none yet, behind the last of the earlier
    parts that stands there, or at the end.

    Raises:
        SeaAnchorError: the document has the first mark without the second.
    """
    begin, end = (f"<!-- {word} {name} -->" for word in ("begin", "end"))
    text = docs.read_text() if docs.is_file() else "# Results\n"
    if begin in text and end not in text:
        raise SeaAnchorError(f"{docs} has {begin} without {end}", "both marks, or neither", "put the second one back")
    if begin not in text:
        marks = [mark for mark in (f"<!-- end {other} -->" for other in earlier) if mark in text]
        text = text.replace(marks[-1], f"{marks[-1]}\n\n{begin}\n{end}") if marks else f"{text}{begin}\n{end}"
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    parts = (before.strip(), f"{begin}\n{body}{end}", after.strip())
    write_atomic(docs, "\n\n".join(part for part in parts if part) + "\n")


def summary(studies: Iterable[Study], docs: Path) -> str:
    """Every verdict that stands beside a document, as a table: the claim, what came of it, the first effects, the
    section that has all."""
    known = verdicts_of(docs)
    lines = [
        "| claim | here | effect, points with 95 % interval | seeds | section |",
        "| --- | --- | --- | --- | --- |",
    ]
    for study in studies:
        anchor = "".join(c for c in study.title.lower().replace(" ", "-") if c.isalnum() or c == "-")
        found = known.get(study.name, ())
        section = f"[{study.title}](#{anchor})"
        lines += [
            f"| {v['claim']} | {v['outcome']} | {_first(v['effect'])} | {v.get('seeds', '')} | {section} |"
            for v in found
        ]
    return "\n".join(lines) + "\n"


def _first(effects: str) -> str:
    """The first few of a list of effects, and how many more there are."""
    listed = effects.split("; ")
    return "; ".join(listed if len(listed) <= SHOWN else [*listed[:SHOWN], f"and {len(listed) - SHOWN} more"])
