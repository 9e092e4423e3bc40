"""Result files: what they say, when they are read again, and what the reference is."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation import run as module
from seaanchor.evaluation.intervals import interval
from seaanchor.evaluation.run import Protocol, evaluate, reference_of
from seaanchor.evaluation.zeroshot import AttackPlan

PROTOCOL = Protocol((AttackPlan("pgd", "linf", (1 / 255, 4 / 255), 2), AttackPlan("apgd", "linf", (1 / 255,), 2)), seed=3)


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [(0, 10, 0.0, 0.27753), (5, 10, 0.23659, 0.76341), (81, 263, 0.25528, 0.36620), (10, 10, 0.72247, 1.0)],
)
def test_wilson_interval(correct, total, low, high):
    """Against published values (Newcombe 1998, table I: 81 of 263 gives .2553 to .3662) and scipy's, written down."""
    assert interval(correct, total) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_against_scipy():
    stats = pytest.importorskip("scipy.stats")
    for correct, total in ((1, 3), (17, 800), (799, 800)):
        theirs = stats.binomtest(correct, total).proportion_ci(0.95, "wilson")
        assert interval(correct, total) == pytest.approx(theirs, abs=5e-5)
    assert interval(0, 0) == (0.0, 1.0)


@pytest.fixture
def results(clip_folder, image_folder, tmp_path):
    return evaluate(str(clip_folder), [str(image_folder)], PROTOCOL, tmp_path / "out", reference=str(clip_folder), batch_size=5)


def test_a_result_holds_its_protocol(results, clip_folder, image_folder, tmp_path):
    import open_clip
    import timm

    (result,) = results
    files = list((tmp_path / "out").iterdir())
    assert len(files) == 1  # the reference is the model itself here, so both are one file
    assert json.loads(files[0].read_text()) == json.loads(json.dumps(result))
    protocol = result["protocol"]
    assert protocol["class_names"] == ["apple", "red fox", "zebra"]
    assert protocol["templates"] == ["a photo of a {}."]
    assert protocol["seed"] == 3
    assert protocol["image_size"] == 32
    assert protocol["plans"][0] == {"name": "pgd", "norm": "linf", "epsilons": [1 / 255, 4 / 255], "num_steps": 2, "seed": 0}
    versions = result["environment"]["versions"]
    assert versions["torch"] == torch.__version__.split("+")[0] or versions["torch"] == torch.__version__
    assert versions["timm"] == timm.__version__
    assert versions["open_clip_torch"] == open_clip.__version__
    assert all(result["checks"].values())
    assert [(row["attack"], row["epsilon"], row["n"]) for row in result["robust"]] == [("pgd", 1 / 255, 12), ("pgd", 4 / 255, 12), ("apgd", 1 / 255, 12)]
    for row in (result["clean"], *result["robust"]):
        assert 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1
        assert (row["low"], row["high"]) == interval(round(12 * row["accuracy"]), 12)
    assert result["constant_predictor"] == pytest.approx(1 / 3)
    assert result["notes"] == ["APGD-CE alone: targeted DLR needs 4 classes, here are 3"]


def test_keys_are_those_of_clip_benchmark(results):
    """`clip_benchmark build` reads these six; `pretrained` is joined to `model` as text, `metrics` becomes columns."""
    (result,) = results
    assert result["task"] == "zeroshot_classification"
    assert result["language"] == "en"
    assert isinstance(result["dataset"], str)
    assert isinstance(result["model"] + " " + result["pretrained"], str)
    assert set(result["metrics"]) == {"acc1", "acc5", "mean_per_class_recall"}
    assert result["metrics"]["acc1"] == result["clean"]["accuracy"]
    assert result["metrics"]["acc5"] == 1.0  # three classes
    assert result["metrics"]["mean_per_class_recall"] == pytest.approx(result["clean"]["accuracy"])  # four images each


