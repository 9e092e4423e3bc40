"""Every way in gives the model that its own library gives, and every mistake an answer one can act on."""

import json
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from seaanchor.data.images import read_image
from seaanchor.encoders import embedded
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.model_pair import reference_of

DINO = "timm:vit_small_patch14_dinov2.lvd142m"


@pytest.fixture
def picture(tmp_path) -> Path:
    """A smooth 50 x 70 picture."""
    y, x = np.mgrid[0:50, 0:70]
    pixels = np.stack([x * 3, y * 5, (x + y) * 2], -1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def random_model(name: str):
    import open_clip

    torch.manual_seed(3)
    return open_clip.create_model_and_transforms(name)


def embed(model, picture: Path) -> torch.Tensor:
    """What our encoder makes of a file, through our own reading of it."""
    with torch.no_grad():
        return model.encoder(read_image(picture, model.encoder.image_size)[None].float() / 255)


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-quickgelu", "tiny-custom", "tiny-resnet"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_weights_file_gives_open_clips_own_embeddings(architectures, tmp_path, picture, name, suffix):
    theirs, _, preprocess = random_model(name)
    theirs.eval()
    weights = tmp_path / f"weights{suffix}"
    torch.save(theirs.state_dict(), weights) if suffix == ".pt" else save_file(theirs.state_dict(), weights)
    ours = load_model(name, str(weights))
    with torch.no_grad():
        expected = theirs.encode_image(preprocess(Image.open(picture))[None])
    torch.testing.assert_close(embed(ours, picture), expected, rtol=1e-4, atol=1e-5)
    assert not ours.encoder.training
    assert not any(p.requires_grad for p in ours.encoder.parameters())
    assert ours.logit_scale == pytest.approx(theirs.logit_scale.exp().item())


def test_quick_gelu_is_kept_and_matters(architectures, tmp_path):
    theirs, _, _ = random_model("tiny-quickgelu")
    weights = tmp_path / "w.pt"
    torch.save(theirs.state_dict(), weights)
    pixels = torch.rand(2, 3, 32, 32)
    quick, plain = load_model("tiny-quickgelu", str(weights)), load_model("tiny-vit", str(weights))
    assert quick.export_config["model_cfg"]["quick_gelu"] is True
    assert "quick_gelu" not in plain.export_config["model_cfg"]
    assert (quick.encoder(pixels) - plain.encoder(pixels)).abs().max() > 1e-4


def test_a_tag_of_quick_gelu_weights_turns_it_on(monkeypatch):
    import open_clip

    asked = {}

    def create_model(name, **settings):
        asked.update(settings)
        raise RuntimeError("far enough")

    monkeypatch.setattr(open_clip, "create_model", create_model)
    for tag, quick in (("openai", True), ("laion2b_s34b_b79k", False)):
        with pytest.raises(SeaAnchorError):
            load_model("ViT-B-32", tag)
        assert asked["force_quick_gelu"] is quick


def test_quick_gelu_that_came_with_a_tag_is_exported(architectures, monkeypatch, tmp_path):
    """The architecture's own configuration does not have it: OpenAI's weights under a plain name."""
    import open_clip

    from seaanchor.export.folder import export_model

    real = open_clip.create_model
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda name: ["tag"])
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, tag: {"quick_gelu": True})
    monkeypatch.setattr(
        open_clip, "create_model", lambda name, **settings: real(name, **settings | {"pretrained": None})
    )
    model = load_model("tiny-vit", "tag")
    assert model.export_config["model_cfg"]["quick_gelu"] is True
    monkeypatch.undo()
    export_model(model, tmp_path / "export")  # which compares


def test_a_folder_by_path_and_by_prefix(clip_folder, picture, monkeypatch):
    import open_clip

    theirs, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{clip_folder}")
    with torch.no_grad():
        expected = theirs.eval().encode_image(preprocess(Image.open(picture))[None])
    monkeypatch.chdir(clip_folder.parent)
    for name in (str(clip_folder), f"local-dir:{clip_folder}", clip_folder.name):
        torch.testing.assert_close(embed(load_model(name), picture), expected, rtol=1e-4, atol=1e-5)


