"""`seaanchor evaluate`: models and their references on data sets, as result files with their full protocol."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from seaanchor import __version__
from seaanchor.data.types import texts_of
from seaanchor.distributed.launch import open_group
from seaanchor.distributed.process_group import ProcessGroup
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.attacks import require_extra
from seaanchor.evaluation.compute import Result, Shelf, compute
from seaanchor.evaluation.protocol import FORMAT, Bench, Protocol
from seaanchor.evaluation.rows import Work, forget
from seaanchor.evaluation.sanity_checks import failed
from seaanchor.evaluation.subjects import (
    Subject,
    identity,
    listing,
    make_bench,
    open_source,
    open_subject,
    output_of,
    reference_of,
)
from seaanchor.profiling.memory_advice import evaluation_advice
from seaanchor.training.run_folder import environment
from seaanchor.utils.checkpoint import write_atomic
from seaanchor.utils.log import log
from seaanchor.utils.paths import portable


@dataclass(frozen=True)
class _Session:
    """How to run, which changes no result: images at a time, loading processes, device, processes, whether a result
    that is there is read; and what this run has found so far, by key."""

    batch_size: int
    workers: int
    device: torch.device
    group: ProcessGroup
    skip_existing: bool
    done: dict[str, Result | None] = field(default_factory=dict)


def evaluate(
    name: str, sources: Sequence[str], protocol: Protocol, output: Path | None, **settings: Any
) -> list[Result]:
    """Evaluate a model and its reference on every source; arguments and errors as for `evaluate_all`.

    Returns:
        One result a source, the reference's inside it.

    Raises:
        SeaAnchorError: as well, a result that failed a check (its file is written and says so).
    """
    results = evaluate_all([name], sources, protocol, output, **settings)
    require_sound(results)
    return results


def evaluate_all(
    names: Sequence[str],
    sources: Sequence[str],
    protocol: Protocol,
    output: Path | None,
    *,
    pretrained: str | None = None,
    reference: str | None = None,
    class_names: Path | None = None,
    batch_size: int = 100,
    workers: int = 0,
    device: str | None = None,
    skip_existing: bool = False,
) -> list[Result]:
    """Evaluate every model on every source, each beside its reference, which sees images of the model's size.

    Args:
        names: models, as `load_model` takes them.
        sources: labelled images, as `open_images` takes them, or folders of captioned ones.
        protocol: what to measure.
        output: folder of the result files; None: RUN/evaluation for a run's export, else runs/evaluation.
        pretrained: tag or weights file for bare names.
        reference: the untouched model behind all of them, where they do not tell.
        class_names: file that names the classes.
        batch_size, workers, device: how; they change no result but for rounding.
        skip_existing: read results that are there.

    Returns:
        Source by source, model by model, the reference's result inside the model's; empty in all processes but the
        first.

    Raises:
        SeaAnchorError: an unknown model, one named twice, a folder without labelled images, a class list that is too
            short, or images or a model that a suite cannot work with.
    """
    _distinct("model", names, names)
    _distinct("data set", sources, [str(Path(source).resolve()) for source in sources])
    require_extra(protocol.plans)
    with open_group() as group:
        session = _Session(batch_size, workers, _device(device, group), group, skip_existing)
        subjects = [open_subject(name, pretrained, reference, protocol, output) for name in names]
        opened = [open_source(source, class_names, protocol) for source in sources]
        rows = [
            [make_bench(s, source, *images, protocol, session.device) for s in subjects]
            for source, images in zip(sources, opened, strict=True)
        ]
        results = []
        for source, images, benches in zip(sources, opened, rows, strict=True):
            shelf = Shelf()
            for subject, bench in zip(subjects, benches, strict=True):
                beside = None
                if subject.reference is not None:
                    untouched = Subject(subject.reference, None, None, subject.output)
                    beside = _one(
                        untouched,
                        source,
                        make_bench(untouched, source, *images, protocol, session.device),
                        protocol,
                        session,
                        shelf,
                        None,
                    )
                results.append(_one(subject, source, bench, protocol, session, shelf, beside))
        return [result for result in results if result is not None]


def require_sound(results: Sequence[Result]) -> None:
    """Raise a SeaAnchorError if a result, or that of a reference, failed a check."""
    everything = [*results, *(result["reference"] for result in results if result["reference"])]
    bad = [
        f"{result['model']} on {result['dataset']}: {name}"
        for result in everything
        for name in failed(result["checks"])
    ]
    if bad:
        raise SeaAnchorError(
            f"self-check failed: {'; '.join(dict.fromkeys(bad))}",
            "a deterministic model in eval mode, and attacks that find what is there",
            "do not trust these result files, which say so too",
        )


def _distinct(what: str, given: Sequence[str], meant: Sequence[str]) -> None:
    if twice := sorted({name for name, same in zip(given, meant, strict=True) if list(meant).count(same) > 1}):
        raise SeaAnchorError(f"the {what} {', '.join(twice)} is named twice", f"every {what} once", "leave one out")


def _device(name: str | None, group: ProcessGroup) -> torch.device:
    torch.backends.cudnn.allow_tf32 = False  # success is judged in fp32
    default = f"cuda:{group.rank % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name or default).device
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        reason = str(error).splitlines()[0][:200]
        raise SeaAnchorError(
            f"device {name!r} cannot be used: {reason}", "cpu, cuda, cuda:1, mps ...", "correct --device"
        ) from error


def _one(
    subject: Subject,
    source: str,
    bench: Bench,
    protocol: Protocol,
    session: _Session,
    shelf: Shelf,
    reference: Result | None,
) -> Result | None:
    """The result of one model on one source, written to its file with the reference's inside it; None in all processes
    but the first."""
    described = describe(bench, source, protocol)
    key = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:12]
    stem = f"{_slug(portable(subject.model.name))}--{_slug(portable(source))}"
    file = next(
        iter(subject.output.glob(f"*--{key}.json")), subject.output / f"{stem}--{key}.json"
    )  # the key says it all, however it was named
    partial = file.with_name(f".{file.stem}.partial")
    if key in session.done:
        result = session.done[key]
    else:
        result = session.group.agree(_stored(file, stem) if session.skip_existing and session.group.first else None)
        if result is None:
            work = Work(session.batch_size, session.workers, session.device, session.group, partial)
            with evaluation_advice(
                bench.model.encoder, len(texts_of(bench.images)) or 1, session.batch_size, session.device
            ):
                found = compute(bench, source, protocol, work, shelf)
            result = (
                None
                if found is None
                else portable(json.loads(json.dumps(found | {"protocol": described, "environment": environment()})))
            )
        session.done[key] = result
    if not session.group.first or result is None:
        return None
    result = result | {"reference": reference}
    write_atomic(file, json.dumps(result, indent=1))
    forget(partial)
    return result


def _stored(file: Path, stem: str) -> Result | None:
    """A result that is there already; one of another format is never read, and said to be computed anew."""
    for other in sorted({*file.parent.glob(f"{stem}--*.json"), *([file] if file.exists() else [])}):
        try:
            found = json.loads(other.read_text())
            version = found.get("format")
        except (OSError, ValueError, AttributeError):
            found, version = None, "unreadable"
        if version == FORMAT and other == file:
            return found
        if version != FORMAT:
            log.info(f"{other} is of format {version}, results are now of format {FORMAT}: computed anew")
    return None


def describe(bench: Bench, source: str, protocol: Protocol) -> dict[str, Any]:
    """Everything that decides the numbers; two results may only be compared where this agrees but for the model."""
    asked = json.loads(json.dumps(asdict(protocol)))
    return asked | {
        "seaanchor": __version__,
        "model": bench.model.name,
        "weights": fingerprint(bench.model.encoder),
        "network": identity(bench.model),
        "reference": None if bench.reference is None else identity(bench.reference),
        "rho": bench.rho,
        "image_size": bench.model.encoder.image_size,
        "dataset": source,
        "images": listing(bench.images, bench.captions),
        "training_images": None if bench.training is None else listing(bench.training),
        "class_names": list(texts_of(bench.images)),
        "templates": list(bench.templates),
    }


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-." else "_" for c in name.strip("/"))[-60:]


__all__ = ["Protocol", "describe", "evaluate", "evaluate_all", "output_of", "reference_of", "require_sound"]
