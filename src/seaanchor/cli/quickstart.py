"""`seaanchor quickstart`: harden the embedded model by FARE and LORE, align it against drawn words, steer; offline."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from seaanchor.config.recipes import dpo_linear_lite, dpo_lite, fare_quick, lore_quick
from seaanchor.config.schema import RunConfig
from seaanchor.encoders.embedded import embedded_models
from seaanchor.errors import SeaAnchorError
from seaanchor.training.run_folder import RunFolder
from seaanchor.utils.json_text import to_json
from seaanchor.utils.staging import remove

if TYPE_CHECKING:
    from seaanchor.evaluation.results import EvaluationResult
    from seaanchor.evaluation.statistics import Share

BASE = "seaanchor-lite"
DATA = "photos"
EPSILON = 1 / 255
SAMPLES = 100  # of the test photos
EPOCHS, DRAWINGS = 1, 2  # passes of DPO; drawings of each photo for the slider
MARK = ".seaanchor-quickstart"


@dataclass(frozen=True)
class Entry:
    """A line of the table: what it is called, what to evaluate, its family and whether it is a full-length run."""

    label: str
    model: str
    family: str
    long: bool


def quickstart(output: Path, seed: int = 0) -> Path:
    """Harden, align and steer the embedded model, evaluate what came out beside the untouched model and, where
    they ship, long runs, and write tables and pictures.

    Args:
        output: folder for everything; an earlier quickstart in it is replaced.
        seed: of every run.

    Returns:
        The picture of the hardened models.

    Raises:
        SeaAnchorError: the folder holds something else.
    """
    started = time.monotonic()
    _fresh(output)
    picture = _harden(output, seed)
    _align(output, seed)
    page = _report(output)
    print(
        f"\ntook {time.monotonic() - started:.0f} s; open {page} in a browser; {output} also holds "
        f"results.md, {picture.name} and the runs\n"
    )
    print(
        "Next, on your own model and images (labels are not needed):\n"
        "  seaanchor train lore --model ViT-B-32 --pretrained openai --train-data FOLDER --output runs/mine --dry-run"
    )
    return picture


def _harden(output: Path, seed: int) -> Path:
    """FARE and LORE on the same photos and attack."""
    fare, lore = fare_quick(), lore_quick()
    recipes = {
        "fare": replace(fare, anchor=replace(fare.anchor, rho=lore.anchor.rho)),
        "lore": lore,
    }  # FARE's drift is counted against LORE's bound
    for name, recipe in recipes.items():
        print(
            f"\n{name.upper()}: {recipe.max_steps} batches of {recipe.batch_size} photos, ε = "
            f"{recipe.perturbation.epsilon}",
            flush=True,
        )
        _train(replace(recipe, model=BASE, train_data=f"{DATA}/train", output=output / name, seed=seed))
    entries = (
        Entry("untouched", BASE, "base", True),
        *(Entry(f"{name.upper()}, this run", str(output / name / "export"), name, False) for name in recipes),
        *(
            Entry(f"{name.upper()}, long run", model, name, True)
            for name in recipes
            if (model := f"{BASE}-{name}") in embedded_models()
        ),
    )
    results = [_evaluate(entry, output, seed) for entry in entries]
    _table(entries, results, output)
    return _picture(entries, results, recipes, output)


def _align(output: Path, seed: int) -> None:
    """DPO against drawn words, on the tower and on one linear map; tested with other words and other fonts."""
    from seaanchor.evaluation.run import Protocol, evaluate
    from seaanchor.evaluation.typographic_plan import TypographicPlan
    from seaanchor.report.table import print_results
    from seaanchor.steering.curve import steering_curve

    recipe = replace(dpo_lite(), epochs=EPOCHS, average="none")
    print(f"\nDPO: {recipe.epochs} passes over {DATA}, a wrong word drawn on each photo", flush=True)
    _train(replace(recipe, model=BASE, output=output / "dpo", seed=seed))
    plan = TypographicPlan("odd", "unseen", (recipe.perturbation.sizes[0], recipe.perturbation.sizes[1]), seed)
    protocol = Protocol((), samples=SAMPLES, seed=seed, suites=("typographic",), typographic=plan)
    models = {"DPO, this run": str(output / "dpo" / "export")}
    if f"{BASE}-dpo" in embedded_models():
        models["DPO, long run"] = f"{BASE}-dpo"
    found = {}
    for label, model in models.items():
        (found[label],) = evaluate(model, [f"{DATA}/test"], protocol, output / "evaluation", skip_existing=True)
    print_results(list(found.values()))
    with (output / "results.md").open("a") as file:
        file.write("\n" + typographic_markdown(found))
    print("DPO on one linear map, and what its slider t does", flush=True)
    slider = dpo_linear_lite()
    slider = replace(slider, perturbation=replace(slider.perturbation, variants=DRAWINGS))
    _train(replace(slider, model=BASE, output=output / "steer", seed=seed, log_every=200))
    steering_curve(output / "steer", f"{DATA}/test", words="odd", sizes=plan.sizes, seed=seed, samples=2 * SAMPLES)


def _report(output: Path) -> Path:
    """All runs on one page."""
    from seaanchor.report.page import write_report

    return write_report(
        [output / name for name in ("fare", "lore", "dpo", "steer", "evaluation")], output / "report.html", gallery=4
    )


def typographic_markdown(results: "Mapping[str, EvaluationResult]") -> str:
    """A table of models, by label, beside their common reference under drawn words."""
    from seaanchor.report.table import SUITE_ROWS

    first = next(iter(results.values()))
    shown = {"untouched": first.reference} | dict(results)
    suites = {label: None if result is None else result.suites.typographic for label, result in shown.items()}
    if None in suites.values():
        raise ValueError("results with the suite `typographic`, beside their reference, are needed")
    rows = []
    for key, name in {"clean": "clean", **SUITE_ROWS}.items():
        found = [getattr(suite, key, None) for suite in suites.values()]
        cells = [share for share in found if share is not None]
        if len(cells) == len(found):
            rows.append(f"| {name} | {' | '.join(f'{share.accuracy:.1%}' for share in cells)} |")
    lines = [
        "Words in fonts that no training saw, drawn on the same photos:\n",
        f"|  | {' | '.join(suites)} |",
        "|" + " --- |" * (len(suites) + 1),
    ]
    return "\n".join([*lines, *rows]) + "\n"


def _fresh(output: Path) -> None:
    if output.exists() and any(output.iterdir()):
        if not (output / MARK).exists():
            raise SeaAnchorError(
                f"{output} holds something that is no quickstart", "a new or empty folder", "name another --output"
            )
        for path in output.iterdir():
            if path.name != MARK:  # which says, until the end, that all of this may go
                remove(path)
    output.mkdir(parents=True, exist_ok=True)
    (output / MARK).touch()


def _train(config: RunConfig) -> None:
    from seaanchor.api import train_from_config as train

    train(config)


def _evaluate(entry: Entry, output: Path, seed: int) -> "EvaluationResult":
    from seaanchor.evaluation.run import Protocol, evaluate
    from seaanchor.evaluation.zeroshot import AttackPlan

    print(f"evaluating: {entry.label}", flush=True)
    protocol = Protocol((AttackPlan("apgd-ce", "linf", (EPSILON,), 10, seed),), samples=SAMPLES, seed=seed)
    (result,) = evaluate(entry.model, [f"{DATA}/test"], protocol, output / "evaluation", skip_existing=True)
    return result


def _clean(result: "EvaluationResult") -> "Share":
    if result.clean is None:
        raise ValueError(f"no clean accuracy of {result.model}")
    return result.clean


def _robust(result: "EvaluationResult") -> "Share":
    return result.robust["apgd-ce", EPSILON]


def _table(entries: tuple[Entry, ...], results: "list[EvaluationResult]", output: Path) -> None:
    from seaanchor.evaluation.result_files import encode

    n, constant = _clean(results[0]).n, results[0].constant_predictor
    title = f"{DATA} test, {n} photos of 40 classes; a constant answer gets {constant:.1%}"
    table = Table(title=title)
    header = ("", "clean", "95 % interval", "APGD-CE, ε = 1/255", "95 % interval")
    lines = [f"{title}; APGD-CE with 10 steps.\n", f"| {' | '.join(header)} |", "|" + " --- |" * len(header)]
    for column in header:
        table.add_column(column, justify="right" if column else "left")
    for entry, result in zip(entries, results, strict=True):
        cells = [entry.label]
        for share in (_clean(result), _robust(result)):
            cells += [f"{share.accuracy:.1%}", f"{share.low:.1%} to {share.high:.1%}"]
        table.add_row(*cells)
        lines.append(f"| {' | '.join(cells)} |")
    Console().print(table)
    (output / "results.md").write_text("\n".join(lines) + "\n")
    (output / "results.json").write_text(
        to_json([{"label": e.label} | encode(r) for e, r in zip(entries, results, strict=True)], indent=1)
    )


def _picture(
    entries: tuple[Entry, ...], results: "list[EvaluationResult]", recipes: dict[str, RunConfig], output: Path
) -> Path:
    from seaanchor.plotting.figures import Point, quickstart_picture

    points = [
        Point(e.label, e.family, _clean(r).accuracy, _robust(r).accuracy, e.long)
        for e, r in zip(entries, results, strict=True)
    ]
    runs = {name: [row for row in RunFolder(output / name).rows() if "rho" in row] for name in recipes}
    picture = output / "quickstart.png"
    quickstart_picture(points, runs, "1/255", recipes["lore"].anchor.rho, picture)
    return picture
