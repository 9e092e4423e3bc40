"""Result files: what they say, when they are read again, and what the reference is."""

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation import measure as measuring
from seaanchor.evaluation import prepare
from seaanchor.evaluation import run as module
from seaanchor.evaluation.attacks import AttackPlan
from seaanchor.evaluation.model_pair import identity
from seaanchor.evaluation.result_files import encode, read_result
from seaanchor.evaluation.results import FORMAT, AttackSettings, Check, EvaluationResult
from seaanchor.evaluation.run import Protocol, evaluate, reference_of
from seaanchor.evaluation.sanity_checks import failed
from seaanchor.evaluation.statistics import interval
from seaanchor.evaluation.summary import summarise
from seaanchor.utils.locks import locked
from seaanchor.utils.records import to_plain

PROTOCOL = Protocol(
    (AttackPlan("pgd", "linf", (1 / 255, 4 / 255), 2), AttackPlan("apgd", "linf", (1 / 255,), 2)), seed=3
)


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
    return evaluate(
        str(clip_folder), [str(image_folder)], PROTOCOL, tmp_path / "out", reference=str(clip_folder), batch_size=5
    )


def test_a_result_holds_its_protocol(results, clip_folder, image_folder, tmp_path):
    import open_clip
    import timm

    (result,) = results
    files = list((tmp_path / "out").iterdir())
    assert len(files) == 2  # the reference's, which stands beside nothing, is its own
    assert sorted((read_result(file) for file in files), key=lambda r: r.reference is None)[0] == result
    protocol = result.protocol
    assert list(protocol.class_names) == ["apple", "red fox", "zebra"]
    assert protocol.templates == ("a photo of a {}.",)
    assert protocol.seed == 3
    assert protocol.image_size == 32
    assert protocol.plans[0] == AttackSettings("pgd", "linf", (1 / 255, 4 / 255), 2, 0, "fp32")
    versions = result.environment.versions
    assert versions["torch"] == torch.__version__.split("+")[0] or versions["torch"] == torch.__version__
    assert versions["timm"] == timm.__version__
    assert versions["open_clip_torch"] == open_clip.__version__
    assert failed(result.checks) == []
    assert [(row.attack, row.epsilon, row.share.n) for row in result.robust.rows] == [
        ("pgd", 1 / 255, 12),
        ("pgd", 4 / 255, 12),
        ("apgd", 1 / 255, 12),
    ]
    for row in (result.clean, *result.robust.values()):
        assert 0 <= row.low <= row.accuracy <= row.high <= 1
        assert (row.low, row.high) == interval(round(12 * row.accuracy), 12)
    assert result.constant_predictor == pytest.approx(1 / 3)
    assert result.notes == ("APGD-CE alone: targeted DLR needs 4 classes, here are 3",)


def test_keys_are_those_of_clip_benchmark(results):
    """`clip_benchmark build` reads these six; `pretrained` is joined to `model` as text, `metrics` becomes columns."""
    (result,) = results
    assert result.task == "zeroshot_classification"
    assert result.language == "en"
    assert isinstance(result.dataset, str)
    assert isinstance(result.model + " " + result.pretrained, str)
    assert set(result.metrics) == {"acc1", "acc5", "mean_per_class_recall", "ece"}
    assert result.metrics["acc1"] == result.clean.accuracy
    assert result.metrics["acc5"] == 1.0  # three classes
    assert result.metrics["mean_per_class_recall"] == pytest.approx(result.clean.accuracy)  # four images each


