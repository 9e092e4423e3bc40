"""A model of transformers is loaded whole or refused with the reason; nothing of it is left random, and nothing in its
folder runs."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.export.folder import export_model
from tests.encoders.huggingface.models import SIDE, edit, library_model, write_model


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> dict[str, Path]:
    """Folders of some models, not to be changed."""
    names = ("CLIPModel", "CLIPVisionModel", "ViTModel", "Dinov2Model", "ViTForImageClassification")
    return {name: write_model(name, tmp_path_factory.mktemp(name)) for name in names}


@pytest.fixture
def copy_of(originals, tmp_path):
    """Copies a model's folder, to be changed."""

    def make(name: str) -> Path:
        return Path(shutil.copytree(originals[name], tmp_path / name))

    return make


def rewritten(folder: Path, change) -> Path:
    state = change(load_file(folder / "model.safetensors"))
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def refused(folder: Path, **settings) -> str:
    with pytest.raises(SeaAnchorError) as caught:
        load_model(f"hf:{folder}", **settings)
    assert len(str(caught.value).splitlines()) == 3
    return str(caught.value)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
@pytest.mark.parametrize("name", ["CLIPModel", "Dinov2Model"])
def test_prefixes_of_wrappers_are_removed(originals, copy_of, name, prefix):
    folder = rewritten(copy_of(name), lambda state: {prefix + key: value for key, value in state.items()})
    model, expected = load_model(f"hf:{folder}"), load_model(f"hf:{originals[name]}")
    assert fingerprint(model.module) == fingerprint(expected.module)


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
@pytest.mark.parametrize("parts", [1, 2])
def test_weights_in_parts_and_in_a_bin_file(originals, copy_of, suffix, parts):
    folder = copy_of("CLIPModel")
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    names = [f"{stem}-{i}-of-2.{suffix}" for i in range(2)] if parts == 2 else [f"{stem}.{suffix}"]
    where = {key: names[i % parts] for i, key in enumerate(sorted(state))}
    for name in names:
        part = {key: value for key, value in state.items() if where[key] == name}
        save_file(part, folder / name) if suffix == "safetensors" else torch.save(part, folder / name)
    if parts == 2:
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    model, expected = load_model(f"hf:{folder}"), load_model(f"hf:{originals['CLIPModel']}")
    assert fingerprint(model.module) == fingerprint(expected.module)
    if parts == 2:
        (folder / names[1]).unlink()
        assert names[1] in refused(folder)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("CLIPModel", lambda state: state | {"more.weight": torch.rand(2)}, ["1 not known to it (more.weight)"]),
        (
            "CLIPModel",
            lambda state: {key: value for key, value in state.items() if key != "visual_projection.weight"},
            ["CLIPModel", "1 missing (visual_projection.weight)"],
        ),
        (
            "CLIPModel",
            lambda state: state | {"visual_projection.weight": torch.rand(12, 32)},
            ["1 of another shape (visual_projection.weight (12, 32) for (24, 32))"],
        ),
        (
            "ViTModel",
            lambda state: {key: value for key, value in state.items() if key != "pooler.dense.bias"},
            ["1 missing (pooler.dense.bias)"],
        ),
        ("ViTModel", lambda state: {f"wrapped.{key}": value for key, value in state.items()}, ["missing", "wrapped."]),
        ("CLIPModel", lambda state: state | {"logit_scale": torch.tensor(torch.nan)}, ["not a number"]),
        (
            "ViTModel",
            lambda state: {k: v.to(torch.int8) if v.dim() == 2 else v for k, v in state.items()},
            ["quantised (int8"],
        ),
    ],
)
def test_weights_that_are_not_all_of_the_models(copy_of, name, change, words):
    said = refused(rewritten(copy_of(name), change))
    assert all(word in said for word in words), said
    assert "Hub" not in said


