"""No name of a folder above the working or the home folder leaves the machine, and every path still leads where it
led."""

from pathlib import Path

import pytest

from seaanchor.utils.paths import expanded, portable


@pytest.fixture
def places(tmp_path, monkeypatch):
    home, work = tmp_path / "home" / "ada", tmp_path / "home" / "ada" / "project"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(home))
    return home, work


def test_paths_below_the_working_and_the_home_folder_are_shortened(places):
    home, work = places
    assert portable(f"{work}/runs/x/export") == "runs/x/export"
    assert portable(f"{work}/photos-mini") == "./photos-mini"  # not the embedded set of that name
    assert portable(f"local-dir:{home}/models/b") == "local-dir:~/models/b"
    assert (
        portable(f"2 of 9 images in {work}/data/set were skipped ({home}/x.jpg: broken)")
        == "2 of 9 images in data/set were skipped (~/x.jpg: broken)"
    )
    assert portable({"a": [f"{work}/b/c", 3], "t": (f"{home}/d",)}) == {"a": ["b/c", 3], "t": ("~/d",)}


def test_other_texts_stay(places):
    home, work = places
    for text in (
        f"{home}2/x",
        f"/else{work}/x",
        "/data/imagenet",
        "a/b",
        "",
        "a photo of a {}.",
        str(work.parent.parent),
    ):
        assert portable(text) == text


def test_what_was_shortened_leads_to_the_same_place(places):
    home, work = places
    for path in (f"{work}/runs/x", f"{work}/x", f"{home}/m/x", "/data/x"):
        assert Path(expanded(portable(path))).absolute() == Path(path)
    assert expanded(portable(f"timm:local-dir:{home}/m")) == f"timm:local-dir:{home}/m"


def test_at_the_root_of_the_disk_nothing_is_below(monkeypatch):
    monkeypatch.chdir("/")
    monkeypatch.setenv("HOME", "/")
    assert portable("/data/x") == "/data/x"