def test_mean_per_class_recall_by_hand(clip_folder):
    from seaanchor.encoders.load import load_model
    from seaanchor.evaluation.zeroshot import Outcomes

    label = torch.tensor([0, 0, 0, 2, 2])  # class 1 has no image: it counts for nothing
    clean = torch.tensor([True, True, False, False, True])
    summary = summarise(
        load_model(str(clip_folder)), "set", Outcomes(torch.arange(5), label, clean, clean, torch.ones(5), {}, {})
    )
    assert summary.metrics["mean_per_class_recall"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert summary.metrics["acc1"] == pytest.approx(3 / 5)
    assert summary.constant_predictor == pytest.approx(3 / 5)


def numbers(result: EvaluationResult) -> str:
    """What must not depend on how the evaluation was run."""
    parts = [result.metrics, result.clean, result.robust, result.suites, result.checks, result.protocol]
    return json.dumps(to_plain(parts))


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (12, 0), (5, 2)])
def test_batch_size_and_workers_change_nothing(results, clip_folder, image_folder, tmp_path, batch_size, workers):
    (other,) = evaluate(
        str(clip_folder),
        [str(image_folder)],
        PROTOCOL,
        tmp_path / "other",
        reference=str(clip_folder),
        batch_size=batch_size,
        workers=workers,
    )
    assert numbers(other) == numbers(results[0])


def test_unreadable_images_are_left_out_and_counted(clip_folder, image_folder, tmp_path, monkeypatch):
    checked = []
    real = measuring.run_checks
    monkeypatch.setattr(
        measuring, "run_checks", lambda w: checked.append(len(w.load(w.found.index_N.tolist()).index_B)) or real(w)
    )
    for i in range(40):  # all of the first batches
        (image_folder / "apple" / f"{i:02d}-broken.jpg").write_bytes(b"")
    (result,) = evaluate(str(clip_folder), [str(image_folder)], PROTOCOL, tmp_path / "out", batch_size=5)
    assert result.clean.n == 12
    assert result.skipped.startswith("40 of 52 images in")
    assert checked == [12]  # the checks look at images that can be read
    for file in image_folder.rglob("*.jpg"):
        file.write_bytes(b"")
    with pytest.raises(SeaAnchorError, match="no labelled image could be read"):
        evaluate(str(clip_folder), [str(image_folder)], PROTOCOL, tmp_path / "out", batch_size=5)


def test_skip_existing_reads_and_anything_that_matters_recomputes(
    results, clip_folder, image_folder, tmp_path, monkeypatch
):
    computed = []
    real = module.measure_model
    monkeypatch.setattr(module, "measure_model", lambda *args: computed.append(1) or real(*args))

    def again(protocol=PROTOCOL, **settings):
        computed.clear()
        (result,) = evaluate(
            str(clip_folder), [str(image_folder)], protocol, tmp_path / "out", batch_size=5, **settings
        )
        return result, len(computed)

    beside, count = again(skip_existing=True, reference=str(clip_folder))
    assert count == 0
    assert beside == results[0]
    first, count = again(skip_existing=True)
    assert count == 0  # the reference's own
    assert first == results[0].reference
    assert first.reference is None
    assert again()[1] == 1
    assert again(replace(PROTOCOL, seed=4), skip_existing=True)[1] == 1
    assert again(replace(PROTOCOL, templates=("{}",)), skip_existing=True)[1] == 1
    assert again(replace(PROTOCOL, plans=PROTOCOL.plans[:1]), skip_existing=True)[1] == 1
    assert again(replace(PROTOCOL, samples=6), skip_existing=True)[1] == 1
    (image_folder / "zebra" / "3.jpg").write_bytes((image_folder / "apple" / "0.jpg").read_bytes())
    assert again(skip_existing=True)[1] == 1


