"""What several tests share."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seaanchor.data.loader import ImageDataset, SkipLog, batches, subset
from seaanchor.data.sources import open_images
from seaanchor.types import Batch
from seaanchor.utils.log import log_to_terminal

collect_ignore = ["plugins"]  # read as doctests they would register their parts in every test's process

torch.set_num_threads(1)  # the models are too small to share, and threads of parallel runs would fight
log_to_terminal()  # tests read what the commands print


@pytest.fixture(scope="session")
def photos() -> Batch:
    """200 embedded photos of 10 classes at 16 pixels."""
    images = open_images("photos-mini/train")
    few = subset(images, 800, 0)
    dataset = ImageDataset(few, 16)
    rows = [i for i, label in enumerate(few.labels) if label < 10]
    return next(batches(dataset, len(rows), workers=0, order=rows, skip_log=SkipLog(few)))


@pytest.fixture(scope="session")
def small_classifier(photos: Batch) -> nn.Module:
    """A small convolutional classifier trained on `photos`, half of it with noise so that it is neither helpless nor
    robust."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.GELU(), nn.Conv2d(16, 32, 3, 2, 1), nn.GELU(), nn.Flatten(), nn.Linear(512, 10)
    )
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        noisy = photos.pixels_BCHW + 0.05 * torch.randn_like(photos.pixels_BCHW)
        F.cross_entropy(model(noisy), photos.label_B).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model.eval().requires_grad_(False)


def accuracy(model, pixels: Tensor, labels: Tensor) -> float:
    """Top-1."""
    return (model(pixels).argmax(-1) == labels).double().mean().item()


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Three class folders of four 40-pixel JPEGs each."""
    from PIL import Image

    rng = torch.Generator().manual_seed(0)
    for name in ("apple", "red_fox", "zebra"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(4):
            pixels = torch.randint(0, 256, (40, 40, 3), dtype=torch.uint8, generator=rng)
            Image.fromarray(pixels.numpy()).save(tmp_path / "images" / name / f"{i}.jpg")
    return tmp_path / "images"


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory) -> Path:
    """A CLIP of 32 pixels, 2 layers and random weights as an OpenCLIP folder."""
    import json

    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    folder = tmp_path_factory.mktemp("clip")
    model = open_clip.CLIP(16, vision, text)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    config = {"model_cfg": {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": {"size": 32}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def tiny_run(clip_folder: Path, image_folder: Path, tmp_path: Path):
    """Turns a recipe into a run of four batches on `clip_folder` and `image_folder`."""
    from dataclasses import replace

    from seaanchor.config.schema import RunConfig

    def make(recipe: RunConfig, **changes) -> RunConfig:
        attack = replace(recipe.perturbation, num_steps=2)
        changes = {
            "perturbation": attack,
            "batch_size": 3,
            "epochs": 1,
            "lr": 1e-3,
            "log_every": 1,
            "save_every": 2,
            "device": "cpu",
        } | changes
        return replace(recipe, model=str(clip_folder), train_data=str(image_folder), output=tmp_path / "run", **changes)

    return make


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a command in this process: (exit code, output, errors)."""
    import sys

    from rich.console import Console

    from seaanchor.cli import app as cli

    def call(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(cli.app, "_console", Console())  # an app keeps its first one, and with it the width
        monkeypatch.setattr(sys, "argv", ["seaanchor", *map(str, arguments)])
        capsys.readouterr()  # what the test itself printed before
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


import os  # noqa: E402

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported: no test may ask for anything


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """The user's cache is neither read nor written, by child processes neither."""
    os.environ["SEAANCHOR_CACHE"] = str(tmp_path_factory.mktemp("cache"))


ARCHITECTURES = {
    "tiny-vit": {},
    "tiny-quickgelu": {"quick_gelu": True},
    "tiny-custom": {"custom_text": True},
    "tiny-noncausal": {"text_cfg": {"no_causal_mask": True}},
    "tiny-resnet": {
        "vision_cfg": {"timm_model_name": "resnet10t", "timm_pool": "avg", "timm_proj": "linear", "image_size": 32}
    },
}


@pytest.fixture(scope="session")
def architectures(tmp_path_factory) -> list[str]:
    """Names of small OpenCLIP architectures, known to open_clip as if they were its own."""
    import json

    import open_clip

    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    text = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    folder = tmp_path_factory.mktemp("architectures")
    for name, changes in ARCHITECTURES.items():
        config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text, **changes}
        config["text_cfg"] = text | changes.get("text_cfg", {})
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    return list(ARCHITECTURES)


@pytest.fixture(scope="session")
def cut_vocabulary_folder(tmp_path_factory) -> Path:
    """A CLIP with a ResNet-10-t tower, random running statistics and a cut vocabulary, as the embedded model is."""
    import open_clip

    from tools.pretraining.tiny import model_cfg, write_folder

    torch.manual_seed(0)
    model = open_clip.CLIP(**model_cfg(32))
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.weight.data.uniform_(0.5, 1.5)  # the last of each block starts at 0
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 1.5)
    return write_folder(model.state_dict(), 32, tmp_path_factory.mktemp("zoo") / "tiny")


@pytest.fixture(scope="session")
def hf_folder(tmp_path_factory) -> Path:
    """A small random Hugging Face CLIPModel with its tokenizer and processor, saved by transformers."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    letters = [chr(c) for c in range(97, 123)]
    tokens = [*letters, *(f"{x}</w>" for x in letters), ".</w>", "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    text = small | {
        "vocab_size": len(tokens),
        "max_position_embeddings": 24,
        "bos_token_id": len(tokens) - 2,
        "eos_token_id": len(tokens) - 1,
    }
    config = CLIPConfig(text_config=text, vision_config=small | {"image_size": 32, "patch_size": 8}, projection_dim=24)
    folder = tmp_path_factory.mktemp("hf")
    CLIPModel(config).eval().save_pretrained(folder)
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[])
    size = {"shortest_edge": 32}
    processor = CLIPImageProcessor(
        size=size, crop_size={"height": 32, "width": 32}, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.25]
    )
    CLIPProcessor(image_processor=processor, tokenizer=tokenizer).save_pretrained(folder)
    return folder
