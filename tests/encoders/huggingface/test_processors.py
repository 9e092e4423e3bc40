"""Pictures go through what transformers' own processor does to them, or the model is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seaanchor.data.images import read_image
from seaanchor.data.preprocessing import to_square
from seaanchor.encoders.huggingface import processors as ours
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.export.folder import export_model
from tests.encoders.huggingface.models import NORMALISATION, SIDE, edit, library_model, write_model, write_processor

SHAPES = [(50, 70), (70, 50), (32, 32), (640, 427), (33, 31), (20, 90), (107, 160), (7, 9)]
SQUARE = {"height": SIDE, "width": SIDE}
ARCHITECTURES = {"CLIP": "CLIPVisionModel", "Siglip": "SiglipVisionModel", "ViT": "ViTModel", "Bit": "Dinov2Model"}

SETTINGS = [
    ("CLIP", {}),
    ("CLIP", {"size": {"shortest_edge": 40}}),  # 256 then 224
    ("CLIP", {"size": {"shortest_edge": 20}}),  # the crop is padded
    ("CLIP", {"size": {"height": 40, "width": 40}}),
    ("CLIP", {"size": SQUARE, "do_center_crop": False}),
    ("CLIP", {"do_resize": False}),
    ("CLIP", {"resample": 1}),
    ("CLIP", {"resample": 2}),
    ("CLIP", {"do_normalize": False}),
    ("CLIP", {"do_rescale": False}),
    ("CLIP", {"do_rescale": False, "do_normalize": False}),
    ("CLIP", {"rescale_factor": 1 / 127.5}),
    ("CLIP", {"image_mean": 0.5, "image_std": 0.25}),
    ("Siglip", {}),
    ("Siglip", {"resample": 2}),
    ("ViT", {}),
    ("Bit", {}),
    ("Bit", {"size": {"shortest_edge": 41}}),
]


def photo(height: int, width: int, seed: int = 0) -> Image.Image:
    """Smooth shades with noise, so that filters and crops all differ."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(seed).integers(0, 60, (height, width, 3))
    shades = np.stack([x * 190 / width, y * 190 / height, (x + y) * 95 / (height + width)], -1)
    return Image.fromarray((shades + noise).astype(np.uint8))


def folder_with(tmp_path: Path, kind: str, settings: dict) -> Path:
    architecture = ARCHITECTURES[kind]
    folder = write_model(architecture, tmp_path)
    write_processor(architecture, folder, **settings)
    return folder


