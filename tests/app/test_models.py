"""Which models stand on the page: the embedded ones, or a run of one's own."""

import shutil
from pathlib import Path

import pytest
import torch

from seaanchor.app.answers import answers, classifier
from seaanchor.app.cards import cards, movement_bars, problem, verdict
from seaanchor.app.models import cast_of, default_names, gone
from seaanchor.app.movement import movement
from seaanchor.app.pictures import pixels_of, read_upload
from seaanchor.app.scene import Asked, Scene, scenes
from seaanchor.app.settings import MODEL, default_class_names, example_files
from seaanchor.encoders.embedded import embedded_models
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError

NAMES = default_class_names()
PHOTO = example_files()[1]
HARDENED = Path(__file__).parents[2] / "models" / "seaanchor-tiny-fare"


def test_the_embedded_models_stand_there_by_default():
    found = cast_of("", "cpu")
    assert [player.label for player in found.players] == list(default_names(embedded_models()))
    assert found.steered is None and found is cast_of("  ", "cpu")


def test_hardened_siblings_of_the_base_stand_beside_it_and_no_others():
    shipped = ["seaanchor-lite", "seaanchor-lite-dpo", "seaanchor-tiny", "seaanchor-tiny-lore"]
    assert default_names(shipped, "seaanchor-lite") == ("seaanchor-lite", "seaanchor-lite-dpo")
    assert default_names(shipped) == (MODEL, *(name for name in shipped if name.startswith(f"{MODEL}-")))


def test_a_run_takes_the_place_of_the_hardened_model(hardened_run):
    for source in (hardened_run, hardened_run / "export"):
        untouched, own = cast_of(str(source), "cpu").players
        assert own.label == "hardened" and untouched.label == "seaanchor-tiny, untouched"
        pixels = pixels_of(own, read_upload(PHOTO))
        expected = load_model(str(HARDENED)).encoder(pixels)
        assert torch.equal(own.model.encoder(pixels), expected)
        assert not torch.equal(untouched.model.encoder(pixels), expected)


def test_a_run_that_was_trained_again_is_read_again(hardened_run):
    first = cast_of(str(hardened_run), "cpu")
    assert cast_of(str(hardened_run), "cpu") is first
    shutil.rmtree(hardened_run / "export")
    with pytest.raises(SeaAnchorError, match="no trained model yet"):
        cast_of(str(hardened_run), "cpu")


def test_a_folder_that_was_moved_away_is_said_and_still_answers(hardened_run):
    found = cast_of(str(hardened_run), "cpu")
    assert gone(found) == ""
    hardened_run.rename(hardened_run.with_name("elsewhere"))
    assert f"{hardened_run} was moved or removed" in gone(found)
    assert list(scenes(found, Asked(read_upload(PHOTO), NAMES)))
    with pytest.raises(SeaAnchorError, match="does not exist"):
        cast_of(str(hardened_run), "cpu")


def test_t_of_a_linear_map_moves_the_answers(steered_run):
    found = cast_of(str(steered_run), "cpu")
    untouched, steered = found.players
    pixels = pixels_of(untouched, read_upload(PHOTO))
    plain = answers(classifier(untouched, NAMES), pixels)
    at_0, at_1 = (answers(classifier(steered, NAMES, t), pixels) for t in (0.0, 1.0))
    assert [a.share for a in at_0] == pytest.approx([a.share for a in plain], abs=1e-4)
    assert at_1[0].share != pytest.approx(plain[0].share, abs=1e-3)
    with pytest.raises(SeaAnchorError, match="out of range"):
        classifier(steered, NAMES, 1e9)


def test_t_moves_objects_reading_and_gender(steered_run, monkeypatch):
    monkeypatch.setattr("seaanchor.app.movement.PHOTOS", 40)
    steered = cast_of(str(steered_run), "cpu").steered
    rows = {row.name: row for row in movement(steered, 0.0).rows}
    assert all(row.now == row.untouched for row in rows.values()) and len(rows) == 4
    moved = movement(steered, 1.0)
    assert any(row.now != row.untouched for row in moved.rows)
    assert [row.untouched for row in moved.rows] == [row.untouched for row in rows.values()]
    assert {row.now.n for row in moved.rows if "word" in row.name} == {40, 400}
    shown = movement_bars(moved)
    assert "t = 1" in shown and f"{moved.rows[0].now.accuracy:.0%}" in shown and "smoke test" in shown
    with pytest.raises(SeaAnchorError, match="t = 3"):
        movement(steered, 3.0)
    with pytest.raises(SeaAnchorError, match="no linear map"):
        movement(cast_of("", "cpu").players[0], 1.0)


def test_cards_escape_what_comes_from_outside():
    (scene,) = scenes(cast_of("", "cpu"), Asked(read_upload(PHOTO), ["<b>car</b>", "<b>dog</b>"]))
    text = cards(scene, "<i>note</i>") + problem(SeaAnchorError("<u>x</u>", "<u>y</u>", "<u>z</u>"))
    assert "&lt;b&gt;car" in text and "&lt;i&gt;note" in text and text.count("&lt;u&gt;") == 3
    assert "<b>car" not in text and "<i>note" not in text and "<u>" not in text


def test_a_card_says_whether_the_attack_worked():
    dog = read_upload(next(file for file in example_files() if file.parent.name == "dalmatian"))
    *_, last = scenes(cast_of("", "cpu"), Asked(dog, NAMES, levels=1))
    untouched, hardened = last.sides[:2]
    assert verdict(hardened, last) == "still answers dalmatian"
    assert verdict(untouched, last) == (
        f"answers {untouched.now[0].name} instead of dalmatian after {untouched.step.number} steps"
    )
    text = cards(last)
    assert "sa-changed" in text and "sa-kept" in text and "128 times as strong" in text and "<progress" not in text
    running = next(scene for scene in scenes(cast_of("", "cpu"), Asked(dog, NAMES, levels=1)) if scene.sides[0].step)
    assert "<progress" in cards(running) and isinstance(running, Scene)
