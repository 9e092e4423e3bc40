"""What `seaanchor-lite` knows: photos of the embedded set, ImageNet's names, words in fonts it never saw; and that a
wrong word misleads it."""

import json
from functools import cache

import pytest
import torch

from seaanchor.data.names import imagenet_names
from seaanchor.encoders.embedded import embedded_folder
from seaanchor.encoders.load import load_model
from seaanchor.evaluation.run import Protocol, evaluate
from seaanchor.evaluation.typographic_plan import TypographicPlan

NAME = "seaanchor-lite"


@cache
def lite():
    return load_model(NAME)


def test_its_size():
    files = [file for file in embedded_folder(NAME).iterdir() if file.suffix == ".safetensors"]
    assert sum(file.stat().st_size for file in files) < 14e6
    assert lite().encoder.image_size == 128
    text = [p for name, p in lite().module.named_parameters() if not name.startswith("visual.")]
    assert sum(p.numel() for p in text) < 2_000_000


@pytest.mark.slow
def test_photos_words_and_its_weakness(tmp_path):
    plan = TypographicPlan("all", "unseen", (0.19, 0.38), 0)
    protocol = Protocol((), samples=200, suites=("typographic", "reading"), typographic=plan)
    (result,) = evaluate(NAME, ["photos/validation"], protocol, tmp_path)
    assert result.clean.accuracy > 0.7
    suites = result.suites
    assert suites.reading.reading.accuracy > 0.6
    assert suites.typographic.attacked.accuracy < result.clean.accuracy * 2 / 3


def test_the_thousand_names_are_told_apart_in_any_caption():
    names = imagenet_names()
    with torch.no_grad():
        plain, other = (
            torch.nn.functional.normalize(lite().encode_texts([caption.format(name) for name in names]), dim=-1)
            for caption in ("a photo of a {}.", "a bad photo of the {}.")
        )
    own = (other @ plain.T).argmax(1) == torch.arange(1000)
    assert own.float().mean() > 0.95


def test_the_card_states_the_hash_of_the_weights():
    import hashlib

    folder = embedded_folder(NAME)
    stated = hashlib.sha256((folder / "open_clip_model.safetensors").read_bytes()).hexdigest()
    assert stated in (folder / "CARD.md").read_text()
    assert json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]["embed_dim"] == 512
