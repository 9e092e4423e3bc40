"""OpenCLIP models read pictures as open_clip's own transform of them does, however they were loaded."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from PIL import Image
from torch import Tensor

from seaanchor.data.images import read_image
from seaanchor.data.preprocessing import Preprocessing
from seaanchor.encoders.encoder import Encoder
from seaanchor.encoders.input_settings import InputSettings
from seaanchor.encoders.load import load_model
from seaanchor.encoders.openclip_input import agreed_config, from_open_clip, tag_config, to_open_clip
from seaanchor.errors import SeaAnchorError, note

CONFIGS = [
    {},
    {"resize_mode": "squash"},
    {"resize_mode": "longest"},
    {"resize_mode": "longest", "fill_color": 128, "interpolation": "bilinear"},
    {"interpolation": "bilinear", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    {"resize_mode": "squash", "interpolation": "random", "mean": 0.25, "std": 0.5},
    {"resize_mode": None, "interpolation": None, "size": [32, 32]},
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[Path]:
    """Pictures of several shapes and modes."""
    folder, rng, files = tmp_path_factory.mktemp("photos"), np.random.default_rng(0), []
    for i, (shape, mode) in enumerate(
        [
            ((40, 120), "RGB"),
            ((120, 40), "RGB"),
            ((32, 32), "L"),
            ((31, 47), "P"),
            ((300, 200), "CMYK"),
            ((5, 9), "RGB"),
        ]
    ):
        pixels_HWC = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        files.append(folder / f"{i}.{'tif' if mode == 'CMYK' else 'png'}")
        Image.fromarray(pixels_HWC).convert(mode).save(files[-1])
    return files


def with_config(folder: Path, target: Path, changes: dict) -> Path:
    """A copy of an OpenCLIP folder with another `preprocess_cfg`."""
    shutil.copytree(folder, target)
    file = target / "open_clip_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"preprocess_cfg": changes}))
    return target


def seen(encoder: Encoder, file: Path) -> Tensor:
    """What the tower is shown of a file."""
    pixels_CHW = read_image(file, encoder.preprocessing).float() / 255
    return (pixels_CHW - encoder.mean) / encoder.std


def same(ours: Encoder, transform, files: list[Path]) -> None:
    """Levels equal to the last bit; what normalising them rounds is a millionth."""
    for file in files:
        with Image.open(file) as image:
            theirs_CHW = transform(image)
        assert (seen(ours, file) - theirs_CHW).abs().max() < 2e-5, file.name
        levels = [(pixels_CHW * ours.std + ours.mean) * 255 for pixels_CHW in (theirs_CHW, seen(ours, file))]
        assert torch.equal(*(level.round() for level in levels)), file.name


@pytest.mark.parametrize("config", CONFIGS)
def test_a_folder_reads_pictures_as_open_clip_reads_them(clip_folder, photos, tmp_path, config):
    folder = with_config(clip_folder, tmp_path / "model", config)
    model = load_model(str(folder))
    theirs, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    same(model.encoder, transform, photos)
    with torch.no_grad(), Image.open(photos[0]) as image:
        wanted = theirs.eval().encode_image(transform(image)[None])
        assert torch.allclose(model.encoder.tower(seen(model.encoder, photos[0])[None]), wanted, atol=1e-5)
    again = image_transform_v2(PreprocessCfg(**model.module.visual.preprocess_cfg), is_train=False)
    same(model.encoder, again, photos)  # of the module itself


def test_at_another_size(clip_folder, photos, tmp_path):
    folder = with_config(clip_folder, tmp_path / "model", {"resize_mode": "squash", "size": 32})
    encoder = load_model(str(folder), image_size=64).encoder
    assert encoder.preprocessing == Preprocessing(64, "squash")
    same(encoder, open_clip.create_model_and_transforms(f"local-dir:{folder}", force_image_size=64)[2], photos)


def test_every_tag_of_open_clip_is_understood():
    ways = {}
    for name, tag in open_clip.list_pretrained():
        settings = from_open_clip(name, tag_config(name, tag), 32)
        assert to_open_clip(name, settings) == vars(
            PreprocessCfg(
                **merge_preprocess_dict(PreprocessCfg(), open_clip.get_pretrained_cfg(name, tag) | {"size": 32})
            )
        )
        how = settings.preprocessing
        ways[how.resize_mode, how.interpolation] = ways.get((how.resize_mode, how.interpolation), 0) + 1
    assert len(ways) > 2 and sum(ways.values()) == len(open_clip.list_pretrained())


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"resize_mode": "stretch"}, "resize_mode 'stretch'"),
        ({"resize_mode": 3}, "resize_mode 3"),
        ({"interpolation": "lanczos"}, "interpolation 'lanczos'"),
        ({"size": 64}, "gives 64 pixels, and its tower takes 32"),
        ({"size": [32, 48]}, r"gives \[32, 48\] pixels"),
        ({"mean": [0.5]}, r"mean \[0.5\]"),
        ({"mean": [0.1, 0.2, 0.3, 0.4]}, "mean"),
        ({"std": [0.5, 0.0, 0.5]}, "std"),
        ({"std": "wide"}, "std 'wide'"),
        ({"fill_color": [1, 2, 3]}, r"fill_color \[1, 2, 3\]"),
        ({"fill_color": 256}, "fill is 256"),
    ],
)
def test_settings_that_contradict_the_model_or_are_unknown(clip_folder, tmp_path, config, found):
    folder = with_config(clip_folder, tmp_path / "model", config)
    with pytest.raises(SeaAnchorError, match=found):
        load_model(str(folder))


def test_settings_that_open_clip_does_not_read_are_told(clip_folder, tmp_path, caplog):
    note.cache_clear()
    folder = with_config(clip_folder, tmp_path / "model", {"resize_mod": "squash"})
    with caplog.at_level(logging.WARNING, "seaanchor"):
        assert load_model(str(folder)).encoder.preprocessing == Preprocessing(32)
    assert "resize_mod, which open_clip does not read" in caplog.text


@pytest.mark.parametrize(
    ("name", "settings", "lines"),
    [
        ("MobileCLIP2-S0", {"mean": (0, 0, 0), "std": (1, 1, 1), "interpolation": "bilinear"}, 0),
        ("ViT-B-16-SigLIP", {"mean": (0.5, 0.5, 0.5), "resize_mode": "squash"}, 0),
        ("ViT-B-32", {"resize_mode": "shortest", "interpolation": "bicubic"}, 0),
        ("ViT-L-14", {"std": open_clip.OPENAI_DATASET_STD}, 1),  # one of twelve tags has 0.5
        ("ViT-H-14", {"resize_mode": "shortest"}, 1),  # dfn5b squashes
    ],
)
def test_weights_from_a_file_get_what_the_tags_of_their_name_agree_on(name, settings, lines, caplog):
    note.cache_clear()
    with caplog.at_level(logging.WARNING, "seaanchor"):
        found = agreed_config(name)
    assert {key: found[key] for key in settings} == settings
    assert len(caplog.records) == lines
    assert not lines or ("assumed" in caplog.text and "--preprocess" in caplog.text)


def test_a_file_of_a_small_architecture(architectures, tmp_path, monkeypatch, caplog):
    """The whole way, with tags that such a name would have."""
    import open_clip.pretrained as tags

    name = architectures[0]
    torch.save(open_clip.create_model(name).state_dict(), tmp_path / "w.pt")
    config = {"mean": (0.5,) * 3, "std": (0.25,) * 3, "interpolation": "bilinear", "resize_mode": "squash"}
    note.cache_clear()
    with caplog.at_level(logging.WARNING, "seaanchor"):
        encoder = load_model(name, str(tmp_path / "w.pt")).encoder
    assert encoder.preprocessing == Preprocessing(32) and "it has no tags" in caplog.text
    monkeypatch.setitem(tags._PRETRAINED, name, {"one": config, "two": config})
    model = load_model(name, str(tmp_path / "w.pt"))
    assert model.encoder.preprocessing == Preprocessing(32, "squash", "bilinear")
    assert model.encoder.mean.flatten().tolist() == [0.5] * 3 and model.encoder.std.flatten().tolist() == [0.25] * 3
    assert model.export_config["preprocess_cfg"]["resize_mode"] == "squash"
    assert load_model(name, "none").encoder.preprocessing == Preprocessing(32)  # as open_clip: nothing was trained yet


@pytest.mark.parametrize(
    "how",
    [
        Preprocessing(32, resize_size=40),
        Preprocessing(32, "none"),
        Preprocessing(32, interpolation="lanczos"),
        Preprocessing(32, colours="rgb"),
        Preprocessing(32, backend="torchvision"),
        Preprocessing(32, crop="down"),
    ],
)
def test_what_open_clip_cannot_do_is_refused(how):
    with pytest.raises(SeaAnchorError, match="a model with the preprocessing size=32,"):
        to_open_clip("a model", InputSettings(how, (0, 0, 0), (1, 1, 1)))