def test_mean_per_class_recall_by_hand(clip_folder):
    from seaanchor.encoders.load import load_model
    from seaanchor.evaluation.zeroshot import Outcomes

    label = torch.tensor([0, 0, 0, 2, 2])  # class 1 has no image: it counts for nothing
    clean = torch.tensor([True, True, False, False, True])
    summary = module.summarise(load_model(str(clip_folder)), "set", Outcomes(torch.arange(5), label, clean, clean, {}))
    assert summary["metrics"]["mean_per_class_recall"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert summary["metrics"]["acc1"] == pytest.approx(3 / 5)
    assert summary["constant_predictor"] == pytest.approx(3 / 5)


def numbers(result: dict) -> str:
    """What must not depend on how the evaluation was run."""
    return json.dumps([result["metrics"], result["clean"], result["robust"], result["checks"], result["protocol"]])


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (12, 0), (5, 2)])
def test_batch_size_and_workers_change_nothing(results, clip_folder, image_folder, tmp_path, batch_size, workers):
    (other,) = evaluate(str(clip_folder), [str(image_folder)], PROTOCOL, tmp_path / "other", batch_size=batch_size, workers=workers)
    assert numbers(other) == numbers(results[0])


def test_unreadable_images_are_left_out_and_counted(clip_folder, image_folder, tmp_path, monkeypatch):
    checked = []
    real = module.self_checks
    monkeypatch.setattr(module, "self_checks", lambda logits, batch, plans: checked.append(len(batch.index_B)) or real(logits, batch, plans))
    for i in range(40):  # more than the self-checks look at, and all of the first batches
        (image_folder / "apple" / f"{i:02d}-broken.jpg").write_bytes(b"")
    (result,) = evaluate(str(clip_folder), [str(image_folder)], PROTOCOL, tmp_path / "out", batch_size=5)
    assert result["clean"]["n"] == 12
    assert result["skipped"].startswith("40 of 52 images in")
    assert checked == [12]  # the self-checks look for images that can be read
    for file in image_folder.rglob("*.jpg"):
        file.write_bytes(b"")
    with pytest.raises(SeaAnchorError, match="no labelled image could be read"):
        evaluate(str(clip_folder), [str(image_folder)], PROTOCOL, tmp_path / "out", batch_size=5)


def test_skip_existing_reads_and_anything_that_matters_recomputes(results, clip_folder, image_folder, tmp_path, monkeypatch):
    computed = []
    real = module._compute
    monkeypatch.setattr(module, "_compute", lambda *args: computed.append(1) or real(*args))

    def again(protocol=PROTOCOL, **settings):
        computed.clear()
        (result,) = evaluate(str(clip_folder), [str(image_folder)], protocol, tmp_path / "out", batch_size=5, **settings)
        return result, len(computed)

    first, count = again(skip_existing=True)
    assert count == 0
    assert numbers(first) == numbers(results[0])
    assert first["reference"] is None  # none was asked for this time
    assert again()[1] == 1
    assert again(replace(PROTOCOL, seed=4), skip_existing=True)[1] == 1
    assert again(replace(PROTOCOL, templates=("{}",)), skip_existing=True)[1] == 1
    assert again(replace(PROTOCOL, plans=PROTOCOL.plans[:1]), skip_existing=True)[1] == 1
    assert again(replace(PROTOCOL, samples=6), skip_existing=True)[1] == 1
    (image_folder / "zebra" / "3.jpg").write_bytes((image_folder / "apple" / "0.jpg").read_bytes())
    assert again(skip_existing=True)[1] == 1


def test_a_failed_self_check_is_an_error_each_time(clip_folder, image_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "self_checks", lambda *args: {"pgd: epsilon 0 equals clean": False})
    for skip in (False, True):
        with pytest.raises(SeaAnchorError, match="self-check failed: pgd: epsilon 0 equals clean"):
            evaluate(str(clip_folder), [str(image_folder)], PROTOCOL, tmp_path / "out", skip_existing=skip)
    (file,) = (tmp_path / "out").iterdir()
    assert json.loads(file.read_text())["checks"] == {"pgd: epsilon 0 equals clean": False}


