"""Exports load in their own library, plain, with the same embeddings; broken ones are told."""

import errno
import json
import os
import shutil
from importlib import util
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.export import tokenizer as tokenizer_module
from seaanchor.export.folder import export_model, verify

TEXTS = [
    "a photo of a cat.",
    "!!!",
    "Grand PIANO, 42 &amp; naïve dogs!",
    "it's a long sentence that is cut: it has more words than the context",
]


def assert_same_in_open_clip(model: LoadedModel, folder: Path) -> None:
    """Plain open_clip gives the same image and text embeddings, its own preprocessing and tokenizer included."""
    import open_clip
    from PIL import Image

    theirs, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    theirs.eval()
    size = model.encoder.image_size
    pixels = torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        image = theirs.encode_image(preprocess(Image.fromarray(pixels.permute(1, 2, 0).numpy()))[None])
        text = theirs.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS))
        ours = model.encoder(pixels[None].float() / 255)
    assert (image - ours).norm() / ours.norm() < 1e-6
    expected = model.encode_texts(TEXTS)
    assert ((text - expected).norm(dim=-1) / expected.norm(dim=-1)).max() < 1e-6
    assert theirs.logit_scale.exp().item() == pytest.approx(model.logit_scale)


@pytest.fixture
def trained(architectures):
    """Loads a random architecture and moves its image tower, as training does."""

    def make(name: str) -> LoadedModel:
        torch.manual_seed(1)
        model = load_model(name, "none")
        with torch.no_grad():
            for parameter in model.encoder.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
        return model

    return make


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-quickgelu", "tiny-custom", "tiny-resnet"])
def test_open_clip_loads_it(trained, tmp_path, name):
    model = trained(name)
    assert export_model(model, tmp_path / "export") == tmp_path / "export"
    assert_same_in_open_clip(model, tmp_path / "export")
    again = load_model(str(tmp_path / "export"))
    assert fingerprint(again.encoder) == fingerprint(model.encoder)
    assert torch.equal(again.encode_texts(TEXTS), model.encode_texts(TEXTS))


def test_quick_gelu_is_written(trained, tmp_path):
    export_model(trained("tiny-quickgelu"), tmp_path / "a")
    export_model(trained("tiny-vit"), tmp_path / "b")
    configs = [json.loads((tmp_path / x / "open_clip_config.json").read_text())["model_cfg"] for x in "ab"]
    assert [c.get("quick_gelu", False) for c in configs] == [True, False]


@pytest.mark.parametrize("moves", [0, 1])
@pytest.mark.parametrize("with_transformers", [True, False])
def test_cut_vocabulary(cut_vocabulary_folder, tmp_path, monkeypatch, moves, with_transformers):
    """With transformers the folder may be moved; without, open_clip must be told where the merges are."""
    import open_clip

    if not with_transformers:
        monkeypatch.setattr(tokenizer_module, "find_spec", lambda name: None)
    model = load_model(str(cut_vocabulary_folder))
    folder = export_model(model, tmp_path / "first")
    if moves:
        folder = folder.rename(tmp_path / "second")
    if moves and not with_transformers:
        with pytest.raises(FileNotFoundError):
            open_clip.get_tokenizer(f"local-dir:{folder}")
        tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}", bpe_path=str(folder / "bpe_2000.txt.gz"))
        assert torch.equal(tokenizer(TEXTS), model.export_config["tokenizer"](TEXTS))
    else:
        assert_same_in_open_clip(model, folder)
        assert torch.equal(
            open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS), model.export_config["tokenizer"](TEXTS)
        )
    shutil.rmtree(tmp_path / "third", ignore_errors=True)
    again = export_model(load_model(str(folder)), tmp_path / "third")  # an export of an export
    assert_same_in_open_clip(model, again)


def test_the_hugging_face_form_of_a_tokenizer_gives_the_same_tokens(cut_vocabulary_folder, tmp_path):
    from open_clip.tokenizer import HFTokenizer

    from tools.pretraining.words import common_words

    ours = load_model(str(cut_vocabulary_folder)).export_config["tokenizer"]
    tokenizer_module.write_as_hugging_face(ours, cut_vocabulary_folder / "bpe_2000.txt.gz", tmp_path)
    theirs = HFTokenizer(str(tmp_path), context_length=16, clean="lower")
    odd = [
        "",
        "!",
        "!!! a!b !c",
        "A\tB\n c",
        "don't we'll I'M",
        "naïve Ünïcödé ẞ",
        "日本語 🙂 👩‍🚀",
        "a_b-c/d",
        "&lt;b&gt;",
        "x" * 60,
        "3.14 1,000",
        "ﬁne",
    ]
    texts = odd + [f"a picture of a {word}." for word in common_words()]
    assert torch.equal(ours(texts), theirs(texts))


