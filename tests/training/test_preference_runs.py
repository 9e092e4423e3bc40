"""Preference runs end to end on a tiny CLIP: same loop, same run folder, every objective under every anchor, every
adapter exported."""

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from seaanchor.adapters.linear_map import scale_spectrum, without_rotation
from seaanchor.api import train_from_config as train
from seaanchor.config.recipes import RECIPES, dpo, dpo_linear, gender_flip, kto, ppo
from seaanchor.config.schema import AdapterConfig, AnchorConfig, ObjectiveConfig, PerturbationConfig
from seaanchor.config.validation import check
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.export.trained import folded, read_map
from seaanchor.training.setup import prepare
from seaanchor.utils.checkpoint import load_state

DRAWN = PerturbationConfig("typographic", variants=2, sizes=(0.25, 0.4))
ANCHORS = {
    "none": AnchorConfig(),
    "penalty": AnchorConfig("penalty"),
    "kl": AnchorConfig("kl"),
    "lagrangian": AnchorConfig("lagrangian"),
    "lagrangian on distributions": AnchorConfig("lagrangian", space="distribution"),
}


def cosines(image, text):
    return F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("objective", ["dpo", "ipo", "kto", "ppo", "cross_entropy"])
@pytest.mark.parametrize("anchor", list(ANCHORS))
def test_every_objective_under_every_anchor(tiny_run, objective, anchor):
    config = tiny_run(
        dpo(),
        perturbation=DRAWN,
        objective=ObjectiveConfig(objective, beta=0.5),
        anchor=ANCHORS[anchor],
        average="none",
        max_steps=2,
    )
    rows = metrics(train(config))
    assert len(rows) == 2 and all(torch.tensor(row["adversarial_loss"]).isfinite() for row in rows)
    assert ("multiplier" in rows[-1]) == anchor.startswith("lagrangian")


def test_dpo_starts_at_log_2_and_falls(tiny_run):
    rows = metrics(train(tiny_run(dpo(), perturbation=DRAWN, epochs=30, lr=3e-3, optimizer="adamw", average="none")))
    assert rows[0]["adversarial_loss"] == pytest.approx(0.6931, abs=1e-3)
    assert sum(row["adversarial_loss"] for row in rows[-8:]) / 8 < 0.5


@pytest.mark.parametrize("recipe", [kto, pytest.param(ppo, marks=pytest.mark.exhaustive)])
def test_resumed_preference_run_is_bit_exact(tiny_run, tmp_path, recipe):
    config = tiny_run(recipe(), perturbation=PerturbationConfig("typographic", sizes=(0.25, 0.4)), epochs=2)
    whole = train(config)
    cut = replace(config, output=tmp_path / "cut")
    train(replace(cut, max_steps=None))
    for checkpoint in sorted((tmp_path / "cut" / "checkpoints").iterdir())[-1:]:
        checkpoint.unlink()
    train(replace(cut, resume="auto"))
    first, second = (load_state(sorted((f / "checkpoints").iterdir())[-1]) for f in (whole, tmp_path / "cut"))
    for key, value in first["policy"].items():
        assert torch.equal(value, second["policy"][key])
    for one, other in zip(first["average"]["mean"], second["average"]["mean"], strict=True):
        assert torch.equal(one, other)


def test_raw_and_averaged_are_exported_and_differ(tiny_run):
    folder = train(tiny_run(dpo(), perturbation=DRAWN, lr=1e-2))
    raw, averaged = (load_model(str(folder / name)).encoder.state_dict() for name in ("export", "export-averaged"))
    assert any(not torch.equal(raw[key], averaged[key]) for key in raw)


def test_lora_is_merged_in_the_export(tiny_run, clip_folder):
    folder = train(tiny_run(dpo(), perturbation=DRAWN, adapter=AdapterConfig("lora", rank=2), lr=1e-2, epochs=4))
    before, after = load_model(str(clip_folder)), load_model(str(folder / "export"))
    assert before.encoder.state_dict().keys() == after.encoder.state_dict().keys()
    pixels = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert (before.encoder(pixels) - after.encoder(pixels)).abs().max() > 1e-4


