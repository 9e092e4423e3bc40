"""Every suite through the one interface: the numbers are those of its own function, with n and interval, and what it
needs is asked for first."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml

from seaanchor.attacks.ball import Ball
from seaanchor.attacks.classification import AttackResult
from seaanchor.cli.evaluate import ATTACKS
from seaanchor.cli.evaluate import SUITES as OFFERED
from seaanchor.data.loader import ImageDataset, SkipLog, batches, subset
from seaanchor.data.sources import open_images
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation import attacks, embeddings, measure
from seaanchor.evaluation import run as module
from seaanchor.evaluation.attacks import AttackPlan
from seaanchor.evaluation.run import Protocol, evaluate, evaluate_all
from seaanchor.evaluation.suites.interpretability import evaluate_interpretability, mean_prompts
from seaanchor.evaluation.suites.probe import nearest_neighbours
from seaanchor.evaluation.suites.registry import SUITES
from seaanchor.utils.records import to_plain

SAMPLES = 12


def test_the_command_offers_what_there_is():
    assert set(OFFERED) == {"clean", *attacks.STAGES, *SUITES}
    assert set(ATTACKS) == set(attacks.STAGES)


def embedded(model, images):
    """Clean embeddings and labels, in order."""
    dataset = ImageDataset(images, model.encoder.image_size)
    found = list(batches(dataset, 100, workers=0, order=None, skip_log=SkipLog(images)))
    with torch.no_grad():
        return torch.cat([model.encoder(b.pixels_BCHW) for b in found]), torch.cat([b.label_B for b in found]), found


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """All of one model's suites on a few photos, but those that have tests of their own."""
    suites = ("retrieval", "embedding", "noise", "corruptions", "interpretability", "probe", "reading")
    plan = AttackPlan("embedding", "linf", (0.0, 2 / 255), 2)
    protocol = Protocol((), samples=SAMPLES, suites=suites, embedding=plan, corruptions=("contrast", "gaussian_noise"))
    (found,) = evaluate("seaanchor-tiny", ["photos-mini"], protocol, tmp_path_factory.mktemp("out"), batch_size=20)
    return found


@pytest.fixture(scope="module")
def direct():
    model = load_model("seaanchor-tiny")
    images = subset(open_images("photos-mini/test"), SAMPLES, 0)
    return model, images, *embedded(model, images)


def test_numbers_are_those_of_the_functions(result, direct):
    model, images, image_ND, label_N, _ = direct
    found = result.suites
    own = evaluate_interpretability(image_ND, label_N, mean_prompts(model, images.class_names))
    for name in ("own", "other", "margin"):
        assert getattr(found.interpretability, name) == pytest.approx(getattr(own, name), rel=1e-4)
    assert (found.interpretability.n, found.interpretability.templates) == (SAMPLES, 80)
    train_ND, train_label_N, _ = embedded(model, open_images("photos-mini/train"))
    near_N = nearest_neighbours(train_ND, train_label_N, image_ND, 40)
    assert found.probe.knn.accuracy == pytest.approx((near_N == label_N).double().mean().item())
    assert found.probe.linear.accuracy > 0.5
    assert found.probe.k == 20
    assert found.probe.train == 800
    assert (
        found.retrieval.image_to_text["recall@1"].accuracy == result.clean.accuracy
    )  # the nearest class prompt is the answer
    assert found.retrieval.image_to_text["recall@5"].accuracy == result.metrics["acc5"]
    assert set(found.retrieval.text_to_image) == {"recall@1", "recall@5", "recall@10"}
    assert found.reading.reading.n == 400


def test_noise_and_corruptions_bite_more_the_stronger_they_are(result, direct):
    from seaanchor.encoders.heads import build_head
    from seaanchor.evaluation.corruptions import corrupt

    noise, corruptions = result.suites.noise.levels, result.suites.corruptions
    assert [row.sigma for row in noise] == [8, 16, 32, 64, 128]
    assert result.clean.accuracy >= noise[0].share.accuracy > noise[-1].share.accuracy
    assert [row.severity for row in corruptions.kinds["contrast"]] == [1, 2, 3, 4, 5]
    assert corruptions.kinds["contrast"][0].share.accuracy > corruptions.kinds["contrast"][4].share.accuracy
    shares = [row.share.accuracy for rows in corruptions.kinds.values() for row in rows]
    assert corruptions.mean == pytest.approx(sum(shares) / 10, rel=1e-5)
    model, images, _, _, found = direct
    head = build_head(model, images.class_names)
    with torch.no_grad():
        hits = [
            (head(model.encoder(corrupt(b.pixels_BCHW, "contrast", 3, b.index_B))).argmax(-1) == b.label_B)
            for b in found
        ]
    assert corruptions.kinds["contrast"][2].share.accuracy == pytest.approx(torch.cat(hits).double().mean().item())


