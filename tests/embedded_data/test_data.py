"""The embedded data are what their cards say: counted, disjoint, licensed, small."""

import hashlib
import json
import re
import zlib
from collections import Counter, defaultdict
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

import seaanchor
from seaanchor.data.people import GENDERS, open_people
from seaanchor.data.places import EMBEDDED
from seaanchor.data.sources import open_images

FONTS = EMBEDDED.parent / "fonts"
EXACT = "donot_use_mm_for_euclid_dist"
SMALL = ("photos-mini", "emoji", "emoji-people")
SETS = ("photos", *SMALL)


@cache
def pictures(folder: Path) -> dict[Path, Image.Image]:
    """Every picture below a folder, decoded."""
    return {f: Image.open(f).convert("RGB") for f in sorted(folder.rglob("*")) if f.suffix in (".png", ".jpg")}


def thumbnail(file: Path) -> np.ndarray:
    """16 x 16 grey levels of the centre square."""
    with Image.open(file) as image:
        grey = image.convert("L")
    side = min(grey.size)
    left, top = (grey.width - side) / 2, (grey.height - side) / 2
    square = grey.resize((16, 16), Image.Resampling.BOX, box=(left, top, left + side, top + side))
    return np.asarray(square, np.float32)


@cache
def hashes(folder: Path) -> dict[str, Path]:
    """Hash of the pixels, whatever the encoding → file."""
    return {hashlib.sha256(image.tobytes()).hexdigest(): file for file, image in pictures(folder).items()}


@pytest.mark.parametrize(("name", "classes", "each"), [("photos", 40, 20), ("photos-mini", 40, 20), ("emoji", 100, 1)])
def test_classes_and_counts(name, classes, each):
    train, test = open_images(f"{name}/train"), open_images(f"{name}/test")
    assert train.class_names == test.class_names
    assert len(train.class_names) == classes
    for images in (train, test):
        assert set(Counter(images.labels).values()) == {each}
        assert len(images.paths) == classes * each


@pytest.mark.parametrize("name", SMALL)
def test_every_picture_is_64_pixels_rgb(name):
    found = pictures(EMBEDDED / name)
    assert len(found) >= 200
    for file in found:
        with Image.open(file) as stored:
            assert (stored.mode, stored.size) == ("RGB", (64, 64)), file
    assert min(np.asarray(image).std() for image in found.values()) > 5  # none is blank


def test_photos_have_real_shapes_and_a_validation_split():
    train, validation = open_images("photos/train"), open_images("photos/validation")
    assert validation.class_names == train.class_names
    assert set(Counter(validation.labels).values()) == {10}
    sizes = {image.size for image in pictures(EMBEDDED / "photos").values()}
    assert {min(size) for size in sizes} == {160}
    assert len(sizes) > 20


@pytest.mark.parametrize("name", ["photos", "photos-mini"])
def test_no_photo_of_a_split_looks_like_one_of_another(name):
    """By 16 x 16 grey levels of the centre square, mirrored or not; validation and test were chosen so."""
    small = {
        split: np.stack([thumbnail(file) for file in sorted((EMBEDDED / name / split).rglob("*.jpg"))])
        for split in ("train", "validation", "test")
        if (EMBEDDED / name / split).is_dir()
    }
    for one, other in combinations(small.values(), 2):
        for turned in (other, other[..., ::-1]):
            distance = torch.cdist(
                torch.from_numpy(one).flatten(1), torch.from_numpy(turned.copy()).flatten(1), compute_mode=EXACT
            )
            assert distance.min() / 16 > 2.5, "copies lie below 2.3"


def test_photos_show_what_photos_mini_shows():
    """The same photos under the same names: what was measured on one split may be measured on the other."""
    for file in sorted((EMBEDDED / "photos-mini").glob("t*/*/0[0-3].jpg")):
        larger = EMBEDDED / "photos" / file.relative_to(EMBEDDED / "photos-mini")
        assert np.abs(thumbnail(file) - thumbnail(larger)).mean() < 12, file  # others: 30 and more


@pytest.mark.parametrize("name", ["photos-mini", "emoji"])
def test_no_picture_is_in_train_and_test(name):
    train, test = hashes(EMBEDDED / name / "train"), hashes(EMBEDDED / name / "test")
    assert not {train[h].name for h in set(train) & set(test)}
    assert len(train) == len(pictures(EMBEDDED / name / "train"))  # nor twice in one of them
    assert len(test) == len(pictures(EMBEDDED / name / "test"))


def small_grey(folder: Path) -> torch.Tensor:
    """Pictures (N, 16, 16) in grey levels."""
    small = [image.convert("L").resize((16, 16), Image.Resampling.BOX) for image in pictures(folder).values()]
    return torch.from_numpy(np.stack([np.asarray(image, np.float32) for image in small]))


