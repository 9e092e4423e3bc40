"""The embedded model: its architecture, its OpenCLIP folder, and the recipe that trains it.

`seaanchor-tiny` is an OpenCLIP CLIP: a ResNet-10-t image tower (4.99 M parameters, 128-dimensional embeddings) and a
three-layer text transformer over the first 2,000 merges of CLIP's vocabulary.
"""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import torch

from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.export.folder import export_model
from seaanchor.utils.checkpoint import load_state, write_atomic
from tools.pretraining.corpus import Mix
from tools.pretraining.pretrain import MEAN, STD, PretrainConfig, Stage, pretrain

NUM_MERGES = 2000
BPE = f"bpe_{NUM_MERGES}.txt.gz"
FIRST_MIX = Mix(
    (("tiny-imagenet", 0.44), ("caltech101", 0.12), ("cifar10", 0.08), ("emoji", 0.08), ("words", 0.28)), 0.25, 0.7, 0.0
)
SECOND_MIX = Mix(
    (("tiny-imagenet", 0.46), ("caltech101", 0.12), ("cifar10", 0.08), ("emoji", 0.10), ("words", 0.24)), 0.15, 0.8, 0.6
)
STAGES = {32: (Stage(32, 1_280_000, 2e-3, FIRST_MIX, 2e-5),), 64: (Stage(64, 1_536_000, 1.2e-3, SECOND_MIX),)}


def model_cfg(image_size: int) -> dict:
    """OpenCLIP's `model_cfg` of the embedded model at an input size in pixels."""
    return {
        "embed_dim": 128,
        "vision_cfg": {
            "image_size": image_size,
            "timm_model_name": "resnet10t",
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "linear",
        },
        "text_cfg": {
            "context_length": 16,
            "vocab_size": 512 + NUM_MERGES + 2,
            "width": 128,
            "heads": 4,
            "layers": 3,
            "tokenizer_kwargs": {"bpe_path": BPE},
        },
    }


def tokenizer_file(folder: Path) -> Path:
    """Write the cut vocabulary beside the weights: the merges come from open_clip's own file."""
    from open_clip.tokenizer import default_bpe

    file = folder / BPE
    lines = gzip.decompress(Path(default_bpe()).read_bytes()).decode().split("\n")[: NUM_MERGES + 1]
    write_atomic(file, gzip.compress("\n".join(lines).encode(), mtime=0))
    return file


def train_tiny(
    sources: dict[str, Path], output: Path, image_size: int = 64, *, seed: int = 0, scale: float = 1.0
) -> Path:
    """Pre-train the embedded model from scratch and write `output/export`, a verified OpenCLIP folder in fp16.

    The 32-pixel sibling is trained first (`output/stage-32`); the 64-pixel model starts from it. Killed, it goes on
    where it was.

    Args:
        sources: `tiny-imagenet`, `cifar10`, `caltech101`, `emoji` → folder.
        output: run folder.
        image_size: 64, or 32 for the sibling alone.
        seed: of weights, data and augmentation.
        scale: multiplies the number of images (the shipped weights: 1.0).

    Raises:
        SeaAnchorError: a source is missing.
    """
    import open_clip
    from open_clip.tokenizer import SimpleTokenizer

    for name, path in sources.items():
        if not path.is_dir():
            raise SeaAnchorError(
                f"{path} ({name}) is no folder",
                "the unpacked data set",
                f"see docs/pretraining.md for where {name} comes from",
            )
    init = None
    for size in (32,) if image_size == 32 else (32, 64):
        torch.manual_seed(seed)
        model = open_clip.CLIP(**model_cfg(size))
        folder = output / f"stage-{size}"
        tokenizer = SimpleTokenizer(bpe_path=str(tokenizer_file(folder)), context_length=16)
        stages = tuple(replace(s, num_samples=round(s.num_samples * scale)) for s in STAGES[size])
        init = pretrain(PretrainConfig(folder, sources, stages, init=init, seed=seed), model, tokenizer)
    if init is None:
        raise AssertionError("at least one size is trained")
    weights = write_folder(load_state(init)["model"], image_size, output / "weights")
    return export_model(load_model(str(weights)), output / "export", half=True)


def write_folder(state: dict, image_size: int, folder: Path, *, text_tower_of: str | None = None) -> Path:
    """Write weights as an OpenCLIP folder in fp16; with `text_tower_of`, the image tower alone."""
    mean, std = MEAN.flatten().tolist(), STD.flatten().tolist()
    return write_open_clip(state, model_cfg(image_size), mean, std, folder, text_tower_of)


def write_open_clip(
    state: dict, cfg: dict, mean: list[float], std: list[float], folder: Path, text_tower_of: str | None = None
) -> Path:
    """Write weights with OpenCLIP's `model_cfg` and the pixels' mean and standard deviation, as `write_folder` does."""
    from safetensors.torch import save

    if text_tower_of:
        state = {k: v for k, v in state.items() if k.startswith("visual.")}
    half = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in state.items()}
    write_atomic(folder / "open_clip_model.safetensors", save(half, metadata={"format": "pt"}))
    preprocess = {"mean": mean, "std": std, "interpolation": "bicubic", "resize_mode": "shortest"}
    config: dict = {"model_cfg": cfg, "preprocess_cfg": preprocess}
    if text_tower_of:
        config["seaanchor"] = {"text_tower_of": text_tower_of}
    else:
        tokenizer_file(folder)
    write_atomic(folder / "open_clip_config.json", json.dumps(config, indent=2))
    return folder
