"""`data` and `attack` on the command line: what they print, and one clear error for each mistake."""

import json

import datasets
import numpy as np
import pytest
from PIL import Image


@pytest.mark.parametrize(
    "command",
    [["data"], ["data", "import"], ["data", "inspect"], ["data", "pairs"], ["attack", "typographic"]],
    ids=" ".join,
)
def test_every_command_has_help(run, command):
    code, out, _ = run(*command, "--help")
    assert code == 0 and out.startswith("Usage: seaanchor")


def test_import_then_inspect_then_train_on_it(run, image_folder, tmp_path):
    pictures = [str(image_folder / "apple" / f"{i}.jpg") for i in range(4)]
    table = {
        "photo": pictures,
        "caption": ["an apple", "a zebra", "an apple", "a fox"],
        "good": [True, False, True, False],
    }
    datasets.Dataset.from_dict(table).cast_column("photo", datasets.Image()).save_to_disk(tmp_path / "set")
    code, _, errors = run("data", "import", tmp_path / "set", "--output", tmp_path / "out")
    assert code == 2 and errors.startswith("error: the columns are caption, good, photo") and "--image-column" in errors
    code, out, _ = run(
        "data",
        "import",
        tmp_path / "set",
        "--output",
        tmp_path / "out",
        "--image-column",
        "photo",
        "--label-column",
        "good",
    )
    file = tmp_path / "out" / "preferences.jsonl"
    assert code == 0 and f"4 preferences written to {file}: 0 paired, 2 only desirable, 2 only undesirable" in out
    assert f"seaanchor train kto --train-data {file} --perturbation.kind none" in out
    code, out, _ = run("data", "inspect", file)
    assert (
        code == 0
        and "4 preferences over 3 texts: 0 paired, 2 only desirable, 2 only undesirable (rows with one text "
        "are for kto)"
        in out
    )
    command = (
        f"train kto --train-data {file} --perturbation.kind none --model seaanchor-tiny --max-steps 1 --device cpu"
    ).split()
    code, out, errors = run(*command, "--output", tmp_path / "run")
    assert code == 0, errors
    assert "done" in out


def test_inspect_warns_of_one_sided_rows_and_says_nothing_of_pairs(run, image_folder):
    file = image_folder / "rows.jsonl"
    rows = [{"image": "apple/0.jpg", "text": text, "desirable": True} for text in ("a", "b")]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert (
        "2 only desirable, 0 only undesirable (nothing learns from one kind alone: kto needs both)"
        in run("data", "inspect", file)[1]
    )
    file.write_text(json.dumps({"image": "apple/0.jpg", "chosen": "a", "rejected": "b"}))
    assert run("data", "inspect", file)[1].endswith("1 paired, 0 only desirable, 0 only undesirable\n")


def test_mistakes_end_with_one_error_and_code_2(run, image_folder, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "bad.jsonl").write_text('{"image": "a.jpg", "chosen": "a", "rejected": "b"\n')
    one = tmp_path / "one" / "apple"
    one.mkdir(parents=True)
    (one / "0.jpg").write_bytes((image_folder / "apple" / "0.jpg").read_bytes())
    (tmp_path / "lettered").mkdir()
    (tmp_path / "lettered" / "label=apple_text=zebra_0.png").write_bytes(
        (image_folder / "apple" / "0.jpg").read_bytes()
    )
    for arguments, found in (
        (["data", "inspect", tmp_path / "bad.jsonl"], "line 1 is not JSON"),
        (["data", "import", tmp_path / "none" / "set", "--output", tmp_path / "out"], "set is missing"),
        (["data", "import", image_folder, "--output", tmp_path / "out", "--samples", "0"], "--samples 0"),
        (
            ["data", "pairs", "--data", "emoji-people", "--output", tmp_path / "file" / "x.jsonl"],
            "could not be written",
        ),
        (["attack", "typographic", "--data", tmp_path / "one", "--output", tmp_path / "out"], "1 class name"),
        (["attack", "typographic", "--data", image_folder, "--output", tmp_path / "file"], "is a file"),
        (
            ["attack", "typographic", "--data", image_folder, "--output", tmp_path / "out", "--image-size", "0"],
            "--image-size 0",
        ),
        (
            ["attack", "typographic", "--data", image_folder, "--output", tmp_path / "out", "--image-size", "8"],
            "--image-size 8",
        ),
        (
            ["attack", "typographic", "--data", tmp_path / "lettered", "--output", tmp_path / "out"],
            "images that carry a word already",
        ),
        (
            [
                "train",
                "tecoa",
                "--model",
                "seaanchor-tiny",
                "--train-data",
                tmp_path / "one",
                "--output",
                tmp_path / "run",
            ],
            "a class list of 1",
        ),
    ):
        code, _, errors = run(*arguments)
        one = errors.startswith("error: ") and errors.count("expected:") == 1
        assert code == 2 and one and found in errors, (arguments, errors)


def test_inspect_reads_shards_of_one_split_whatever_it_is_called(run, image_folder, tmp_path):
    for split in ("test", "val"):
        code, _, errors = run("data", "build", "--data", image_folder, "--output", tmp_path / "wds", "--split", split)
        assert code == 0, errors
        if split == "test":
            code, out, errors = run("data", "inspect", tmp_path / "wds")
            assert code == 0 and out.startswith(f"12 images in {tmp_path / 'wds' / 'test'}, all readable\n"), errors
    code, _, errors = run("data", "inspect", tmp_path / "wds")
    assert code == 2 and "holds the splits test, val" in errors


def test_inspect_counts_the_pixels_of_masks(run, tmp_path):
    numbers = {"train": np.array([[0, 0, 0, 1]], np.uint8), "test": np.array([[2, 2, 255, 255]], np.uint8)}
    for split, mask_HW in numbers.items():
        for kind, picture in (("images", Image.new("RGB", (4, 1))), ("masks", Image.fromarray(mask_HW))):
            (tmp_path / kind / split).mkdir(parents=True)
            picture.save(tmp_path / kind / split / "a.png")
    (tmp_path / "classnames.txt").write_text("sky\nroad\ntree\n")
    (tmp_path / "images" / "train" / "broken.png").write_bytes(b"no picture")
    Image.fromarray(numbers["train"]).save(tmp_path / "masks" / "train" / "broken.png")
    code, out, _ = run("data", "inspect", tmp_path)
    lines = out.splitlines()
    assert code == 0 and lines[0].endswith("test, all readable") and lines[0].startswith("1 images with masks in")
    assert lines[1] == "pixels of 3 classes: sky 0.0 %, road 0.0 %, tree 50.0 %; 50.0 % without a class"
    assert lines[2].endswith(f"{tmp_path}, train")
    assert lines[3] == "pixels of 3 classes: sky 75.0 %, road 25.0 %, tree 0.0 %; 0.0 % without a class"
    assert "broken.png" in lines[4]
    Image.fromarray(np.array([[3, 0, 0, 0]], np.uint8)).save(tmp_path / "masks" / "test" / "a.png")
    code, _, errors = run("data", "inspect", tmp_path)
    assert code == 2 and "holds 3, and there are 3 classes" in errors
