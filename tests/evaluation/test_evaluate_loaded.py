"""Models in memory: the same numbers as by name, with files only where a folder is named."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from seaanchor.data.sources import open_images
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.attacks import AttackPlan
from seaanchor.evaluation.result_files import read_result
from seaanchor.evaluation.run import Protocol, evaluate, evaluate_loaded

PROTOCOL = Protocol((AttackPlan("pgd", "linf", (2 / 255,), 2),), suites=("drift",))


def test_a_model_in_memory_has_the_numbers_of_its_name(clip_folder, image_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, images = str(clip_folder), open_images(str(image_folder))
    model, reference = load_model(name), load_model(name)
    found = evaluate_loaded(model, images, PROTOCOL, reference=reference, dataset=str(image_folder))
    assert not list(tmp_path.rglob("*.json"))  # nothing is written
    (expected,) = evaluate(name, [str(image_folder)], PROTOCOL, tmp_path / "out", reference=name)
    assert found.robust["pgd", 2 / 255] == expected.robust["pgd", 2 / 255]
    assert (found.clean, found.suites, found.metrics) == (expected.clean, expected.suites, expected.metrics)
    assert found.reference is not None and found.reference.clean == expected.reference.clean
    again = evaluate_loaded(model, str(image_folder), PROTOCOL, reference=reference, output=tmp_path / "files")
    files = {read_result(file).reference is None: read_result(file) for file in (tmp_path / "files").glob("*.json")}
    assert files == {False: again, True: again.reference}


def test_what_a_model_in_memory_cannot_be_evaluated_on(clip_folder, image_folder):
    model = load_model(str(clip_folder))
    with pytest.raises(SeaAnchorError, match=r"reference of .* is not known"):
        evaluate_loaded(model, str(image_folder), PROTOCOL)
    with pytest.raises(SeaAnchorError, match="has no classes"):
        evaluate_loaded(model, open_images(str(image_folder / "apple")), replace(PROTOCOL, suites=()))


TOO_FAR = AttackPlan("pgd", "l2", (0.5, 128.0), 1)


@pytest.mark.parametrize("protocol", [Protocol((TOO_FAR,)), Protocol((), suites=("embedding",), embedding=TOO_FAR)])
def test_an_l2_radius_above_all_distances_is_refused_before_anything_is_computed(protocol):
    """√(3 · 64²) = 110.9 at the embedded model's 64 pixels."""
    with pytest.raises(SeaAnchorError, match=r"epsilon 128 in l2[\s\S]*at most 110\.9[\s\S]*did you mean 128/255"):
        evaluate_loaded(load_model("seaanchor-tiny"), "photos-mini/test", protocol)


def test_a_broken_model_fails_a_check_and_its_file_holds_no_nan(clip_folder, image_folder, tmp_path):
    model, reference = load_model(str(clip_folder)), load_model(str(clip_folder))
    with torch.no_grad():
        model.encoder.tower.proj[0, 0] = torch.nan
    with pytest.raises(SeaAnchorError, match=r"numbers are finite \([\s\S]*suites\.drift\.cosine is nan"):
        evaluate_loaded(
            model, str(image_folder), Protocol((), suites=("drift",)), reference=reference, output=tmp_path / "out.json"
        )
    json.loads((tmp_path / "out.json").read_text(), parse_constant=pytest.fail)
    assert any("numbers are finite" in failed for failed in read_result(tmp_path / "out.json").failed_checks)


class Broken(nn.Module):
    """A tower whose embeddings are multiplied by a number, or replaced by a constant."""

    def __init__(self, tower: nn.Module, by: float | None) -> None:
        super().__init__()
        self.tower, self.by = tower, by

    def forward(self, pixels):
        """(B, D)."""
        embedding = self.tower(pixels)
        return torch.ones_like(embedding) if self.by is None else self.by * embedding


EMBEDDING = AttackPlan("embedding", "linf", (2 / 255,), 1)
GRADIENT = Protocol((AttackPlan("pgd", "linf", (2 / 255,), 1), AttackPlan("apgd", "linf", (2 / 255,), 1)), samples=4)


@pytest.mark.parametrize(
    "by, scale, failed",
    [
        (None, None, "gradients reach the pixels"),
        (0.0, None, "gradients reach the pixels"),
        pytest.param(float("nan"), None, "embeddings are finite", marks=pytest.mark.exhaustive),
        pytest.param(float("inf"), None, "embeddings are finite", marks=pytest.mark.exhaustive),
        (1.0, float("inf"), "gradients reach the pixels"),
    ],
)
def test_a_broken_model_fails_its_check_under_gradient_suites(by, scale, failed, clip_folder, image_folder):
    model, reference = load_model(str(clip_folder)), load_model(str(clip_folder))
    model.encoder.tower = Broken(model.encoder.tower, by)
    model = model if scale is None else replace(model, logit_scale=scale)
    suites = Protocol(GRADIENT.plans, samples=4, suites=("embedding", "drift"), embedding=EMBEDDING)
    with pytest.raises(SeaAnchorError, match=failed):
        evaluate_loaded(model, str(image_folder), suites, reference=reference)
