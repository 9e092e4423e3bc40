"""What could not be exported is refused before training."""

import json

import open_clip
import pytest

from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.export.folder import export_model
from seaanchor.export.possible import check_exportable

TEXT = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    """A timm transformer and a convolutional tower, known to open_clip as if they were its own."""
    folder = tmp_path_factory.mktemp("towers")
    for name in ("test_vit", "test_resnet"):
        vision = {"timm_model_name": name, "timm_pool": "", "timm_proj": "linear", "image_size": 160}
        config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": TEXT}
        (folder / f"tiny-{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


def test_a_timm_transformer_at_another_size_has_no_place_in_open_clips_format(towers, tmp_path):
    own, moved = load_model("tiny-test_vit", "none"), load_model("tiny-test_vit", "none", 96)
    check_exportable(own)
    with pytest.raises(
        SeaAnchorError, match=r"(?s)at 96 pixels has pos_embed of another shape.*its own size, 160 pixels"
    ):
        check_exportable(moved)
    export_model(own, tmp_path / "own")
    with pytest.raises(SeaAnchorError, match="pos_embed"):
        export_model(moved, tmp_path / "moved")  # what the refusal spares


def test_other_models_may_have_another_size(towers, clip_folder, tmp_path):
    for model in (
        load_model("tiny-test_resnet", "none", 96),
        load_model(str(clip_folder), image_size=64),
        load_model("timm:test_vit", "none", 96),
    ):
        check_exportable(model)
        export_model(model, tmp_path / model.family / str(model.encoder.dim))
