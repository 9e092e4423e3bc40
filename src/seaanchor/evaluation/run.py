"""`seaanchor evaluate`: a model and its reference on data sets, as result files with their full protocol."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from seaanchor.checkpoint import write_atomic
from seaanchor.config import read_yaml
from seaanchor.data.folder import FolderDataset, ImageList, SkipLog, batches
from seaanchor.encoders.encoder import LoadedModel, fingerprint
from seaanchor.encoders.head import DEFAULT_TEMPLATES, build_head
from seaanchor.encoders.load import ZOO, embedded_models, load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.intervals import proportion
from seaanchor.evaluation.suites import Bench, run_suite
from seaanchor.evaluation.typographic import TypographicPlan
from seaanchor.evaluation.zeroshot import AttackPlan, Outcomes, _to, classifier, evaluate_stream, fallback, labelled, self_checks
from seaanchor.parts import Batch, frozen
from seaanchor.runs import environment

FORMAT = 1
CHECKED = 32  # images the self-checks run on


@dataclass(frozen=True)
class Protocol:
    """What an accuracy depends on besides the model and the images."""

    plans: tuple[AttackPlan, ...]
    templates: tuple[str, ...] = DEFAULT_TEMPLATES
    samples: int | None = None
    seed: int = 0
    image_size: int | None = None
    suites: tuple[str, ...] = ()
    typographic: TypographicPlan = TypographicPlan()


@dataclass(frozen=True)
class _Run:
    """How to run, which changes no result: where the files go, images at a time, loading processes, device, and whether a result
    that is already there is read."""

    output: Path
    batch_size: int
    workers: int
    device: torch.device
    skip_existing: bool


def evaluate(
    name: str,
    sources: Sequence[str],
    protocol: Protocol,
    output: Path,
    *,
    pretrained: str | None = None,
    reference: str | None = None,
    class_names: Path | None = None,
    batch_size: int = 100,
    workers: int = 0,
    device: str | None = None,
    skip_existing: bool = False,
) -> list[dict[str, Any]]:
    """Evaluate a model and its reference on every source; returns one result per source, the reference's inside it. The reference
    sees images of the model's size.

    Raises:
        SeaAnchorError: an unknown model, a folder without labelled images, a class list that is too short, or a model that fails
            its self-checks (its result file is written and says so).
    """
    run = _Run(output, batch_size, workers, _device(device), skip_existing)
    model = load_model(name, pretrained, protocol.image_size)
    anchor_name, anchor_pretrained = (reference, pretrained) if reference else reference_of(name)
    anchor = load_model(anchor_name, anchor_pretrained, model.encoder.image_size) if anchor_name else None
    if anchor is None and "drift" in protocol.suites:
        raise SeaAnchorError(f"the reference of {name} is not known", "the untouched model, to measure drift from", "name it with --reference")
    results = []
    for source in sources:
        images = labelled(source, class_names, protocol.samples, protocol.seed)
        beside = _one(anchor, source, images, protocol, run, None, None) if anchor else None
        results.append(_one(model, source, images, protocol, run, beside, anchor))
    return results


def _device(name: str | None) -> torch.device:
    torch.backends.cudnn.allow_tf32 = False  # success is judged in fp32
    try:
        return torch.empty(0, device=name or ("cuda" if torch.cuda.is_available() else "cpu")).device
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        reason = str(error).splitlines()[0][:200]
        raise SeaAnchorError(f"device {name!r} cannot be used: {reason}", "cpu, cuda, cuda:1, mps ...", "correct --device") from error


def reference_of(name: str) -> tuple[str | None, str | None]:
    """The untouched model behind a run's export or an embedded variant: (name, pretrained), or (None, None) if it is its own."""
    path = Path(name.removeprefix("timm:").removeprefix("hf:").removeprefix("local-dir:"))
    for folder in (path, ZOO / name):
        file = folder / "open_clip_config.json"
        if file.is_file() and (base := json.loads(file.read_text()).get("seaanchor", {}).get("text_tower_of")):
            return (base if base in embedded_models() else str(folder.parent / base)), None
    config = path.parent / "config.yaml"
    if path.is_dir() and config.is_file():
        settings = read_yaml(config)
        return settings.get("model"), settings.get("pretrained")
    return None, None


