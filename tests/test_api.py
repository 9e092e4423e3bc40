"""What people call, with objects in place of names: the same runs and the same numbers as from the command line."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import seaanchor as sa
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.result_files import read_result

SHORT = {"batch_size": 3, "lr": 1e-3, "device": "cpu", "log_every": 1}


class Pictures(Dataset):
    """The images of a folder of classes, as a data set of somebody's own."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.rglob("*.jpg"))
        self.classes = sorted({file.parent.name for file in self.files})

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        file = self.files[index]
        return Image.open(file).convert("RGB"), self.classes.index(file.parent.name)


@dataclass(frozen=True)
class SmoothL1:
    """An objective of somebody's own, not registered: smooth L1 of the raw embeddings."""

    beta: float = 1.0
    needs: sa.Needs = sa.Needs()  # noqa: RUF009 (frozen)

    def attack_loss(self, embedding_BD: Tensor, targets: sa.Targets) -> Tensor:
        return nn.functional.smooth_l1_loss(embedding_BD, targets.reference_BD, beta=self.beta, reduction="none").sum(
            -1
        )

    def __call__(self, embeddings: sa.Embeddings, targets: sa.Targets) -> Tensor:
        return self.attack_loss(embeddings.perturbed_BD, targets)

    def config(self) -> dict[str, float]:
        return {"beta": self.beta}


def lore(**changes) -> sa.Method:
    return sa.methods.lore(rho=0.1, epsilon=2 / 255, **changes)


def weights(folder: Path) -> bytes:
    return (folder / "export" / "open_clip_model.safetensors").read_bytes()


def test_training_by_objects_is_training_by_names(clip_folder, image_folder, tmp_path):
    by_names = sa.train(str(clip_folder), str(image_folder), "fare", output=tmp_path / "names", steps=3, **SHORT)
    model = sa.load_model(str(clip_folder))
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    fare, images = sa.methods.fare(epsilon=2 / 255), sa.data.image_folder(image_folder)
    by_objects = sa.train(model, images, fare, output=tmp_path / "objects", steps=3, **SHORT)
    assert weights(by_names.output) == weights(by_objects.output)
    assert all(torch.equal(before[name], value) for name, value in model.module.state_dict().items())
    assert [row["step"] for row in by_objects.metrics] == [1, 2, 3]


def test_a_data_set_of_ones_own_trains_like_the_folder_it_reads(clip_folder, image_folder, tmp_path):
    model = sa.load_model(str(clip_folder))
    from_folder = sa.train(
        model, sa.data.image_folder(image_folder), lore(), output=tmp_path / "folder", steps=3, **SHORT
    )
    from_loader = sa.train(
        model,
        DataLoader(Pictures(image_folder), batch_size=7, shuffle=True),
        lore(),
        output=tmp_path / "own",
        steps=3,
        **SHORT,
    )
    assert weights(from_folder.output) == weights(from_loader.output)


def test_a_run_of_ones_own_parts_is_trained_resumed_evaluated_and_exported(clip_folder, image_folder, tmp_path):
    model, images = sa.load_model(str(clip_folder)), sa.data.image_folder(image_folder)
    base = lore()
    method = sa.Method(SmoothL1(0.5), base.anchor, perturbation=base.perturbation)
    run = sa.train(model, images, method, output=tmp_path / "run", steps=4, save_every=2, **SHORT)
    assert "SmoothL1" in (run.output / "config.yaml").read_text()
    before = weights(run.output)
    (run.output / "checkpoints" / "step-00000004.safetensors").unlink()
    again = sa.train(model, images, method, output=run.output, steps=4, save_every=2, resume="auto", **SHORT)
    assert weights(again.output) == before
    other = sa.Method(SmoothL1(0.25), base.anchor, perturbation=base.perturbation)
    with pytest.raises(SeaAnchorError, match="other settings"):
        sa.train(model, images, other, output=run.output, steps=4, save_every=2, resume="auto", **SHORT)
    result = sa.evaluate(run.model, images, attacks=[sa.attacks.PGD(epsilon=2 / 255, num_steps=2)], reference=model)
    assert result.clean.n == 12 and result.robust["pgd", 2 / 255].n == 12
    assert result.reference.clean.n == 12
    assert (run.export(tmp_path / "out") / "open_clip_config.json").is_file()


