"""Runs with a linear head: the classifier of a timm tower, a probe, a file; from training to export, evaluation and
report."""

import json
import re
import shlex
import sys
from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import seaanchor as sa
from seaanchor.anchors.constraints import distribution_constraint
from seaanchor.cli import app as cli
from seaanchor.config.recipes import dpo, dpo_linear, lore, tecoa
from seaanchor.config.schema import PerturbationConfig
from seaanchor.encoders.head_file import NAME, read_head, write_head
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.advice import evaluation_command
from seaanchor.objectives.preference import DPO
from seaanchor.report.page import write_report
from seaanchor.training.run import Hooks, train
from seaanchor.training.setup import prepare
from seaanchor.types import Embeddings, Head, NamedHead, Preference, Targets

NAMES = ["emu", "zebra", "red fox", "apple"]  # of the classifier: another order, and one class more than the images


@pytest.fixture
def timm_folder(tmp_path):
    """A convolutional tower of 32 pixels with a classifier of four classes."""
    torch.manual_seed(0)
    model = timm.create_model("test_efficientnet", num_classes=4)
    (tmp_path / "timm").mkdir()
    save_file(model.state_dict(), tmp_path / "timm/model.safetensors")
    pretrained = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "classifier": "classifier"}
    pretrained |= {"first_conv": "conv_stem", "interpolation": "bicubic", "crop_pct": 1.0, "num_classes": 4}
    settings = {"architecture": "test_efficientnet", "num_classes": 4, "label_names": NAMES}
    (tmp_path / "timm/config.json").write_text(json.dumps(settings | {"pretrained_cfg": pretrained}))
    return tmp_path / "timm"


@pytest.fixture
def timm_run(tiny_run, timm_folder):
    """As `tiny_run`, of the timm tower and of two batches."""

    def make(recipe, **changes):
        config = tiny_run(recipe, **{"max_steps": 2} | changes)
        return replace(config, model=f"timm:local-dir:{timm_folder}")

    return make


def without_classifier(folder):
    """The same tower without its classifier."""
    state = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in state.items() if not k.startswith("classifier")}, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    del config["label_names"]
    config["num_classes"] = config["pretrained_cfg"]["num_classes"] = 0
    (folder / "config.json").write_text(json.dumps(config))


def run_advice(run, monkeypatch, image_folder, tmp_path):
    """The advice of a run as a command line, with real folders in place of the words."""
    words = {"LABELLED_FOLDER": str(image_folder), "TRAIN_FOLDER": str(image_folder)}
    command = [words.get(word, word) for word in shlex.split(evaluation_command(run))]
    monkeypatch.setattr(sys, "argv", [*command, "--suite", "clean", "--output", str(tmp_path / "advised")])
    cli.main()
    found = [json.loads(file.read_text()) for file in (tmp_path / "advised").glob("*.json")]
    return next(result for result in found if result["reference"])


def test_a_towers_own_classifier_goes_all_the_way(timm_run, timm_folder, image_folder, tmp_path, monkeypatch):
    config = timm_run(lore(), eval_every=2, val_data=(str(image_folder),))
    seen = []

    def evaluate(model, config):
        from seaanchor.evaluation.quick_accuracy import quick_accuracy

        seen.append(quick_accuracy(model, config))
        return seen[-1]

    train(config, Hooks(evaluate))
    assert set(seen[0][str(image_folder)]) == {"clean", "pgd", "n"}
    export = config.output / "export"
    before, after = load_file(timm_folder / "model.safetensors"), load_file(export / "model.safetensors")
    assert torch.equal(before["classifier.weight"], after["classifier.weight"])
    assert not torch.equal(before["conv_stem.weight"], after["conv_stem.weight"])
    theirs = timm.create_model(f"local-dir:{export}", pretrained=True).eval()
    ours = load_model(f"timm:local-dir:{export}")
    pixels_BCHW = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        logits_BC = ours.classifier.head(ours.encoder(pixels_BCHW))
        torch.testing.assert_close(logits_BC, theirs((pixels_BCHW - 0.5) / 0.5), rtol=1e-5, atol=1e-6)
    assert ours.classifier.class_names == tuple(NAMES)
    fewer = timm.create_model(f"local-dir:{export}", pretrained=True, num_classes=0).eval()
    with torch.no_grad():
        torch.testing.assert_close(fewer((pixels_BCHW - 0.5) / 0.5), ours.encoder(pixels_BCHW), rtol=1e-5, atol=1e-6)
    found = run_advice(config.output, monkeypatch, image_folder, tmp_path)
    assert found["protocol"]["head"]["kind"] == "classifier" and found["protocol"]["class_names"] == NAMES
    assert found["reference"]["protocol"]["head"] == found["protocol"]["head"]
    attacks = [sa.attacks.PGD(epsilon=8 / 255, num_steps=2)]
    sa.evaluate(ours, str(image_folder), attacks=attacks, output=config.output / "evaluation")
    page = write_report([config.output], gallery=2).read_text()
    assert "model&#39;s own classifier" in page and "No images" not in page


