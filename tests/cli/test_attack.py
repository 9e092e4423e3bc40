"""`seaanchor attack` with a model: what is written is what was said of it."""

import json
import shutil

import pytest
import torch
from PIL import Image

from seaanchor.attacks.ball import Ball
from seaanchor.cli.attack_record import sum_lines
from seaanchor.data.images import read_image
from seaanchor.data.preprocessing import Preprocessing
from seaanchor.data.sources import open_images
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.load import load_model
from seaanchor.evaluation import attacked_files
from seaanchor.evaluation.attacked_files import Victim, write_attacked
from seaanchor.evaluation.attacked_source import gradient_attack
from seaanchor.evaluation.result_files import read_result
from seaanchor.evaluation.zeroshot import classifier

TINY = "seaanchor-tiny"


def record(folder):
    return json.loads((folder / "answers.json").read_text())


def attacked(run, output, *flags, data="photos-mini/test", kind="pgd", samples=12, batch_size=5):
    """Twelve embedded photos under attack: the output and the record."""
    flags = ("--samples", samples, "--batch-size", batch_size, "--device", "cpu", *flags)
    code, out, err = run("attack", kind, "--data", data, "--output", output, *flags)
    assert code == 0, err
    return out, record(output)


@pytest.fixture(scope="module")
def tiny():
    return load_model(TINY)


def own_answers(model, folder, found):
    """What a plain zero-shot classifier answers to the files."""
    head = build_head(model, found["settings"]["class_names"])
    files = [folder / row["file"] for row in found["images"]]
    pixels = torch.stack([read_image(file, model.encoder.preprocessing) for file in files]).float() / 255
    with torch.no_grad():
        answer = head(model.encoder(pixels)).argmax(-1).tolist()
    return [found["settings"]["class_names"][i] for i in answer]


def test_the_answers_are_those_to_the_files(run, tmp_path, tiny):
    out, found = attacked(run, tmp_path / "a", "--epsilon", "2/255")
    assert own_answers(tiny, tmp_path / "a", found) == [row["after"]["name"] for row in found["images"]]
    for row in found["images"]:
        assert row["right_after"] == (row["after"]["name"] == row["label"]) and row["largest_change"] <= 2
        assert row["difference"].startswith("difference/") and not row["read_differently"]
        assert Image.open(tmp_path / "a" / row["difference"]).size == Image.open(tmp_path / "a" / row["file"]).size
    sums = found["summary"]
    assert sums["images"] == 12 and sums["right_before"] > sums["right_after"]
    assert f"12 images: {sums['right_before']} answered rightly before, {sums['right_after']} after" in out


def test_an_interruption_changes_nothing(run, tmp_path, monkeypatch):
    _, whole = attacked(run, tmp_path / "whole")
    seen = attacked_files._attacked

    def killed(*given):
        if (tmp_path / "parts" / "unfinished.jsonl").read_text().count("\n") > 5:
            raise KeyboardInterrupt
        return seen(*given)

    monkeypatch.setattr(attacked_files, "_attacked", killed)
    flags = ("--data", "photos-mini/test", "--output", tmp_path / "parts", "--samples", 12, "--device", "cpu")
    code, _, _ = run("attack", "pgd", *flags, "--batch-size", 5)
    journal = tmp_path / "parts" / "unfinished.jsonl"
    assert code == 130 and not (tmp_path / "parts" / "answers.json").exists()
    cut = '{"number": 11, "cut": "é'.encode()[:-1]  # as a kill leaves it, in the middle of a letter
    journal.write_bytes(journal.read_bytes() + cut)
    monkeypatch.setattr(attacked_files, "_attacked", seen)
    _, parts = attacked(run, tmp_path / "parts")
    names = [(row["number"], row["after"]["name"], row["right_after"]) for row in whole["images"]]
    assert [(row["number"], row["after"]["name"], row["right_after"]) for row in parts["images"]] == names
    for row in whole["images"]:
        assert (tmp_path / "parts" / row["file"]).read_bytes() == (tmp_path / "whole" / row["file"]).read_bytes()
    assert not journal.exists()
    again, _ = attacked(run, tmp_path / "parts")  # done: told again
    assert "12 images" in again
    code, _, err = run("attack", "pgd", *flags, "--epsilon", "1/255")
    assert code == 2 and "other settings (epsilon)" in err