@pytest.mark.parametrize("name", ["CLIPModel", "SwinForImageClassification", "Swinv2ForImageClassification"])
def test_constants_that_other_versions_saved_are_no_weights(tmp_path, name):
    """Numbers of positions, say; but not where their values are others than those the model computes."""
    folder = write_model(name, tmp_path)
    expected = fingerprint(load_model(f"hf:{folder}").module)
    model = library_model(folder)
    own = {key: value.clone() for key, value in model.named_buffers() if key not in model.state_dict()}
    assert own
    rewritten(folder, lambda state: state | own)
    assert fingerprint(load_model(f"hf:{folder}").module) == expected
    if name == "Swinv2ForImageClassification":
        rewritten(folder, lambda state: state | {key: value + 1 for key, value in own.items()})
        assert "not known to it" in refused(folder)


def test_counters_that_other_versions_did_not_save(tmp_path):
    folder = write_model("ResNetForImageClassification", tmp_path)
    rewritten(folder, lambda state: {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")})
    load_model(f"hf:{folder}")


def test_a_vit_without_a_pooler_is_whole(originals, copy_of, tmp_path):
    """As DINO's; the embedding is the class token in both cases."""
    folder = rewritten(
        copy_of("ViTModel"), lambda state: {key: value for key, value in state.items() if "pooler" not in key}
    )
    model, expected = load_model(f"hf:{folder}"), load_model(f"hf:{originals['ViTModel']}")
    pixels = torch.rand(2, 3, SIDE, SIDE)
    assert torch.equal(model.encoder(pixels), expected.encoder(pixels))
    export_model(model, tmp_path / "export")
    assert not [key for key in load_file(tmp_path / "export" / "model.safetensors") if "pooler" in key]


@pytest.mark.parametrize(
    ("model_type", "architecture"),
    [
        ("groupvit", "GroupViTModel"),
        ("metaclip_2", "MetaClip2Model"),
        ("chinese_clip", "ChineseCLIPModel"),
        ("align", "AlignModel"),
        ("vision-text-dual-encoder", "VisionTextDualEncoderModel"),
        ("blip", "BlipModel"),
        ("altclip", "AltCLIPModel"),
        ("aimv2", "Aimv2Model"),
        ("llava", "LlavaForConditionalGeneration"),
        ("groupvit", "CLIPModel"),  # a class that contradicts the type
        ("clip", "CLIPTextModelWithProjection"),
        ("vit", "ViTForMaskedImageModeling"),
        ("deit", "DeiTForImageClassificationWithTeacher"),
    ],
)
def test_other_models_are_called_by_their_type(copy_of, model_type, architecture):
    folder = copy_of("CLIPModel")
    edit(folder / "config.json", model_type=model_type, architectures=[architecture])
    said = refused(folder)
    assert f"model_type of hf:{folder} is '{model_type}'" in said and architecture in said
    assert "CLIPModel" in said or "clip" in said or "ForImageClassification" in said  # what is expected
    assert "Hub" not in said


def test_a_configuration_without_a_class_means_the_plain_one(originals, copy_of):
    for name in ("CLIPModel", "CLIPVisionModel", "ViTModel"):
        folder = copy_of(name)
        edit(folder / "config.json", architectures=None)
        model, expected = load_model(f"hf:{folder}"), load_model(f"hf:{originals[name]}")
        assert fingerprint(model.encoder) == fingerprint(expected.encoder)


def test_two_classes_are_ambiguous(copy_of):
    folder = copy_of("ViTModel")
    edit(folder / "config.json", architectures=["ViTModel", "ViTForImageClassification"])
    assert "architectures ViTModel, ViTForImageClassification" in refused(folder)


def test_folders_that_are_no_model_of_transformers(copy_of, clip_folder, tmp_path):
    assert f"write local-dir:{clip_folder}" in refused(clip_folder)
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "config.json").write_text(json.dumps({"architecture": "resnet10t"}))
    assert f"write timm:local-dir:{tmp_path / 'timm'}" in refused(tmp_path / "timm")
    assert "there is no folder" in refused(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "it holds nothing" in refused(tmp_path / "empty")
    folder = copy_of("ViTModel")
    (folder / "model.safetensors").rename(folder / "flax_model.msgpack")
    assert "no model.safetensors or pytorch_model.bin" in refused(folder)
    for text in ("no JSON", "[]"):
        (folder / "config.json").write_text(text)
        assert "config.json" in refused(folder)


@pytest.mark.parametrize(
    ("file", "settings", "words"),
    [
        ("config.json", {"quantization_config": {"load_in_8bit": True}}, "quantised"),
        ("config.json", {"auto_map": {"AutoModel": "mine.Mine"}}, "code that comes with the model"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["mine.Mine", None]}}, "tokenizer_config.json"),
        ("preprocessor_config.json", {"auto_map": {"AutoImageProcessor": "mine.Mine"}}, "preprocessor_config.json"),
        ("config.json", {"_attn_implementation_internal": "nobody/nothing"}, "'nobody/nothing' as its attention"),
        ("config.json", {"vision_config": {"attn_implementation": {"": "nobody/n"}}}, "'nobody/n' as its attention"),
        ("adapter_config.json", {"peft_type": "LORA"}, "merge_and_unload"),
    ],
)
def test_what_is_refused_by_its_settings(copy_of, file, settings, words):
    folder = copy_of("CLIPModel")
    (folder / "mine.py").write_text("from pathlib import Path\nPath(__file__).with_name('it_ran').touch()\n")
    if not (folder / file).is_file():
        (folder / file).write_text("{}")
    edit(folder / file, **settings)
    assert words in refused(folder)
    assert not (folder / "it_ran").exists()