def test_tecoa_learns_from_the_classifiers_own_logits(timm_run):
    setup = prepare(timm_run(tecoa()))
    theirs = timm.create_model(setup.config.model.removeprefix("timm:"), pretrained=True).eval()
    pixels_BCHW = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        logits_BC = setup.head(setup.model.encoder(pixels_BCHW))
        torch.testing.assert_close(logits_BC, theirs((pixels_BCHW - 0.5) / 0.5), rtol=1e-5, atol=1e-6)
    assert setup.images.class_names == tuple(NAMES)
    assert setup.images.labels == (3,) * 4 + (2,) * 4 + (1,) * 4  # apple, red fox, zebra
    train(setup.config)


def test_preferences_and_kl_on_a_classifier(timm_run):
    train(timm_run(dpo()))
    weight_CD, bias_C = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0.5, -0.5])
    head = Head(weight_CD, bias_C=bias_C, unit=False)
    policy_BD, reference_BD = torch.tensor([[0.3, 0.2]]), torch.tensor([[0.1, 0.4]])
    targets = Targets(reference_BD, head=head, reference_perturbed_BD=reference_BD)
    q, p = (torch.softmax(x_BD @ weight_CD.T + bias_C, -1)[0] for x_BD in (policy_BD, reference_BD))
    held = distribution_constraint(Embeddings(policy_BD, policy_BD), targets, 1.0, False)
    assert held.distance_B.item() == pytest.approx((p * (p / q).log()).sum().item(), rel=1e-5)
    pair = Preference(torch.tensor([0]), torch.tensor([1]))
    loss_B = DPO(beta=1.0)(Embeddings(policy_BD), replace(targets, preference=pair))
    margin = (q[0] / q[1]).log() - (p[0] / p[1]).log()
    assert loss_B.item() == pytest.approx(-torch.nn.functional.logsigmoid(margin).item(), rel=1e-5)


def test_a_probe_is_kept_with_the_run_and_used_by_default(timm_run, timm_folder, image_folder, tmp_path, monkeypatch):
    without_classifier(timm_folder)
    config = timm_run(lore(), head="probe")
    train(config)
    kept = read_head(config.output / "head.safetensors")
    assert kept.head.kind == "probe" and kept.class_names == ("apple", "red fox", "zebra")
    found = run_advice(config.output, monkeypatch, image_folder, tmp_path)
    assert found["protocol"]["head"]["kind"] == "probe"
    copy = read_head(tmp_path / "advised" / found["protocol"]["head"]["file"])
    assert torch.equal(copy.head.weight_CD, kept.head.weight_CD)
    moved = sa.load_model(f"timm:local-dir:{config.output / 'export'}")
    assert torch.equal(moved.stored_head.head.weight_CD, kept.head.weight_CD)


def test_the_card_names_the_head_that_the_numbers_were_measured_with(timm_run, image_folder, tmp_path):
    """One from a file, which lies in the export; beside it the classifier of the tower, and another file."""
    for name in ("head", "other"):
        head = Head(torch.randn(4, 256), bias_C=torch.zeros(4), unit=False, kind="file")
        write_head(NamedHead(head, tuple(NAMES)), tmp_path / f"{name}.safetensors")
    config = timm_run(lore(), head=str(tmp_path / "head.safetensors"))
    train(config)
    name, evaluations = f"timm:local-dir:{config.output / 'export'}", config.output / "evaluation"
    for number, head in enumerate((None, str(tmp_path / "other.safetensors"), "classifier")):
        sa.evaluate(name, str(image_folder), head=head, reference=config.model, output=evaluations / str(number))
        for file in (evaluations / str(number)).glob("*.json"):
            file.rename(evaluations / f"{number}-{file.name}")
    text = (sa.export_model(load_model(name), tmp_path / "again") / "README.md").read_text()
    found = re.findall(r"^Protocol: 12 images of 4 classes, .*", text, re.M)
    assert len(found) == 3
    for line, said in zip(
        found,
        ("a linear head, head.safetensors,", "a linear head (other.safetensors) that is not in", "the model's own"),
        strict=True,
    ):
        assert f"answers by {said}" in line
        assert re.search(r"self-checks: (\d+) of \1 passed, and (\d+) of \2 of the untouched model", line)
        assert "Pictures: shorter side resized to 32 pixels (bicubic), centre crop to 32 × 32, colours" in line