@pytest.mark.parametrize(("kind", "settings"), SETTINGS)
def test_pictures_of_all_shapes(tmp_path, kind, settings):
    """8-bit pixels to the bit, and the model's input to rounding."""
    from transformers import AutoImageProcessor

    folder = folder_with(tmp_path, kind, settings)
    encoder = load_model(f"hf:{folder}").encoder
    processor = AutoImageProcessor.from_pretrained(folder)
    theirs = library_model(folder)
    for shape in SHAPES:
        picture = photo(*shape)
        raw = processor(picture, do_rescale=False, do_normalize=False, return_tensors="pt")["pixel_values"][0]
        pixels = to_square(picture, encoder.preprocessing)
        assert torch.equal(pixels, raw.to(torch.uint8))
        wanted = processor(picture, return_tensors="pt")["pixel_values"]
        normalised = (pixels[None].float() / 255 - encoder.mean) / encoder.std
        torch.testing.assert_close(normalised, wanted.float(), rtol=1e-5, atol=1e-4 * float(wanted.abs().max()))
    if settings.get("do_rescale", True):
        with torch.no_grad():
            output = theirs(pixel_values=wanted)
            expected = output.last_hidden_state[:, 0] if kind == "ViT" else output.pooler_output
            torch.testing.assert_close(encoder(pixels[None].float() / 255), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1", "RGB"])
def test_pictures_of_all_modes(tmp_path, mode):
    """CLIP's processor converts them; a file in between changes nothing."""
    from transformers import AutoImageProcessor

    folder = folder_with(tmp_path, "CLIP", {})
    encoder = load_model(f"hf:{folder}").encoder
    picture = photo(61, 47)
    if "A" in mode:
        picture.putalpha(Image.fromarray(np.arange(61 * 47, dtype=np.uint8).reshape(61, 47)))
    file = tmp_path / f"picture.{'tif' if mode == 'CMYK' else 'png'}"
    picture.convert(mode).save(file)
    raw = AutoImageProcessor.from_pretrained(folder)(
        Image.open(file), do_rescale=False, do_normalize=False, return_tensors="pt"
    )["pixel_values"][0]
    assert torch.equal(read_image(file, encoder.preprocessing), raw.to(torch.uint8))


@pytest.mark.parametrize("size", [SIDE, 384])
def test_convnexts_crop_below_384_and_squash_from_there(tmp_path, size):
    from transformers import AutoImageProcessor

    folder = write_model("ConvNextForImageClassification", tmp_path)
    write_processor("ConvNextForImageClassification", folder, size={"shortest_edge": size})
    how = load_model(f"hf:{folder}").encoder.preprocessing
    processor = AutoImageProcessor.from_pretrained(folder)
    for shape in SHAPES:
        raw = processor(photo(*shape), do_rescale=False, do_normalize=False, return_tensors="pt")["pixel_values"][0]
        assert torch.equal(to_square(photo(*shape), how), raw.to(torch.uint8))


def test_dinov3_is_at_most_one_level_off_and_says_so(tmp_path, caplog):
    """Its processor resizes in floats."""
    from transformers import AutoImageProcessor

    folder = write_model("DINOv3ViTModel", tmp_path)
    encoder = load_model(f"hf:{folder}").encoder
    assert "rounded to 1/255" in caplog.text
    processor = AutoImageProcessor.from_pretrained(folder)
    for shape in SHAPES:
        wanted = processor(photo(*shape), return_tensors="pt")["pixel_values"]
        pixels = to_square(photo(*shape), encoder.preprocessing)[None].float() / 255
        assert (wanted * encoder.std + encoder.mean - pixels).abs().max() <= 1 / 255


def test_siglip2_takes_squares_as_the_library_does(tmp_path, caplog):
    from transformers import AutoImageProcessor

    folder = write_model("Siglip2VisionModel", tmp_path)
    encoder, theirs = load_model(f"hf:{folder}").encoder, library_model(folder)
    assert "squashed to 32 x 32 pixels" in caplog.text
    processor = AutoImageProcessor.from_pretrained(folder)
    for side in (20, 32, 77):
        inputs = processor(photo(side, side), return_tensors="pt")
        pixels = to_square(photo(side, side), encoder.preprocessing)[None].float() / 255
        with torch.no_grad():
            torch.testing.assert_close(encoder(pixels), theirs(**inputs).pooler_output, rtol=1e-5, atol=1e-5)


def test_processors_on_pillow(tmp_path):
    """transformers before version 5 resizes with Pillow by default."""
    from transformers import CLIPImageProcessorPil, ViTImageProcessorPil

    for processor, kind in (
        (CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size=SQUARE), "CLIP"),
        (ViTImageProcessorPil(size=SQUARE), "ViT"),
    ):
        assert ours._kind("it", processor) == kind
        how = ours._preprocessing(processor, kind)
        assert how.backend == "pillow"
        for shape in SHAPES:
            raw = processor(photo(*shape), do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
            assert np.array_equal(to_square(photo(*shape), how).numpy(), raw)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"image_processor_type": "VivitImageProcessor"}, "VivitImageProcessor"),
        ({"image_processor_type": "NoSuchImageProcessor"}, "NoSuchImageProcessor"),
        ({"do_center_crop": False}, "gives no squares"),
        ({"do_center_crop": False, "size": {"height": 32, "width": 40}}, "no square"),
        ({"crop_size": {"height": 32, "width": 40}}, "no square"),
        ({"size": {"shortest_edge": 32, "longest_edge": 64}}, "size"),
        ({"do_resize": False, "do_center_crop": False}, "keep their own sizes"),
        ({"do_pad": True, "pad_size": SQUARE}, "do_pad"),
        ({"image_std": [0.2, 0.0, 0.2]}, "image_std"),
        ({"image_mean": [0.5], "image_std": [0.5]}, "image_mean"),
        ({"rescale_factor": 0.0}, "rescale_factor"),
        ({"crop_size": {"height": 64, "width": 64}}, "gives 64 pixels, and the model takes 32"),
        ({"resample": 9}, "9"),
        ({"device": ["cpu"]}, "it fails on a picture"),
        ({"resample": 0}, "gives other pixels"),  # torchvision's nearest neighbour is another than Pillow's
    ],
)
def test_what_cannot_be_followed_or_contradicts_the_model_is_refused(tmp_path, settings, words):
    folder = folder_with(tmp_path, "CLIP", {})
    edit(folder / "preprocessor_config.json", **settings)
    with pytest.raises(SeaAnchorError, match="processor of") as caught:
        load_model(f"hf:{folder}")
    assert words in str(caught.value), caught.value


