"""The models of a gallery, loaded as they were evaluated: a model of the page, and its untouched reference."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from seaanchor.attacks.classification import Logits
from seaanchor.data.preprocessing import Preprocessing
from seaanchor.encoders.classifiers import own_classifier
from seaanchor.encoders.embedded import embedded_models
from seaanchor.encoders.encoder import LoadedModel, with_tokens
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.encoders.head_file import head_digest, read_head
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.load import load_model
from seaanchor.encoders.model_paths import folder_of
from seaanchor.encoders.preprocess_option import input_settings, with_preprocess
from seaanchor.encoders.pretrained import is_weights_file, split_entry, split_pretrained
from seaanchor.encoders.timm import on_hub
from seaanchor.encoders.tokens import Tokens
from seaanchor.encoders.weight_files import weights_digest
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.results import EvaluationResult, ProtocolRecord
from seaanchor.report.allowed import Allowed, check_allowed, exports_of
from seaanchor.report.runs import Run
from seaanchor.report.sources import Entry, ResultFile
from seaanchor.training.start import load_start
from seaanchor.types import NamedHead
from seaanchor.utils.paths import expanded, portable

PREFIXES = ("timm:local-dir:", "timm:", "hf:", "local-dir:")
UNTOUCHED = "untouched"


@dataclass(frozen=True)
class Member:
    """A model of a gallery.

    Attributes:
        label: what it is called on the page.
        number: its place on the page, which decides its colour; None for an untouched model.
        encoder: its image tower.
        logits: from pixels (B, C, H, W) in [0, 1].
        how: its preprocessing.
        side: of its input, in pixels.
        answers: its linear head, None where texts are its answers.
    """

    label: str
    number: int | None
    encoder: nn.Module
    logits: Logits
    how: Preprocessing
    side: int
    answers: NamedHead | None = None


def model_member(entry: Entry, number: int, file: ResultFile, device: torch.device, allowed: Allowed) -> Member:
    """The model of an entry: an export in its run's folder, which may have moved, an embedded model, or one that the
    user allows.

    Raises:
        SeaAnchorError: it or its head is gone, is another one by now, or may not be loaded.
    """
    result = file.result
    model = _local(result, entry.run, allowed)
    return _member(entry.label, number, _as_evaluated(model, result), result, file.path.parent, device)


def reference_member(entry: Entry, file: ResultFile, device: torch.device, allowed: Allowed) -> Member | None:
    """The untouched model that a result stands beside; None where it stands alone.

    Raises:
        SeaAnchorError: it cannot be loaded, is another one by now, or may not be loaded.
    """
    result = file.result.reference
    if result is None:
        return None
    bare = not _place(result.model).is_dir() and result.model not in embedded_models()
    if bare and entry.run is not None:
        _check_start(entry.run, allowed)
        model = load_start(entry.run.folder, result.protocol.image_size)
        model = with_tokens(model, cast(Tokens | None, result.protocol.tokens))
    else:
        model = _local(result, None, allowed)
    return _member(UNTOUCHED, None, _as_evaluated(model, result), result, file.path.parent, device)


def _member(
    label: str, number: int | None, model: LoadedModel, result: EvaluationResult, folder: Path, device: torch.device
) -> Member:
    protocol = result.protocol
    named = _linear_head(model, protocol, folder)
    head = build_head(model, protocol.class_names, protocol.templates) if named is None else named.head
    encoder, on_device = model.encoder.to(device).eval(), head.to(device)

    def logits(pixels_BCHW: Tensor) -> Tensor:
        return on_device(encoder(pixels_BCHW).float())

    return Member(label, number, encoder, logits, encoder.preprocessing, encoder.image_size, named)


def _linear_head(model: LoadedModel, protocol: ProtocolRecord, folder: Path) -> NamedHead | None:
    """The head that a result was found with: the model's own classifier, or the copy beside the result; None for texts.

    Raises:
        SeaAnchorError: it is gone, or is another one by now.
    """
    record = protocol.head
    if record.kind == "text":
        return None
    named = own_classifier(model) if record.file is None else read_head(folder / Path(record.file).name)
    if head_digest(named) != record.digest:
        raise SeaAnchorError(f"the head of {portable(model.name)} has changed since it was evaluated", "", "")
    return named


def _local(result: EvaluationResult, run: Run | None, allowed: Allowed) -> LoadedModel:
    """An embedded model, the export of a run, or a folder that is allowed; its files of weights are compared before
    they are loaded."""
    name, size, tokens = result.model, result.protocol.image_size, cast(Tokens | None, result.protocol.tokens)
    if name in embedded_models():
        return load_model(name, None, size, tokens)
    place = _place(name) if run is None else run.folder / _place(name).name
    if not place.is_dir():
        gone = "is gone" if run is not None else "is no folder here, and its weights are not known without its run"
        raise SeaAnchorError(f"the model {portable(str(place)) if run else portable(name)} {gone}", "", "")
    check_allowed(str(place), [place], allowed | exports_of([] if run is None else [run]))
    if result.files is not None and weights_digest(place) != result.files:
        raise _changed(name)
    return load_model(f"{_prefix(name)}{place}", None, size, tokens)


def _check_start(run: Run, allowed: Allowed) -> None:
    """Raise a SeaAnchorError where a run started from a folder or a file that lies outside it and is not allowed, or
    from weights that have an address on the web alone."""
    name, pretrained = expanded(str(run.config.get("model", ""))), run.config.get("pretrained")
    asked, folder = split_pretrained(pretrained), folder_of(name)
    base = None if asked.base is None else expanded(asked.base)
    files = [base] if base is not None and is_weights_file(base) else []
    files += [] if asked.image_tower is None else [expanded(asked.image_tower)]
    places = [split_entry(file)[0] for file in files] + ([] if folder is None else [folder])
    check_allowed(f"{name} ({pretrained})" if pretrained else name, places, allowed)
    if name.startswith("timm:") and not places and base != "none" and not on_hub(name.removeprefix("timm:")):
        raise SeaAnchorError(f"the model {name} would be fetched", "", "")


def _prefix(name: str) -> str:
    return next((prefix for prefix in PREFIXES if name.startswith(prefix)), "")


def _place(name: str) -> Path:
    return Path(expanded(name.removeprefix(_prefix(name))))


def _as_evaluated(model: LoadedModel, result: EvaluationResult) -> LoadedModel:
    """The model with the preprocessing of its result.

    Raises:
        SeaAnchorError: its weights are not those that were evaluated.
    """
    protocol = result.protocol
    evaluated = f"{protocol.preprocessing},{protocol.normalisation}"
    if protocol.preprocessing and evaluated != str(input_settings(model.encoder)):  # by --preprocess
        model = with_preprocess(model, evaluated.partition(",")[2])
    if fingerprint(model.encoder) != protocol.weights:
        raise _changed(result.model)
    return model


def _changed(name: str) -> SeaAnchorError:
    return SeaAnchorError(f"the model {portable(name)} has changed since it was evaluated", "", "")
