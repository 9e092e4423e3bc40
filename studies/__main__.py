"""`make reproduce NAME=...`, or `python -m studies NAME`: the studies behind docs/results.md."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App

from seaanchor.cli.sweep import Many, parse_seeds
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.log import log_to_terminal

if TYPE_CHECKING:
    from studies.declare import Study

app = App(name="python -m studies", help_format="plaintext")


@app.default
def reproduce(
    name: str | None = None,
    /,
    *,
    output: Path = Path("runs/reproduce"),
    seeds: str | None = None,
    extra: Annotated[list[str] | None, Many] = None,
    docs: Path | None = None,
    rows: Path | None = None,
) -> None:
    """Run a study behind the published results, or what is missing of it; without a name, list them.

    Parameters
    ----------
    name
        Of the study.
    output
        Folder of all studies, which share runs.
    seeds
        Joined by commas; by default those of the study.
    extra
        Further labelled sets that took no part in training, such as cifar10=FOLDER.
    docs
        Markdown file whose section is written anew, such as docs/results.md.
    rows
        Folder of rows that were measured before, such as docs/rows: an arm is taken from it where nothing that it
        depends on has changed, else measured and kept in it.
    """
    if find_spec("scipy") is None:
        raise SeaAnchorError("scipy is missing", "the extra `studies`", "run `pip install -e '.[studies]'`")
    from studies.registry import STUDIES, find
    from studies.registry import reproduce as run
    from studies.workspace import Workspace

    log_to_terminal()
    if name is None:
        print("\n".join(map(_line, STUDIES.values())))
        return
    study = find(name)
    chosen = study.seeds if seeds is None else parse_seeds(seeds)
    written = run(
        study, Workspace(output / name, chosen, _pairs(extra or []), rows=None if rows is None else rows / name), docs
    )
    print(f"written: {written}; tables, figures and runs: {output / name}")


def _line(study: "Study") -> str:
    """Name, minutes, seeds and title of a study."""
    seeds = f"{len(study.seeds)} seed{'s' if len(study.seeds) > 1 else ' '}"
    return f"{study.name:<16} {study.minutes:>3} min  {seeds}  {study.title}"


def _pairs(items: list[str]) -> tuple[tuple[str, str], ...]:
    """`NAME=FOLDER` as pairs.

    Raises:
        SeaAnchorError: an item of another form.
    """
    for item in items:
        if "=" not in item:
            raise SeaAnchorError(f"--extra {item}", "a name and a folder, such as cifar10=cifar10/test", "write it so")
    return tuple((name, folder) for name, _, folder in (item.partition("=") for item in items))


def main() -> None:
    """The command; an error that the user can mend is one message and code 2."""
    try:
        app(sys.argv[1:])
    except SeaAnchorError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
