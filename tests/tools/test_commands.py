"""The scripts of the repository start from the root of a clone, as the documents write them."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from seaanchor.api import train_from_config
from seaanchor.config.recipes import fare_tiny
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.model_pair import reference_of
from tools.ship_variant import ship

ROOT = Path(__file__).parents[2]


def run(*command: str) -> str:
    """The output of a command in the root of the clone, with the package alone on the path."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "COLUMNS": "120"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", ["build_data", "ship_variant"])
def test_a_script_starts_by_its_path(script):
    assert "--out" in run(sys.executable, f"tools/{script}.py", "--help")


def test_pretraining_starts_as_a_module():
    assert "--tiny-imagenet" in run(sys.executable, "-m", "tools.pretraining", "--help")


def test_make_hands_further_options_to_the_studies():
    command = run("make", "-n", "reproduce", "NAME=lore-front --extra cifar10=DIR")
    assert "-m studies lore-front --extra cifar10=DIR" in command


def test_a_variant_that_ships_answers_as_the_run_it_was_made_from(tmp_path):
    recipe = replace(fare_tiny(), max_steps=1, batch_size=4, warmup=0, output=tmp_path / "run")
    train_from_config(replace(recipe, perturbation=replace(recipe.perturbation, num_steps=1)))
    ship(tmp_path / "run", tmp_path / "variant")
    assert not (tmp_path / "variant" / "bpe_2000.txt.gz").exists()  # the text side is that of the package
    variant, trained = load_model(str(tmp_path / "variant")), load_model(str(tmp_path / "run" / "export"))
    texts, pixels = ["a photo of a crab.", "a photo of a ferry."], torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(variant.encode_texts(texts), trained.encode_texts(texts))
        own, theirs = variant.encoder(pixels), trained.encoder(pixels)
    assert (own - theirs).norm() < 1e-2 * theirs.norm()  # fp16
    assert reference_of(str(tmp_path / "variant")) == ("seaanchor-tiny", None)


def test_a_run_of_another_model_does_not_ship(tmp_path):
    (tmp_path / "run" / "export").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text("model: ViT-B-32\n")
    with pytest.raises(SeaAnchorError, match="ViT-B-32"):
        ship(tmp_path / "run", tmp_path / "variant")
    assert not (tmp_path / "variant").exists()