def test_the_attack_on_the_embedding(result, direct):
    from seaanchor.attacks.embedding import embedding_attack

    nothing, row = result.suites.embedding.radii
    assert (nothing.epsilon, nothing.distance.max) == (0.0, pytest.approx(0, abs=1e-6))
    assert (row.epsilon, row.norm, row.num_steps, row.n) == (2 / 255, "linf", 2, SAMPLES)
    model, _, _, _, found = direct
    attacked = torch.cat(
        [embedding_attack(model.encoder, b, Ball("linf", 2 / 255), num_steps=2).relative_B for b in found]
    )
    # some signs of the gradient turn with the last bit, which depends on the kernels
    assert row.distance.mean == pytest.approx(attacked.mean().item(), rel=1e-3)
    assert row.distance.p50 <= row.distance.p90 <= row.distance.max
    assert row.cosine < nothing.cosine == pytest.approx(1)
    assert result.checks["embedding: images stay in the ball and in [0, 1]"].passed


def test_every_share_has_an_interval_and_n(result):
    def shares(node):
        if isinstance(node, dict) and "accuracy" in node:
            yield node
        elif isinstance(node, dict | list):
            for child in node.values() if isinstance(node, dict) else node:
                yield from shares(child)

    found = list(shares([to_plain(result.clean), to_plain(result.suites)]))
    assert len(found) > 20
    assert all(
        row["low"] <= row["accuracy"] <= row["high"] and row["n"] in (SAMPLES, 40, 400) for row in found
    )  # images, class prompts, pictures of words


def test_calibration_is_guos(result, direct):
    from seaanchor.encoders.heads import build_head
    from seaanchor.evaluation.calibration import evaluate_calibration

    model, images, image_ND, label_N, _ = direct
    logits = build_head(model, images.class_names)(image_ND)
    assert result.metrics["ece"] == pytest.approx(evaluate_calibration(logits, label_N).ece, rel=1e-4)


@pytest.fixture
def run_folder(clip_folder, tmp_path) -> Path:
    """A run's export beside the model it came from, with a bound on the drift."""
    from seaanchor.export.folder import export_model

    model = load_model(str(clip_folder))
    with torch.no_grad():
        model.module.visual.proj.mul_(0.8)
    export_model(model, tmp_path / "run" / "export")
    anchor = {"kind": "lagrangian", "on": "embedding", "rho": 0.05}
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump({"model": str(clip_folder), "anchor": anchor}))
    return tmp_path / "run"


