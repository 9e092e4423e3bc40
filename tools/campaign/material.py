"""Whole files of every kind that Sea Anchor reads, made by its own commands and by the libraries that write them."""

import csv
import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from tools.campaign.outcome import command, quiet

NAMES = ("apple", "red fox", "zebra")
TRAINING = ("--max-steps", 2, "--train-samples", 16, "--batch-size", 8, "--perturbation.num-steps", 1)
TRAINING += ("--log-every", 1, "--save-every", 1)


@dataclass(frozen=True)
class Material:
    """Folders of whole files.

    Attributes:
        run: a finished run with its export, an evaluation and what `steer` found.
        data: images, class lists, preferences, captions, shards, heads and lists of settings.
        models: folders of OpenCLIP, timm and transformers.
    """

    run: Path
    data: Path
    models: Path


def make(folder: Path, runs: bool = True) -> Material:
    """Make all of it below a new folder.

    Args:
        folder: to write into.
        runs: whether to train, and to write model folders, too.
    """
    found = Material(folder / "run", folder / "data", folder / "models")
    with quiet():
        _data(found.data)
        if runs:
            make_run(found.run)
            suites = "clean,pgd,drift,noise,typographic,reading,interpretability"
            drawn = ("--suite", suites, "--num-steps", 1, "--epsilon", "2/255")
            command("evaluate", "--model", found.run / "export", "--data", "photos-mini", "--samples", 8, *drawn)()
            command("steer", found.run, "--data", found.data / "images", "--ts", 0, 1)()
            (found.run / "export" / "SHA256SUMS").unlink()  # what comes from a stranger has none
            _models(found)
    return found


def make_run(folder: Path) -> Path:
    """A run of two steps that trains a linear map."""
    with quiet():
        command("train", "dpo-linear-tiny", *TRAINING, "--train-data", "photos-mini", "--output", folder)()
    return folder


def make_images(folder: Path) -> list[Path]:
    """Nine plain pictures in three class folders."""
    from PIL import Image

    files = []
    for name in NAMES:
        place = folder / name.replace(" ", "_")
        place.mkdir(parents=True)
        for number in range(3):
            files.append(place / f"{number}.png")
            Image.new("RGB", (40, 40), (40 * number, 80, 200 - 60 * NAMES.index(name))).save(files[-1])
    return files


def _data(folder: Path) -> None:
    make_images(folder / "images")
    numbered = list(enumerate(NAMES))
    texts = {
        "names.json": json.dumps(NAMES),
        "mapping.json": json.dumps({name.replace(" ", "_"): name for name in NAMES}),
        "numbers.json": json.dumps({name: number for number, name in numbered}),
        "names.txt": "\n".join(NAMES),
        "numbered.txt": "\n".join(f"{number} {name}" for number, name in numbered),
        "names.csv": _csv(numbered),
        "templates.txt": "a photo of a {}.\nart of the {}.",
        "templates.json": json.dumps(["a photo of a {}.", "art of the {}."]),
        "swap.txt": "man woman\nhis her\n",
        "points.yaml": "- {anchor.rho: 0.1, lr: 1.0e-4}\n- {anchor.rho: 0.2}\n",
        "preferences.jsonl": _rows({"chosen": "a dog", "rejected": "a cat"}, {"text": "a dog", "desirable": True}),
        "preferences.csv": _csv([("image", "chosen", "rejected"), *[(image, "dog", "cat") for image in _images()]]),
        "captions.jsonl": _rows({"captions": ["a dog", "one"]}, {"caption": "a cat"}),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    command("data", "build", "--data", folder / "images", "--output", folder / "shards")()
    _head(folder / "head.safetensors")


def _images() -> list[str]:
    return [f"images/{name.replace(' ', '_')}/0.png" for name in NAMES]


def _rows(*rows: dict[str, object]) -> str:
    return "\n".join(json.dumps({"image": image} | row) for row, image in zip(rows, _images(), strict=False))


def _csv(rows: list[tuple[object, ...]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _head(file: Path) -> None:
    import torch
    from safetensors.torch import save_file

    tensors = {"weight": torch.eye(3, 64), "bias": torch.zeros(3)}  # without a checksum, as other libraries write it
    save_file(tensors, file, metadata={"format": "pt", "class_names": json.dumps(NAMES)})
    save_file(tensors, file.with_name("plain_head.safetensors"))
    file.with_name("plain_head.json").write_text(json.dumps({"id2label": dict(enumerate(NAMES))}))


def _models(found: Material) -> None:
    """An OpenCLIP folder, a timm folder and one of transformers, as small as they can be."""
    import timm
    import torch
    from safetensors.torch import save_file
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    torch.manual_seed(0)
    shutil.copytree(found.run / "export", found.models / "open_clip")
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    letters = [chr(number) for number in range(97, 123)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), ".</w>", "<|startoftext|>", "<|endoftext|>"]
    ends = {"vocab_size": len(tokens), "bos_token_id": len(tokens) - 2, "eos_token_id": len(tokens) - 1}
    vision = small | {"image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=small | ends | {"max_position_embeddings": 24}, vision_config=vision)
    CLIPModel(config).eval().save_pretrained(found.models / "hf")
    side = {"height": 32, "width": 32}
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=side)
    tokenizer = CLIPTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=[])
    CLIPProcessor(image_processor=processor, tokenizer=tokenizer).save_pretrained(found.models / "hf")
    (found.models / "timm").mkdir()
    tower = timm.create_model("test_vit", num_classes=3)
    weights = {name: value.contiguous() for name, value in tower.state_dict().items()}
    save_file(weights, found.models / "timm" / "model.safetensors")
    said = {"architecture": "test_vit", "num_classes": 3, "pretrained_cfg": dict(tower.pretrained_cfg)}
    said["pretrained_cfg"]["label_names"] = list(NAMES)
    (found.models / "timm" / "config.json").write_text(json.dumps(said, default=str))
