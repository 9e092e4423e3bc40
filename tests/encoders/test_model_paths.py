"""Model names that are paths."""

import json
from pathlib import Path

import pytest
import torch

from seaanchor.encoders.load import load_model
from seaanchor.encoders.model_paths import with_prefix
from seaanchor.errors import SeaAnchorError
from seaanchor.export.folder import export_model


@pytest.mark.parametrize(
    ("config", "prefix"),
    [
        ({"architecture": "resnet10t"}, "timm:local-dir:"),
        ({"model_type": "vit", "architectures": ["ViTModel"]}, "hf:"),
        ({"other": 1}, ""),
        ([], ""),
        (None, ""),
    ],
    ids=["timm", "transformers", "another", "list", "none"],
)
def test_a_folder_is_read_by_the_library_that_wrote_it(tmp_path, config, prefix):
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    assert with_prefix(str(tmp_path)) == f"{prefix}{tmp_path}"


def test_folders_of_open_clip_and_embedded_names_stay(clip_folder, tmp_path, monkeypatch):
    assert with_prefix(str(clip_folder)) == str(clip_folder)
    (tmp_path / "seaanchor-tiny").mkdir()
    (tmp_path / "seaanchor-tiny" / "config.json").write_text('{"model_type": "vit"}')
    monkeypatch.chdir(tmp_path)
    assert with_prefix("seaanchor-tiny") == "seaanchor-tiny"


def test_an_export_of_timm_loads_by_its_path(tmp_path):
    model = load_model("timm:test_vit", "none")
    export_model(model, tmp_path / "export")
    again = load_model(str(tmp_path / "export"))
    assert (again.name, again.family) == (str(tmp_path / "export"), "timm")
    pixels = torch.rand(1, 3, model.encoder.image_size, model.encoder.image_size)
    torch.testing.assert_close(again.encoder(pixels), model.encoder(pixels))


@pytest.mark.parametrize(
    ("name", "found", "change"),
    [
        ("run", "run holds no model", "for the export of this run write run/export"),
        ("a.pth", "a.pth holds no model", "--model NAME or timm:NAME, --pretrained a.pth"),
        ("run/expert", "the path run/expert does not exist", "did you mean run/export?"),
        ("rum", "no model is called 'rum'", "nearest names: run"),
        ("./clip", "the path ./clip does not exist", "correct the path"),
        ("a/b/c", "the path a/b/c does not exist", "correct the path"),
        ("someone/clip", "the path someone/clip does not exist", "hf-hub:someone/clip or hf:someone/clip"),
        ("ViT-B/32", "the path ViT-B/32 does not exist", "did you mean ViT-B-32?"),
        ("hf:run/expert", "there is no folder run/expert", "correct the path"),
        ("nothing", "no model is called 'nothing', and there is no such path", "nearest names"),
    ],
)
def test_a_path_that_leads_nowhere_is_not_looked_up_on_the_hub(tmp_path, monkeypatch, name, found, change):
    (tmp_path / "run" / "export").mkdir(parents=True)
    (tmp_path / "a.pth").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SeaAnchorError) as caught:
        load_model(name)
    assert found in caught.value.found and change in caught.value.change
    assert ("hf-hub:" in caught.value.change) == (name == "someone/clip")


def test_a_model_of_another_type_is_named():
    for wrong in ({"name": 3}, {"name": "ViT-B-32", "pretrained": True}):
        with pytest.raises(SeaAnchorError, match=r"of type (int|bool)"):
            load_model(**wrong)
    assert load_model(Path("seaanchor-tiny")).name == "seaanchor-tiny"