def test_one_channel_is_refused(tmp_path):
    assert "1 channels" in refused(write_model("ViTModel", tmp_path, num_channels=1))


@pytest.mark.parametrize("name", ["CLIPModel", "CLIPVisionModel", "ViTForImageClassification"])
def test_fixed_sizes(originals, name):
    assert load_model(f"hf:{originals[name]}", image_size=SIDE).encoder.image_size == SIDE
    assert f"expected: {SIDE}, its own" in refused(originals[name], image_size=64)


@pytest.mark.parametrize(
    "name", ["Dinov2Model", "DINOv3ViTModel", "ResNetForImageClassification", "Siglip2VisionModel"]
)
def test_other_sizes_go_home(tmp_path, name):
    """Where the model takes them as it is; the export's processor then gives them."""
    from transformers import AutoImageProcessor

    folder = write_model(name, tmp_path / "model")
    model = load_model(f"hf:{folder}", image_size=48)
    assert model.encoder.image_size == model.encoder.preprocessing.size == 48
    if name == "Dinov2Model":
        assert model.encoder.preprocessing.resize_size == 60  # 40 to 32
        pixels = torch.rand(2, 3, 48, 48)
        with torch.no_grad():
            expected = library_model(folder)((pixels - model.encoder.mean) / model.encoder.std).pooler_output
            torch.testing.assert_close(model.encoder(pixels), expected)
    export = export_model(model, tmp_path / "export")
    again = load_model(f"hf:{export}")
    assert again.encoder.preprocessing == model.encoder.preprocessing
    before, after = (AutoImageProcessor.from_pretrained(place).to_dict() for place in (folder, export))
    changed = {key for key in before if before[key] != after[key]}
    assert changed <= {"size", "crop_size", "max_num_patches"}


def test_convnexts_processor_squashes_at_384_whatever_size_it_was_for(tmp_path):
    model = load_model(f"hf:{write_model('ResNetForImageClassification', tmp_path / 'model')}", image_size=384)
    assert (model.encoder.preprocessing.size, model.encoder.preprocessing.resize_mode) == (384, "squash")
    export_model(model, tmp_path / "export")  # which compares pictures


@pytest.mark.parametrize("name", ["Dinov2Model", "DINOv3ViTModel"])
def test_patches_fill_the_image(tmp_path, name):
    said = refused(write_model(name, tmp_path), image_size=50)
    assert "a multiple of its patches' 8" in said and "take 48" in said


def test_loading_says_nothing(originals, capfd):
    load_model(f"hf:{originals['CLIPModel']}")
    assert capfd.readouterr() == ("", "")