def test_a_result_of_another_format_or_version_is_not_read(clip_folder, image_folder, tmp_path, monkeypatch, capsys):
    protocol = replace(PROTOCOL, plans=())

    def again():
        (result,) = evaluate(str(clip_folder), [str(image_folder)], protocol, tmp_path / "out", skip_existing=True)
        return result

    honest = again()
    (file,) = (tmp_path / "out").iterdir()
    file.write_text(json.dumps(encode(honest) | {"format": 1, "clean": {"accuracy": 1.0}}))
    assert again() == honest
    assert f"{file} is of format 1, results are now of format {FORMAT}: computed again" in capsys.readouterr().out
    file.write_text("{")
    assert again() == honest
    assert "of format unreadable" in capsys.readouterr().out
    monkeypatch.setattr(prepare, "__version__", "another")
    again()
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_another_text_side_or_activation_is_another_result(clip_folder):
    """The image tower's weights alone do not make a classifier."""
    from seaanchor.encoders.load import load_model

    model, other, third = (load_model(str(clip_folder)) for _ in range(3))
    assert identity(model) == identity(other)
    with torch.no_grad():
        other.module.token_embedding.weight[5] += 1
    assert identity(model) != identity(other)
    third.module.visual.transformer.resblocks[0].mlp.gelu = torch.nn.SiLU()
    assert identity(model) != identity(third)


def test_a_failed_check_is_an_error_each_time_and_stays_in_the_file(clip_folder, image_folder, tmp_path, monkeypatch):
    bad = {"pgd: epsilon 0 equals clean": Check(False, "3 of 12 images differ")}
    monkeypatch.setattr(measuring, "run_checks", lambda witness: bad)
    for skip in (False, True):
        with pytest.raises(
            SeaAnchorError, match=r"self-check failed: .*pgd: epsilon 0 equals clean .3 of 12 images differ"
        ):
            evaluate(str(clip_folder), [str(image_folder)], PROTOCOL, tmp_path / "out", skip_existing=skip)
    (file,) = (tmp_path / "out").iterdir()
    assert read_result(file).checks == bad


def test_several_models_and_data_sets(clip_folder, image_folder, tmp_path, monkeypatch):
    """One result for each pair; the reference that two models share is computed once a data set."""
    import shutil

    from seaanchor.encoders.load import load_model
    from seaanchor.export.folder import export_model

    shutil.copytree(image_folder, tmp_path / "more" / "images")
    model = load_model(str(clip_folder))
    for name in ("export", "export-averaged"):
        with torch.no_grad():
            model.module.visual.proj.mul_(-1).add_(0.1)
        export_model(model, tmp_path / "run" / name)
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump({"model": str(clip_folder)}))
    computed = []
    real = module.measure_model
    monkeypatch.setattr(
        module, "measure_model", lambda context, *rest: computed.append(context.model.name) or real(context, *rest)
    )
    models = [str(tmp_path / "run" / name) for name in ("export", "export-averaged")]
    sources = [str(image_folder), str(tmp_path / "more" / "images")]
    protocol = replace(PROTOCOL, plans=(), suites=("drift",))
    found = module.evaluate_all(models, sources, protocol, None)
    assert [(r.model, r.dataset) for r in found] == [(m, s) for s in sources for m in models]
    assert sorted(computed) == sorted([*models, str(clip_folder)] * 2)
    assert {Path(file).parent for file in (tmp_path / "run").rglob("*.json") if "--" in file.name} == {
        tmp_path / "run" / "evaluation"
    }
    assert len(list((tmp_path / "run" / "evaluation").iterdir())) == 6  # two sets of one folder name are two files
    for result in found:
        assert result.suites.drift.distance.mean > 0
        assert result.reference.suites.drift.distance.max == 0
    with pytest.raises(SeaAnchorError, match=r"data set .* is named twice"):
        module.evaluate_all(models, [sources[0], sources[0] + "/"], protocol, None)
    with pytest.raises(SeaAnchorError, match=r"model .* is named twice"):
        module.evaluate_all([models[0]] * 2, sources, protocol, None)


