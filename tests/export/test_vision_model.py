"""The vision model of transformers: the same embeddings and pixels, in the class that vision-language models load."""

import json
from dataclasses import replace

import pytest
import torch

from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.export.folder import export_model, verify
from seaanchor.export.vision_model import clip_vision_model

VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-quickgelu", "tiny-custom"])
def test_vision_language_models_load_it(architectures, tmp_path, name):
    """`CLIPVisionModel` reads the same tokens as OpenCLIP's tower before its projection, and the processor the same
    picture."""
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from PIL import Image
    from transformers import CLIPImageProcessor, CLIPVisionModel, CLIPVisionModelWithProjection

    torch.manual_seed(2)
    model = load_model(name, "none")
    folder = export_model(model, tmp_path / "vision", format="hf-vision")
    assert {file.name for file in folder.glob("*.json")} == {"config.json", "preprocessor_config.json"}
    noise = torch.randint(0, 256, (64, 80, 3), dtype=torch.uint8)
    picture = Image.fromarray(noise.numpy())
    processor = CLIPImageProcessor.from_pretrained(folder)
    theirs = processor(picture, return_tensors="pt")["pixel_values"]
    config = PreprocessCfg(**model.export_config["preprocess_cfg"])
    ours = image_transform_v2(config, is_train=False)(picture)[None]
    assert (theirs - ours).abs().max() <= 1.01 / 255 / min(config.std)
    visual = model.module.visual
    with torch.no_grad():
        tokens = visual.ln_post(visual.transformer(visual._embeds(ours)))
        whole, info = CLIPVisionModel.from_pretrained(folder, output_loading_info=True)
        assert not info["missing_keys"]
        assert torch.allclose(whole.eval()(ours).pooler_output, tokens[:, 0], atol=1e-5)
        projected = CLIPVisionModelWithProjection.from_pretrained(folder).eval()(ours).image_embeds
        assert torch.allclose(projected, visual(ours), atol=1e-5)
    again = load_model(str(folder))
    assert again.encoder.dim == model.encoder.dim and again.encode_texts is None


def test_a_changed_weight_fails_the_check(clip_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    model = load_model(str(clip_folder))
    folder = export_model(model, tmp_path / "vision", format="hf-vision")
    weights = folder / "model.safetensors"
    state = load_file(weights)
    key = "vision_model.encoder.layers.1.self_attn.v_proj.weight"
    save_file(state | {key: 1.05 * state[key]}, weights, metadata={"format": "pt"})
    with pytest.raises(SeaAnchorError, match="embeddings that differ by"):
        verify(model, folder, format="hf-vision")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ls_init_value": 0.1}, "layer scale"),
        ({"no_ln_pre": True}, "a block without LayerNorm before it"),
        ({"attentional_pool": True}, "attention pooling"),
        ({"pool_type": "avg"}, "pooling 'avg'"),
        ({"final_ln_after_pool": True}, "its last norm after the pooling"),
        ({"timm_model_name": "resnet10t", "timm_pool": "avg", "timm_proj": "linear"}, "the image tower ResNet"),
    ],
)
def test_what_clip_has_not_is_named(clip_folder, changes, said):
    import open_clip

    model = load_model(str(clip_folder))
    other = open_clip.CLIP(16, VISION | changes, TEXT)
    with pytest.raises(SeaAnchorError, match=said) as caught:
        clip_vision_model(replace(model, module=other))
    assert "--format open-clip" in caught.value.change
    assert clip_vision_model(replace(model, module=open_clip.CLIP(16, VISION, TEXT)))


def test_another_activation_is_named(clip_folder):
    model = load_model(str(clip_folder))
    for block in model.module.visual.transformer.resblocks:
        block.mlp.gelu = torch.nn.SiLU()
    with pytest.raises(SeaAnchorError, match="the activation SiLU"):
        clip_vision_model(model)


@pytest.mark.parametrize(("mode", "crops"), [("squash", False), ("shortest", True)])
def test_the_processor_follows_the_preprocessing(clip_folder, tmp_path, mode, crops):
    model = load_model(str(clip_folder), preprocess=f"resize_mode={mode},interpolation=bilinear,mean=0.5,std=0.25")
    folder = export_model(model, tmp_path / mode, format="hf-vision")  # which compares pictures
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    assert (settings["do_center_crop"], settings["resample"], settings["image_std"]) == (crops, 2, [0.25] * 3)


def test_a_changed_processor_fails_the_check(clip_folder, tmp_path):
    model = load_model(str(clip_folder))
    folder = export_model(model, tmp_path / "vision", format="hf-vision")
    file = folder / "preprocessor_config.json"
    settings = json.loads(file.read_text())
    for changes in ({"resample": 2}, {"do_center_crop": False, "size": {"height": 32, "width": 32}}):
        file.write_text(json.dumps(settings | changes))
        with pytest.raises(SeaAnchorError, match="reads pictures otherwise"):
            verify(model, folder, format="hf-vision")


def test_a_preprocessing_that_the_processor_cannot_do_is_refused(clip_folder, tmp_path):
    model = load_model(str(clip_folder), preprocess="resize_mode=longest")
    with pytest.raises(SeaAnchorError, match="resize_mode=longest"):
        export_model(model, tmp_path / "vision", format="hf-vision")
    assert not list(tmp_path.iterdir())


def test_the_image_side_of_a_model_of_transformers(hf_folder, tmp_path):
    from transformers import CLIPVisionModel

    model = load_model(f"hf:{hf_folder}")
    folder = export_model(model, tmp_path / "vision", format="hf-vision", half=True)
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["CLIPVisionModelWithProjection"]
    assert {file.name for file in folder.glob("*.json")} == {"config.json", "preprocessor_config.json"}
    assert not CLIPVisionModel.from_pretrained(folder, output_loading_info=True)[1]["missing_keys"]


def test_models_without_a_place_are_refused_by_name(tmp_path):
    model = load_model("timm:test_vit", "none")
    with pytest.raises(SeaAnchorError, match="a model of timm, and the format hf-vision has no place") as caught:
        export_model(model, tmp_path / "vision", format="hf-vision")
    assert caught.value.expected.startswith("one of timm")
    with pytest.raises(SeaAnchorError, match="the format 'gguf'"):
        export_model(model, tmp_path / "vision", format="gguf")
