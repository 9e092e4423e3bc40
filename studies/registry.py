"""All experiments by name, and how one is run."""

from difflib import get_close_matches
from pathlib import Path

from seaanchor.errors import SeaAnchorError
from studies import ablations, anchoring, beyond, gradients, headline, lore, others, preference, sliders, threats
from studies.experiment import Bench, Experiment, put_between, summary, write_section

EXPERIMENTS: dict[str, Experiment] = {
    e.name: e
    for group in (headline, preference, sliders, gradients, lore, ablations, others, beyond, threats, anchoring)
    for e in group.EXPERIMENTS
}


def find(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        SeaAnchorError: there is none.
    """
    if name not in EXPERIMENTS:
        near = get_close_matches(name, EXPERIMENTS, n=1, cutoff=0.4)
        change = f"did you mean {near[0]}?" if near else "see `python -m studies`"
        raise SeaAnchorError(f"no experiment is called {name!r}", f"one of {', '.join(EXPERIMENTS)}", change)
    return EXPERIMENTS[name]


def reproduce(experiment: Experiment, bench: Bench, docs: Path | None) -> Path:
    """Run an experiment, or what is missing of it, and write its section."""
    bench.output.mkdir(parents=True, exist_ok=True)
    written = write_section(experiment, experiment.run(bench), bench, docs)
    if docs is not None:
        put_between(docs, "summary", summary(EXPERIMENTS.values(), docs))
    return written