def _one(
    model: LoadedModel, source: str, images: ImageList, protocol: Protocol, run: _Run, reference: dict[str, Any] | None, anchor: LoadedModel | None
) -> dict[str, Any]:
    """The result of one model on one source, written to its file with the reference's inside it."""
    described = describe(model, source, images, protocol)
    if anchor is not None and "drift" in protocol.suites:
        described["reference"] = fingerprint(anchor.encoder)
    key = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:12]
    file = run.output / f"{_slug(model.name)}--{_slug(source)}--{key}.json"
    if run.skip_existing and file.is_file():
        result = json.loads(file.read_text())
    else:
        result = _compute(model, source, images, protocol, run, anchor) | {"protocol": described, "environment": environment()}
    result["reference"] = reference
    write_atomic(file, json.dumps(result, indent=1))
    if failed := [name for name, passed in result["checks"].items() if not passed]:
        raise SeaAnchorError(f"self-check failed: {'; '.join(failed)}", "a deterministic model in eval mode", f"do not trust {file}; report the model")
    return result


def _compute(model: LoadedModel, source: str, images: ImageList, protocol: Protocol, run: _Run, anchor: LoadedModel | None) -> dict[str, Any]:
    logits = classifier(model, build_head(model, images.class_names or (), protocol.templates), run.device)
    skip_log = SkipLog(images)
    dataset = FolderDataset(images, model.encoder.image_size)

    def stream(order: Sequence[int] | None, batch_size: int, workers: int) -> Iterator[Batch]:
        return (_to(b, run.device) for b in batches(dataset, batch_size, workers=workers, order=order, skip_log=skip_log))

    with frozen(model.encoder):
        outcomes = evaluate_stream(logits, stream(None, run.batch_size, run.workers), protocol.plans)
        readable = outcomes.index_N[:CHECKED].tolist()
        checks = self_checks(logits, next(stream(readable, CHECKED, 0)), protocol.plans)
        bench = Bench(model, anchor, logits, images, lambda: stream(None, run.batch_size, run.workers), protocol.typographic, protocol.templates, run.device)
        suites = {name: run_suite(name, bench) for name in protocol.suites}
    notes = [note for plan in protocol.plans if (note := fallback(plan, len(images.class_names or ())))]
    return {"format": FORMAT, **summarise(model, source, outcomes), "suites": suites, "notes": notes, "checks": checks, "skipped": skip_log.summary()}


def describe(model: LoadedModel, source: str, images: ImageList, protocol: Protocol) -> dict[str, Any]:
    """Everything that decides the numbers; two results may only be compared where this agrees but for the model."""
    rows = zip(images.paths, images.labels or (), strict=True)
    listing = "\n".join(f"{path.relative_to(images.root)} {path.stat().st_size if path.is_file() else 'missing'} {label}" for path, label in rows)
    asked = json.loads(json.dumps(asdict(protocol)))
    return asked | {
        "model": model.name, "weights": fingerprint(model.encoder), "image_size": model.encoder.image_size, "dataset": source,
        "images": hashlib.sha256(listing.encode()).hexdigest()[:16], "class_names": list(images.class_names or ()),
    }  # fmt: skip


def summarise(model: LoadedModel, source: str, outcomes: Outcomes) -> dict[str, Any]:
    """Accuracies with n and a 95 % interval, and what a constant predictor would get on the same images; the first keys are those of
    CLIP_benchmark's result files."""

    label_N = outcomes.label_N.cpu()
    count_C = label_N.bincount()
    recall_C = label_N.bincount(weights=outcomes.clean_N.cpu().double())[count_C > 0] / count_C[count_C > 0]
    clean = proportion(outcomes.clean_N)
    metrics = {"acc1": clean["accuracy"], "acc5": outcomes.top5_N.float().mean().item(), "mean_per_class_recall": recall_C.mean().item()}
    return {
        "dataset": source, "model": model.name, "pretrained": fingerprint(model.encoder), "task": "zeroshot_classification",
        "metrics": metrics, "language": "en", "clean": clean, "constant_predictor": count_C.max().item() / len(label_N),
        "robust": [{"attack": name, "epsilon": epsilon} | proportion(correct_N) for (name, epsilon), correct_N in outcomes.attacked.items()],
    }  # fmt: skip


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-." else "_" for c in name.strip("/"))[-60:]