def test_drift_by_hand_with_the_runs_bound(run_folder, image_folder):
    """Embeddings of 0.8 times the length: relative squared distance .04, inside a ρ of .05; a bound on distributions is
    none on embeddings."""
    (result,) = evaluate(str(run_folder / "export"), [str(image_folder)], Protocol((), suites=("drift",)), None)
    drift = result.suites.drift
    assert drift.cosine == pytest.approx(1)
    assert asdict(drift.distance) == pytest.approx({"mean": 0.04, "p50": 0.04, "p90": 0.04, "max": 0.04}, rel=1e-4)
    assert drift.deciles == pytest.approx([0.04] * 11, rel=1e-4)
    assert (drift.rho, drift.within.accuracy, drift.n) == (0.05, 1.0, 12)
    untouched = result.reference.suites.drift
    assert (untouched.distance.max, untouched.rho, untouched.within) == (0.0, None, None)
    settings = yaml.safe_load((run_folder / "config.yaml").read_text())
    settings["anchor"] |= {"on": "distribution"}
    (run_folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (result,) = evaluate(str(run_folder / "export"), [str(image_folder)], Protocol((), suites=("drift",)), None)
    assert result.suites.drift.rho is None


def test_clean_embeddings_are_computed_once_a_model(run_folder, image_folder, monkeypatch):
    """However many suites want them, and though both the reference's own result and the drift need the reference's."""
    shutil.copytree(image_folder, image_folder.parent / "train")
    seen = []
    real = measure.embed
    for place in (measure, embeddings):
        monkeypatch.setattr(
            place, "embed", lambda model, batch: seen.extend([model.name] * len(batch.index_B)) or real(model, batch)
        )
    protocol = Protocol((), suites=("drift", "interpretability", "retrieval", "probe"))
    evaluate(str(run_folder / "export"), [str(image_folder)], protocol, None)
    assert len(set(seen)) == 2
    assert {seen.count(name) for name in seen} == {12 + 12}  # the images, and the probe's training images


def test_captioned_images(clip_folder, image_folder, tmp_path, capsys):
    """Of a folder with captions.jsonl: retrieval with CLIP_benchmark's names, no classes, and an error for suites that
    need them."""
    from seaanchor.report.table import print_results

    files = sorted(image_folder.rglob("*.jpg"))[:5]
    folder = tmp_path / "captioned"
    folder.mkdir()
    for i, file in enumerate(files):
        shutil.copy(file, folder / f"{i}.jpg")
    lines = [{"image": f"{i}.jpg", "captions": [f"picture {i}", f"number {i} again"]} for i in range(5)]
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    plan = AttackPlan("embedding", "linf", (1 / 255,), 1)
    (result,) = evaluate(
        str(clip_folder),
        [str(folder)],
        Protocol((), suites=("retrieval", "embedding"), embedding=plan),
        tmp_path / "out",
        batch_size=2,
    )
    assert (result.task, result.clean, result.robust.rows) == ("zeroshot_retrieval", None, ())
    found = result.suites.retrieval
    assert (found.image_to_text["recall@1"].n, found.text_to_image["recall@1"].n) == (5, 10)
    assert (
        result.metrics["image_retrieval_recall@5"] == found.text_to_image["recall@5"].accuracy == 1.0
    )  # of five images
    assert set(result.metrics) == {f"{what}_retrieval_recall@{k}" for what in ("image", "text") for k in (1, 5, 10)}
    model = load_model(str(clip_folder))
    dataset = ImageDataset(open_images(str(folder)), 32)
    image = next(batches(dataset, 5, workers=0, order=None, skip_log=SkipLog(dataset.images))).pixels_BCHW
    with torch.no_grad():
        unit = F.normalize(model.encoder(image), dim=-1)
        text = F.normalize(model.encode_texts([t for line in lines for t in line["captions"]]), dim=-1)
    right = (unit @ text.T).argmax(-1) // 2 == torch.arange(5)
    assert found.image_to_text["recall@1"].accuracy == pytest.approx(right.double().mean().item())
    print_results([result])
    assert "recall at 1" in capsys.readouterr().out
    (few,) = evaluate(str(clip_folder), [str(folder)], Protocol((), samples=3, suites=("retrieval",)), tmp_path / "out")
    assert (
        few.suites.retrieval.image_to_text["recall@1"].n,
        few.suites.retrieval.text_to_image["recall@1"].n,
    ) == (3, 6)
    for protocol in (Protocol((plan,)), Protocol((), suites=("retrieval", "noise")), Protocol(())):
        with pytest.raises(SeaAnchorError, match="has captions and no classes"):
            evaluate(str(clip_folder), [str(folder)], protocol, tmp_path / "out")


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        (Protocol((), suites=("bias",)), "is no set of people in roles"),
        (Protocol((), suites=("probe",)), "has no train split beside it"),
        (Protocol((), suites=("probe",), training="emoji/train"), "has no images of bonsai"),
        (Protocol((), suites=("drift",)), "the reference of .* is not known"),
        (Protocol((), templates=("a photo",)), "has no {}"),
        (Protocol((AttackPlan("square", "linf", (0.1,), 5),)), "pyautoattack is not installed"),
    ],
)
def test_what_a_suite_needs_is_asked_for_before_anything_is_computed(
    clip_folder, image_folder, tmp_path, monkeypatch, protocol, words
):
    def missing():
        raise SeaAnchorError("pyautoattack is not installed", "x", "y")

    monkeypatch.setattr(attacks, "pyautoattack", missing)
    monkeypatch.setattr(module, "measure_model", lambda *args: pytest.fail("something was computed"))
    with pytest.raises(SeaAnchorError, match=words):
        evaluate(str(clip_folder), ["photos-mini", str(image_folder)], protocol, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_attack_that_returns_nan_is_one_error_and_the_file_says_so(clip_folder, image_folder, tmp_path, monkeypatch):
    def broken(logits, pixels, label, ball, **settings):
        return AttackResult(pixels * float("nan"), torch.ones_like(label, dtype=torch.bool))

    monkeypatch.setitem(attacks.STAGES, "pgd", (broken,))
    protocol = Protocol((AttackPlan("pgd", "linf", (1 / 255,), 2),))
    with pytest.raises(SeaAnchorError, match=r"self-check failed: .*images stay in the ball"):
        evaluate(str(clip_folder), [str(image_folder)], protocol, tmp_path / "out")
    (file,) = (tmp_path / "out").iterdir()
    assert not json.loads(file.read_text())["checks"]["pgd: images stay in the ball and in [0, 1]"]["passed"]
    (result,) = evaluate_all([str(clip_folder)], [str(image_folder)], protocol, tmp_path / "out", skip_existing=True)
    assert not result.checks["pgd: images stay in the ball and in [0, 1]"].passed


def test_square_and_autoattack_are_attacks_like_the_others(clip_folder, image_folder, tmp_path, monkeypatch):
    pytest.importorskip("pyautoattack")
    plans = (
        AttackPlan("square", "linf", (1 / 255, 16 / 255), 20),
        *(AttackPlan(name, "linf", (16 / 255,), 2) for name in ("autoattack", "apgd")),
    )
    (result,) = evaluate(str(clip_folder), [str(image_folder)], Protocol(plans), tmp_path / "out")
    found = result.robust
    assert result.robust.rows[0].num_steps == 20
    assert found["square", 16 / 255].accuracy <= found["square", 1 / 255].accuracy <= result.clean.accuracy
    assert found["autoattack", 16 / 255].accuracy <= found["apgd", 16 / 255].accuracy
    notes = " ".join(result.notes)
    assert "AutoAttack without targeted APGD" in notes and "APGD-CE alone" in notes  # three classes