def test_evaluation_by_objects_is_evaluation_by_names(run, clip_folder, image_folder, tmp_path):
    model, images = sa.load_model(str(clip_folder)), sa.data.image_folder(image_folder)
    result = sa.evaluate(model, images, attacks=[sa.attacks.APGD(epsilon=2 / 255, num_steps=3, targeted=False)])
    code, _, errors = run(
        "evaluate", "--model", clip_folder, "--data", image_folder, "--suite", "clean,apgd-ce", "--epsilon", "2/255",
        "--num-steps", 3, "--output", tmp_path / "out", "--device", "cpu",
    )  # fmt: skip
    assert code == 0, errors
    (file,) = (tmp_path / "out").glob("*.json")
    stored = read_result(file)
    assert stored.clean == result.clean and stored.robust == result.robust


def test_words_are_drawn_as_a_plan_says(run, clip_folder, image_folder, tmp_path):
    """As the command draws them; the plan asks for the suite."""
    plan = sa.TypographicPlan("all", "train", (0.3, 0.5), seed=3)
    found = sa.evaluate(str(clip_folder), sa.data.image_folder(image_folder), seed=3, typographic=plan)
    code, _, errors = run(
        "evaluate", "--model", clip_folder, "--data", image_folder, "--suite", "typographic", "--fonts", "train",
        "--sizes", 0.3, 0.5, "--seed", 3, "--output", tmp_path / "out", "--device", "cpu",
    )  # fmt: skip
    assert code == 0, errors
    (file,) = (tmp_path / "out").glob("*.json")
    assert read_result(file).suites.typographic == found.suites.typographic
    assert found.suites.typographic.plan.sizes == (0.3, 0.5) and found.suites.drift is None
    with pytest.raises(SeaAnchorError, match=r"words 'some'[\s\S]*one of all, even, odd"):
        sa.evaluate(str(clip_folder), str(image_folder), typographic=replace(plan, words="some"))


def test_an_evaluation_says_in_the_log_what_it_does(clip_folder, image_folder, caplog):
    caplog.set_level("INFO", "seaanchor")
    sa.evaluate(str(clip_folder), sa.data.image_folder(image_folder), samples=4)
    assert "measures  clean" in caplog.text and "cpu, fp32, 100 images at a time" in caplog.text


def test_nothing_is_written_by_an_evaluation_without_a_folder(clip_folder, image_folder, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    sa.evaluate(sa.load_model(str(clip_folder)), sa.data.image_folder(image_folder))
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"batchsize": 3}, "batchsize"),
        ({"objective": None}, "objective"),
        ({"train_data": "x"}, "train_data"),
        ({"max_steps": 3}, "max_steps"),
        ({"epochs": 2, "steps": 3}, "epochs"),
    ],
)
def test_settings_that_contradict_or_do_not_exist_are_named(clip_folder, image_folder, tmp_path, settings, found):
    with pytest.raises(SeaAnchorError, match=found):
        sa.train(str(clip_folder), str(image_folder), lore(), output=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("precision", "fp8"),
        ("average", "mean"),
        ("resume", True),
        ("report_to", "paper"),
        ("lr", "fast"),
        ("lr", None),
        ("batch_size", 2.5),
        ("steps", 1.5),
        ("output", 3),
        ("plugins", "nowhere.py"),
        ("class_names", ["a", "b"]),
    ],
)
def test_a_value_that_a_setting_does_not_take_is_refused(clip_folder, image_folder, tmp_path, setting, value):
    settings = {"output": tmp_path / "run", setting: value}
    with pytest.raises(SeaAnchorError, match="epochs is 1.5" if setting == "steps" else setting.rstrip("s")):
        sa.train(str(clip_folder), str(image_folder), lore(), **settings)
    assert not (tmp_path / "run").exists()


def test_numbers_may_be_texts_as_in_a_file(clip_folder, image_folder, tmp_path):
    settings = {"batch_size": "3", "lr": "1e-3", "seed": "1", "device": "cpu"}
    config = sa.train(str(clip_folder), str(image_folder), lore(), output=tmp_path / "run", steps=1, **settings).config
    assert (config.batch_size, config.lr, config.seed) == (3, 1e-3, 1)


