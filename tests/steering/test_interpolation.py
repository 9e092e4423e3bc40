"""Exports of weights between an untouched model and what was trained from it."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn

import seaanchor as sa
from seaanchor.encoders.norm_scales import fold_norm_scales
from seaanchor.encoders.own_module import load_encoder
from seaanchor.errors import SeaAnchorError, note
from seaanchor.steering.interpolation import export_between, load_ends

MODEL = "seaanchor-tiny"
TEXTS = ["a photo of a zebra.", "an apple"]


def changed(folder: Path, change) -> str:
    model = sa.load_model(MODEL)
    with torch.no_grad():
        change(model.encoder)
    return str(sa.export_model(model, folder))


def half_way(tuned: str, folder: Path) -> Path:
    return export_between(*load_ends(tuned, MODEL), 0.5, folder)


def embedded(model: str | Path) -> torch.Tensor:
    pixels = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return sa.load_model(model).encoder(pixels).detach()


def weights(model: str | Path) -> dict[str, torch.Tensor]:
    return dict(sa.load_model(model).module.named_parameters())


def test_each_weight_lies_on_the_straight_line(tiny_run, clip_folder, call, capsys, tmp_path):
    from seaanchor.config.recipes import fare

    trained = sa.train_from_config(tiny_run(fare(), lr=0.01)) / "export"
    start, end = weights(clip_folder), weights(trained)
    assert any((start[name] - end[name]).abs().max() > 1e-3 for name in start)
    for alpha in (0.0, 0.25, 1.0):
        out = tmp_path / f"{alpha}"
        capsys.readouterr()
        call("export", "--model", trained, "--alpha", alpha, "--output", out)
        assert capsys.readouterr().out == f"written and verified: {out}\n"
        found = weights(out)
        for name in start:
            torch.testing.assert_close(
                found[name], (1 - alpha) * start[name] + alpha * end[name], rtol=0, atol=1e-6, msg=name
            )
    card = (tmp_path / "0.25" / "README.md").read_text()
    assert f"\n\nEach weight is 0.25 of the trained one and 0.75 of that of `{clip_folder}`.\n" in card
    assert "4 steps" in card and "fine-tuned by Sea Anchor" in card


def test_the_text_side_of_a_linear_map_is_half_way_too(run, clip_folder, tmp_path):
    half = export_between(*load_ends(str(run / "export")), 0.5, tmp_path / "half")
    start, end, found = (sa.load_model(model) for model in (clip_folder, run / "export", half))
    pixels = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        for embed in (lambda model: model.encode_texts(TEXTS), lambda model: model.encoder(pixels)):
            assert (embed(end) - embed(start)).abs().max() > 1e-3
            torch.testing.assert_close(embed(found), (embed(start) + embed(end)) / 2, rtol=1e-4, atol=1e-5)


def test_half_way_from_a_model_to_itself_with_folded_scales_it_answers_as_it_does(tmp_path):
    """Weights mean the same only beside the same statistics: the mean of 2 w and w is no weight between them."""
    folded = changed(tmp_path / "folded", fold_norm_scales)
    mixed = half_way(folded, tmp_path / "mixed")
    torch.testing.assert_close(embedded(mixed), embedded(MODEL), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("fold", [fold_norm_scales, lambda encoder: None], ids=["folded", "as it is"])
def test_the_half_of_a_change(fold, tmp_path, caplog):
    note.cache_clear()

    def move(encoder, by=0.02):
        fold(encoder)
        next(p for p in encoder.parameters() if p.ndim == 4).add_(by)

    whole = changed(tmp_path / "whole", move)
    half = changed(tmp_path / "half", lambda encoder: move(encoder, 0.01))
    mixed = half_way(whole, tmp_path / "mixed")
    torch.testing.assert_close(embedded(mixed), embedded(half), rtol=1e-4, atol=1e-3)
    assert (embedded(half) - embedded(MODEL)).abs().max() > 0.1
    assert "trained apart" not in caplog.text


def test_statistics_may_differ_by_the_rounding_of_fp16_and_no_further(tmp_path):
    """A half-precision export of a folded tower is still its reference's; one with a moved mean is another tower."""
    model = sa.load_model(MODEL)
    fold_norm_scales(model.encoder)
    rounded = sa.export_model(model, tmp_path / "rounded", half=True)
    torch.testing.assert_close(
        embedded(half_way(str(rounded), tmp_path / "mixed")), embedded(MODEL), rtol=1e-2, atol=5e-2
    )

    def drift(encoder):
        next(buffer for name, buffer in encoder.named_buffers() if name.endswith("running_mean")).add_(1.0)

    with pytest.raises(SeaAnchorError, match="normalises by other statistics"):
        half_way(changed(tmp_path / "other", drift), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_variant_is_mixed_with_the_model_that_it_came_from(call, tmp_path):
    """Both towers fold to the same statistics; the text tower that the variant borrows stays."""
    call("export", "--model", "seaanchor-lite-dpo", "--alpha", "0.5", "--output", tmp_path / "half")
    folded = sa.load_model("seaanchor-lite")
    fold_norm_scales(folded.encoder)
    start, end, found = (
        dict(folded.module.named_parameters()),
        weights("seaanchor-lite-dpo"),
        weights(tmp_path / "half"),
    )
    assert any((start[name] - end[name]).abs().max() > 1e-3 for name in start)
    for name, weight in found.items():
        torch.testing.assert_close(weight, (start[name] + end[name]) / 2, rtol=1e-4, atol=1e-6, msg=name)
    card = (tmp_path / "half" / "README.md").read_text()
    assert "with other weights, which Sea Anchor" in card and "0.5 of that of `seaanchor-lite`" in card


def test_a_module_of_the_users_own_stays_as_it_is(image_folder, tmp_path):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(8, affine=True)
    nn.init.constant_(norm.weight, 3.0)
    tower = nn.Sequential(nn.Conv2d(3, 8, 4, 4), norm, nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 16))
    start = sa.Encoder(tower, image_size=32, mean=0.5, std=0.25)
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    short = {"steps": 3, "batch_size": 3, "lr": 0.01, "fold_norms": True}
    done = sa.train(start, str(image_folder), "fare", output=tmp_path / "run", **short)
    half = load_encoder(done.export(tmp_path / "half", alpha=0.5), deepcopy(tower)).tower.state_dict()
    assert all(torch.equal(tower.state_dict()[name], value) for name, value in before.items())
    folded = deepcopy(start)
    assert fold_norm_scales(folded) == 1
    base, end = folded.tower.state_dict(), done.model.module.state_dict()
    for name, value in half.items():
        torch.testing.assert_close(value, (base[name] + end[name]) / 2, rtol=1e-5, atol=1e-6, check_dtype=False)
    assert (base["0.weight"] - end["0.weight"]).abs().max() > 1e-3
    with pytest.raises(SeaAnchorError, match="alpha 60"):
        done.export(tmp_path / "none", alpha=60)


