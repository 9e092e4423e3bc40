"""What the training bars run on: towers, and our own training step on one of them, made as `train` makes it.

Legend: B batch.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch

from seaanchor.config import RunConfig
from seaanchor.data.folder import SkipLog
from seaanchor.parts import Batch, Targets
from seaanchor.prepare import Setup, batch_stream, make_targets, prepare, start_accelerator, to_device
from seaanchor.step import Moving, train_step
from seaanchor.train import make_moving

VISION = {"image_size": 64, "layers": 6, "width": 192, "head_width": 64, "patch_size": 8}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
_kept: list[tempfile.TemporaryDirectory] = []  # removed when the process ends


@cache
def small_vit() -> str:
    """The bench's tower, random weights: a CLIP with a ViT of 64 pixels, patch 8, width 192, depth 6 (F = 0.37 GFLOP), as a model's name."""
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    _kept.append(tempfile.TemporaryDirectory())
    folder = Path(_kept[-1].name)
    model = open_clip.CLIP(128, VISION, TEXT)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    config = {"model_cfg": {"embed_dim": 128, "vision_cfg": VISION, "text_cfg": TEXT}, "preprocess_cfg": {"size": VISION["image_size"]}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}"


@dataclass(frozen=True)
class Ours:
    """One of our training steps, ready to be called again and again on the same batch; reference embeddings are cached."""

    setup: Setup
    moving: Moving
    images: Batch
    targets: Targets
    step: Callable[[], object]


def ours(recipe: RunConfig, batch: int, *, model: str | None = None, device: str = "cpu") -> Ours:
    """Our step on `batch` embedded photos. The learning rate is 0, so that every call finds the weights that the first one found."""
    config = replace(recipe, model=model or small_vit(), batch_size=batch, train_data="photos-mini/train", device=device, lr=0.0)
    config = replace(config, pretrained="none" if ":" not in config.model and not config.model.startswith("seaanchor") else None)
    accelerator = start_accelerator(device)
    setup = prepare(config, device=accelerator.device)
    moving = make_moving(setup, accelerator, None)
    images = to_device(next(batch_stream(setup, 0, 0, 1, SkipLog(setup.images))), accelerator.device)
    targets = make_targets(setup, images, None)
    return Ours(setup, moving, images, targets, lambda: train_step(setup.method, moving, accelerator, images, targets, config, 0, setup.reference))