def test_one_picture_with_names_and_no_class_folder(run, tmp_path, image_folder):
    picture = tmp_path / "a dog.jpg"
    shutil.copy(image_folder / "zebra" / "0.jpg", picture)
    names = ("--class-names", "zebra,apple,red fox,car,cat")
    out, found = attacked(run, tmp_path / "a", *names, "--epsilon", "8/255", data=picture, kind="apgd")
    (row,) = found["images"]
    assert row["label"] is None and row["right_before"] and row["file"] == "attacked/000000_a_dog.png"
    assert "1 image: 0 with the same answer as before, 1 with another" in out and not row["right_after"]
    code, _, err = run("attack", "pgd", "--data", picture, "--output", tmp_path / "b")
    assert code == 2 and "--class-names cat,dog,car" in err and not (tmp_path / "b").exists()


def test_a_word_and_what_the_model_says_of_it(run, tmp_path, tiny):
    flags = ("--model", TINY, "--sizes", 0.2, 0.4)
    out, found = attacked(run, tmp_path / "a", *flags, kind="typographic")
    assert all(row["word"] not in (None, row["label"]) for row in found["images"]) and " + " in out
    assert own_answers(tiny, tmp_path / "a", found) == [row["after"]["name"] for row in found["images"]]
    code, _, err = run("attack", "typographic", "--data", "photos", "--output", tmp_path / "b", "--samples", 3)
    assert code == 2 and "--samples without --model" in err


def test_a_model_that_crops_is_judged_on_what_reaches_it(tmp_path, tiny, image_folder):
    """It resizes to 80 pixels and crops 64, so that a file of 64 pixels is not read as it was made."""
    how, images, names = Preprocessing(64, resize_size=80), open_images(image_folder), ("apple", "red fox", "zebra")
    victim = Victim(classifier(tiny, build_head(tiny, names), torch.device("cpu")), names, how, torch.device("cpu"))
    ball = Ball("linf", 4 / 255)
    found = write_attacked(images, victim, gradient_attack("pgd", ball, 5, 0), ball, tmp_path / "a", {})
    assert found["summary"]["read_differently"] == 12 and found == record(tmp_path / "a")
    pixels = torch.stack([read_image(tmp_path / "a" / row["file"], how) for row in found["images"]]).float() / 255
    with torch.no_grad():
        answer = victim.logits(pixels).argmax(-1).tolist()
    assert [names[i] for i in answer] == [row["after"]["name"] for row in found["images"]]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--epsilon", "0.5/255"), "at least 1/255"),
        (("--epsilon", "4"), "4/255"),
        (("--num-steps", 0), "--num-steps 0"),
        (("--samples", 0), "--samples 0"),
        (("--batch-size", 0), "--batch-size 0"),
        (("--device", "toaster"), "toaster"),
    ],
)
def test_settings_out_of_range_are_refused_before_anything_is_written(run, tmp_path, flags, said):
    code, _, err = run("attack", "pgd", "--data", "photos-mini/test", "--output", tmp_path / "a", *flags)
    assert code == 2 and said in err and "Traceback" not in err and not (tmp_path / "a").exists()


def test_broken_pictures_are_counted_and_a_folder_of_them_is_refused(run, tmp_path, image_folder):
    (image_folder / "zebra" / "0.jpg").write_bytes(b"no image")
    out, found = attacked(run, tmp_path / "a", data=image_folder)
    assert "1 of 12 images" in out and len(found["images"]) == 11 and "0.jpg" in found["skipped"]


@pytest.mark.exhaustive
def test_the_written_folder_evaluates_to_the_same_share(run, tmp_path):
    out, found = attacked(run, tmp_path / "a", "--epsilon", "2/255", samples=80)
    assert "evaluate them: seaanchor evaluate --model seaanchor-tiny --data" in out
    code, _, err = run(
        *("evaluate", "--model", TINY, "--data", tmp_path / "a" / "attacked", "--suite", "clean"),
        *("--output", tmp_path / "results"),
    )
    assert code == 0, err
    result = read_result(next((tmp_path / "results").iterdir()))
    assert result.clean.accuracy * 80 == pytest.approx(found["summary"]["right_after"])


GREY, SIDE = 120, 8


def undone(tmp_path, how, attacked, logits):
    """Two grey pictures under an attack that is a function of their pixels: the record, and what is printed of it."""
    for i in range(2):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.new("RGB", (SIDE, SIDE), (GREY + 40 * i,) * 3).save(tmp_path / "pictures" / f"{i}.png")
    victim = Victim(logits, ("right", "wrong"), how, torch.device("cpu"))
    settings = {"preprocessing": str(how)}
    images = open_images(tmp_path / "pictures")
    found = write_attacked(images, victim, lambda _, x, y, i: (attacked(x), None), None, tmp_path / "a", settings)
    return found["summary"], sum_lines(found)


