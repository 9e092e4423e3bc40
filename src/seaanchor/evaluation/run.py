"""`seaanchor evaluate`: a model and its reference on data sets, as result files with their full protocol."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from seaanchor.checkpoint import write_atomic
from seaanchor.config import read_yaml
from seaanchor.data.folder import FolderDataset, ImageList, SkipLog, batches, subset
from seaanchor.data.sources import open_images
from seaanchor.encoders.encoder import LoadedModel, fingerprint
from seaanchor.encoders.head import DEFAULT_TEMPLATES, build_head
from seaanchor.encoders.load import ZOO, load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.zeroshot import AttackPlan, Outcomes, _to, classifier, evaluate_stream, self_checks
from seaanchor.parts import frozen
from seaanchor.runs import environment

FORMAT = 1


@dataclass(frozen=True)
class Protocol:
    """What an accuracy depends on besides the model and the images."""

    plans: tuple[AttackPlan, ...]
    templates: tuple[str, ...] = DEFAULT_TEMPLATES
    samples: int | None = None
    seed: int = 0
    image_size: int | None = None


def interval(correct: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """95 % Wilson score interval of a proportion (Wilson 1927)."""
    if total == 0:
        return 0.0, 1.0
    p, zz = correct / total, z * z
    middle = (p + zz / (2 * total)) / (1 + zz / total)
    half = z / (1 + zz / total) * math.sqrt(p * (1 - p) / total + zz / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)


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
    """Evaluate a model and its reference on every source; returns one result per source, the reference's inside it.

    Raises:
        SeaAnchorError: an unknown model, a folder without labelled images, a class list that is too short.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = load_model(name, pretrained, protocol.image_size)
    anchor_name, anchor_pretrained = (reference, pretrained) if reference else reference_of(name)
    anchor = load_model(anchor_name, anchor_pretrained, protocol.image_size) if anchor_name else None
    results = []
    for source in sources:
        images = labelled(source, class_names, protocol)
        beside = _one(anchor, source, images, protocol, output, batch_size, workers, where, skip_existing) if anchor else None
        result = _one(model, source, images, protocol, output, batch_size, workers, where, skip_existing)
        results.append(result | {"reference": beside})
    return results


def reference_of(name: str) -> tuple[str | None, str | None]:
    """The untouched model behind a run's export or an embedded variant: (name, pretrained), or (None, None) if it is its own."""
    for folder in (Path(name), ZOO / name):
        file = folder / "open_clip_config.json"
        if file.is_file() and (base := json.loads(file.read_text()).get("seaanchor", {}).get("text_tower_of")):
            return base, None
    config = Path(name).parent / "config.yaml"
    if config.is_file():
        settings = read_yaml(config)
        return settings["model"], settings.get("pretrained")
    return None, None


def labelled(source: str, class_names: Path | None, protocol: Protocol) -> ImageList:
    """The labelled images of a source, thinned out to the protocol's number."""
    images = open_images(source, class_names, split="test")
    if images.labels is None:
        raise SeaAnchorError(f"{source} has no class folders", "labelled images: one folder a class", "sort the images into class folders")
    return images if protocol.samples is None else subset(images, protocol.samples, protocol.seed)


def _one(
    model: LoadedModel, source: str, images: ImageList, protocol: Protocol, output: Path, batch_size: int, workers: int, device: torch.device, skip: bool
) -> dict[str, Any]:
    described = describe(model, source, images, protocol)
    key = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:12]
    file = output / f"{_slug(model.name)}--{_slug(source)}--{key}.json"
    if skip and file.is_file():
        return json.loads(file.read_text())
    logits = classifier(model, build_head(model, images.class_names or (), protocol.templates), device)
    skip_log = SkipLog(images)
    dataset = FolderDataset(images, model.encoder.image_size)

    def stream(order: Sequence[int] | None):
        return (_to(b, device) for b in batches(dataset, batch_size, workers=workers, order=order, skip_log=skip_log))

    with frozen(model.encoder):
        outcomes = evaluate_stream(logits, stream(None), protocol.plans)
        first = next(stream(range(min(32, len(images.paths)))))
        checks = self_checks(logits, first, protocol.plans)
    result = {"format": FORMAT, **summarise(model, source, images, outcomes), "checks": checks, "skipped": skip_log.summary()}
    result |= {"protocol": described, "environment": environment()}
    write_atomic(file, json.dumps(result, indent=1))
    if failed := [name for name, passed in checks.items() if not passed]:
        raise SeaAnchorError(f"self-check failed: {'; '.join(failed)}", "a deterministic model in eval mode", f"do not trust {file}; report the model")
    return result


def describe(model: LoadedModel, source: str, images: ImageList, protocol: Protocol) -> dict[str, Any]:
    """Everything that decides the numbers; two results may only be compared where this agrees but for the model."""
    listing = hashlib.sha256("\n".join(f"{p.relative_to(images.root)} {label}" for p, label in zip(images.paths, images.labels or (), strict=False)).encode())
    return {
        "model": model.name, "weights": fingerprint(model.encoder), "image_size": model.encoder.image_size, "dataset": source,
        "images": listing.hexdigest()[:16], "class_names": list(images.class_names or ()), **json.loads(json.dumps(asdict(protocol))),
    }  # fmt: skip


def summarise(model: LoadedModel, source: str, images: ImageList, outcomes: Outcomes) -> dict[str, Any]:
    """Accuracies with n and a 95 % interval, and what a constant predictor would get on the same images."""

    def accuracy(correct_N: torch.Tensor) -> dict[str, float]:
        right, total = int(correct_N.sum()), len(correct_N)
        low, high = interval(right, total)
        return {"accuracy": right / total, "low": low, "high": high, "n": total}

    constant = outcomes.label_N.bincount().max().item() / len(outcomes.label_N)
    clean = accuracy(outcomes.clean_N)
    return {
        "dataset": source, "model": model.name, "pretrained": fingerprint(model.encoder), "task": "zeroshot_classification", "language": "en",
        "metrics": {"acc1": clean["accuracy"]}, "clean": clean, "constant_predictor": constant,
        "robust": [{"attack": name, "epsilon": epsilon} | accuracy(correct_N) for (name, epsilon), correct_N in outcomes.attacked.items()],
    }  # fmt: skip


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-." else "_" for c in name.strip("/"))[-60:]
