"""What a run asks of its data before the first step, and what it says when that is not there."""

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from seaanchor.api import train_from_config as train
from seaanchor.config.recipes import dpo, dpo_linear, fare, ipo, kto
from seaanchor.config.schema import PerturbationConfig
from seaanchor.config.validation import check
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.training.setup import prepare
from seaanchor.utils.log import warn_once

PLAIN = PerturbationConfig("none")
PAIRED = {"chosen": "an apple", "rejected": "a zebra"}
GOOD, BAD = {"text": "an apple", "desirable": True}, {"text": "a zebra", "desirable": False}


@pytest.fixture
def rows_run(tiny_run, image_folder):
    """A run of a recipe on JSON lines with the given rows."""

    def make(recipe, *rows):
        file = image_folder / "rows.jsonl"
        file.write_text("".join(json.dumps({"image": f"apple/{i % 4}.jpg"} | row) + "\n" for i, row in enumerate(rows)))
        return replace(tiny_run(recipe, perturbation=PLAIN), train_data=str(file))

    return make


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([GOOD, GOOD | {"text": "a zebra"}], "all 2 desirable and none undesirable"),
        ([BAD, BAD | {"text": "an apple"}], "all 2 undesirable and none desirable"),
        ([GOOD, BAD | {"text": "An  apple"}], "over one text, 'an apple'"),
        ([GOOD, GOOD], "all 2 desirable and none undesirable"),
    ],
)
def test_kto_asks_for_both_kinds_of_rows_over_two_texts(rows_run, rows, found):
    with pytest.raises(SeaAnchorError, match=found):
        prepare(rows_run(kto(), *rows))


@pytest.mark.parametrize("rows", [[GOOD, BAD], [PAIRED], [PAIRED, GOOD], [PAIRED, BAD]])
def test_kto_takes_what_has_both(rows_run, rows):
    assert len(prepare(rows_run(kto(), *rows)).images.paths) == len(rows)


@pytest.mark.parametrize("recipe", [dpo, ipo])
def test_the_others_ask_for_pairs_and_say_how_many_are_none(rows_run, recipe):
    assert prepare(rows_run(recipe(), PAIRED)).images.pairs == ((0, 1),)
    with pytest.raises(SeaAnchorError, match="2 of 3 with one text only"):
        prepare(rows_run(recipe(), PAIRED, GOOD, BAD))


def test_captions_that_are_cut_are_told_once(rows_run, capsys):
    warn_once.cache_clear()
    long = " ".join(["apple"] * 20)
    prepare(rows_run(dpo(), PAIRED | {"chosen": long}, PAIRED))
    assert capsys.readouterr().err.count("1 of 3 texts are longer than the 16 tokens") == 1


@pytest.mark.parametrize("names", [("pear", "wolf", "y" * 100), ("pear", "wolf", "中国"), ("pear", "Pear", "wolf")])
def test_class_names_that_cannot_be_drawn_or_told_apart_end_it_before_training(tiny_run, tmp_path, names):
    (tmp_path / "names.txt").write_text("\n".join(names))
    config = replace(
        tiny_run(dpo(), perturbation=PerturbationConfig("typographic")), class_names=tmp_path / "names.txt"
    )
    with pytest.raises(SeaAnchorError, match=r"does not fit an image of 32|no font of 'train'|twice: Pear = pear"):
        prepare(config)


def test_preferences_that_are_cut_to_one_text_are_refused_and_others_may_be_cut(rows_run):
    long = " ".join(["apple"] * 20)
    alike = {"chosen": f"{long} red", "rejected": f"{long} blue"}
    with pytest.raises(
        SeaAnchorError, match=r"in 1 of 2 rows .* behind the 16 tokens .* first in row 2: .* red' and .* blue'"
    ):
        prepare(rows_run(dpo(), PAIRED, alike))
    apart = [
        PAIRED | {"chosen": f"{long} red"},
        PAIRED | {"chosen": f"{long} blue"},
    ]  # one text to the model, in two rows
    assert len(prepare(rows_run(dpo(), *apart)).images.paths) == 2


def test_unit_embeddings_are_those_of_length_1_and_leave_the_export_raw(tiny_run):
    """The logged objective is the distance of directions; the model that comes out has lengths again."""
    still = replace(fare().perturbation, epsilon="1e-12", num_steps=1, random_start=False)
    config = tiny_run(fare(), unit_embeddings=True, batch_size=6, lr=0.0, perturbation=still)
    setup, raw = prepare(config), load_model(config.model).encoder
    pixels = torch.rand(4, 3, raw.image_size, raw.image_size)
    for encoder in (setup.policy.eval(), setup.reference):
        assert torch.allclose(encoder(pixels), F.normalize(raw(pixels), dim=-1), atol=1e-6)
    train(config)
    first = json.loads((config.output / "metrics.jsonl").read_text().splitlines()[0])
    assert 0 <= first["adversarial_loss"] < 1e-6  # nothing moves, so directions agree
    again = load_model(str(config.output / "export")).encoder
    assert again(pixels).norm(dim=-1).min() > 1.5 and torch.allclose(again(pixels), raw(pixels), atol=1e-5)


def test_a_map_does_not_keep_lengths():
    with pytest.raises(SeaAnchorError, match="unit_embeddings"):
        check(replace(dpo_linear(), unit_embeddings=True))