def test_a_runs_export_is_set_beside_the_model_it_came_from(clip_folder, image_folder, tmp_path):
    from seaanchor.encoders.load import load_model
    from seaanchor.export.folder import export_model

    model = load_model(str(clip_folder))
    with torch.no_grad():
        model.module.visual.proj.mul_(-1)  # every prediction changes
    export_model(model, tmp_path / "run" / "export")
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump({"model": str(clip_folder), "pretrained": None}))
    (result,) = evaluate(
        str(tmp_path / "run" / "export"), [str(image_folder)], replace(PROTOCOL, plans=()), tmp_path / "out"
    )
    assert result.reference.model == str(clip_folder)
    assert result.reference.pretrained != result.pretrained
    (alone,) = evaluate(str(clip_folder), [str(image_folder)], replace(PROTOCOL, plans=()), tmp_path / "out")
    assert alone.reference is None
    assert numbers(result.reference) == numbers(alone)
    assert module.output_of(str(tmp_path / "run" / "export")) == tmp_path / "run" / "evaluation"
    assert module.output_of(str(clip_folder)) == Path("runs/evaluation")
    stored = [read_result(file) for file in (tmp_path / "out").iterdir()]
    assert sorted(bool(one.reference) for one in stored) == [False, True]


def test_the_reference_sees_images_of_the_models_size(clip_folder, image_folder, tmp_path):
    from seaanchor.encoders.load import load_model
    from seaanchor.export.folder import export_model

    export_model(load_model(str(clip_folder), image_size=64), tmp_path / "run" / "export")
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump({"model": str(clip_folder)}))
    (result,) = evaluate(
        str(tmp_path / "run" / "export"), [str(image_folder)], replace(PROTOCOL, plans=()), tmp_path / "out"
    )
    assert result.protocol.image_size == result.reference.protocol.image_size == 64
    assert result.reference.pretrained == result.pretrained  # the same weights, and the same size
    assert result.reference.clean == result.clean


def test_reference_of_a_name_ignores_strangers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("model: of another project\n")
    assert reference_of("ViT-B-32") == (None, None)
    Path("config.yaml").write_text("nothing: here\n")
    Path("export").mkdir()
    assert reference_of("export") == (None, None)