def test_a_processor_that_does_something_else_is_refused(tmp_path, monkeypatch):
    """Whatever a coming version of transformers does: what is read from the settings is compared with the processor."""
    from transformers import CLIPImageProcessor

    folder = folder_with(tmp_path, "CLIP", {})
    load_model(f"hf:{folder}")
    plain = CLIPImageProcessor.center_crop

    def a_pixel_aside(self, image, size, **settings):
        return plain(self, image.roll(1, -1), size, **settings)

    monkeypatch.setattr(CLIPImageProcessor, "center_crop", a_pixel_aside)
    with pytest.raises(SeaAnchorError, match="gives other pixels than its settings say"):
        load_model(f"hf:{folder}")
    monkeypatch.undo()
    monkeypatch.setattr(CLIPImageProcessor, "normalize", lambda self, image, mean, std, **settings: image)
    with pytest.raises(SeaAnchorError, match="off those that its settings say"):
        load_model(f"hf:{folder}")


def test_the_nested_file_of_a_whole_processor_is_read_first(tmp_path):
    """transformers writes the image processor into processor_config.json when both sides are saved together."""
    folder = folder_with(tmp_path, "CLIP", {})
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "processor_config.json").write_text(
        json.dumps({"image_processor": settings | {"image_mean": [0.1, 0.2, 0.3]}, "processor_class": "CLIPProcessor"})
    )
    assert load_model(f"hf:{folder}").encoder.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    (folder / "preprocessor_config.json").unlink()
    model = load_model(f"hf:{folder}")
    assert model.encoder.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    export_model(model, tmp_path / "export")
    name = "processor_config.json"
    assert (tmp_path / "export" / name).read_bytes() == (folder / name).read_bytes()
    assert not (tmp_path / "export" / "preprocessor_config.json").exists()


@pytest.mark.parametrize("architecture", ["CLIPModel", "CLIPVisionModel", "SiglipVisionModel"])
def test_without_a_processor_the_published_settings_are_assumed_and_told(tmp_path, caplog, architecture):
    folder = write_model(architecture, tmp_path / "model")
    (folder / "preprocessor_config.json").unlink()
    model = load_model(f"hf:{folder}")
    assert "has no preprocessor_config.json: pictures are prepared as for the published models" in caplog.text
    clip = architecture.startswith("CLIP")
    assert model.encoder.mean.flatten()[0] == pytest.approx(0.48145466 if clip else 0.5)
    assert model.encoder.preprocessing.resize_mode == ("shortest" if clip else "squash")
    again = load_model(f"hf:{export_model(model, tmp_path / 'export')}")
    assert again.encoder.preprocessing == model.encoder.preprocessing
    assert torch.equal(again.encoder.mean, model.encoder.mean)


@pytest.mark.parametrize("architecture", ["Dinov2Model", "ViTModel", "ViTForImageClassification", "Siglip2VisionModel"])
def test_without_a_processor_others_are_refused(tmp_path, architecture):
    folder = write_model(architecture, tmp_path)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(SeaAnchorError, match=r"has no preprocessor_config.json"):
        load_model(f"hf:{folder}")


def test_settings_of_old_files(tmp_path):
    """Sizes as single numbers, and feature extractors."""
    folder = folder_with(tmp_path, "CLIP", {})
    old = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 40, "crop_size": SIDE, "do_resize": True}
    old |= {"do_center_crop": True, "do_normalize": True, "resample": 3} | NORMALISATION
    (folder / "preprocessor_config.json").write_text(json.dumps(old))
    how = load_model(f"hf:{folder}").encoder.preprocessing
    assert (how.size, how.resize_size, how.resize_mode) == (SIDE, 40, "shortest")
    export_model(load_model(f"hf:{folder}"), tmp_path / "export")
    assert json.loads((tmp_path / "export" / "preprocessor_config.json").read_text()) == old
