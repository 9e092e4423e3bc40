"""The model as it is trained now, and the export of a finished run."""

from dataclasses import replace
from pathlib import Path

import torch

from seaanchor.config.io import to_dict
from seaanchor.config.schema import RunConfig
from seaanchor.distributed.sharding import gather_full, is_sharded
from seaanchor.encoders.classifiers import with_stored_head
from seaanchor.encoders.encoder import LoadedModel, copied
from seaanchor.encoders.load import load_model
from seaanchor.encoders.own_module import load_encoder
from seaanchor.export.origin import Origin
from seaanchor.export.trained import export_trained
from seaanchor.training.divergence import divergence_text
from seaanchor.training.run_folder import RunFolder, steps_and_images
from seaanchor.training.setup import Setup, untrained_model
from seaanchor.training.state import TrainState


def full_model(setup: Setup, keep: bool) -> LoadedModel | None:
    """The model as it is trained now.

    Args:
        setup: of the run.
        keep: whether this process needs it. Where weights are sharded all processes must ask, and the model is another
            one, loaded for the gathered weights.

    Returns:
        The model in a process that keeps it, else None.
    """
    if not is_sharded(setup.policy):
        return setup.model if keep else None
    weights = gather_full(setup.policy.state_dict(), keep)
    if not keep:
        return None
    # as `prepare` does, for weights that are random; every step sets a seed of its own
    torch.manual_seed(setup.config.seed)
    model = replace(untrained_model(setup.config, setup.given), stored_head=setup.model.stored_head)
    model.encoder.load_state_dict(weights)
    model.encoder.to(setup.model.encoder.mean.device)
    return model


def export_run(setup: Setup, state: TrainState, folder: RunFolder, write: bool = True) -> None:
    """Write `export`, and the average of the weights to `export-averaged` if one was kept. A linear map is written as
    it is, too.

    Args:
        setup: of the run.
        state: at its end.
        folder: of the run.
        write: whether this process does; where weights are sharded, all take part.
    """
    rows = folder.rows()
    steps, seen = steps_and_images(rows)
    origin = Origin(to_dict(setup.config), steps, diverged=divergence_text(rows), images_seen=seen)
    setup.model.encoder.unit = False  # training is over, and other libraries know raw embeddings alone
    if state.average is not None and (write or is_sharded(setup.policy)):
        with state.average.swapped():
            if (model := full_model(setup, write)) is not None:
                averaged = replace(origin, note="The weights are the average that the run kept of them.")
                export_trained(model, setup.policy, folder.root / "export-averaged", averaged)
    if (model := full_model(setup, write)) is not None:
        export_trained(model, setup.policy, folder.export, origin)


def load_export(folder: Path, config: RunConfig, start: LoadedModel | None = None) -> LoadedModel:
    """An export of a run as its library loads it.

    Args:
        folder: of the export.
        config: of the run.
        start: the model of a module of the user's own, in a copy of which the weights are loaded.
    """
    if start is not None:
        own = copied(start)
        load_encoder(folder, own.module)
        return with_stored_head(own, folder)
    return load_model(str(folder), None, config.image_size, config.tokens)
