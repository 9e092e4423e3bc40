"""What the training bars run on: towers, and our own training step on one of them, made as `train` makes it.

Legend: B batch.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch

from seaanchor.config.schema import RunConfig
from seaanchor.data.loader import SkipLog
from seaanchor.distributed.launch import start_training
from seaanchor.distributed.process_group import ONE_PROCESS
from seaanchor.encoders.kernels import fast_kernels, num_tokens
from seaanchor.profiling.fitting import fitted
from seaanchor.training.batches import MicroBatch, let_reference_go, load_batches, make_targets, to_device
from seaanchor.training.setup import Setup, prepare
from seaanchor.training.state import TrainState, make_state
from seaanchor.training.step import train_step
from seaanchor.types import Batch, Targets
from seaanchor.utils import disk_cache

VISION = {"image_size": 64, "layers": 6, "width": 192, "head_width": 64, "patch_size": 8}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
_kept: list[tempfile.TemporaryDirectory] = []  # removed when the process ends


@cache
def small_vit() -> str:
    """The bench's tower, random weights: a CLIP with a ViT of 64 pixels, patch 8, width 192, depth 6 (F = 0.37 GFLOP),
    as a model's name."""
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    _kept.append(tempfile.TemporaryDirectory())
    folder = Path(_kept[-1].name)
    model = open_clip.CLIP(128, VISION, TEXT)
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    config = {
        "model_cfg": {"embed_dim": 128, "vision_cfg": VISION, "text_cfg": TEXT},
        "preprocess_cfg": {"size": VISION["image_size"]},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}"


@contextmanager
def uncached() -> Iterator[None]:
    """Without the cache on disk: a bar pays for what a first run pays for, and leaves nothing in the user's folder."""
    before = os.environ.get(disk_cache.VARIABLE)
    os.environ[disk_cache.VARIABLE] = "off"
    try:
        yield
    finally:
        del os.environ[disk_cache.VARIABLE]
        if before is not None:
            os.environ[disk_cache.VARIABLE] = before


def in_precision(recipe: RunConfig, precision: str, step_size: str | None = None) -> RunConfig:
    """The recipe with training passes and attack in `fp32` or `bf16`, and another step of the attack if given."""
    return replace(
        recipe,
        precision=precision,
        attack_precision=precision,
        perturbation=replace(recipe.perturbation, step_size=step_size),
    )  # type: ignore[arg-type]


@dataclass(frozen=True)
class Ours:
    """One of our training steps, ready to be called again and again on the same batch; reference embeddings are
    cached."""

    setup: Setup
    state: TrainState
    images: Batch
    targets: Targets

    def step(self) -> object:
        """Attack, primal steps, dual step."""
        setup = self.setup
        return train_step(
            setup.method, self.state, [MicroBatch(self.images, self.targets)], setup.config, 0, setup.reference
        )

    def attack(self) -> object:
        """The attack of a step alone, on the weights and kernels that the step gives it."""
        state, copy = self.state, self.state.low_precision_copy
        under_attack, dtype = (state.encoder, torch.float32) if copy is None else (copy.refreshed(), copy.dtype)
        with fast_kernels(under_attack, dtype, num_tokens(state.encoder), state.compiled):
            return self.setup.method.perturb(under_attack, self.images, self.targets, torch.Generator().manual_seed(0))


def ours(
    recipe: RunConfig, batch: int, *, model: str | None = None, device: str = "cpu", image_size: int | None = None
) -> Ours:
    """Our step on `batch` embedded photos. The learning rate is 0, so that every call finds the weights that the first
    one found."""
    config = replace(
        recipe,
        model=model or small_vit(),
        image_size=image_size or recipe.image_size,
        batch_size=batch,
        train_data="photos-mini/train",
        device=device,
        lr=0.0,
    )
    own = config.model.startswith("timm:") or (":" not in config.model and not config.model.startswith("seaanchor"))
    config = replace(config, pretrained="none" if own else None)
    run_on = start_training(device)
    with uncached():
        setup = prepare(config, device=run_on)
    state = make_state(setup)
    setup = replace(setup, config=fitted(setup, state, ONE_PROCESS))
    images = to_device(next(load_batches(setup, 0, 0, 1, SkipLog(setup.images))), run_on)
    targets = make_targets(setup, images, None)
    let_reference_go(setup)
    return Ours(setup, state, images, targets)


def share_of(subject: Ours, rank: int, world: int) -> Ours:
    """The same step on every `world`-th image."""
    images, targets = subject.images, subject.targets
    label_B = None if images.label_B is None else images.label_B[rank::world]
    share = Batch(images.pixels_BCHW[rank::world], label_B, images.index_B[rank::world])
    return replace(
        subject, images=share, targets=replace(targets, reference_BD=targets.reference_BD[rank::world], label_B=label_B)
    )
