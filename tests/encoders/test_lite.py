"""What `seaanchor-lite` knows: photos, ImageNet's names in any caption, words in fonts it never saw."""

import hashlib
from functools import cache

import pytest
import torch

from seaanchor.data.names import imagenet_names
from seaanchor.encoders.embedded import embedded_folder
from seaanchor.encoders.load import load_model
from seaanchor.evaluation.run import Protocol, evaluate
from seaanchor.evaluation.typographic_plan import TypographicPlan

FOLDER = embedded_folder("seaanchor-lite")


@cache
def lite():
    return load_model(str(FOLDER))


def test_its_size():
    assert (FOLDER / "open_clip_model.safetensors").stat().st_size < 14e6
    assert lite().encoder.image_size == 128
    text = [p for name, p in lite().module.named_parameters() if not name.startswith("visual.")]
    assert sum(p.numel() for p in text) < 2_000_000


@pytest.mark.exhaustive
def test_photos_and_words(tmp_path):
    plan = TypographicPlan("all", "unseen", (0.19, 0.38), 0)
    protocol = Protocol((), samples=200, suites=("reading",), typographic=plan)
    (result,) = evaluate(str(FOLDER), ["photos/validation"], protocol, tmp_path)
    assert result.clean.accuracy > 0.8
    assert result.suites.reading.reading.accuracy > 0.55


def test_the_thousand_names_are_told_apart_in_any_caption():
    names = imagenet_names()
    with torch.no_grad():
        plain, other = (
            torch.nn.functional.normalize(lite().encode_texts([caption.format(name) for name in names]), dim=-1)
            for caption in ("a photo of a {}.", "a bad photo of the {}.")
        )
    own = (other @ plain.T).argmax(1) == torch.arange(1000)
    assert own.float().mean() > 0.9


def test_the_card_states_the_hash_of_the_weights():
    stated = hashlib.sha256((FOLDER / "open_clip_model.safetensors").read_bytes()).hexdigest()
    assert stated in (FOLDER / "CARD.md").read_text()