def test_an_openclip_model_with_a_hugging_face_tokenizer(clip_folder, hf_folder, tmp_path):
    """The tokenizer's files come along."""
    source = tmp_path / "source"
    shutil.copytree(clip_folder, source)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(hf_folder / file, source / file)
    config = json.loads((source / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "somebody/something"
    (source / "open_clip_config.json").write_text(json.dumps(config))
    model = load_model(str(source))
    assert_same_in_open_clip(model, export_model(model, tmp_path / "export"))


def test_timm_loads_it(tmp_path):
    import timm

    torch.manual_seed(0)
    for name, size in (("resnet10t", 64), ("vit_small_patch14_dinov2.lvd142m", 28), ("mobilenetv3_small_050", 64)):
        model = load_model(f"timm:{name}", "none", size)
        folder = export_model(model, tmp_path / name)
        theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        config = timm.data.resolve_data_config(model=theirs)
        assert config["input_size"][-1] == size
        assert torch.tensor(config["mean"]).tolist() == model.encoder.mean.flatten().tolist()
        pixels = torch.rand(2, 3, size, size)
        with torch.no_grad():
            expected = model.encoder(pixels)
            features = theirs((pixels - model.encoder.mean) / model.encoder.std)
        assert (features - expected).norm() / expected.norm() < 1e-6
        again = load_model(f"timm:local-dir:{folder}")
        assert again.encoder.image_size == size
        assert fingerprint(again.encoder) == fingerprint(model.encoder)
        export_model(again, tmp_path / f"{name}-again")  # an export of an export


@pytest.mark.parametrize("half", [False, True])
def test_transformers_loads_it(hf_folder, tmp_path, half):
    from transformers import CLIPModel, CLIPProcessor

    model = load_model(f"hf:{hf_folder}")
    before = fingerprint(model.encoder)
    folder = export_model(model, tmp_path / "export", half=half)
    assert fingerprint(model.encoder) == before  # the model itself stays in full precision
    theirs, processor = (
        CLIPModel.from_pretrained(folder, dtype=torch.float32).eval(),
        CLIPProcessor.from_pretrained(folder),
    )
    pixels = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    inputs = processor(text=["a cat", "a long dog."], images=pixels, return_tensors="pt", padding=True)
    with torch.no_grad():
        image = theirs.get_image_features(pixel_values=inputs["pixel_values"])
        text = theirs.get_text_features(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        ours = model.encoder(pixels[None].float() / 255)
    image, text = (getattr(features, "pooler_output", features) for features in (image, text))
    tolerance = 2e-2 if half else 1e-5
    assert (image - ours).norm() / ours.norm() < tolerance
    expected = model.encode_texts(["a cat", "a long dog."])
    assert (text - expected).norm() / expected.norm() < tolerance
    stored = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values() if tensor.is_floating_point()} == {
        torch.float16 if half else torch.float32
    }


@pytest.mark.parametrize("name", ["tiny-vit", "timm:resnet10t"])
def test_half_precision_is_half_the_size(architectures, tmp_path, name):
    torch.manual_seed(0)
    model = load_model(name, "none", 32)
    before = fingerprint(model.encoder)
    sizes = [
        sum(f.stat().st_size for f in export_model(model, tmp_path / str(half), half=half).glob("*.safetensors"))
        for half in (False, True)
    ]
    assert sizes[1] < 0.55 * sizes[0]
    assert fingerprint(model.encoder) == before
    assert {p.dtype for p in model.encoder.parameters()} == {torch.float32}


def exported(name: str, tmp_path: Path, hf_folder: Path) -> tuple[LoadedModel, Path, Path]:
    torch.manual_seed(0)
    model = load_model(f"hf:{hf_folder}" if name == "hf" else name, None if name == "hf" else "none")
    folder = export_model(model, tmp_path / "export")
    return model, folder, next(folder.glob("*.safetensors"))


@pytest.mark.parametrize("name", ["tiny-vit", "timm:resnet10t", "hf"])
def test_a_changed_weight_fails_the_check(architectures, hf_folder, tmp_path, name):
    model, folder, weights = exported(name, tmp_path, hf_folder)
    assert verify(model, folder) < 1e-5
    state = load_file(weights)
    key = max(
        (k for k in state if k.endswith(("c_proj.weight", "conv1.0.weight", "fc2.weight"))),
        key=lambda k: state[k].numel(),
    )
    save_file(state | {key: state[key] * 1.05}, weights, metadata={"format": "pt"})
    with pytest.raises(SeaAnchorError, match="embeddings that differ by"):
        verify(model, folder)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tiny-vit", lambda config: config["preprocess_cfg"].update(mean=[0.5, 0.5, 0.5])),
        ("tiny-quickgelu", lambda config: config["model_cfg"].pop("quick_gelu")),
        ("timm:resnet10t", lambda config: config["pretrained_cfg"].update(std=[0.5, 0.5, 0.5])),
    ],
)
def test_a_changed_configuration_fails_the_check(architectures, hf_folder, tmp_path, name, change):
    model, folder, _ = exported(name, tmp_path, hf_folder)
    (file,) = folder.glob("*config.json")
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config))
    with pytest.raises(SeaAnchorError, match="embeddings that differ by"):
        verify(model, folder)


