"""What a run says before its first step and after its last one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from seaanchor.config.assemble import unused_settings
from seaanchor.config.schema import RunConfig
from seaanchor.data.types import Images, PreferenceImages, labels_of, texts_of
from seaanchor.training.divergence import START, divergence_text, rise_text
from seaanchor.training.progress import duration
from seaanchor.training.run_folder import RunFolder
from seaanchor.training.setup import Setup, batch_split
from seaanchor.utils.text import aligned

UNMET = 0.5  # share of images above ρ at the end of a run beyond which its constraint did not come to hold


def header(setup: Setup, world: int, step: int = 0) -> list[str]:
    """Model, data, method, device, steps and output folder of a run, a line each.

    Args:
        setup: of the run.
        world: number of processes.
        step: steps that are done already.
    """
    config, encoder = setup.config, setup.model.encoder
    pretrained = f" ({config.pretrained})" if config.pretrained and setup.given.model is None else ""
    count = len(setup.images.paths)
    images = min(count, batch_split(config, count, world).global_batch_size)
    device = str(setup.device) if world == 1 else f"{world} x {setup.device.type}"
    attack, unused = config.attack_precision, unused_settings(config)
    rows = {"unused": f"{', '.join(unused)}: no part of this run takes them"} if unused else {}
    return aligned(
        {
            "model": f"{setup.model.name}{pretrained}, {encoder.image_size} px",
            "data": f"{config.train_data}: {counted(setup.images)}",
            "method": _method(config),
            "device": f"{device}, {config.precision}" + ("" if attack == config.precision else f", attack in {attack}"),
            "steps": f"{setup.total_steps:,} of {images:,} images" + (f", {step:,} of them done" if step else ""),
            "output": str(config.output),
        }
        | rows
    )


def counted(images: Images) -> str:
    """How many images, and of how many classes or with how many texts.

    >>> from seaanchor.data.types import UnlabelledImages
    >>> counted(UnlabelledImages(Path("x"), (Path("x/1.png"), Path("x/2.png"))))
    '2 images'
    """
    found = f"{len(images.paths):,} images"
    if isinstance(images, PreferenceImages):
        return f"{found} with preferences over {len(images.texts):,} texts"
    return found if labels_of(images) is None else f"{found} of {len(texts_of(images)):,} classes"


def _method(config: RunConfig) -> str:
    perturbation = config.perturbation
    radius = f" at ε = {perturbation.epsilon} ({perturbation.norm})" if "pgd" in perturbation.kind else ""
    bound = f" with ρ = {config.anchor.rho:g}" if config.anchor.kind == "lagrangian" else ""
    parts = [config.objective.kind, f"anchor {config.anchor.kind}{bound}", f"perturbation {perturbation.kind}{radius}"]
    return ", ".join([*parts, f"adapter {config.adapter.kind}"])


def closing(folder: Path) -> list[str]:
    """What a finished run came to by its last log line, and its exports, a line each; nothing without a log."""
    run = RunFolder(folder)
    logged = run.rows()
    rows = [row for row in logged if "adversarial_loss" in row]
    if not rows:
        return []
    last = rows[-1]
    found = f"{last['step']:,} steps in {duration(sum(row.get('seconds', 0) for row in rows))}, "
    start = next((row[START] for row in logged if START in row), rows[0]["adversarial_loss"])
    found += f"loss {start:.3f} to {last['adversarial_loss']:.3f}"
    if "clean_distance" in last:
        found += f", clean distance {last['clean_distance']:.3f}"
    if "multiplier" in last:
        found += f", {last['violation_rate']:.0%} above ρ {last['rho']:g}"
    exports = [str(path) for path in (run.export, folder / "export-averaged") if path.is_dir()]
    said = {"trained": found, "export": ", ".join(exports), "log": str(run.metrics)}
    if diverged := divergence_text(logged):
        return aligned({"DIVERGED": f"do not rely on the export: {diverged}"} | said)
    told = {"loss": rise_text(logged), "bound": _unmet(rows)}
    return aligned(said | {name: text for name, text in told.items() if text})


def _unmet(rows: Sequence[Mapping[str, Any]]) -> str:
    """That most images ended above ρ, over the last fifth of a log with multipliers; empty where they did not."""
    last = [row for row in rows[-max(1, len(rows) // 5) :] if "multiplier" in row]
    if not last or (broken := fmean(row["violation_rate"] for row in last)) <= UNMET:
        return ""
    return (
        f"ρ was not reached: {broken:.0%} of the images were above it at the end, with λ at "
        f"{last[-1]['multiplier']:.1f}. Take more steps, a lower --lr or a larger --anchor.rho"
    )