def test_no_test_photo_has_a_near_copy():
    """Caltech-101 holds some photographs twice, and some mirrored: none of those may stand on both sides."""
    train, test = small_grey(EMBEDDED / "photos-mini" / "train"), small_grey(EMBEDDED / "photos-mini" / "test")
    for others in (train, train.flip(-1)):
        assert torch.cdist(test.flatten(1), others.flatten(1)).min() / 16 > 4
    among = (
        torch.minimum(
            torch.cdist(test.flatten(1), test.flatten(1)), torch.cdist(test.flatten(1), test.flip(-1).flatten(1))
        )
        / 16
    )
    assert (among + 1e3 * torch.eye(len(test))).min() > 4


def people() -> list[dict[str, str]]:
    return [json.loads(line) for line in (EMBEDDED / "emoji-people" / "people.jsonl").read_text().splitlines()]


def test_people_table_agrees_with_the_files():
    named = [row["file"] for row in people()]
    assert len(named) == len(set(named))
    found = {str(f.relative_to(EMBEDDED / "emoji-people")) for f in pictures(EMBEDDED / "emoji-people")}
    assert set(named) == found
    for row in people():
        assert set(row) == {"file", "role", "gender", "skin_tone", "half"}
        assert row["gender"] in ("man", "woman", "person")
        assert row["half"] in ("train", "test")
        stem = Path(row["file"]).stem
        assert stem.startswith(row["gender"] + "-")
        assert row["role"].replace(" ", "-") in stem


def test_people_roles_are_split_and_drawn_as_both():
    halves = defaultdict(set)
    genders = defaultdict(Counter)
    for row in people():
        halves[row["half"]].add(row["role"])
        genders[row["role"]][row["gender"]] += 1
    assert not halves["train"] & halves["test"]
    assert abs(len(halves["train"]) - len(halves["test"])) <= 1
    assert len(halves["test"]) >= 20
    for role, count in genders.items():
        assert count["man"] == count["woman"] >= 1, role  # so that a constant answer is right half of the time


def test_people_load_by_half():
    train, test = (open_people(EMBEDDED / "emoji-people", half) for half in ("train", "test"))
    assert not set(train.roles) & set(test.roles)
    for half in (train, test):
        assert Counter(half.gender)[0] == Counter(half.gender)[1]
        for path, role, gender, label in zip(
            half.images.paths, half.role, half.gender, half.images.labels, strict=True
        ):
            assert path.name.startswith(GENDERS[gender] + "-")
            assert half.images.class_names[label] == f"{GENDERS[gender]} {half.roles[role]}"


def test_fonts_are_disjoint_readable_and_licensed():
    train, unseen = (sorted((FONTS / split).glob("*.?tf")) for split in ("train", "unseen"))
    assert len(train) >= 6
    assert len(unseen) >= 3
    assert not {f.name for f in train} & {f.name for f in unseen}
    assert not {hashlib.sha256(f.read_bytes()).hexdigest() for f in train} & {
        hashlib.sha256(f.read_bytes()).hexdigest() for f in unseen
    }
    families = {
        split: {ImageFont.truetype(str(f), 20).getname()[0] for f in fonts}
        for split, fonts in (("train", train), ("unseen", unseen))
    }
    assert not families["train"] & families["unseen"]
    licences = {re.sub(r"[^a-z]", "", f.name.split("-")[0].lower()): f for f in (FONTS / "licenses").iterdir()}
    readme = (FONTS / "README.md").read_text()
    for font in (*train, *unseen):
        licence = licences[re.sub(r"[^a-z]", "", font.name.split("-")[0].split(".")[0].lower())]
        assert len(licence.read_text()) > 1000, font
        assert f"`{font.name}`" in readme
        assert f"licenses/{licence.name}" in readme


@pytest.mark.parametrize("name", SETS)
def test_cards_state_source_licence_and_the_checksum_of_what_is_there(name):
    """The checksum is that of the card's own shell command."""
    folder = EMBEDDED / name
    card = (folder / "CARD.md").read_text()
    assert "licence" in card.lower()
    assert "## What it is not" in card
    files = [f for f in folder.rglob("*") if f.is_file() and f.name != "CARD.md"]
    lines = sorted(
        f"{hashlib.sha256(f.read_bytes()).hexdigest()}  ./{f.relative_to(folder).as_posix()}\n" for f in files
    )
    (stated,) = re.findall(r"`([0-9a-f]{64})`", card)
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == stated
    count, size = len(files), sum(f.stat().st_size for f in files)
    assert f"{count:,} files" in card
    assert f"{size:,} bytes" in card


def test_licences_of_the_art_are_there():
    for name in ("cldr-Unicode-3.0.txt", "fluent-emoji-MIT.txt", "noto-emoji-Apache-2.0.txt"):
        assert len((EMBEDDED / "licenses" / name).read_text()) > 500


def test_words_are_plain():
    words = (EMBEDDED / "words.txt").read_text().split()
    assert len(words) == len(set(words)) > 1000
    assert all(3 <= len(word) <= 10 and word.isascii() and word.isalpha() and word.islower() for word in words)


def test_the_package_stays_below_70_megabytes():
    """As a wheel, in which files are compressed."""
    files = [f for f in Path(seaanchor.__file__).parent.rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    assert 50e6 < sum(len(zlib.compress(f.read_bytes())) for f in files) < 70e6
