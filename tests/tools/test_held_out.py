"""Held-out photos as class folders: the right files under the right classes, and the product reads them."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from seaanchor.data.folder import list_images
from seaanchor.errors import SeaAnchorError
from tools.pretraining.__main__ import app
from tools.pretraining.caltech import three_parts
from tools.pretraining.gather import gather
from tools.pretraining.held_out import arrange


def photo(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (len(file.name), 0, 0)).save(file)


def test_the_test_part_of_caltech_by_the_names_of_its_classes(tmp_path):
    for folder in ("Motorbikes", "grand_piano", "BACKGROUND_Google"):
        for i in range(9):
            photo(tmp_path / "caltech" / folder / f"image_{i:04d}.jpg")
    assert arrange("caltech101", tmp_path / "caltech", tmp_path / "out") == 6
    found = list_images(tmp_path / "out")
    assert found.class_names == ("grand piano", "motorbike")
    for name, folder in (("grand piano", "grand_piano"), ("motorbike", "Motorbikes")):
        wanted = {file.name for file in three_parts(tmp_path / "caltech" / folder)[2]}
        assert {path.name for path in found.paths if path.parent.name == name} == wanted


def test_photos_of_imagenet_get_its_names(tmp_path, capsys):
    for name in ("n04008634_projectile.JPEG", "n01440764_tench.JPEG", "gallery.JPEG"):
        photo(tmp_path / "flat" / name)
    app(["held-out", "imagenet", str(tmp_path / "flat"), str(tmp_path / "out")], result_action="return_value")
    assert "2 photos" in capsys.readouterr().out
    found = list_images(tmp_path / "out", Path("imagenet"))
    assert [found.class_names[label] for label in found.labels] == ["tench", "projectile"]


def test_labels_of_the_competition_count_from_one(tmp_path):
    for name in ("aa", "bb"):
        photo(tmp_path / "nips" / "images" / f"{name}.png")
    table = "ImageId,URL,TrueLabel,TargetClass\naa,,1,5\nbb,,1000,6\n"
    (tmp_path / "nips" / "dev_dataset.csv").write_text(table)
    assert arrange("nips2017", tmp_path / "nips", tmp_path / "out") == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["n01440764", "n15075141"]
    (tmp_path / "nips" / "images" / "bb.png").unlink()
    with pytest.raises(SeaAnchorError, match=r"bb\.png"):
        arrange("nips2017", tmp_path / "nips", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_classes_under_their_names(tmp_path, capsys):
    """Of ImageNet by the product's own names, of others by WordNet's; a slash would be another folder."""
    photo(tmp_path / "flat" / "n04008634_projectile.JPEG")
    command = ["held-out", "imagenet", str(tmp_path / "flat"), str(tmp_path / "named"), "--named"]
    app(command, result_action="return_value")
    assert [path.name for path in (tmp_path / "named").iterdir()] == ["projectile"]
    for i in range(2):
        photo(tmp_path / "tiny" / "val" / "images" / f"val_{i}.JPEG")
    rows = "val_0.JPEG\tn01440764\t0\t0\t1\t1\nval_1.JPEG\tn00007846\t0\t0\t1\t1\n"
    (tmp_path / "tiny" / "val" / "val_annotations.txt").write_text(rows)
    (tmp_path / "tiny" / "words.txt").write_text("n00007846\tperson/individual, someone\nn01440764\tTinca tinca\n")
    assert arrange("tiny-imagenet", tmp_path / "tiny", tmp_path / "out", named=True) == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["person or individual", "tench"]


def test_photos_of_several_folders_without_those_held_out(tmp_path, capsys):
    rng = torch.Generator().manual_seed(0)
    cells = [torch.randint(0, 256, (4, 6, 3), dtype=torch.uint8, generator=rng) for _ in range(5)]
    pictures = [cell.repeat_interleave(20, 0).repeat_interleave(20, 1).numpy() for cell in cells]
    for number, name in enumerate(("a/x.png", "a/deep/x.png", "b/x.png", "b/copy.png")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pictures[number]).save(tmp_path / name)
    (tmp_path / "test").mkdir()
    Image.fromarray(pictures[3][:, ::-1]).save(tmp_path / "test" / "mirrored.png")  # of b/copy.png
    Image.fromarray(pictures[4]).save(tmp_path / "test" / "other.png")
    folders = [str(tmp_path / name) for name in ("a", "b")]
    command = ["gather", str(tmp_path / "all"), *folders, "--held-out", str(tmp_path / "test")]
    app(command, result_action="return_value")
    assert "3 photos" in (said := capsys.readouterr()).out
    assert "2 photos, 1 of which look like held-out ones" in said.out + said.err
    found = {path.resolve().relative_to(tmp_path).as_posix() for path in (tmp_path / "all").iterdir()}
    assert found == {"a/x.png", "a/deep/x.png", "b/x.png"} and len(list_images(tmp_path / "all").paths) == 3
    with pytest.raises(SeaAnchorError, match="exists"):
        gather([tmp_path / "a"], [tmp_path / "test"], tmp_path / "all")
    (tmp_path / "a" / "torn.png").write_bytes(b"no picture")
    with pytest.raises(SeaAnchorError, match=r"torn\.png"):
        gather([tmp_path / "a"], [tmp_path / "test"], tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_what_is_wrong_is_one_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SeaAnchorError, match="holds no photo"):
        arrange("imagenet", tmp_path / "empty", tmp_path / "out")
    with pytest.raises(SeaAnchorError, match="exists"):
        arrange("imagenet", tmp_path / "empty", tmp_path)
    with pytest.raises(SeaAnchorError, match="caltech101, imagenet, nips2017"):
        arrange("food", tmp_path / "empty", tmp_path / "out")
