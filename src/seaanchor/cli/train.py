"""`seaanchor train`: a recipe with any setting changed. Nothing heavy is imported before the command needs it."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from seaanchor.cli.settings import PANELS, Settings
from seaanchor.config.io import from_dict, to_dict
from seaanchor.config.schema import RunConfig
from seaanchor.config.validation import check
from seaanchor.errors import SeaAnchorError

train_app = App(
    name="train",
    help="Train a recipe: a shipped one or a YAML file, with any setting changed. A recipe sets values in place of the "
    "defaults shown here; `seaanchor recipes cat RECIPE` prints them. Two names of one setting mean the same.",
)
RUN = Parameter(group=PANELS["dry_run"])


@train_app.default
def train(
    recipe: str,
    /,
    *,
    dry_run: Annotated[bool, RUN, Parameter(negative=())] = False,
    dry_run_on: Annotated[str | None, RUN] = None,
    dry_run_images: Annotated[int | None, RUN] = None,
    config: Settings = RunConfig(),  # noqa: B008 (frozen)
) -> None:
    """Train, then export to OUTPUT/export.

    Parameters
    ----------
    recipe
        A shipped recipe (`seaanchor recipes ls`) or a YAML file.
    dry_run
        Run one step: check everything, count FLOPs, estimate time and memory. Writes nothing.
    dry_run_on
        Names of GPUs, such as 8xH100: predict FLOPs, time and memory on them. They need not be in this machine; runs
        and writes nothing.
    dry_run_images
        Number of images in the data set, where it is not on this machine.
    config
        Any setting of the recipe.
    """
    config = from_dict(RunConfig, to_dict(config))  # options get the types that their part asks for
    if dry_run_on is not None:
        from seaanchor.profiling.plan import lines, one_image_fits, plan

        found = plan(check(config), dry_run_on, dry_run_images)
        print("\n".join(lines(found)))
        one_image_fits(found)
        return
    if dry_run_images is not None:
        raise SeaAnchorError(
            "--dry-run-images without GPUs",
            "--dry-run-on, such as 8xH100; --dry-run itself counts the images",
            "add --dry-run-on",
        )
    if dry_run:
        from seaanchor.profiling.dry_run import dry_run as rehearse

        rehearse(check(config))
        return
    from seaanchor.data import places

    places.check_there(config.train_data)
    from seaanchor.api import train_from_config as run
    from seaanchor.encoders.embedded import embedded_models

    check(config)
    first = os.environ.get("RANK", "0") == "0"  # of several processes
    if first and config.model in embedded_models() and config.train_data.partition("/")[0] in places.NAMES:
        print(
            f"trains the embedded model {config.model} on the embedded set {config.train_data}; "
            "--model and --train-data name others"
        )
    folder = run(config)
    if first:
        _print_summary(folder)


def _print_summary(folder: Path) -> None:
    """What a finished run came to, and the next command."""
    from seaanchor.evaluation.advice import evaluation_command, training_images_note
    from seaanchor.training.summary import closing

    print("\n".join([f"done: {folder}", *closing(folder)]))
    command = evaluation_command(folder)
    print(f"evaluate it beside its reference: {command}")
    if said := training_images_note(folder, command):
        print(f"  {said}")