def test_the_linear_map_is_folded_exactly(tiny_run, clip_folder):
    folder = train(tiny_run(dpo_linear(), perturbation=DRAWN, epochs=20, lr=1e-2))
    weight, base = read_map(folder), load_model(str(clip_folder))
    exported = load_model(str(folder / "export"))
    pixels, texts = torch.rand(3, 3, 32, 32), ["a photo of a zebra.", "an apple"]
    with torch.no_grad():
        image, text = base.encoder(pixels), base.encode_texts(texts)
        mapped = cosines(image @ weight.T, text @ weight.T)
        assert torch.allclose(cosines(exported.encoder(pixels), exported.encode_texts(texts)), mapped, atol=1e-6)
        with folded(base, without_rotation(scale_spectrum(weight, 0.0))) as untouched:
            assert torch.allclose(untouched.encoder(pixels), image, atol=1e-6)
            assert torch.allclose(untouched.encode_texts(texts), text, atol=1e-6)
        assert (mapped - cosines(image, text)).abs().max() > 1e-4
        assert torch.allclose(base.encoder(pixels), image)  # outside, the model is what it was
    rows = metrics(folder)
    assert sum(r["adversarial_loss"] for r in rows[-8:]) < sum(r["adversarial_loss"] for r in rows[:8])


def test_the_map_trains_on_what_the_tower_says(tiny_run):
    setup = prepare(tiny_run(dpo_linear(), perturbation=DRAWN))
    table, images = setup.table, prepare(tiny_run(dpo(), perturbation=DRAWN))
    assert table.attacked_NVD.shape == (12, 2, 16) and table.read_N.all()
    drawing = images.method.perturbation
    from seaanchor.data.loader import ImageDataset, SkipLog, batches

    batch = next(batches(ImageDataset(images.images, 32), 12, workers=0, order=None, skip_log=SkipLog(images.images)))
    word, lettering = drawing.draw(7, int(batch.label_B[7]), 1, 32)
    expected = images.reference(drawing.overlay(batch.pixels_BCHW[7:8], [lettering]))[0]
    assert torch.allclose(table.attacked_NVD[7, 1], expected, atol=1e-5) and int(table.drawn_NV[7, 1]) == word
    assert torch.allclose(table.clean_ND, images.reference(batch.pixels_BCHW), atol=1e-5)


def test_triplets_and_unpaired_rows_from_a_file(tiny_run, image_folder, tmp_path):
    lines = [
        {"image": str(f), "chosen": "an apple", "rejected": "a zebra"}
        for f in sorted((image_folder / "apple").iterdir())
    ]
    lines.append({"image": str(image_folder / "zebra" / "0.jpg"), "text": "an apple", "desirable": False})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    changes = {"perturbation": PerturbationConfig("none"), "average": "none"}
    config = replace(tiny_run(kto(), **changes), train_data=str(tmp_path / "rows.jsonl"))
    assert len(metrics(train(config))) == 2
    with pytest.raises(SeaAnchorError, match="unpaired"):
        prepare(replace(tiny_run(dpo(), **changes), train_data=str(tmp_path / "rows.jsonl")))


def test_gender_flip_on_the_embedded_drawings(tiny_run):
    config = replace(
        tiny_run(gender_flip()),
        train_data="emoji-people/train",
        perturbation=gender_flip().perturbation,
        max_steps=3,
        batch_size=32,
        epochs=1,
    )
    assert len(metrics(train(config))) == 3


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"perturbation": PerturbationConfig("pgd"), "adapter": AdapterConfig("linear")}, "attack pixels"),
        ({"perturbation": PerturbationConfig("typographic"), "adapter": AdapterConfig("linear")}, "anew at every step"),
        (
            {"adapter": AdapterConfig("linear"), "anchor": AnchorConfig("lagrangian"), "perturbation": DRAWN},
            "on embeddings",
        ),
        ({"objective": ObjectiveConfig("tecoa"), "perturbation": PerturbationConfig("attribute")}, "only preferences"),
        ({"objective": ObjectiveConfig("dpo", beta=0.0)}, "beta"),
        ({"objective": ObjectiveConfig("dpo", label_smoothing=0.6)}, "label_smoothing"),
        ({"perturbation": PerturbationConfig("typographic", sizes=(0.5, 0.2))}, "sizes"),
    ],
)
def test_illegal_compositions_are_refused_before_anything_loads(changes, found):
    with pytest.raises(SeaAnchorError, match=found):
        check(replace(dpo(), **changes))


def test_data_that_does_not_fit_the_objective(tiny_run):
    with pytest.raises(SeaAnchorError, match="preferences"):
        prepare(tiny_run(dpo(), perturbation=PerturbationConfig("none")))


def test_preference_recipes_are_legal():
    for name in ("dpo", "ipo", "kto", "ppo", "typographic-ce", "dpo-lore", "dpo-linear", "gender-flip"):
        assert check(RECIPES[name]())
