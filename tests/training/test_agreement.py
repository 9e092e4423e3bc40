"""What the processes of a run compare before its first step tells unlike runs apart."""

import shutil
from dataclasses import replace

import pytest
from PIL import Image

from seaanchor import registry
from seaanchor.config.recipes import fare
from seaanchor.data import fingerprint
from seaanchor.data.folder import list_images
from seaanchor.errors import SeaAnchorError
from seaanchor.training.agreement import facts
from seaanchor.training.run import train
from seaanchor.training.setup import prepare


@pytest.fixture
def twins(image_folder, tmp_path):
    """Two folders whose files are called the same, one of which shows another picture in the second."""
    shutil.copytree(image_folder, tmp_path / "one")
    shutil.copytree(image_folder, tmp_path / "two")
    Image.new("RGB", (50, 40)).save(next(iter(sorted((tmp_path / "two").rglob("*.jpg")))))
    return tmp_path / "one", tmp_path / "two"


def test_other_images_under_the_same_names_are_told_apart(tiny_run, twins):
    config = tiny_run(fare(), max_steps=1)
    one, two = (facts(prepare(replace(config, train_data=str(folder)))) for folder in twins)
    assert {name for name in one if one[name] != two[name]} == {"the hash of the sizes of images"}
    assert one == facts(prepare(replace(config, train_data=str(twins[0]))))


def test_plugins_of_other_contents_are_told_apart(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_plugins", {})
    found = []
    for number, folder in enumerate((tmp_path / "a", tmp_path / "b", tmp_path / "c")):
        folder.mkdir()
        (folder / "own.py").write_text(f"SCALE = {number > 0}\n")
        plugin = registry.load_plugin(str(folder / "own.py"))
        found.append(facts(prepare(tiny_run(fare(), max_steps=1, plugins=(plugin,)))))
    one, two, three = found
    assert {name for name in one if one[name] != two[name]} == {"the source of the plugins"}
    assert two == three


def test_processors_with_and_without_fast_bf16_are_told_apart(tiny_run, monkeypatch):
    """Their settings are equal, and one of them computes in fp32."""
    setup, found = prepare(tiny_run(fare(), max_steps=1, precision="bf16")), []
    for fast in (True, False):
        monkeypatch.setattr("seaanchor.training.precision.computes_in_bf16", lambda device, fast=fast: fast)
        found.append(facts(setup))
    assert {name for name in found[0] if found[0][name] != found[1][name]} == {"the precision of updates here"}


def test_a_run_does_not_go_on_with_them(tiny_run, twins):
    config = replace(tiny_run(fare(), max_steps=2, resume="auto"), train_data=str(twins[0]))
    train(config)
    shutil.rmtree(twins[0])
    twins[1].rename(twins[0])
    with pytest.raises(SeaAnchorError, match="started with other image sizes"):
        train(config)


def test_of_many_images_some_are_measured(twins, monkeypatch):
    images = list_images(twins[0])
    whole = fingerprint.sizes_digest(images)
    monkeypatch.setattr(fingerprint, "MEASURED", 3)
    measured = []
    size = fingerprint.num_bytes
    monkeypatch.setattr(fingerprint, "num_bytes", lambda item: measured.append(item) or size(item))
    assert fingerprint.sizes_digest(images) != whole
    assert measured == [images.paths[i] for i in (0, 4, 8)]
