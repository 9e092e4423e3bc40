"""Other input settings than a model's own, in the encoder, in the library's model and in the export."""

import json

import open_clip
import pytest
import timm
import torch
from PIL import Image

from seaanchor.data.folder import list_images
from seaanchor.data.images import read_image
from seaanchor.data.preprocessing import Preprocessing
from seaanchor.encoders.encoder import Encoder
from seaanchor.encoders.image_tables import describe
from seaanchor.encoders.load import load_model
from seaanchor.encoders.own_module import from_encoder
from seaanchor.encoders.preprocess_option import input_settings, with_preprocess
from seaanchor.errors import SeaAnchorError
from seaanchor.export.folder import export_model

SQUASHED = "resize_mode=squash,interpolation=bilinear,mean=0.5,std=0.25"


@pytest.fixture
def photo(tmp_path):
    rng = torch.Generator().manual_seed(0)
    pixels_HWC = torch.randint(0, 256, (70, 130, 3), dtype=torch.uint8, generator=rng)
    Image.fromarray(pixels_HWC.numpy()).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def seen(encoder: Encoder, file) -> torch.Tensor:
    return (read_image(file, encoder.preprocessing).float() / 255 - encoder.mean) / encoder.std


def test_an_openclip_model_and_its_export(clip_folder, photo, tmp_path):
    model = load_model(str(clip_folder), preprocess=SQUASHED)
    assert model.encoder.preprocessing == Preprocessing(32, "squash", "bilinear")
    assert model.encoder.mean.flatten().tolist() == [0.5] * 3 and model.encoder.std.flatten().tolist() == [0.25] * 3
    export_model(model, tmp_path / "export")
    transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'export'}")[2]
    with Image.open(photo) as image:
        assert torch.allclose(seen(model.encoder, photo), transform(image), atol=1e-6)
    again = load_model(str(tmp_path / "export"))
    assert input_settings(again.encoder) == input_settings(model.encoder)
    assert model.module.visual.preprocess_cfg["resize_mode"] == "squash"


def test_a_timm_model_and_its_export(photo, tmp_path):
    text = "resize_mode=longest,resize_size=170,fill=128/102/76,mean=0.5/0.4/0.3,interpolation=bilinear"
    model = load_model("timm:test_vit", "none", preprocess=text)
    export_model(model, tmp_path / "export")
    config = timm.data.resolve_data_config(model=timm.create_model(f"local-dir:{tmp_path / 'export'}"))
    with Image.open(photo) as image:
        theirs_CHW = timm.data.create_transform(**config)(image)
    assert torch.allclose(seen(model.encoder, photo), theirs_CHW, atol=1e-6)
    again = load_model(f"timm:local-dir:{tmp_path / 'export'}")
    assert str(input_settings(again.encoder)) == str(input_settings(model.encoder))


@pytest.mark.parametrize("name", ["timm:test_vit", "clip"])
def test_an_export_whose_library_reads_pictures_otherwise_is_found(clip_folder, tmp_path, name):
    model = load_model(name, "none") if name != "clip" else load_model(str(clip_folder))
    model.encoder.preprocessing = Preprocessing(model.encoder.image_size, "squash")  # and its library is not told
    with pytest.raises(SeaAnchorError, match=r"reads pictures otherwise: pixels are \d+\.\d of 255 levels off"):
        export_model(model, tmp_path / "export")


def test_the_settings_of_a_tag(architectures, monkeypatch):
    import open_clip.pretrained as tags

    name = architectures[0]
    config = {"mean": (0.5,) * 3, "std": (0.25,) * 3, "interpolation": "bilinear", "resize_mode": "squash"}
    monkeypatch.setitem(tags._PRETRAINED, name, {"one": config})
    model = load_model(name, "none", preprocess="one")
    assert model.encoder.preprocessing == Preprocessing(32, "squash", "bilinear")
    assert str(input_settings(model.encoder)).endswith("mean=0.5/0.5/0.5,std=0.25/0.25/0.25")
    with pytest.raises(SeaAnchorError, match=r"two is no tag of tiny-vit[\s\S]*one of its tags \(one\)"):
        load_model(name, "none", preprocess="two")


def test_nothing_changes_what_is_the_same(clip_folder):
    model = load_model(str(clip_folder))
    assert with_preprocess(model, None) is model
    same = str(input_settings(model.encoder)).partition(",")[2]
    before = model.encoder.mean.clone()
    assert torch.equal(with_preprocess(model, same).encoder.mean, before)


def test_an_own_module_takes_anything():
    class Tower(torch.nn.Conv2d):
        def forward(self, pixels_BCHW):
            return super().forward(pixels_BCHW).flatten(1)

    model = from_encoder(Encoder(Tower(3, 5, 8), 8, mean=0.5))
    changed = with_preprocess(model, "resize_size=12,backend=torchvision,crop=down,std=0.1")
    assert changed.encoder.preprocessing == Preprocessing(8, resize_size=12, backend="torchvision", crop="down")
    assert changed.encoder.std.flatten().tolist() == pytest.approx([0.1] * 3)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("resize_size=40", "with the preprocessing size=32,resize_size=40"),
        ("interpolation=lanczos", "interpolation=lanczos"),
        ("stretch", "stretch is no tag"),
        ("stretch=1", "'stretch=1' is not understood"),
    ],
)
def test_what_an_openclip_model_cannot_have(clip_folder, text, found):
    with pytest.raises(SeaAnchorError, match=found):
        load_model(str(clip_folder), preprocess=text)


def test_a_hugging_face_model_has_its_processor(hf_folder):
    with pytest.raises(SeaAnchorError, match="the processor in the model's folder"):
        load_model(f"hf:{hf_folder}", preprocess="resize_mode=squash")


def test_mistakes_are_found_before_weights_load(tmp_path):
    (tmp_path / "open_clip_config.json").write_text(json.dumps({}))
    with pytest.raises(SeaAnchorError, match="'squash=1' is not understood"):
        load_model(str(tmp_path), preprocess="squash=1")


def test_cached_embeddings_are_of_one_preprocessing(clip_folder, image_folder):
    """The same weights and images, and other pixels."""
    images, keys = list_images(image_folder), set()
    for text in (None, "resize_mode=squash", "resize_mode=longest", "interpolation=bilinear", "mean=0.5"):
        model = load_model(str(clip_folder), preprocess=text)
        keys.add(json.dumps(describe(model.encoder, model.family, images)))
    assert len(keys) == 5


def test_the_options_of_the_command_line(clip_folder, image_folder, tmp_path, run):
    model = ("--model", clip_folder, "--preprocess", "resize_mode=squash")
    assert run("export", *model, "--output", tmp_path / "out")[0] == 0
    config = json.loads((tmp_path / "out" / "open_clip_config.json").read_text())
    assert config["preprocess_cfg"]["resize_mode"] == "squash"
    evaluate = ("evaluate", *model, "--data", image_folder, "--suite", "clean", "--output", tmp_path / "results")
    assert run(*evaluate)[0] == 0
    (file,) = (tmp_path / "results").glob("*.json")
    assert json.loads(file.read_text())["protocol"]["preprocessing"] == "size=32,resize_mode=squash"
    code, _, errors = run(
        "train", "fare", "--model", clip_folder, "--preprocess", "resize_mode=wide", "--output", tmp_path / "run"
    )
    assert code == 2 and "resize_mode is 'wide'" in errors