def test_an_embedded_variant_borrows_the_text_tower(cut_vocabulary_folder, monkeypatch):
    from tools.pretraining.tiny import write_folder

    monkeypatch.setattr(embedded, "ZOO", cut_vocabulary_folder.parent)
    base = load_model("tiny")
    state = {k: 2 * v if k == "visual.head.proj.weight" else v for k, v in base.module.state_dict().items()}
    write_folder(state, 32, cut_vocabulary_folder.parent / "tiny-variant", text_tower_of="tiny")
    variant = load_model("tiny-variant")
    pixels = torch.rand(2, 3, 32, 32)
    assert torch.equal(variant.encode_texts(["a cat"]), base.encode_texts(["a cat"]))
    torch.testing.assert_close(variant.encoder(pixels), 2 * base.encoder(pixels))
    assert {"tiny", "tiny-variant"} <= set(embedded.embedded_models())


@pytest.mark.parametrize(("name", "size"), [("clip", 64), ("tiny", 64), ("timm-vit", 80)])
def test_another_image_size(clip_folder, cut_vocabulary_folder, tmp_path, name, size):
    import open_clip

    folder = {"clip": clip_folder, "tiny": cut_vocabulary_folder, "timm-vit": tmp_path}[name]
    if name == "timm-vit":
        text = {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
        config = {
            "embed_dim": 16,
            "vision_cfg": {"timm_model_name": "test_vit", "timm_pool": "", "image_size": 160},
            "text_cfg": text,
        }
        save_file(open_clip.CLIP(**config).state_dict(), folder / "open_clip_model.safetensors")
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    model = load_model(str(folder), image_size=size)
    assert model.encoder.image_size == size
    assert model.export_config["model_cfg"]["vision_cfg"]["image_size"] == size
    theirs = open_clip.create_model(f"local-dir:{folder}", force_image_size=size).eval()
    pixels = torch.rand(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(
            theirs.encode_image((pixels - model.encoder.mean) / model.encoder.std),
            model.encoder(pixels),
            rtol=1e-4,
            atol=1e-5,
        )


def test_hugging_face_model(hf_folder, picture):
    from transformers import CLIPModel, CLIPProcessor

    ours = load_model(f"hf:{hf_folder}")
    theirs, processor = CLIPModel.from_pretrained(hf_folder).eval(), CLIPProcessor.from_pretrained(hf_folder)
    square = Image.open(picture).resize((32, 32))
    inputs = processor(text=["a cat.", "a very long dog"], images=square, return_tensors="pt", padding=True)
    pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        image = theirs.get_image_features(pixel_values=inputs["pixel_values"])
        text = theirs.get_text_features(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
    image, text = (
        getattr(features, "pooler_output", features) for features in (image, text)
    )  # transformers 5 wraps them
    torch.testing.assert_close(ours.encoder(pixels), image, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.encode_texts(["a cat.", "a very long dog"]), text, rtol=1e-4, atol=1e-5)
    assert ours.logit_scale == pytest.approx(theirs.logit_scale.exp().item())
    assert (ours.encoder(pixels).norm(dim=-1) - 1).abs().min() > 1e-3  # raw


def test_hugging_face_model_without_a_processor_and_in_half_precision(hf_folder, tmp_path):
    from transformers import CLIPModel

    folder = tmp_path / "half"
    shutil.copytree(hf_folder, folder)
    (folder / "processor_config.json").unlink()
    CLIPModel.from_pretrained(folder).half().save_pretrained(folder)
    model = load_model(f"hf:{folder}")
    assert model.encoder.mean.flatten().tolist() == pytest.approx([0.48145466, 0.4578275, 0.40821073])
    assert {p.dtype for p in model.encoder.parameters()} == {torch.float32}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_dinov2_with_a_weights_file(tmp_path, picture, suffix):
    import timm

    torch.manual_seed(0)
    theirs = timm.create_model("vit_small_patch14_dinov2", num_classes=0, img_size=28).eval()
    weights = tmp_path / f"w{suffix}"
    torch.save(theirs.state_dict(), weights) if suffix == ".pt" else save_file(theirs.state_dict(), weights)
    ours = load_model(DINO, str(weights), image_size=28)
    config = timm.data.resolve_data_config({"input_size": (3, 28, 28)}, model=theirs)
    with torch.no_grad():
        expected = theirs(timm.data.create_transform(**config)(Image.open(picture))[None])
    torch.testing.assert_close(embed(ours, picture), expected, rtol=1e-4, atol=1e-4)
    assert ours.encoder.dim == 384
    assert ours.encode_texts is None


def test_dinov2_weights_of_another_size_are_resampled(tmp_path):
    import timm

    theirs = timm.create_model("vit_small_patch14_dinov2", num_classes=0, img_size=56)
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "w.pt")
    ours = load_model(DINO, str(tmp_path / "w.pt"), image_size=28)
    assert ours.encoder(torch.rand(1, 3, 28, 28)).shape == (1, 384)
    assert torch.equal(ours.module.blocks[0].mlp.fc1.weight, theirs.blocks[0].mlp.fc1.weight)


@pytest.mark.parametrize("architecture", ["resnet10t", "mobilenetv3_small_050", "convnext_atto"])
def test_timm_convolutional_towers_with_a_classifier_in_the_file(tmp_path, architecture):
    import timm

    torch.manual_seed(0)
    whole = timm.create_model(architecture, num_classes=7).eval()
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    ours = load_model(f"timm:{architecture}", str(tmp_path / "w.safetensors"), image_size=64)
    whole.reset_classifier(0)
    pixels = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = whole((pixels - ours.encoder.mean) / ours.encoder.std)
        torch.testing.assert_close(ours.encoder(pixels), expected, rtol=1e-4, atol=1e-4)
    assert ours.encoder.dim == expected.shape[1]
    assert ours.encoder.image_size == 64


@pytest.mark.parametrize(
    ("name", "pretrained", "words"),
    [
        ("ViT-B-33", "openai", ["no model", "ViT-B-32"]),
        ("seaanchor-tiny-lor", None, ["no model", "nearest names"]),
        ("ViT-B-32", None, ["neither a tag nor a file", "none"]),
        ("ViT-B-32", "openia", ["neither a tag nor a file", "openai"]),
        ("ViT-B-32", "/no/such/file.pt", ["neither a tag nor a file"]),
        ("timm:vit_small_patch14_dinov22", None, ["timm has no model", "vit_small_patch14_dinov2"]),
        ("timm:vit_small_patch14_dinov2.lvd142n", None, ["lvd142n", "lvd142m"]),
        ("timm:vit_small_patch14_dinov2", "lvd", ["lvd", "lvd142m"]),
        ("ViT-B-32", "laion2b_s34b_b79k", ["Hub may be unreachable"]),
        ("hf-hub:nobody/nothing", None, ["Hub may be unreachable"]),
        ("timm:resnet10t", None, ["Hub may be unreachable"]),
        ("hf:nobody/nothing", None, ["Hub may be unreachable"]),
        ("local-dir:/no/such/folder", None, ["open_clip_config.json", "missing"]),
    ],
)
def test_names_tags_and_an_unreachable_hub(name, pretrained, words, caplog):
    with pytest.raises(SeaAnchorError) as caught:
        load_model(name, pretrained)
    for word in words:
        assert word in str(caught.value)
    assert len(str(caught.value).splitlines()) == 3
    assert not caplog.records  # one message, not two


@pytest.mark.parametrize("name", ["tiny-vit", "timm:resnet10t"])
def test_weights_that_do_not_fit_or_are_none(architectures, tmp_path, name):
    files = {
        "other.pt": {"visual.conv1.weight": torch.rand(3)},
        "other.safetensors": {"visual.conv1.weight": torch.rand(3)},
    }
    torch.save(files["other.pt"], tmp_path / "other.pt")
    save_file(files["other.safetensors"], tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    (tmp_path / "text.pt").write_text("no weights")
    torch.save(torch.rand(3), tmp_path / "tensor.pt")
    for file in sorted(tmp_path.iterdir()):
        with pytest.raises(SeaAnchorError) as caught:
            load_model(name, str(file))
        assert file.name in str(caught.value)
        assert "Hub" not in str(caught.value)


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return (self.file.touch, ())


@pytest.mark.parametrize("name", ["tiny-vit", "timm:resnet10t"])
def test_pickled_code_is_never_run(architectures, tmp_path, name):
    evil = Evil(tmp_path / "touched")
    torch.save({"state_dict": evil}, tmp_path / "evil.pt")
    (tmp_path / "evil.bin").write_bytes(pickle.dumps(evil))
    for file in ("evil.pt", "evil.bin"):
        with pytest.raises(SeaAnchorError):
            load_model(name, str(tmp_path / file))
    assert not evil.file.exists()


def test_a_broken_folder(clip_folder, tmp_path):
    (tmp_path / "open_clip_config.json").write_text((clip_folder / "open_clip_config.json").read_text())
    with pytest.raises(SeaAnchorError, match=r"has no open_clip_model.safetensors \(it holds open_clip_config.json\)"):
        load_model(str(tmp_path))
    (tmp_path / "open_clip_model.safetensors").write_bytes(
        (clip_folder / "open_clip_model.safetensors").read_bytes()[:5000]
    )
    with pytest.raises(SeaAnchorError, match="could not be read as weights"):
        load_model(str(tmp_path))
    for text in ("{", "[]", '{"model_cfg": {"vision_cfg": {}}}'):
        (tmp_path / "open_clip_config.json").write_text(text)
        with pytest.raises(SeaAnchorError, match=r"no OpenCLIP configuration|cut short or damaged|holds list"):
            load_model(str(tmp_path))


def test_missing_merges_are_named(cut_vocabulary_folder, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(cut_vocabulary_folder, folder)
    (folder / "bpe_2000.txt.gz").unlink()
    with pytest.raises(SeaAnchorError, match=r"bpe_2000.txt.gz is missing"):
        load_model(str(folder))


def test_missing_extra_is_named(monkeypatch, hf_folder):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(SeaAnchorError, match=r"seaanchor\[hf\]"):
        load_model(f"hf:{hf_folder}")


def test_image_size_is_never_dropped_in_silence(hf_folder):
    assert load_model(f"hf:{hf_folder}", image_size=32).encoder.image_size == 32
    with pytest.raises(SeaAnchorError, match="image size 64"):
        load_model(f"hf:{hf_folder}", image_size=64)


def test_loading_leaves_the_logging_of_others_alone(clip_folder, architectures):
    import logging

    before = logging.getLogger().level, logging.root.manager.disable
    load_model(str(clip_folder))
    load_model("tiny-vit", "none")
    assert (logging.getLogger().level, logging.root.manager.disable) == before


def test_coca_gives_its_pooled_embedding(tmp_path):
    import open_clip

    vision = {
        "image_size": 32,
        "layers": 1,
        "width": 32,
        "head_width": 16,
        "patch_size": 16,
        "attentional_pool": True,
        "attn_pooler_heads": 2,
    }
    text = {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    config = {
        "embed_dim": 16,
        "custom_text": True,
        "vision_cfg": vision | {"output_tokens": True},
        "text_cfg": text | {"embed_cls": True, "output_tokens": True},
        "multimodal_cfg": text,
    }
    (tmp_path / "tiny-coca.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path)
    torch.manual_seed(0)
    model = load_model("tiny-coca", "none")
    pixels = torch.rand(2, 3, 32, 32)
    normalised = (pixels - model.encoder.mean) / model.encoder.std
    with torch.no_grad():
        torch.testing.assert_close(model.encoder(pixels), model.module.encode_image(normalised, normalize=False))
        tokens = open_clip.get_tokenizer("tiny-coca")(["a cat"])
        torch.testing.assert_close(model.encode_texts(["a cat"]), model.module.encode_text(tokens, normalize=False))


def test_a_variant_in_a_folder_of_its_own_borrows_from_the_package(tmp_path):
    variant = tmp_path / "elsewhere" / "mine"
    shutil.copytree(Path(__file__).parents[2] / "models" / "seaanchor-tiny-lore", variant)
    here, there = load_model(str(variant)), load_model("seaanchor-tiny")
    texts = ["a photo of a crab.", "a photo of a ferry."]
    assert torch.equal(here.encode_texts(texts), there.encode_texts(texts))
    assert reference_of(str(variant)) == ("seaanchor-tiny", None)