def checks(size=SIDE):
    """A chequered pattern of −1 and 1, which resizing by other than whole numbers removes."""
    place = torch.arange(size)
    return 1.0 - 2 * ((place[:, None] + place[None]) % 2)


def brightness(pixels_BCHW):
    """Wrong where a picture is brighter than a whole level of 40 by a quarter of a level."""
    excess_B = pixels_BCHW.mean((1, 2, 3)) * 255 % 40 - 0.25
    return torch.stack([-excess_B, excess_B], 1)


def chequered(pixels_BCHW):
    """Wrong where a picture is chequered by half a level at least."""
    found_B = (pixels_BCHW * checks(pixels_BCHW.shape[-1])).mean((1, 2, 3)) * 255 - 0.5
    return torch.stack([-found_B, found_B], 1)


ROUNDED, READ = "not after rounding to 8 bits", "not by what the model's preprocessing makes of them"


def test_rounding_is_told_where_it_undid_the_attack(tmp_path):
    sums, lines = undone(tmp_path, Preprocessing(SIDE), lambda x: x + 0.4 / 255, brightness)
    assert sums["undone_by_rounding"] == sums["right_after"] == 2
    assert sums["undone_by_preprocessing"] == sums["read_differently"] == 0
    assert any(ROUNDED in line for line in lines) and not any(READ in line for line in lines)


def test_preprocessing_is_told_where_it_undid_the_attack(tmp_path):
    how = Preprocessing(SIDE, resize_size=SIDE + 5, interpolation="bilinear")
    sums, lines = undone(tmp_path, how, lambda x: x + 2 * checks() / 255, chequered)
    assert sums["undone_by_preprocessing"] == sums["right_after"] == sums["read_differently"] == 2
    assert sums["undone_by_rounding"] == 0 and not any(ROUNDED in line for line in lines)
    assert [line for line in lines if READ in line] == [
        f"2 are fooled by the 8 bits of the file, and {READ} (size=8,interpolation=bilinear,resize_size=13); "
        "--preprocess resize_size=8, here and in evaluate, reads the files as they are"
    ]


def test_one_image_is_told_in_the_singular():
    sums = dict.fromkeys(("right_before", "undone_by_rounding", "undone_by_preprocessing", "read_differently"), 1)
    record = {"summary": sums | {"images": 1, "right_after": 0}, "settings": {"preprocessing": "size=8"}}
    lines = sum_lines(record | {"images": [{"label": "cat"}], "skipped": None})
    assert lines[0].startswith("1 image: 1 answered") and lines[3].startswith("1 file is resized")
    assert [line.split()[:3] for line in lines[1:3]] == [["1", "was", "fooled"], ["1", "is", "fooled"]]


def test_each_of_two_reasons_is_told_of_its_own_pictures(tmp_path):
    """The darker picture gets too small a change, the brighter one a pattern that resizing removes."""
    how = Preprocessing(SIDE, resize_size=SIDE + 5, interpolation="bilinear")

    def attacked(pixels_BCHW):
        size_B = torch.where(pixels_BCHW.mean((1, 2, 3)) * 255 < GREY + 20, 0.45, 2.0)
        return pixels_BCHW + size_B[:, None, None, None] * checks() / 255

    def logits(pixels_BCHW):
        found_B = (pixels_BCHW * checks()).mean((1, 2, 3)) * 255 - 0.4
        return torch.stack([-found_B, found_B], 1)

    sums, lines = undone(tmp_path, how, attacked, logits)
    assert sums["undone_by_rounding"] == sums["undone_by_preprocessing"] == 1 and sums["right_after"] == 2
    assert any(ROUNDED in line for line in lines) and any(READ in line for line in lines)


@pytest.mark.parametrize("size", [0.0, 2.0])
def test_no_reason_is_told_where_nothing_was_undone(tmp_path, size):
    """The attack fools nobody, or everybody to the end."""
    sums, lines = undone(tmp_path, Preprocessing(SIDE), lambda x: x + size * checks() / 255, chequered)
    assert sums["right_after"] == (0 if size else 2)
    assert sums["undone_by_rounding"] == sums["undone_by_preprocessing"] == 0
    assert not any(ROUNDED in line or READ in line for line in lines)
