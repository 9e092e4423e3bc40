"""The export at t, and the maps and flags that are refused."""

import pytest
import torch
import torch.nn.functional as F

from seaanchor.adapters.linear_map import scale_spectrum
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError, note
from seaanchor.export.trained import read_map
from seaanchor.steering.curve import steering_curve
from seaanchor.steering.export import export_at
from seaanchor.utils.checkpoint import save_state


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
    with pytest.raises(SeaAnchorError, match=rf"name the run itself, {run}"):
        export_at(run / "export", 0.5, tmp_path / "far")
    assert not (tmp_path / "far").exists()


def test_a_direction_that_is_blown_up_is_told(run, tmp_path, caplog):
    """Singular values of 0.02 and 1: 50-fold at t = −1, 0.0004 and no growth at t = 2."""
    note.cache_clear()
    map_DD = torch.eye(16)
    map_DD[0, 0] = 0.02
    save_state(run / "linear_map.safetensors", {"weight": map_DD})
    export_at(run, 2.0, tmp_path / "2")
    assert "magnifies" not in caplog.text
    export_at(run, -1.0, tmp_path / "-1")
    assert "at t = -1 the map magnifies a direction 50-fold, as its singular values go down to 0.02" in caplog.text


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


def test_no_map_and_contradicting_flags(call, tmp_path):
    with pytest.raises(SeaAnchorError, match=r"linear_map\.safetensors"):
        export_at(tmp_path, 0.5, tmp_path / "out")
    with pytest.raises(SeaAnchorError, match="neither"):
        call("steer", tmp_path)
    with pytest.raises(SeaAnchorError, match="without --output"):
        call("steer", tmp_path, "--t", 0.5)


NO_MAPS = {
    "vector": torch.ones(4),
    "cube": torch.ones(2, 2, 2),
    "empty": torch.ones(0, 4),
    "nan": torch.full((4, 4), torch.nan),
    "integers": torch.ones(4, 4).long(),
    "list": [1.0],
    "none": None,
}


@pytest.mark.parametrize("kind", NO_MAPS)
def test_what_is_no_map_is_refused_before_a_model_is_loaded(kind, tmp_path):
    save_state(tmp_path / "linear_map.safetensors", {"weight": NO_MAPS[kind]})
    with pytest.raises(SeaAnchorError, match="holds no linear map"):
        export_at(tmp_path, 0.5, tmp_path / "out")
