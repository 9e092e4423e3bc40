"""The untouched model that a run started from, loaded again."""

from pathlib import Path
from typing import Any

import torch

from seaanchor.config.run_settings import read_start
from seaanchor.encoders.encoder import Encoder, LoadedModel
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.plain_files import parse_json

ENVIRONMENT = "env.json"


class LostStartError(SeaAnchorError):
    """What a run started from loads, but is not what it was."""


def recorded(encoder: Encoder) -> dict[str, Any]:
    """What a run folder says of the encoder that it starts from."""
    return {"weights": fingerprint(encoder.library_tower), "image_size": encoder.image_size}


def load_start(run: Path, image_size: int | None = None) -> LoadedModel:
    """The model that a run started from, with its library's own embedding; random weights are drawn as the run drew
    them.

    Args:
        run: its folder.
        image_size: side of the images in pixels; by default the run's.

    Raises:
        SeaAnchorError: it cannot be loaded.
        LostStartError: it is not what the run started from: weights that changed since, or random ones that cannot be
            drawn again.
    """
    settings = read_start(run)
    name, pretrained = settings.model, settings.pretrained
    random = pretrained == "none"
    size = settings.image_size if random or image_size is None else image_size
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)  # as the run did before it drew random weights
            model = load_model(name, pretrained, size, preprocess=settings.preprocess)
    except SeaAnchorError as error:
        shown = f"{name} ({pretrained})" if pretrained else name
        raise SeaAnchorError(
            f"{shown}, which the run in {run} started from, could not be loaded: {error.found}",
            "the untouched model, to compare with",
            "bring its files back, name it with --reference (and --pretrained), or --reference none to go without",
        ) from error
    _check_same(run, model, random, image_size)
    return model


def _check_same(run: Path, model: LoadedModel, random: bool, image_size: int | None) -> None:
    try:
        said = parse_json((run / ENVIRONMENT).read_text())
    except (OSError, ValueError):
        said = {}
    before = said.get("start") if isinstance(said, dict) else None
    before = before if isinstance(before, dict) else {}
    size = model.encoder.image_size
    comparable = before.get("image_size") == size
    if random and (not comparable or image_size not in (None, size)):
        reason = "whose weights are random, and it is not recorded how they were drawn for this size of images"
    elif comparable and before.get("weights") != fingerprint(model.encoder.library_tower):
        reason = "but its weights are not those of then" + (": random ones, drawn differently" if random else "")
    else:
        return
    raise LostStartError(
        f"the run in {run} started from {model.name}, {reason}",
        "the model as it was before training",
        "name it with --reference, or go without",
    )
