"""The quickstart with a few batches and a few photos: every file it promises, and nothing of others is overwritten."""

import json
from dataclasses import replace

import pytest

from seaanchor.cli import quickstart
from seaanchor.config.recipes import dpo_linear_lite, dpo_lite, fare_quick, lore_quick
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.typographic_plan import TypographicPlan


@pytest.fixture
def short(monkeypatch):
    for setting, value in {"BASE": "seaanchor-tiny", "DATA": "photos-mini", "SAMPLES": 16}.items():
        monkeypatch.setattr(quickstart, setting, value)  # its siblings are not embedded: no long runs stand beside
    monkeypatch.setattr(quickstart, "DRAWINGS", 1)
    for name, recipe in (
        ("fare_quick", fare_quick),
        ("lore_quick", lore_quick),
        ("dpo_lite", dpo_lite),
        ("dpo_linear_lite", dpo_linear_lite),
    ):
        drawn = recipe().perturbation
        drawn = replace(drawn, variants=1) if drawn.variants else drawn
        config = replace(recipe(), max_steps=3, batch_size=4, warmup=0, log_every=1, perturbation=drawn)
        config = replace(config, train_data="photos-mini/train", train_samples=40)
        monkeypatch.setattr(quickstart, name, lambda config=config: config)


@pytest.mark.slow
def test_all_that_it_promises(short, tmp_path, capsys):
    output = tmp_path / "quick"
    picture = quickstart.quickstart(output)
    assert picture.stat().st_size > 20_000 and (output / "steer" / "steering.png").stat().st_size > 20_000
    table = (output / "results.md").read_text()
    for line in (
        "untouched",
        "FARE, this run",
        "LORE, this run",
        "drawn word wins",
    ):
        assert line in table
    results = json.loads((output / "results.json").read_text())
    assert [row["clean"]["n"] for row in results] == [16] * 3
    assert results[0]["clean"]["accuracy"] > 0.4  # the embedded model, untouched
    assert "seaanchor train lore --model ViT-B-32" in capsys.readouterr().out
    quickstart._fresh(output)  # an earlier one is replaced
    assert not (output / "results.json").exists()


def test_another_folder_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(SeaAnchorError, match="no quickstart"):
        quickstart.quickstart(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_training_and_testing_share_no_word_and_no_font():
    training, testing = dpo_lite().perturbation, TypographicPlan("odd", "unseen")
    names = [str(i) for i in range(9)]
    from seaanchor.config.assemble import perturbation_of

    assert not set(perturbation_of(training, names).drawable) & set(testing.attack(names).drawable)
    assert training.fonts != testing.fonts