@pytest.mark.parametrize("method", [3, sa.Method, None])
def test_what_is_no_method_is_named(clip_folder, image_folder, tmp_path, method):
    with pytest.raises(SeaAnchorError, match="a method of type"):
        sa.train(str(clip_folder), str(image_folder), method, output=tmp_path / "run")


def test_a_radius_that_is_no_number_is_named():
    with pytest.raises(SeaAnchorError, match="epsilon 'None'"):
        sa.methods.fare(epsilon=None)


@pytest.mark.parametrize(
    ("argument", "value", "found"),
    [
        ("attacks", ["pgd"], "'pgd' is no attack"),
        ("attacks", sa.attacks.PGD(epsilon=1 / 255), "attacks is PGD"),
        ("attacks", None, "attacks is None"),
        ("suites", ["driftt"], "did you mean drift"),
        ("suites", "drift", "suites is 'drift'"),
        ("templates", "a {}.", "templates is"),
        ("typographic", "odd", "typographic is 'odd'"),
        ("samples", 0, "samples is 0"),
        ("samples", 2.5, "samples is 2.5"),
        ("batch_size", 0, "batch_size is 0"),
        ("batch_size", "4", "batch_size is '4'"),
        ("batch_size", True, "batch_size is True"),
    ],
)
def test_what_an_evaluation_does_not_take_is_named(clip_folder, image_folder, argument, value, found):
    with pytest.raises(SeaAnchorError, match=found):
        sa.evaluate(str(clip_folder), sa.data.image_folder(image_folder), **{argument: value})


@dataclass(frozen=True)
class Mean:
    """An objective that takes the mean itself."""

    needs = sa.Needs(hard_images=True)

    def attack_loss(self, embedding_BD: Tensor, targets: sa.Targets) -> Tensor:
        return (embedding_BD - targets.reference_BD).square().mean()

    def __call__(self, embeddings: sa.Embeddings, targets: sa.Targets) -> Tensor:
        return self.attack_loss(embeddings.perturbed_BD, targets)


@dataclass(frozen=True)
class Undeclared:
    """An objective that reads class texts and does not say so."""

    needs = sa.Needs(hard_images=True)

    def attack_loss(self, embedding_BD: Tensor, targets: sa.Targets) -> Tensor:
        return targets.head(embedding_BD).sum(-1)

    def __call__(self, embeddings: sa.Embeddings, targets: sa.Targets) -> Tensor:
        return self.attack_loss(embeddings.perturbed_BD, targets)


@pytest.mark.parametrize(
    ("objective", "found"), [(Mean(), r"Mean\.attack_loss gives \(\) for 3 images"), (Undeclared(), "`needs` declare")]
)
def test_an_objective_that_breaks_its_contract_is_named(clip_folder, image_folder, tmp_path, objective, found):
    method = sa.Method(objective, perturbation=lore().perturbation)
    with pytest.raises(SeaAnchorError, match=found):
        sa.train(str(clip_folder), str(image_folder), method, output=tmp_path / "run", steps=1, **SHORT)


def test_an_attack_on_classifiers_is_no_perturbation_of_training():
    with pytest.raises(SeaAnchorError, match=r"seaanchor\.perturbations\.PGD"):
        sa.Method(SmoothL1(), perturbation=sa.attacks.PGD(epsilon=2 / 255))


def test_a_misspelt_argument_gets_the_nearest_one(clip_folder, image_folder, tmp_path):
    with pytest.raises(SeaAnchorError, match="did you mean steps"):
        sa.train(str(clip_folder), str(image_folder), lore(), output=tmp_path / "run", stpes=1)


def test_paths_may_be_texts(clip_folder, image_folder, tmp_path):
    from seaanchor.report.page import write_report

    config = sa.RunConfig(
        model=str(clip_folder),
        train_data=str(image_folder),
        output=str(tmp_path / "run"),
        max_steps=1,
        batch_size=3,
        device="cpu",
    )
    folder = sa.train_from_config(config)
    assert write_report([str(folder)], str(tmp_path / "page.html"), gallery=0) == tmp_path / "page.html"


def test_the_folders_of_parts_are_listed():
    assert {"methods", "attacks", "data", "load_model"} <= set(dir(sa))
