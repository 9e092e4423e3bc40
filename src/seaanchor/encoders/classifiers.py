"""Linear heads of a model: its own classifier, one that lies with it, one from a file, or a probe.

Legend: N images, C classes, D embedding dimension.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from seaanchor.data.types import Images, LabelledImages
from seaanchor.encoders.encoder import LoadedModel, Reference
from seaanchor.encoders.head_file import NAME, check_tokens, check_width, read_head, reads_tokens_of, tokens_read
from seaanchor.encoders.image_tables import clean_entry, describe
from seaanchor.errors import SeaAnchorError, note
from seaanchor.functional import logistic
from seaanchor.functional.logistic import fit_probe
from seaanchor.types import Head, NamedHead
from seaanchor.utils import disk_cache

KINDS = ("text", "classifier", "probe")
CHOICES = f"{', '.join(KINDS)}, or a file with a linear head"
STORED = "stored"
PROBES = "probes"  # a kind of entries


def kind_of(model: LoadedModel, asked: str | None) -> str:
    """Which head answers: `text`, `classifier`, `probe`, `stored` (the one that lies with the model) or `file`.

    Args:
        model: whose embeddings it reads.
        asked: `text`, `classifier`, `probe` or a file; by default the head that lies with the model, else texts, else
            the model's own classifier.

    Raises:
        SeaAnchorError: nothing is asked for and the model has none of these, or it lacks what is asked for.
    """
    if asked is None and model.stored_head is not None:
        return STORED
    if asked == "text" or (asked is None and model.encode_texts is not None):
        if model.encode_texts is None:
            raise SeaAnchorError(
                f"{model.name} has no text tower", f"another head: {_others(model)}", "choose one with --head"
            )
        return "text"
    if asked == "classifier" or (asked is None and model.classifier is not None):
        own_classifier(model)
        return "classifier"
    if asked is None:
        reason = f" ({model.no_classifier})" if model.no_classifier else ""
        raise SeaAnchorError(
            f"{model.name} has no text tower, no classifier of its own{reason} and no head beside it",
            "what turns embeddings into answers: --head probe, fitted on --train-data, or --head FILE",
            "choose one with --head",
        )
    return "probe" if asked == "probe" else "file"


def own_classifier(model: LoadedModel) -> NamedHead:
    """The model's own classifier.

    Raises:
        SeaAnchorError: it has none.
    """
    if model.classifier is None:
        reason = f": {model.no_classifier}" if model.no_classifier else ""
        raise SeaAnchorError(
            f"{model.name} has no classifier of its own{reason}",
            f"another head: {_others(model)}",
            "choose one with --head",
        )
    return model.classifier


def linear_head(model: LoadedModel, kind: str, asked: str | None, probe: Callable[[], NamedHead]) -> NamedHead | None:
    """The head of a kind that `kind_of` gave; None for texts, which depend on the class names.

    Args:
        model: whose embeddings it reads.
        kind: of the head.
        asked: the file, where it is one.
        probe: fits one.

    Raises:
        SeaAnchorError: the head cannot be read, or reads embeddings of another number of dimensions.
    """
    if kind == "text":
        return None
    if kind == "classifier":
        return own_classifier(model)
    if kind == STORED and model.stored_head is not None:
        named, of = model.stored_head, f"the head beside {model.name}"
    elif kind == "probe":
        named, of = probe(), "the probe"
    else:
        named, of = read_head(str(asked)), f"the head {asked}"
    check_width(named, model.encoder.dim, model.name, of)
    check_tokens(named, model.encoder, model.name, of)
    return named


def with_stored_head(model: LoadedModel, folder: Path | None = None) -> LoadedModel:
    """The model with the head that lies in its folder, by default the one it is named by, or in the run whose export
    that is. A head of other tokens is left out, and a note says so.

    Raises:
        SeaAnchorError: that head cannot be read, or reads embeddings of another number of dimensions.
    """
    file = stored_head_file(model.name, folder)
    if file is None:
        return model
    named = read_head(file)
    if not reads_tokens_of(named, model.encoder):
        note(f"the head {file} is left out: it reads tokens={named.tokens!r}, and so must the model for it to answer")
        return model
    check_width(named, model.encoder.dim, model.name, f"the head {file}")
    return replace(model, stored_head=named)


def stored_head_file(name: str, folder: Path | None = None) -> Path | None:
    """The head that lies with a model, None where there is none.

    Args:
        name: of the model.
        folder: where it lies; by default the one it is named by.
    """
    for prefix in ("timm:", "hf:", "local-dir:"):
        name = name.removeprefix(prefix)
    folder = folder or Path(name)
    if not folder.is_dir():
        return None
    places = [folder / NAME] + ([folder.parent / NAME] if (folder.parent / "config.yaml").is_file() else [])
    return next((place for place in places if place.is_file()), None)


def fit_probe_head(
    model: LoadedModel, images: Images, source: str, batch_size: int, workers: int, device: torch.device, seed: int
) -> NamedHead:
    """A linear probe of a model's clean embeddings: logistic regression, fitted once; from the cache where it is there.

    Args:
        model: whose embeddings; its encoder is put on the device.
        images: labelled training images.
        source: their name, for messages.
        batch_size, workers, device: how embeddings are computed.
        seed: of the choice of images that choose the penalty.

    Raises:
        SeaAnchorError: images without classes, no image that can be read, no class with two images.
    """
    if not isinstance(images, LabelledImages):
        raise SeaAnchorError(
            f"{source} has no class folders", "labelled images, to fit the probe on", "name others with --train-data"
        )
    reference = Reference(model.encoder).to(device)
    labels, count = torch.tensor(images.labels), len(images.class_names)

    def compute() -> disk_cache.Entry:
        entry = clean_entry(reference, model.family, images, batch_size, workers, device)
        read_N = entry["read"]
        if not bool(read_N.any()):
            raise SeaAnchorError(f"no image in {source} could be read", "readable images", "name others")
        weight_CD, bias_C = fit_probe(entry["embedding"][read_N].cpu(), labels[read_N], count, seed).on_raw()
        return {"weight": weight_CD, "bias": bias_C}

    def depends_on() -> list[object] | None:
        pixels = describe(reference.encoder, model.family, images)
        return None if pixels is None else [pixels, images.labels, count, seed, disk_cache.code(logistic)]

    found = disk_cache.get_or_compute(PROBES, depends_on, compute)
    head = Head(found["weight"], bias_C=found["bias"], unit=False, kind="probe")
    return NamedHead(head, images.class_names, tokens_read(model.encoder))


def _others(model: LoadedModel) -> str:
    there = [
        "text" if model.encode_texts is not None else "",
        "classifier" if model.classifier is not None else "",
        "probe, fitted on --train-data",
        "a file with a linear head",
    ]
    return ", ".join(filter(None, there))
