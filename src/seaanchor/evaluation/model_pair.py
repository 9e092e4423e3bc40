"""A model and the untouched model that it is compared with."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from seaanchor.config.schema import read_yaml
from seaanchor.encoders.embedded import embedded_folder, embedded_models
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.protocol import Protocol


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
    name: str, pretrained: str | None, reference: str | None, protocol: Protocol, output: Path | None
) -> ModelPair:
    """Load a model and its reference.

    Raises:
        SeaAnchorError: neither can be loaded, or the drift from a reference is asked for and there is none, or one of
            other dimensions.
    """
    model = load_model(name, pretrained, protocol.image_size)
    untouched, tag = (reference, pretrained) if reference else reference_of(name)
    reference_model = load_model(untouched, tag, model.encoder.image_size) if untouched else None
    check_reference(model, reference_model, protocol)
    return ModelPair(model, reference_model, _rho(name), output or output_of(name))


def check_reference(model: LoadedModel, reference: LoadedModel | None, protocol: Protocol) -> None:
    """Raise a SeaAnchorError if drift is asked for and there is no reference, or one of other dimensions."""
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


def _bare(name: str) -> Path:
    return Path(name.removeprefix("timm:").removeprefix("hf:").removeprefix("local-dir:"))


def _run_of(name: str) -> Path | None:
    """The run whose export a model is."""
    path = _bare(name)
    return path.parent if path.is_dir() and (path.parent / "config.yaml").is_file() else None


def output_of(name: str) -> Path:
    """Where results of a model go by default: RUN/evaluation for a run's export, else runs/evaluation."""
    run = _run_of(name)
    return Path("runs/evaluation") if run is None else run / "evaluation"


def reference_of(name: str) -> tuple[str | None, str | None]:
    """The untouched model behind a run's export or an embedded variant: (name, pretrained), or (None, None) if it is
    its own."""
    for folder in (_bare(name), embedded_folder(name)):
        file = folder / "open_clip_config.json"
        if file.is_file() and (base := json.loads(file.read_text()).get("seaanchor", {}).get("text_tower_of")):
            return (base if base in embedded_models() else str(folder.parent / base)), None
    if run := _run_of(name):
        settings = read_yaml(run / "config.yaml")
        return settings.get("model"), settings.get("pretrained")
    return None, None


def _rho(name: str) -> float | None:
    """The bound on clean embeddings in a run's settings."""
    run = _run_of(name)
    anchor = read_yaml(run / "config.yaml").get("anchor") if run else None
    return anchor.get("rho") if anchor and anchor.get("space", "embedding") == "embedding" else None


def identity(model: LoadedModel) -> str:
    """A short hash of a whole network: all weights, image and text side, and how its layers are put together."""
    return hashlib.blake2b(
        f"{fingerprint(model.module)} {fingerprint(model.encoder)} {model.module!r}".encode(), digest_size=8
    ).hexdigest()