def test_a_runs_export_is_set_beside_the_model_it_came_from(clip_folder, image_folder, tmp_path):
    from seaanchor.encoders.load import load_model
    from seaanchor.export.folder import export_model

    model = load_model(str(clip_folder))
    with torch.no_grad():
        model.module.visual.proj.mul_(-1)  # every prediction changes
    export_model(model, tmp_path / "run" / "export")
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump({"model": str(clip_folder), "pretrained": None}))
    (result,) = evaluate(str(tmp_path / "run" / "export"), [str(image_folder)], replace(PROTOCOL, plans=()), tmp_path / "out")
    assert result["reference"]["model"] == str(clip_folder)
    assert result["reference"]["pretrained"] != result["pretrained"]
    (alone,) = evaluate(str(clip_folder), [str(image_folder)], replace(PROTOCOL, plans=()), tmp_path / "out")
    assert alone["reference"] is None
    assert numbers(result["reference"]) == numbers(alone)
    stored = [json.loads(file.read_text()) for file in (tmp_path / "out").iterdir()]
    assert sorted(bool(one["reference"]) for one in stored) == [False, True]


def test_the_reference_sees_images_of_the_models_size(clip_folder, image_folder, tmp_path):
    from seaanchor.encoders.load import load_model
    from seaanchor.export.folder import export_model

    export_model(load_model(str(clip_folder), image_size=64), tmp_path / "run" / "export")
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump({"model": str(clip_folder)}))
    (result,) = evaluate(str(tmp_path / "run" / "export"), [str(image_folder)], replace(PROTOCOL, plans=()), tmp_path / "out")
    assert result["protocol"]["image_size"] == result["reference"]["protocol"]["image_size"] == 64
    assert result["reference"]["pretrained"] == result["pretrained"]  # the same weights, and the same size
    assert result["reference"]["clean"] == result["clean"]


def test_reference_of_a_name_ignores_strangers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("model: of another project\n")
    assert reference_of("ViT-B-32") == (None, None)
    Path("config.yaml").write_text("nothing: here\n")
    Path("export").mkdir()
    assert reference_of("export") == (None, None)


def test_reference_of_a_variant_is_its_base(cut_vocabulary_folder, tmp_path, monkeypatch):
    from seaanchor.encoders import load

    folder = cut_vocabulary_folder.parent / "tiny-fare"
    folder.mkdir(exist_ok=True)
    config = json.loads((cut_vocabulary_folder / "open_clip_config.json").read_text()) | {"seaanchor": {"text_tower_of": "tiny"}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    assert reference_of(str(folder)) == (str(cut_vocabulary_folder), None)
    monkeypatch.setattr(load, "ZOO", folder.parent)
    monkeypatch.setattr(module, "ZOO", folder.parent)
    assert reference_of("tiny-fare") == ("tiny", None)


@pytest.mark.parametrize("samples", [0, -1])
def test_no_samples_are_an_error(clip_folder, image_folder, tmp_path, samples):
    with pytest.raises(SeaAnchorError, match="samples"):
        evaluate(str(clip_folder), [str(image_folder)], replace(PROTOCOL, samples=samples), tmp_path)


def test_unlabelled_images_are_an_error(clip_folder, image_folder, tmp_path):
    with pytest.raises(SeaAnchorError, match="no class folders"):
        evaluate(str(clip_folder), [str(image_folder / "apple")], PROTOCOL, tmp_path)


def test_quick_accuracy_leaves_the_policy_as_it_was(clip_folder, image_folder):
    from seaanchor.config import RunConfig
    from seaanchor.encoders.load import load_model
    from seaanchor.evaluation.zeroshot import quick_accuracy

    model = load_model(str(clip_folder))
    model.encoder.requires_grad_(True).train()
    report = quick_accuracy(model, RunConfig(val_data=(str(image_folder),), eval_samples=6))
    assert report[str(image_folder)]["n"] == 6
    assert 0 <= report[str(image_folder)]["pgd"] <= report[str(image_folder)]["clean"] <= 1
    assert model.encoder.training
    assert all(p.requires_grad and p.grad is None for p in model.encoder.parameters())
