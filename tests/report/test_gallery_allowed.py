"""What a gallery loads besides embedded models and what lies in the named runs: what the user allows, and no more."""

import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image

from seaanchor.config.recipes import lore
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.attacks import AttackPlan
from seaanchor.evaluation.run import Protocol, evaluate
from seaanchor.report.allowed import allowed_by_user
from seaanchor.report.gallery import galleries
from seaanchor.report.page import write_report
from seaanchor.report.sources import read_sources
from seaanchor.training.run import train

HARDENED = Path(__file__).parents[2] / "models" / "seaanchor-tiny-fare"
ALONE = "There is no untouched model to show beside it"

pytestmark = pytest.mark.exhaustive  # models are loaded and attacked


def measured(model, data, output, **settings):
    plans = (AttackPlan("apgd-ce", "linf", (2 / 255,), 2),)
    evaluate(str(model), [str(data)], Protocol(plans, samples=12), output, **settings)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three class folders of four pictures each."""
    rng, root = torch.Generator().manual_seed(0), tmp_path_factory.mktemp("data")
    for name in ("apple", "car", "zebra"):
        (root / name).mkdir()
        for i in range(4):
            pixels = torch.randint(0, 256, (40, 40, 3), dtype=torch.uint8, generator=rng)
            Image.fromarray(pixels.numpy()).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def from_file(architectures, data, tmp_path_factory):
    """A run that started from a weights file, evaluated beside it: its folder and the file."""
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("from file")
    file = place / "my weights.pt"
    torch.save(open_clip.create_model("tiny-vit").state_dict(), file)
    recipe = lore()
    attack = replace(recipe.perturbation, num_steps=2)
    settings = {"train_data": str(data), "output": place / "run", "batch_size": 3, "max_steps": 1, "device": "cpu"}
    train(replace(recipe, model="tiny-vit", pretrained=str(file), perturbation=attack, **settings))
    measured(place / "run" / "export", data, place / "run" / "evaluation")
    return place / "run", file


def test_a_run_from_a_weights_file_names_the_cure_once(from_file):
    run, file = from_file
    html = write_report([run], gallery=1).read_text()
    flag = f"--allow {shlex.quote(str(file))}".replace("'", "&#39;")
    assert html.count("lies elsewhere") == 1 and f"; add {flag} to show it." in html
    assert ALONE not in html


def test_what_is_allowed_is_shown_beside_the_model(from_file):
    run, file = from_file
    page = write_report([run], gallery=1, allow=[file])
    html = page.read_text()
    assert "lies elsewhere" not in html and ALONE not in html and html.count("data:image/png") == 1 + 2 * 2
    assert f"--allow {shlex.quote(str(file))}".replace("'", "&#39;") in html
    (shown,) = galleries(read_sources([run]).entries, 1, allowed=allowed_by_user([str(file)]))
    assert [label for _, label in shown.models] == ["untouched", "run"]


def test_another_file_allows_nothing(from_file, tmp_path):
    run, file = from_file
    other = shutil.copy(file, tmp_path / "copy.pt")
    for allow in ([other], [file.parent]):
        assert "lies elsewhere" in write_report([run], gallery=1, allow=allow).read_text()


def test_other_weights_in_the_allowed_place_are_not_shown(from_file):
    run, file = from_file
    before = file.read_bytes()
    torch.manual_seed(1)
    torch.save(open_clip.create_model("tiny-vit").state_dict(), file)
    html = write_report([run], gallery=1, allow=[file]).read_text()
    file.write_bytes(before)
    assert "its weights are not those of then" in html and ALONE not in html


def test_there_is_no_untouched_model_where_there_is_none(data, tmp_path):
    measured("seaanchor-tiny", data, tmp_path / "results")
    html = write_report([tmp_path / "results"], tmp_path / "page.html", gallery=1).read_text()
    assert ALONE in html and "lies elsewhere" not in html


@pytest.fixture(scope="module")
def beside_a_folder(made, data, tmp_path_factory):
    """A run, and the folder of its reference."""
    place = tmp_path_factory.mktemp("beside a folder")
    run = made.write_run(place / "run")
    (run / "export").rmdir()
    shutil.copytree(HARDENED, run / "export")
    folder = shutil.copytree(HARDENED, place / "start" / "export")
    measured(run / "export", data, run / "evaluation", reference=str(folder))
    return run, folder


def labels(paths, allowed=frozenset()):
    (shown,) = galleries(read_sources(paths).entries, 1, allowed=allowed)
    return [label for _, label in shown.models], " ".join(shown.notes)


def test_a_model_in_a_folder_is_shown_where_it_is_allowed(beside_a_folder, made):
    run, folder = beside_a_folder
    shown, notes = labels([run])
    assert shown == ["run"] and f"add --allow {shlex.quote(str(folder))} to show it" in notes
    assert labels([run], allowed_by_user([f"local-dir:{folder}"])) == (["untouched", "run"], "")
    assert labels([run], allowed_by_user([str(folder.parent)])) == (["untouched", "run"], "")
    beside = folder.parent.parent / "beside"
    beside.mkdir()
    assert labels([run], allowed_by_user([str(beside)])) == labels([run]), "what lies beside is not allowed"


def test_the_export_of_another_named_run_lies_in_a_named_run(beside_a_folder, made):
    run, folder = beside_a_folder
    (folder.parent / "config.yaml").write_text(made.config)
    shutil.copy(run / "metrics.jsonl", folder.parent)
    shown, notes = labels([run, folder.parent])
    assert shown[:2] == ["untouched", "run"] and not notes


def test_a_result_alone_says_why_its_model_is_not_shown(data, architectures, tmp_path):
    """The name of a library's model does not say its weights, and nothing is gone."""
    torch.manual_seed(0)
    torch.save(open_clip.create_model("tiny-vit").state_dict(), tmp_path / "a.pt")
    measured("tiny-vit", data, tmp_path / "results", pretrained=str(tmp_path / "a.pt"))
    shown, notes = labels([tmp_path / "results"])
    assert not shown and "the model tiny-vit is no folder here" in notes and "gone" not in notes


def test_what_is_allowed_must_be_there(made, tmp_path, run):
    folder = made.write_run(tmp_path / "run", made.everything())
    with pytest.raises(SeaAnchorError, match=r"--allow nowhere\.pt is missing"):
        write_report([folder], gallery=0, allow=["nowhere.pt"])
    (tmp_path / "x.pt").touch()
    code, _, err = run("report", folder, "--gallery", 0, "--allow", tmp_path / "x.pt", "--allow", tmp_path)
    assert code == 0, err
    assert f"--allow {tmp_path / 'x.pt'} --allow {tmp_path}" in (folder / "report.html").read_text()
