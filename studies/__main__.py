"""`make reproduce NAME=...`, or `python -m studies NAME`: the experiments behind docs/results.md."""

from pathlib import Path
from typing import Annotated

from cyclopts import App

from seaanchor.cli.sweep import Many, parse_seeds
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.log import log_to_terminal

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
) -> None:
    """Run an experiment behind the published results, or what is missing of it; without a name, list them.

    Parameters
    ----------
    name
        Of the experiment.
    output
        Folder of all experiments, which share runs.
    seeds
        Joined by commas; by default those of the experiment.
    extra
        Further labelled sets that took no part in training, such as cifar10=FOLDER.
    docs
        Markdown file whose section is written anew, such as docs/results.md.
    """
    from studies.registry import EXPERIMENTS, find
    from studies.registry import reproduce as run

    if name is None:
        for one in EXPERIMENTS.values():
            print(
                f"{one.name:<16} {one.minutes:>3} min  {len(one.seeds)} "
                f"seed{'s' if len(one.seeds) > 1 else ' '}  {one.title}"
            )
        return
    experiment = find(name)
    from studies.experiment import Bench

    pairs = [tuple(item.split("=", 1)) for item in extra or []]
    if wrong := [item for item, pair in zip(extra or [], pairs, strict=True) if len(pair) != 2]:
        raise SeaAnchorError(f"--extra {wrong[0]}", "a name and a folder, such as cifar10=cifar10/test", "write it so")
    chosen = experiment.seeds if seeds is None else parse_seeds(seeds)
    written = run(experiment, Bench(output / name, chosen, tuple((pair[0], pair[1]) for pair in pairs)), docs)
    print(f"written: {written}; tables, figures and runs: {output / name}")


if __name__ == "__main__":
    log_to_terminal()
    app()
