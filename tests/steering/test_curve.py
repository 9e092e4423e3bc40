"""The slider and the attacked files, through the commands that users run."""

import json
import time
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from seaanchor.adapters.linear_map import decompose, scale_spectrum
from seaanchor.api import train_from_config as train
from seaanchor.cli.app import app
from seaanchor.config.recipes import dpo_linear, gender_flip
from seaanchor.config.schema import PerturbationConfig
from seaanchor.data.sources import open_images
from seaanchor.data.typographic.write import write_typographic
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.result_files import read_result
from seaanchor.evaluation.suites.bias import evaluate_bias, people_texts
from seaanchor.evaluation.suites.typographic import TypographicPlan, evaluate_typographic
from seaanchor.export.trained import read_map
from seaanchor.perturbations.typographic import Typographic
from seaanchor.steering.curve import export_at, see_people, see_words, steering_curve, sweep_bias, sweep_typographic

DRAWN = PerturbationConfig("typographic", variants=2, sizes=(0.25, 0.4))


def call(*arguments):
    return app([str(a) for a in arguments], exit_on_error=False, print_error=False, result_action="return_value")


@pytest.fixture
def run(tiny_run):
    return train(tiny_run(dpo_linear(), perturbation=DRAWN, epochs=10, lr=1e-2))


def test_t_0_is_the_untouched_model_and_t_1_the_export(run, clip_folder, tmp_path):
    base, trained = load_model(str(clip_folder)), load_model(str(run / "export"))
    pixels = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(
            load_model(str(export_at(run, 0.0, tmp_path / "0"))).encoder(pixels), base.encoder(pixels), atol=1e-6
        )
        assert torch.allclose(
            load_model(str(export_at(run, 1.0, tmp_path / "1"))).encoder(pixels), trained.encoder(pixels), atol=1e-6
        )
        assert (trained.encoder(pixels) - base.encoder(pixels)).abs().max() > 1e-3
    with pytest.raises(SeaAnchorError, match="not empty"):
        export_at(run, 0.5, tmp_path / "1")
    with pytest.raises(SeaAnchorError, match="out of range"):
        export_at(run, 1e6, tmp_path / "far")
    with pytest.raises(SeaAnchorError, match=r"t = 500.* leaves \d+ of 16 directions"):
        export_at(run, 500.0, tmp_path / "far")
    assert not (tmp_path / "far").exists()


@pytest.mark.parametrize("t", [-1.0, 0.5, 1.0, 2.0])
def test_an_export_at_t_has_the_cosines_of_the_mapped_embeddings(run, clip_folder, tmp_path, t):
    base, exported = load_model(str(clip_folder)), load_model(str(export_at(run, t, tmp_path / "at")))
    weight = scale_spectrum(read_map(run), t)
    pixels, texts = (
        torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)),
        ["a photo of a zebra.", "an apple", "red fox"],
    )
    with torch.no_grad():
        image, text = base.encoder(pixels), base.encode_texts(texts)
        mapped, untouched = (
            F.normalize(i, dim=-1) @ F.normalize(x, dim=-1).T
            for i, x in ((image @ weight.T, text @ weight.T), (image, text))
        )
        found = F.normalize(exported.encoder(pixels), dim=-1) @ F.normalize(exported.encode_texts(texts), dim=-1).T
    assert torch.allclose(found, mapped, atol=1e-6) and (mapped - untouched).abs().max() > 1e-3


def test_a_map_of_another_model_is_refused(run, clip_folder, tmp_path):
    """The weights that the run's configuration names are no longer those it was trained on."""
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(str(clip_folder), "seaanchor-tiny"))
    for use in (
        lambda: export_at(run, 0.5, tmp_path / "out"),
        lambda: steering_curve(run, "emoji-people/test", (0.5,)),
    ):
        with pytest.raises(SeaAnchorError, match="trained on an encoder with other weights than seaanchor-tiny"):
            use()
    assert not (tmp_path / "out").exists() and not (run / "steering.json").exists()


def test_a_map_with_one_weight_of_the_encoder_changed_is_refused(run, clip_folder):
    model = load_model(str(clip_folder))
    assert read_map(run, model).shape == (16, 16)
    with torch.no_grad():
        next(model.encoder.parameters()).view(-1)[0] += 1e-3
    with pytest.raises(SeaAnchorError, match="other weights"):
        read_map(run, model)


@pytest.fixture(scope="module")
def tiny():
    return load_model("seaanchor-tiny")


@pytest.fixture(scope="module")
def words(tiny):
    """100 photos of the embedded set, and what the model sees on them."""
    images, plan = open_images("photos-mini/test"), TypographicPlan(sizes=(0.2, 0.3))
    images = replace(images, paths=images.paths[::8], labels=images.labels[::8])
    return images, plan, see_words(tiny, images, plan)


@pytest.fixture(scope="module")
def people(tiny):
    return see_people(tiny, open_images("emoji-people/test"))