def test_reference_of_a_variant_is_its_base(cut_vocabulary_folder, tmp_path, monkeypatch):
    from seaanchor.encoders import embedded

    folder = cut_vocabulary_folder.parent / "tiny-fare"
    folder.mkdir(exist_ok=True)
    config = json.loads((cut_vocabulary_folder / "open_clip_config.json").read_text()) | {
        "seaanchor": {"text_tower_of": "tiny"}
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    assert reference_of(str(folder)) == (str(cut_vocabulary_folder), None)
    monkeypatch.setattr(embedded, "ZOO", folder.parent)
    assert reference_of("tiny-fare") == ("tiny", None)


@pytest.mark.parametrize("samples", [0, -1])
def test_no_samples_are_an_error(clip_folder, image_folder, tmp_path, samples):
    with pytest.raises(SeaAnchorError, match="samples"):
        evaluate(str(clip_folder), [str(image_folder)], replace(PROTOCOL, samples=samples), tmp_path)


def test_unlabelled_images_are_an_error(clip_folder, image_folder, tmp_path):
    with pytest.raises(SeaAnchorError, match="no class folders"):
        evaluate(str(clip_folder), [str(image_folder / "apple")], PROTOCOL, tmp_path)


def test_quick_accuracy_leaves_the_policy_as_it_was(clip_folder, image_folder):
    from seaanchor.config.schema import RunConfig
    from seaanchor.encoders.load import load_model
    from seaanchor.evaluation.quick_accuracy import quick_accuracy

    model = load_model(str(clip_folder))
    model.encoder.requires_grad_(True).train()
    report = quick_accuracy(model, RunConfig(val_data=(str(image_folder),), eval_samples=6))
    assert report[str(image_folder)]["n"] == 6
    assert 0 <= report[str(image_folder)]["pgd"] <= report[str(image_folder)]["clean"] <= 1
    assert model.encoder.training
    assert all(p.requires_grad and p.grad is None for p in model.encoder.parameters())


def test_quick_accuracy_of_runs_against_drawn_words_counts_those(image_folder):
    """At the run's own words, fonts and sizes: as the suite of the same plan counts them."""
    from seaanchor.config.schema import PerturbationConfig, RunConfig
    from seaanchor.encoders.load import load_model
    from seaanchor.evaluation.quick_accuracy import quick_accuracy
    from seaanchor.evaluation.typographic_plan import TypographicPlan

    settings = PerturbationConfig(kind="typographic", words="even", sizes=(0.2, 0.3))
    model = load_model("seaanchor-tiny")
    report = quick_accuracy(
        model, RunConfig(val_data=("photos-mini/test",), eval_samples=40, perturbation=settings, seed=2)
    )["photos-mini/test"]
    assert set(report) == {"clean", "attacked", "attack_word", "n"}
    assert report["n"] == 40
    assert report["attacked"] < report["clean"]
    plan = TypographicPlan("even", "train", (0.2, 0.3), 2)
    protocol = Protocol((), samples=40, seed=2, suites=("typographic",), typographic=plan)
    (result,) = evaluate("seaanchor-tiny", ["photos-mini/test"], protocol, image_folder / "out")
    found = result.suites.typographic
    assert report == {"n": 40} | {name: getattr(found, name).accuracy for name in ("clean", "attacked", "attack_word")}


def test_where_things_lie_on_this_machine_stays_out_of_the_file(clip_folder, image_folder, tmp_path, monkeypatch):
    """Given by absolute paths, model and images are written down relative to the working folder, and the result is read
    again, whatever its name."""
    import shutil

    monkeypatch.chdir(tmp_path)
    shutil.copytree(clip_folder, tmp_path / "models" / "clip")
    (image_folder / "apple" / "broken.jpg").write_bytes(b"")
    computed, real = [], module.measure_model
    monkeypatch.setattr(module, "measure_model", lambda *args: computed.append(1) or real(*args))

    def again():
        (result,) = evaluate(
            str(tmp_path / "models" / "clip"),
            [str(image_folder)],
            replace(PROTOCOL, plans=()),
            tmp_path / "out",
            skip_existing=True,
        )
        return result

    first = again()
    (file,) = (tmp_path / "out").iterdir()
    assert str(tmp_path) not in file.read_text() and tmp_path.name not in file.name
    assert (first.model, first.dataset) == ("models/clip", "./images") and "13 images in images" not in first.skipped
    assert first.skipped.startswith("1 of 13 images in ./images could not")
    file.rename(file.with_name(f"under_another_name--{file.name.rpartition('--')[2]}"))
    assert again() == first and len(computed) == 1
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_two_processes_that_measure_the_same_do_it_one_after_the_other(
    clip_folder, image_folder, tmp_path, caplog, monkeypatch
):
    """The second reads what the first has found; where that ended without a result, it measures."""

    def measured() -> EvaluationResult:
        (result,) = evaluate(str(clip_folder), [str(image_folder)], Protocol(()), tmp_path / "out")
        return result

    compute, times = module._computed, []
    monkeypatch.setattr(module, "_computed", lambda *given: times.append(1) or compute(*given))
    first = measured()
    (file,) = (tmp_path / "out").iterdir()
    text, partial = file.read_text(), file.with_name(f".{file.stem}.partial")
    for leaves_result in (True, False):
        caplog.clear()
        times.clear()
        file.unlink()
        with ThreadPoolExecutor(1) as pool:
            with locked(partial):
                second = pool.submit(measured)
                while "waits for another process" not in caplog.text:
                    assert not second.done()
                    time.sleep(0.01)
                if leaves_result:
                    file.write_text(text)
                shutil.rmtree(partial)  # as the first does when it is done
            assert second.result(timeout=60).clean == first.clean
        assert len(times) == (0 if leaves_result else 1)
        assert [found.name for found in (tmp_path / "out").iterdir()] == [file.name]