def test_a_tower_without_answers_is_advised_a_command_that_works(
    timm_run, timm_folder, image_folder, tmp_path, monkeypatch
):
    without_classifier(timm_folder)
    config = timm_run(lore())
    train(config)
    page = write_report([config.output]).read_text()
    assert "--data LABELLED_FOLDER --head probe --train-data " in page.replace("<wbr>", "")
    assert run_advice(config.output, monkeypatch, image_folder, tmp_path)["protocol"]["head"]["kind"] == "probe"


def test_the_advice_for_a_model_with_texts_runs_too(tiny_run, image_folder, tmp_path, monkeypatch):
    config = tiny_run(lore(), max_steps=1)
    train(config)
    assert run_advice(config.output, monkeypatch, image_folder, tmp_path)["protocol"]["head"]["kind"] == "text"


def test_what_does_not_go_together_ends_it_before_training(timm_run, timm_folder, tiny_run, tmp_path):
    with pytest.raises(SeaAnchorError, match="adapter linear with head classifier"):
        prepare(timm_run(dpo_linear(), head="classifier"))
    with pytest.raises(SeaAnchorError, match="adapter linear with a linear head"):
        prepare(timm_run(dpo_linear()))
    with pytest.raises(SeaAnchorError, match="unit_embeddings"):
        prepare(timm_run(tecoa(), unit_embeddings=True))
    with pytest.raises(SeaAnchorError, match="has no classifier of its own"):
        prepare(tiny_run(tecoa(), head="classifier"))
    save_file({"weight": torch.zeros(2, 64)}, tmp_path / "h.safetensors")
    with pytest.raises(SeaAnchorError, match="reads embeddings of 64 dimensions"):
        prepare(timm_run(tecoa(), head=str(tmp_path / "h.safetensors")))
    without_classifier(timm_folder)
    with pytest.raises(SeaAnchorError, match="no text tower, no classifier of its own"):
        prepare(timm_run(tecoa()))


def test_a_module_of_ones_own_is_evaluated_by_the_head_of_its_run(image_folder, tmp_path):
    module = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(12, 6))
    encoder = sa.Encoder(module, image_size=32)
    settings = {"steps": 1, "batch_size": 4, "device": "cpu"}
    run = sa.train(encoder, str(image_folder), sa.methods.lore(), output=tmp_path / "a", head="probe", **settings)
    found = sa.evaluate(run.model, str(image_folder), reference=encoder)  # as it is advised
    assert 'evaluate(run.model, "LABELLED_FOLDER") in Python' in evaluation_command(run.output)
    kept = read_head(run.output / "head.safetensors")
    assert torch.equal(run.model.stored_head.head.weight_CD, kept.head.weight_CD)
    assert found.protocol.head.kind == "probe" and found.reference.protocol.head == found.protocol.head
    assert not torch.equal(run.model.encoder.tower[2].weight, module[2].weight)
    bare = sa.train(encoder, str(image_folder), sa.methods.lore(), output=tmp_path / "b", **settings)
    assert 'head="probe", train_data="TRAIN_FOLDER"' in evaluation_command(bare.output)
    assert sa.evaluate(bare.model, str(image_folder), head="probe", train_data=image_folder).clean.n == 12


def test_a_head_that_nothing_asks_for_changes_no_labels(timm_run, timm_folder):
    """Drawn words are the images' own class names, whatever the head that lies with the model answers with."""
    write_head(NamedHead(Head(torch.ones(2, 256), unit=False, kind="file"), ("emu", "yak")), timm_folder / NAME)
    config = timm_run(lore(), perturbation=PerturbationConfig("typographic"))
    setup = prepare(config)
    assert setup.images.class_names == ("apple", "red fox", "zebra") and setup.model.stored_head is not None
    with pytest.raises(SeaAnchorError, match="are not among the 2"):
        prepare(replace(config, objective=tecoa().objective))