def test_a_changed_text_tower_fails_the_check(architectures, hf_folder, tmp_path):
    model, folder, weights = exported("tiny-vit", tmp_path, hf_folder)
    state = load_file(weights)
    save_file(state | {"ln_final.weight": state["ln_final.weight"] + 0.1}, weights)
    with pytest.raises(SeaAnchorError, match="embeddings that differ by"):
        verify(model, folder)


def test_an_encoder_whose_embeddings_are_0_is_exported(architectures, tmp_path):
    model = load_model("tiny-vit", "none")
    with torch.no_grad():
        model.encoder.tower.proj.zero_()
    assert verify(model, export_model(model, tmp_path / "export")) <= 1e-5


def test_weights_that_are_no_numbers_fail_the_check(architectures, tmp_path):
    model = load_model("tiny-vit", "none")
    with torch.no_grad():
        model.encoder.tower.proj[0, 0] = torch.nan
    with pytest.raises(SeaAnchorError, match="differ by inf"):
        export_model(model, tmp_path / "export")


@pytest.mark.parametrize("name", ["tiny-vit", "timm:resnet10t", "hf"])
def test_a_torn_file_fails_the_check(architectures, hf_folder, tmp_path, name):
    model, folder, weights = exported(name, tmp_path, hf_folder)
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(SeaAnchorError, match="does not load again"):
        verify(model, folder)


@pytest.mark.parametrize("name", ["tiny-vit", "timm:resnet10t", "hf"])
def test_a_full_disk_is_a_clear_error(architectures, hf_folder, tmp_path, monkeypatch, name):
    model = load_model(f"hf:{hf_folder}" if name == "hf" else name, None if name == "hf" else "none")

    def full(*args, **settings):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(type(model.module), "save_pretrained", full) if name == "hf" else monkeypatch.setattr(
        os, "fsync", full
    )
    with pytest.raises(SeaAnchorError, match="No space left on device") as caught:
        export_model(model, tmp_path / "export")
    assert "free" in caught.value.change
    assert not list((tmp_path / "export").glob("*.safetensors"))
    assert not list((tmp_path / "export").glob("*.partial"))


def test_a_place_that_cannot_be_written(architectures, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SeaAnchorError, match="could not be written"):
        export_model(load_model("tiny-vit", "none"), tmp_path / "file" / "export")


def test_batch_norm_statistics_and_training_mode_survive(trained, tmp_path):
    model = trained("tiny-resnet")
    model.encoder.train()
    model.encoder.tower.register_forward_hook(
        lambda tower, pixels, embedding: embedding + tower.training
    )  # as dropout would, in training alone
    export_model(model, tmp_path / "export")
    assert model.encoder.training
    model.encoder.eval()
    assert_same_in_open_clip(model, tmp_path / "export")


def test_transformers_is_there_for_these_tests():
    assert util.find_spec("transformers")
