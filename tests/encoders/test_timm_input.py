"""timm towers read pictures as timm's own transform of their data configuration does."""

import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from seaanchor.data.images import read_image
from seaanchor.data.preprocessing import Preprocessing
from seaanchor.encoders.input_settings import InputSettings
from seaanchor.encoders.load import load_model
from seaanchor.encoders.timm_input import from_timm, to_timm
from seaanchor.errors import SeaAnchorError

CONFIG = {
    "input_size": (3, 32, 32),
    "interpolation": "bicubic",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "crop_pct": 0.875,
    "crop_mode": "center",
}
CHANGES = [
    {},
    {"crop_mode": "squash", "crop_pct": 0.9},
    {"crop_mode": "border", "interpolation": "bilinear"},
    {"crop_mode": "border", "crop_pct": 1.0, "mean": [0.5, 0.4, 0.3]},
    {"crop_pct": 1.0, "interpolation": "lanczos"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Makes folders of a small tower, as timm saves them, with changes of the data configuration."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=0)

    def make(changes: dict):
        path = tmp_path_factory.mktemp("timm")
        config = {**CONFIG, "input_size": [3, 160, 160], "num_classes": 0} | changes
        about = {"architecture": "test_vit", "num_classes": 0, "num_features": model.num_features}
        (path / "config.json").write_text(json.dumps(about | {"pretrained_cfg": config}))
        save_file(model.state_dict(), path / "model.safetensors")
        return path

    return make


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder, rng, files = tmp_path_factory.mktemp("photos"), np.random.default_rng(0), []
    for i, (shape, mode) in enumerate([((40, 120), "RGB"), ((300, 200), "L"), ((31, 47), "P"), ((160, 160), "RGB")]):
        files.append(folder / f"{i}.png")
        Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)).convert(mode).save(files[-1])
    return files


@pytest.mark.parametrize("changes", CHANGES)
def test_a_folder_reads_pictures_as_timm_reads_them(folder, photos, changes):
    path = folder(changes)
    model = load_model(f"timm:local-dir:{path}")
    config = timm.data.resolve_data_config(model=timm.create_model(f"local-dir:{path}", pretrained=True))
    transform = timm.data.create_transform(**config, is_training=False)
    written = timm.data.create_transform(
        **timm.data.resolve_data_config(pretrained_cfg=model.export_config["pretrained_cfg"]), is_training=False
    )
    encoder = model.encoder
    for file in photos:
        ours_CHW = (read_image(file, encoder.preprocessing).float() / 255 - encoder.mean) / encoder.std
        for theirs in (transform, written):
            with Image.open(file) as image:
                theirs_CHW = theirs(image.convert("RGB"))
            assert (ours_CHW - theirs_CHW).abs().max() < 1e-5, file.name


def test_at_another_size_the_crop_keeps_its_share():
    assert from_timm("a tower", CONFIG).preprocessing == Preprocessing(32, resize_size=36, colours="rgb")
    assert from_timm("a tower", CONFIG, 64).preprocessing == Preprocessing(64, resize_size=73, colours="rgb")


def test_every_pretrained_tower_is_understood_or_refused():
    refused = []
    for name in timm.list_pretrained():
        config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
        try:
            settings = from_timm(name, config)
        except SeaAnchorError as error:
            refused.append(str(error))
            continue
        again = to_timm(name, settings, config["crop_pct"])
        assert {key: tuple(v) if isinstance(v, list) else v for key, v in again.items()} == config
    assert len(refused) < 10 and all("a square input" in reason for reason in refused)


@pytest.mark.parametrize("side", [31, 32, 36, 37, 73])
def test_a_share_is_found_for_every_side(side):
    settings = InputSettings(Preprocessing(32, resize_size=side, colours="rgb"), (0, 0, 0), (1, 1, 1))
    assert from_timm("a tower", to_timm("a tower", settings, 0.9)) == settings


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"input_size": (3, 160, 128)}, "160 x 128 pixels"),
        ({"input_size": (1, 32, 32)}, "images of 1 channels"),
        ({"interpolation": "random"}, "interpolation 'random'"),
        ({"crop_mode": "middle"}, "crop_mode 'middle'"),
        ({"crop_pct": 0}, "crop_pct 0"),
        ({"crop_pct": -1}, "crop_pct -1"),
        ({"mean": (0.5, 0.5)}, "mean"),
        ({"std": (0.5, 0.5, 0)}, "std"),
    ],
)
def test_what_is_refused(changes, found):
    with pytest.raises(SeaAnchorError, match=found):
        from_timm("a tower", CONFIG | changes)


@pytest.mark.parametrize(
    "how",
    [
        Preprocessing(32),
        Preprocessing(32, "none", colours="rgb"),
        Preprocessing(32, fill=3, colours="rgb"),
        Preprocessing(32, colours="rgb", backend="torchvision"),
        Preprocessing(32, "longest", colours="rgb"),
    ],
)
def test_what_timm_cannot_do_is_refused(how):
    with pytest.raises(SeaAnchorError, match="a tower with the preprocessing size=32"):
        to_timm("a tower", InputSettings(how, (0.5, 0.5, 0.5), (1, 1, 1)), 0.9)
