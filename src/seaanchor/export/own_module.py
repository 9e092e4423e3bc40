"""The export of an encoder of the user's own: weights and settings, which the user's code loads."""

import copy
from pathlib import Path

from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.own_module import SETTINGS, WEIGHTS, load_encoder, write_settings
from seaanchor.export.reloaded import Reloaded, Target, weights_of
from seaanchor.utils.checkpoint import write_atomic


def write_module(model: LoadedModel, target: Target) -> None:
    """Write weights and settings."""
    from safetensors.torch import save

    write_atomic(target.folder / WEIGHTS, save(weights_of(model.module, target.half), metadata={"format": "pt"}))
    write_atomic(target.folder / SETTINGS, write_settings(model))


def reload_module(model: LoadedModel, folder: Path) -> Reloaded:
    """In a module that the user's factory builds, or else in a copy of the trained one."""
    factory = model.export_config["module"].factory
    encoder = load_encoder(folder, copy.deepcopy(model.module).cpu() if factory is None else factory())
    return Reloaded(encoder.tower, encoder.mean.flatten().tolist(), encoder.std.flatten().tolist(), None)