def some_map(dim=128):
    generator = torch.Generator().manual_seed(4)
    return torch.eye(dim) + 0.05 * torch.randn(dim, dim, generator=generator)


def test_t_0_is_the_untouched_model_on_the_embedded_photos(tiny, words):
    images, plan, seen = words
    spectrum, head = decompose(some_map()), build_head(tiny, images.class_names)
    image, text = (spectrum.rotate(x) * spectrum.powers(0.0) for x in (seen.attacked_ND, seen.head_CD))
    cosines = F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    assert torch.allclose(cosines, (head(seen.attacked_ND) / head.logit_scale).double(), atol=1e-6)
    (row,) = sweep_typographic(seen, spectrum, (0.0,))
    from seaanchor.data.loader import ImageDataset, SkipLog, batches

    stream = batches(ImageDataset(images, 64), 100, workers=0, order=None, skip_log=SkipLog(images))
    expected = evaluate_typographic(lambda pixels: head(tiny.encoder(pixels)), stream, images.class_names, plan)
    assert {key: row[key] for key in ("clean", "attacked", "attack_word", "two_way")} == {
        key: asdict(getattr(expected, key)) for key in ("clean", "attacked", "attack_word", "two_way")
    }


@pytest.mark.parametrize("t", [-0.5, 1.0, 1.5])
def test_every_t_is_what_w_t_gives(tiny, words, people, t):
    """W_t multiplied out, image by image, where the sweep scales embeddings that were turned once."""
    weight, (_, _, seen) = some_map(), words
    map_DD = scale_spectrum(weight, t).double()
    (row,) = sweep_typographic(seen, decompose(weight), (t,))
    looks = {
        "clean": (seen.clean_ND, seen.label_N),
        "attacked": (seen.attacked_ND, seen.label_N),
        "reading": (seen.written_MD, seen.read_M),
    }
    for key, (images, wanted) in looks.items():
        logits = (
            F.normalize(images.double() @ map_DD.T, dim=-1) @ F.normalize(seen.head_CD.double() @ map_DD.T, dim=-1).T
        )
        assert row[key]["accuracy"] == (logits.argmax(-1) == wanted).double().mean().item(), key
    (row,) = sweep_bias(people, decompose(weight), (t,))
    mapped = (x.double() @ map_DD.T for x in (people.image_ND, people.caption_RGD, people.neutral_RD))
    expected = evaluate_bias(*mapped, people.role_N, people.gender_N)
    assert (row["gender"], row["activity"], row["predicted_man"]) == (
        asdict(expected.gender),
        asdict(expected.activity),
        expected.predicted_man,
    )
    assert row["retrieval"]["uniform"]["ndkl"] == pytest.approx(expected.retrieval["uniform"]["ndkl"], abs=1e-6)


def test_the_peoples_embeddings_are_the_evaluations(tiny, people):
    _, role_M, gender_M, caption_RGD, _ = people_texts(tiny, open_images("emoji-people/test"), ("a photo of a {}.",))
    assert (
        torch.equal(people.role_N, role_M)
        and torch.equal(people.gender_N, gender_M)
        and torch.equal(people.caption_RGD, caption_RGD)
    )


def test_a_hundred_values_of_t_take_less_than_a_second(words, people):
    spectrum, ts = decompose(some_map()), [0.02 * i - 1 for i in range(100)]
    for sweep, seen in ((sweep_typographic, words[2]), (sweep_bias, people)):
        started = time.process_time()
        assert len(sweep(seen, spectrum, ts)) == 100
        assert time.process_time() - started < 1


def test_the_curve_at_t_0_is_the_untouched_models_accuracy(run, image_folder):
    rows = steering_curve(run, str(image_folder), (0.0, 1.0), sizes=(0.25, 0.4))
    from seaanchor.config.schema import read_yaml
    from seaanchor.encoders.heads import build_head

    base, images = load_model(read_yaml(run / "config.yaml")["model"]), open_images(str(image_folder))
    from seaanchor.data.loader import ImageDataset, SkipLog, batches

    batch = next(batches(ImageDataset(images, 32), 12, workers=0, order=None, skip_log=SkipLog(images)))
    with torch.no_grad():
        right = (
            (build_head(base, images.class_names)(base.encoder(batch.pixels_BCHW)).argmax(-1) == batch.label_B)
            .float()
            .mean()
            .item()
        )
    assert rows[0]["clean"]["accuracy"] == pytest.approx(right)
    assert (run / "steering.png").stat().st_size > 10_000 and json.loads((run / "steering.json").read_text())[
        "rows"
    ] == rows


