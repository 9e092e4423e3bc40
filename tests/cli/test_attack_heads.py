"""`seaanchor attack` against linear heads: names and classes as `seaanchor evaluate` has them."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from seaanchor.data.images import read_image
from seaanchor.data.sources import open_images
from seaanchor.encoders.head_file import write_head
from seaanchor.encoders.load import load_model
from seaanchor.evaluation.result_files import read_result
from seaanchor.types import Head, NamedHead

TINY = "seaanchor-tiny"
HARDENED = Path(__file__).parents[2] / "models" / "seaanchor-tiny-fare"
COLOURS = {"cup": (200, 40, 40), "llama": (40, 200, 40), "watch": (40, 40, 200)}


@pytest.fixture(scope="module")
def tiny():
    return load_model(TINY)


@pytest.fixture
def coloured(tmp_path):
    """Class folders of three pictures each, of one colour and a little noise."""
    rng = torch.Generator().manual_seed(0)
    for name, colour in COLOURS.items():
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(3):
            noise = torch.randint(-30, 30, (64, 64, 3), generator=rng)
            pixels = (torch.tensor(colour) + noise).clamp(0, 255).to(torch.uint8)
            Image.fromarray(pixels.numpy()).save(tmp_path / "data" / name / f"{i}.png")
    return tmp_path / "data"


@pytest.fixture
def layer(coloured, tiny, tmp_path):
    """A linear layer in a file that tells the colours apart: the mean embedding of each class, less that of all."""
    images = open_images(str(coloured))
    pixels_NCHW = torch.stack([read_image(path, tiny.encoder.preprocessing) for path in images.paths]).float() / 255
    with torch.no_grad():
        embedding_ND = tiny.encoder(pixels_NCHW)
    mean_CD = torch.stack([embedding_ND[i : i + 3].mean(0) for i in (0, 3, 6)])
    weight_CD = mean_CD - mean_CD.mean(0)
    bias_C = -(weight_CD * (mean_CD + mean_CD.mean(0)) / 2).sum(1)

    def write(order=(0, 1, 2), names=None) -> Path:
        file = tmp_path / f"head{''.join(map(str, order))}{'' if names is None else 'named'}.pt"
        torch.save({"weight": weight_CD[list(order)], "bias": bias_C[list(order)]}, file)
        if names is not None:
            file.with_suffix(".json").write_text(json.dumps(names))
        return file

    return write


def attack(run, output, *flags, kind="pgd"):
    code, out, err = run("attack", kind, "--output", output, "--device", "cpu", "--model", TINY, *flags)
    return code, out, err, json.loads((output / "answers.json").read_text()) if code == 0 else None


def test_a_head_without_names_takes_those_that_are_given(run, coloured, layer, tmp_path):
    flags = ("--data", coloured / "watch" / "0.png", "--head", layer())
    code, _, err, found = attack(run, tmp_path / "a", *flags, "--class-names", "mug,alpaca,clock")
    assert code == 0, err
    assert found["images"][0]["before"]["name"] == "clock" and found["settings"]["class_names"][0] == "mug"
    assert "in their order, as there are no names" in err
    code, _, err, found = attack(run, tmp_path / "b", *flags)
    assert code == 0 and found["images"][0]["before"]["name"] == "class 2" and "no names for its 3 classes" in err


@pytest.mark.parametrize("names", ["mug,alpaca", "mug,alpaca,clock,cat"])
def test_names_of_another_number_are_refused(run, coloured, layer, tmp_path, names):
    flags = ("--data", coloured / "watch" / "0.png", "--head", layer(), "--class-names", names)
    code, _, err, _ = attack(run, tmp_path / "a", *flags)
    assert code == 2 and f"{len(names.split(','))} names" in err and "3 classes" in err
    assert not (tmp_path / "a").exists()


def test_names_of_a_head_that_has_them_are_found_by_name(run, coloured, layer, tmp_path):
    file, picture = layer(names=["cup", "llama", "watch"]), ("--data", coloured / "watch" / "0.png")
    code, _, err, found = attack(run, tmp_path / "a", *picture, "--head", file, "--class-names", "watch,Llama,cup")
    assert code == 0, err
    assert found["images"][0]["before"]["name"] == "watch"
    assert found["settings"]["class_names"] == ["cup", "Llama", "watch"]
    code, _, err, _ = attack(run, tmp_path / "b", *picture, "--head", file, "--class-names", "watch,llama,cat")
    assert code == 2 and "cat" in err and "are not among the 3 of the head" in err


@pytest.mark.parametrize(
    ("order", "names"), [((0, 1, 2), None), ((2, 0, 1), None), ((2, 0, 1), ["watch", "cup", "llama"])]
)
def test_attack_and_evaluate_pair_class_folders_with_the_same_classes(run, coloured, layer, tmp_path, order, names):
    head = ("--head", layer(order, names))
    code, _, err, found = attack(run, tmp_path / "a", "--data", coloured, *head)
    assert code == 0, err
    flags = ("--model", TINY, "--data", coloured, *head, "--suite", "clean", "--output", tmp_path / "r.json")
    code, _, said = run("evaluate", *flags)
    assert code == 0, said
    clean = read_result(tmp_path / "r.json").clean
    assert clean.accuracy * clean.n == pytest.approx(found["summary"]["right_before"])
    assert (clean.accuracy == 1) == (order == (0, 1, 2) or names is not None)
    told = "the 3 classes of " in err and "in their order, as there are no names" in err
    assert told == (names is None)


def test_a_class_that_the_head_lacks_is_refused_as_by_evaluate(run, coloured, layer, tmp_path):
    (coloured / "cup").rename(coloured / "cougar_face")
    head = ("--head", layer(names=["cup", "llama", "watch"]))
    code, _, err, _ = attack(run, tmp_path / "a", "--data", coloured, *head)
    first = err.partition("expected")[0]
    assert code == 2 and "cougar face" in first and "without class folders" in err
    code, _, said = run("evaluate", "--model", TINY, "--data", coloured, *head, "--output", tmp_path / "r.json")
    assert code == 2 and first in said
    shutil.rmtree(coloured / "llama"), shutil.rmtree(coloured / "watch")
    code, _, err, found = attack(run, tmp_path / "b", "--data", coloured / "cougar_face", *head)
    assert code == 0 and found["images"][0]["before"]["name"] == "cup", err


def test_a_probe_is_fitted_on_the_training_images(run, coloured, tmp_path):
    probe = ("--data", coloured, "--head", "probe", "--train-data", coloured)
    code, _, err, found = attack(run, tmp_path / "a", *probe, kind="apgd")
    assert code == 0, err
    assert found["summary"]["right_before"] == 9 and found["settings"]["head"]["kind"] == "probe"
    code, _, err, _ = attack(run, tmp_path / "b", "--data", coloured, "--head", "probe")
    assert code == 2 and "no train split beside it" in err
    code, _, err, found = attack(
        run, tmp_path / "c", *probe[2:], "--data", coloured / "llama", "--class-names", "mug,alpaca,clock"
    )
    assert code == 0 and {row["before"]["name"] for row in found["images"]} == {"alpaca"}, err


def test_another_head_is_another_attack(run, coloured, layer, tmp_path):
    flags = ("--data", coloured, "--num-steps", 1)
    assert attack(run, tmp_path / "a", *flags, "--head", layer())[0] == 0
    code, _, err, _ = attack(run, tmp_path / "a", *flags, "--head", layer((2, 0, 1)))
    assert code == 2 and "other settings (head)" in err


def test_a_drawn_word_against_a_head(run, coloured, layer, tmp_path):
    flags = ("--data", coloured, "--head", layer(), "--sizes", 0.2, 0.4)
    code, _, err, found = attack(run, tmp_path / "a", *flags, kind="typographic")
    assert code == 0, err
    assert found["summary"]["right_before"] == 9 and {row["word"] for row in found["images"]} <= set(COLOURS)
    code, _, err = run("attack", "typographic", "--data", coloured, "--output", tmp_path / "b", "--head", layer())
    assert code == 2 and "--head without --model" in err


@pytest.mark.parametrize("names", [None, ["llama", "watch", "cup"]])
def test_the_printed_command_evaluates_the_files_with_the_same_head(run, coloured, layer, tmp_path, names):
    head = layer((1, 2, 0) if names else (0, 1, 2), names)
    code, out, err, found = attack(run, tmp_path / "a", "--data", coloured, "--head", head, "--epsilon", "1/255")
    assert code == 0, err
    command = next(line for line in out.splitlines() if line.startswith("evaluate them: "))
    words = shlex.split(command.removeprefix("evaluate them: seaanchor "))
    code, _, err = run(*words, "--output", tmp_path / "r.json")
    assert code == 0, err
    clean = read_result(tmp_path / "r.json").clean
    assert clean.accuracy * clean.n == pytest.approx(found["summary"]["right_after"])


def test_no_command_where_the_order_of_folders_is_another_one(run, coloured, layer, tmp_path):
    """A head without names would take the folders of the new names in another order."""
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"cup": "z", "llama": "y", "watch": "x"}))
    flags = ("--data", coloured, "--head", layer(), "--class-names", names)
    code, out, err, found = attack(run, tmp_path / "a", *flags)
    assert code == 0 and found["summary"]["right_before"] == 9, err
    assert "evaluate them" not in out


def stored(tmp_path, tiny, tokens=None) -> Path:
    """A run whose export answers by a head beside it, of embeddings of these tokens."""
    folder = tmp_path / "run"
    shutil.copytree(HARDENED, folder / "export")
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": TINY, "tokens": tokens}))
    torch.manual_seed(0)
    width = load_model(str(folder / "export"), tokens=tokens).encoder.dim
    head = Head(torch.randn(3, width), unit=False, kind="probe")
    write_head(NamedHead(head, None, tokens), folder / "head.safetensors")
    return folder / "export"


def test_a_head_that_lies_with_the_model_answers(run, coloured, tiny, tmp_path):
    model = stored(tmp_path, tiny)
    flags = ("--model", model, "--data", coloured, "--device", "cpu")
    code, _, err = run("attack", "pgd", *flags, "--output", tmp_path / "a")
    assert code == 0 and "answers by the head beside it" in err, err
    assert json.loads((tmp_path / "a" / "answers.json").read_text())["settings"]["head"]["kind"] == "probe"
    code, _, err = run("attack", "pgd", *flags, "--head", "text", "--output", tmp_path / "b")
    assert json.loads((tmp_path / "b" / "answers.json").read_text())["settings"]["head"]["kind"] == "text", err


def test_a_run_on_other_tokens_is_attacked_by_them(run, coloured, tiny, tmp_path):
    model = stored(tmp_path, tiny, "mean")
    flags = ("--model", model, "--data", coloured, "--device", "cpu")
    code, _, err = run("attack", "pgd", *flags, "--output", tmp_path / "a")
    assert code == 0 and "answers by the head beside it" in err and "left out" not in err, err
    (model.parent / "config.yaml").write_text(yaml.safe_dump({"model": TINY, "tokens": "patches"}))
    code, _, err = run("attack", "pgd", *flags, "--output", tmp_path / "b")
    assert code == 2 and "patch tokens" in err and not (tmp_path / "b").exists()
