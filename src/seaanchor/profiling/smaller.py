"""A step that does not fit with a single image: what it needs, what there is, and what would fit."""

from collections.abc import Iterator
from dataclasses import replace

from seaanchor.encoders.kernels import computes_in_bf16
from seaanchor.errors import SeaAnchorError
from seaanchor.profiling.memory import SPARE, Footprint, gib
from seaanchor.profiling.memory_advice import footprint_of
from seaanchor.training.setup import Setup

SIDE = 16  # image sizes are named in steps of it, as most patches divide it


def does_not_fit(setup: Setup, need: Footprint, world: int, room: float) -> SeaAnchorError:
    """The error of a step that does not fit even with one image at a time.

    Args:
        setup: of the run.
        need: of its step.
        world: processes.
        room: bytes that can be had for it.
    """
    encoder = setup.model.encoder
    weights = sum(p.numel() for p in encoder.parameters())
    found = f"a step does not fit into the memory of {setup.device}, even with one image at a time"
    expected = (
        f"about {gib(need.of(1))}: {gib(need.fixed)} of weights, gradients and optimizer and "
        f"{gib(need.of(1) - need.fixed)} for the image, of {encoder.image_size} px; {gib(room)} could be had"
    )
    model = f"a tower of about {weights * room / need.of(1) / 1e6:.0f} M parameters in place of {weights / 1e6:.0f} M"
    return SeaAnchorError(
        found, expected, f"what would fit: {'; '.join([*_settings(setup, need, world, room), model])}"
    )


def _settings(setup: Setup, need: Footprint, world: int, room: float) -> Iterator[str]:
    """Settings with which one image fits."""
    config, side = setup.config, setup.model.encoder.image_size
    changes = {}
    if not config.checkpoint_activations:
        changes["--checkpoint-activations"] = replace(config, checkpoint_activations=True)
    if config.precision == "fp32" and computes_in_bf16(setup.device.type):
        changes["--precision bf16"] = replace(config, precision="bf16")
    for flag, other in changes.items():
        if (there := footprint_of(setup, other, world)) is not None and there.of(1) <= room:
            yield flag
    if (smaller := smaller_image(side, need, room)) is not None:
        yield smaller


def smaller_image(side: int, need: Footprint, room: float) -> str | None:
    """The image size with which one image fits; None where none does.

    >>> from seaanchor.profiling.memory import Footprint
    >>> smaller_image(224, Footprint(fixed=100, per_image=110), 152)
    '--image-size 144 in place of 224, where the model can take it'
    """
    # what an image keeps grows with its area or faster, so that the size named here is at most too small
    smaller = side * max(0.0, (room - need.fixed) / ((1 + SPARE) * need.per_image)) ** 0.5
    if smaller < SIDE:
        return None
    return f"--image-size {int(smaller // SIDE) * SIDE} in place of {side}, where the model can take it"