def test_gender_curve(tiny_run, capsys):
    config = replace(
        tiny_run(gender_flip()),
        train_data="emoji-people/train",
        perturbation=gender_flip().perturbation,
        batch_size=64,
        epochs=2,
    )
    folder = train(config)
    rows = steering_curve(folder, "emoji-people/test", (0.0, 1.0))
    assert {"gender", "activity", "retrieval"} <= rows[0].keys() and rows[0]["gender"]["n"] > 100
    said = capsys.readouterr().out
    for words in (
        "gender",
        "activity",
        "called man",
        "MaxSkew@10, equal",
        "NDKL, equal",
        "MaxSkew@10, data",
        "NDKL, data",
        "smoke test of the method",
    ):
        assert words in said
    line = next(line for line in said.splitlines() if line.split()[:1] == ["0"])
    retrieval = rows[0]["retrieval"]
    numbers = [f"{rows[0][key]['accuracy']:.1%}" for key in ("gender", "activity")] + [
        f"{rows[0]['predicted_man']:.1%}"
    ]
    assert line.split()[1:] == numbers + [
        f"{retrieval[d][key]:.3f}" for d in ("uniform", "dataset") for key in ("max_skew_at_10", "ndkl")
    ]
    stored = json.loads((folder / "steering.json").read_text())
    assert "not a fairness claim" in stored["caveat"] and stored["rows"] == rows


def test_no_map_and_contradicting_flags(tiny_run, tmp_path):
    with pytest.raises(SeaAnchorError, match=r"linear_map\.safetensors"):
        export_at(tmp_path, 0.5, tmp_path / "out")
    with pytest.raises(SeaAnchorError, match="neither"):
        call("steer", tmp_path)
    with pytest.raises(SeaAnchorError, match="without --output"):
        call("steer", tmp_path, "--t", 0.5)


def test_attacked_files_are_read_back_as_they_are(image_folder, tmp_path):
    call(
        "attack",
        "typographic",
        "--data",
        image_folder,
        "--output",
        tmp_path / "lettered",
        "--image-size",
        64,
        "--sizes",
        0.2,
        0.4,
    )
    images = open_images(str(tmp_path / "lettered"))
    assert len(images.paths) == 12 and images.class_names == ("apple", "red fox", "zebra")
    assert all(
        label == chosen != rejected for label, (chosen, rejected) in zip(images.labels, images.pairs, strict=True)
    )
    boxes = [json.loads(line) for line in (tmp_path / "lettered" / "boxes.jsonl").read_text().splitlines()]
    assert {row["file"] for row in boxes} == {path.name for path in images.paths}
    assert all(6 <= row["size"] <= 26 and len(row["box"]) == 4 for row in boxes)
    with pytest.raises(SeaAnchorError, match="not empty"):
        write_typographic(
            open_images(str(image_folder)), Typographic(("apple", "red fox", "zebra")), 32, tmp_path / "lettered"
        )


def test_lettered_files_evaluate_without_another_word(image_folder, clip_folder, tmp_path):
    call(
        "attack",
        "typographic",
        "--data",
        image_folder,
        "--output",
        tmp_path / "lettered",
        "--image-size",
        32,
        "--sizes",
        0.25,
        0.4,
    )
    call(
        "evaluate",
        "--model",
        clip_folder,
        "--data",
        tmp_path / "lettered",
        "--suite",
        "clean,typographic",
        "--output",
        tmp_path / "results",
    )
    (file,) = (tmp_path / "results").iterdir()
    result = read_result(file)
    found = result.suites.typographic
    assert found.unreadable is None and found.attacked == result.typographic_images and result.clean is None


def test_data_commands(image_folder, tmp_path, capsys):
    (image_folder / "apple" / "broken.jpg").write_bytes(b"no image")
    call("data", "inspect", image_folder)
    said = capsys.readouterr().out
    assert "13 images" in said and "12 readable" in said and "3 classes of 4 to 5 images" in said
    for name in ("a man runs", "a woman runs"):
        (tmp_path / "people" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "people" / name / "0.png")
    call("data", "pairs", "--data", tmp_path / "people", "--output", tmp_path / "pairs.jsonl", "--flip")
    assert [json.loads(line)["chosen"] for line in (tmp_path / "pairs.jsonl").read_text().splitlines()] == [
        "a woman runs",
        "a man runs",
    ]


def test_drift_and_reading_suites(clip_folder, image_folder, tmp_path):
    with pytest.raises(SeaAnchorError, match="not known"):
        call("evaluate", "--model", clip_folder, "--data", image_folder, "--suite", "drift", "--output", tmp_path / "a")
    call(
        "evaluate",
        "--model",
        clip_folder,
        "--reference",
        clip_folder,
        "--data",
        image_folder,
        "--suite",
        "drift,reading",
        "--output",
        tmp_path / "b",
    )
    result = json.loads(next((tmp_path / "b").iterdir()).read_text())
    assert result["suites"]["reading"]["reading"]["n"] == 400
    with pytest.raises(SeaAnchorError, match="people in roles"):
        call("evaluate", "--model", clip_folder, "--data", image_folder, "--suite", "bias", "--output", tmp_path / "c")


def test_other_braces_in_a_prompt_are_letters_like_all_others(tiny):
    captions = people_texts(tiny, open_images("emoji-people/test"), ("a {photo} of a {}.", "{0} {}"))[3]
    assert captions.shape[1] == 2 and bool(captions.isfinite().all())