WRONG = {
    "per cent": (("seaanchor-lite-dpo", "--alpha", "60"), "alpha 60", "0 to 1"),
    "negative": (("seaanchor-lite-dpo", "--alpha", "-0.1"), "alpha -0.1", "0 to 1"),
    "nan": (("seaanchor-lite-dpo", "--alpha", "nan"), "alpha nan", "0 to 1"),
    "no reference": ((MODEL, "--alpha", "0.5"), f"the model that {MODEL} was trained from is not known", "--reference"),
    "none": ((MODEL, "--alpha", "0.5", "--reference", "none"), "is not known", "--reference"),
    "another tower": (
        (MODEL, "--alpha", "0.5", "--reference", "seaanchor-lite"),
        f"{MODEL} has another weight",
        "name that one with --reference",
    ),
    "no alpha": ((MODEL, "--reference", MODEL), "--reference without --alpha", "add --alpha"),
    "other pixels": (
        (MODEL, "--alpha", "0.5", "--reference", "RESIZED"),
        "sees pictures by other preprocessing",
        "name that one with --reference",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_lies_between_no_two_models_is_refused(kind, call, tmp_path):
    (model, *flags), found, change = WRONG[kind]
    if "RESIZED" in flags:
        resized = sa.load_model(MODEL, preprocess="resize_mode=squash")
        flags[-1] = str(sa.export_model(resized, tmp_path / "resized"))
    with pytest.raises(SeaAnchorError, match=found) as error:
        call("export", "--model", model, *flags, "--output", tmp_path / "out")
    assert change in str(error.value)
    assert not (tmp_path / "out").exists()


def test_weights_that_were_trained_apart_are_told(clip_folder, tmp_path, caplog):
    """Half way between random draws lies a model that has learned nothing of either."""
    note.cache_clear()
    other = sa.load_model(clip_folder)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in other.module.parameters():
            weight.copy_(torch.randn_like(weight) * weight.std() if weight.ndim > 1 else weight)
    apart = sa.export_model(other, tmp_path / "apart")
    export_between(*load_ends(str(apart), str(clip_folder)), 0.5, tmp_path / "half")
    assert "times their length from those of" in caplog.text and "trained apart" in caplog.text
