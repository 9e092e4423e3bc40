"""A model and the untouched model that it is compared with."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from seaanchor.config.run_settings import read_start
from seaanchor.encoders.embedded import base_folder, embedded_folder, embedded_models
from seaanchor.encoders.encoder import LoadedModel, with_tokens
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.encoders.load import load_model
from seaanchor.encoders.model_paths import path_of
from seaanchor.encoders.preprocess_option import input_settings, with_settings
from seaanchor.encoders.pretrained import brings_weights, split_pretrained
from seaanchor.encoders.tokens import Tokens
from seaanchor.errors import SeaAnchorError, note
from seaanchor.evaluation.protocol import Protocol
from seaanchor.training.start import LostStartError, load_start
from seaanchor.utils.plain_files import read_object

NONE = "none"


@dataclass(frozen=True)
class ModelPair:
    """A model with its reference.

    Attributes:
        model: what is evaluated.
        reference: the untouched model; None for a model that is its own reference.
        rho: the bound that it was trained with, where it was trained with one.
        output: folder of its results; None writes no files.
    """

    model: LoadedModel
    reference: LoadedModel | None
    rho: float | None
    output: Path | None


def open_pair(
    name: str,
    pretrained: str | None,
    reference: str | None,
    protocol: Protocol,
    output: Path | None,
    others: Sequence[str] = (),
) -> ModelPair:
    """Load a model and its reference.

    Args:
        name: of the model.
        pretrained: of bare names; `BASE+FILE` has BASE as its reference.
        reference: the untouched model; by default what the folder names, and none where this is `none`.
        protocol: what to measure.
        output: folder of the results.
        others: names of the models that `pretrained` may be meant for.

    Raises:
        SeaAnchorError: neither can be loaded, or as `check_reference`.
    """
    tokens = protocol.tokens or tokens_of(name)
    bare = [other for other in (*others, reference) if other and other != NONE and not brings_weights(other)]
    meant = not brings_weights(name) or not bare or split_pretrained(pretrained).base is None
    tag = pretrained if meant else None
    model = load_model(name, tag, protocol.image_size, tokens, preprocess=protocol.preprocess)
    reference_model = None if reference == NONE else _open_reference(model, name, pretrained, reference)
    if reference_model is not None and (protocol.preprocess or not reference):
        reference_model = with_settings(reference_model, input_settings(model.encoder))  # both see the same pixels
    check_reference(model, reference_model, protocol)
    rho = _rho(name) if tokens == tokens_of(name) else None  # it bounds what was trained
    return ModelPair(model, reference_model, rho, output or output_of(name))


def _open_reference(model: LoadedModel, name: str, pretrained: str | None, reference: str | None) -> LoadedModel | None:
    """The reference that was named, or that the model's folder or weights name; None if there is none, which is said
    where there should be one."""
    size, base = model.encoder.image_size, split_pretrained(pretrained).base
    untouched, tag = (reference, None if brings_weights(reference) else base) if reference else _named_by(name)
    if untouched is None and reference_of(name)[0] is not None and (run := _run_of(name)) is not None:
        try:
            return with_tokens(load_start(run, size), model.encoder.tokens)
        except LostStartError as error:
            note(f"{error.found}; it is evaluated without a reference, and --reference names one")
            return None
    if untouched is None and split_pretrained(pretrained).image_tower is not None and not brings_weights(name):
        if base == NONE:
            return None
        untouched, tag = name, base
    if untouched is None:
        return None
    try:
        return load_model(untouched, tag, size, model.encoder.tokens)
    except SeaAnchorError as error:
        found = f"the reference of {name}, {untouched}{f' ({tag})' if tag else ''}, could not be loaded: {error.found}"
        change = f"name another with --reference, or --reference {NONE}: {error.change}"
        raise SeaAnchorError(found, error.expected, change) from error


def check_reference(model: LoadedModel, reference: LoadedModel | None, protocol: Protocol) -> None:
    """A note says so where the reference sees other pixels of the same pictures.

    Raises:
        SeaAnchorError: drift is asked for and there is no reference, or one of other dimensions or pixels.
    """
    differ = reference is not None and reference.encoder.preprocessing != model.encoder.preprocessing
    if reference is not None and differ:
        found = f"{model.name} sees pictures by {model.encoder.preprocessing}"
        its = f"its reference {reference.name} by {reference.encoder.preprocessing}"
        if "drift" in protocol.suites:
            raise SeaAnchorError(
                f"{found}, {its}", "the same pixels for both, to measure drift", "set --preprocess for both"
            )
        note(f"{found}, {its}: changes between them are of the preprocessing, too")
    if "drift" not in protocol.suites:
        return
    if reference is None:
        raise SeaAnchorError(
            f"the reference of {model.name} is not known",
            "the untouched model, to measure drift from",
            "name it with --reference",
        )
    if reference.encoder.dim != model.encoder.dim:
        found = f"embeddings of {model.encoder.dim} dimensions"
        raise SeaAnchorError(found, f"the reference's {reference.encoder.dim}", "name the model it was trained from")


def _run_of(name: str) -> Path | None:
    """The run whose export a model is."""
    path = path_of(name)
    return path.parent if os.path.isdir(path) and (path.parent / "config.yaml").is_file() else None


def output_of(name: str) -> Path:
    """Where results of a model go by default: RUN/evaluation for a run's export, else runs/evaluation."""
    run = _run_of(name)
    return Path("runs/evaluation") if run is None else run / "evaluation"


def reference_of(name: str) -> tuple[str | None, str | None]:
    """The untouched model behind a run's export or an embedded variant: (name, pretrained), or (None, None) if it is
    its own."""
    if (named := _named_by(name))[0] is None and (run := _run_of(name)):
        settings = read_start(run)
        return settings.model or None, settings.pretrained
    return named


def _named_by(name: str) -> tuple[str | None, None]:
    """The model whose text tower a variant borrows."""
    for folder in (path_of(name), embedded_folder(name)):
        file = folder / "open_clip_config.json"
        said = read_object(file).get("seaanchor") if file.is_file() else None
        if isinstance(said, dict) and (base := said.get("text_tower_of")):
            place = base_folder(folder, base)  # checks that it is a name
            return (base if base in embedded_models() else str(place)), None
    return None, None


def tokens_of(name: str) -> Tokens | None:
    """What a run took as its embedding, which its export does not say; None for the library's own, and without a
    run."""
    run = _run_of(name)
    return cast("Tokens | None", read_start(run).tokens) if run else None


def _rho(name: str) -> float | None:
    """The bound on clean embeddings in a run's settings."""
    run = _run_of(name)
    anchor = read_start(run).anchor if run else None
    return anchor.rho if anchor and anchor.space == "embedding" else None


def identity(model: LoadedModel) -> str:
    """A short hash of a whole network: all weights, image and text side, and how its layers are put together."""
    return hashlib.blake2b(
        f"{fingerprint(model.module)} {fingerprint(model.encoder)} {model.module!r}".encode(), digest_size=8
    ).hexdigest()
