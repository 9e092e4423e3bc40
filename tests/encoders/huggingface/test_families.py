"""Every known class of transformers: the embeddings, texts and logits are the library's own, it trains, and its export
is a model of its own class."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import seaanchor as sa
from seaanchor.adapters.lora import LoRA
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.encoders.huggingface.families import FAMILIES
from seaanchor.encoders.load import load_model
from seaanchor.export.folder import export_model
from seaanchor.testing import check_encoder
from tests.encoders.huggingface.models import CONFIGS, SIDE, library_model, write_model

TEXTS = ["a cat.", "two long dogs", "a very long sentence that is cut somewhere"]


@pytest.fixture(scope="module", params=list(CONFIGS))
def written(request, tmp_path_factory) -> tuple[str, Path]:
    """A class's name and the folder of a model."""
    return request.param, write_model(request.param, tmp_path_factory.mktemp(request.param))


def square_picture() -> Image.Image:
    rng = torch.Generator().manual_seed(1)
    return Image.fromarray(torch.randint(0, 256, (SIDE, SIDE, 3), dtype=torch.uint8, generator=rng).numpy())


def of_library(architecture: str, folder: Path, picture: Image.Image) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Embedding and logits of a picture of the model's own size by transformers alone, its processor included."""
    from transformers import AutoImageProcessor

    model = library_model(folder)
    processor = AutoImageProcessor.from_pretrained(folder)
    inputs = processor(picture, do_resize=False, do_center_crop=False, return_tensors="pt")
    read: list[torch.Tensor] = []
    if FAMILIES[architecture].classifies:
        last = model.classifier[-1] if "ResNet" in architecture else model.classifier
        last.register_forward_hook(lambda layer, arguments, logits: read.append(arguments[0]))
    with torch.no_grad():
        output = model.get_image_features(**inputs) if FAMILIES[architecture].texts else model(**inputs)
    if read:
        return read[0], output.logits
    if architecture == "ViTModel":
        return output.last_hidden_state[:, 0], None
    return output.get("image_embeds", output.get("pooler_output")), None


def pixels_of(picture: Image.Image) -> torch.Tensor:
    import numpy as np

    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255


def test_the_embedding_is_the_librarys_own(written):
    architecture, folder = written
    model = load_model(f"hf:{folder}")
    picture = square_picture()
    embedding, logits = of_library(architecture, folder, picture)
    with torch.no_grad():
        ours = model.encoder(pixels_of(picture))
    torch.testing.assert_close(ours, embedding, rtol=1e-5, atol=1e-5)
    assert model.encoder.dim == ours.shape[1] == embedding.shape[1]
    assert (model.classifier is None) == (logits is None)
    if logits is not None:
        torch.testing.assert_close(model.classifier.head(ours), logits, rtol=1e-5, atol=1e-5)
        assert model.classifier.class_names == ("cat", "dog", "red fox")
    check_encoder(model.encoder)


def test_texts_are_the_librarys_own(written):
    from transformers import AutoTokenizer

    architecture, folder = written
    model = load_model(f"hf:{folder}")
    if FAMILIES[architecture].texts is None:
        assert model.encode_texts is None
        return
    theirs, tokenizer = library_model(folder), AutoTokenizer.from_pretrained(folder)
    longest = theirs.config.text_config.max_position_embeddings
    padding = True if architecture == "CLIPModel" else "max_length"
    tokens = tokenizer(TEXTS, padding=padding, truncation=True, max_length=longest, return_tensors="pt")
    with torch.no_grad():
        expected = theirs.get_text_features(**tokens)
    expected = getattr(expected, "pooler_output", expected)
    torch.testing.assert_close(model.encode_texts(TEXTS), expected, rtol=1e-5, atol=1e-5)
    assert model.logit_scale == pytest.approx(theirs.logit_scale.exp().item())
    alone = torch.cat([model.encode_texts([text]) for text in TEXTS])
    torch.testing.assert_close(alone, expected, rtol=1e-5, atol=1e-5)


def test_it_is_hardened_and_goes_home(written, tmp_path):
    """Every parameter gets a gradient, one step moves it, and transformers loads the export in its own class."""
    architecture, folder = written
    model = load_model(f"hf:{folder}")
    method = sa.methods.lore(rho=0.1, epsilon=2 / 255)
    run = sa.train(model, "photos-mini/train", method, output=tmp_path / "run", steps=1, batch_size=4, workers=0)
    export = tmp_path / "run" / "export"
    again = load_model(f"hf:{export}")
    assert fingerprint(again.encoder) == fingerprint(run.model.encoder) != fingerprint(model.encoder)
    assert json.loads((export / "config.json").read_text())["architectures"] == [architecture]
    for file in sorted(set(model.export_config["files"])):
        assert (export / file).read_bytes() == (folder / file).read_bytes()
    before, after = (library_model(place).state_dict() for place in (folder, export))
    assert list(before) == list(after)
    embedding, logits = of_library(architecture, export, square_picture())
    with torch.no_grad():
        ours = again.encoder(pixels_of(square_picture()))
    torch.testing.assert_close(ours, embedding, rtol=1e-5, atol=1e-5)
    if logits is not None:
        torch.testing.assert_close(again.classifier.head(ours), logits, rtol=1e-5, atol=1e-5)
        assert torch.equal(again.classifier.head.weight_CD, model.classifier.head.weight_CD)


def test_every_parameter_gets_a_gradient(written):
    """Several processes wait for the gradient of each."""
    _, folder = written
    encoder = load_model(f"hf:{folder}").encoder.requires_grad_(True)
    encoder(torch.rand(2, 3, SIDE, SIDE)).square().sum().backward()
    assert [name for name, parameter in encoder.named_parameters() if parameter.grad is None] == []


def test_dinov2s_classifier_reads_the_class_token_and_the_mean_of_the_patches(tmp_path):
    model = load_model(f"hf:{write_model('Dinov2WithRegistersForImageClassification', tmp_path)}")
    theirs = library_model(tmp_path)
    pixels = torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        normalised = (pixels - model.encoder.mean) / model.encoder.std
        tokens = theirs.dinov2_with_registers(normalised).last_hidden_state
        expected = torch.cat([tokens[:, 0], tokens[:, 3:].mean(1)], dim=1)  # two registers are left out
        torch.testing.assert_close(model.encoder(pixels), expected)


def test_a_vit_that_has_its_pooler_keeps_it(tmp_path):
    """The embedding does not pass it, and it is in the export as it was."""
    folder = write_model("ViTModel", tmp_path / "vit")
    model = load_model(f"hf:{folder}")
    assert not [name for name, _ in model.encoder.named_parameters() if "pooler" in name]
    export_model(model, tmp_path / "export")
    before, after = (library_model(place).pooler.dense.weight for place in (folder, tmp_path / "export"))
    assert torch.equal(before, after)


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("ViTForImageClassification", {"problem_type": "multi_label_classification"}),
        ("ViTForImageClassification", {"problem_type": "regression"}),
    ],
)
def test_what_gives_no_classes_is_no_classifier(tmp_path, architecture, changes):
    model = load_model(f"hf:{write_model(architecture, tmp_path, **changes)}")
    assert model.classifier is None and "problem_type" in model.no_classifier


def test_classes_without_names(tmp_path):
    names = {"id2label": {i: f"LABEL_{i}" for i in range(3)}, "label2id": {f"LABEL_{i}": i for i in range(3)}}
    model: LoadedModel = load_model(f"hf:{write_model('ViTForImageClassification', tmp_path, **names)}")
    assert model.classifier.class_names is None
    assert model.classifier.head.weight_CD.shape == (3, 32)


@pytest.mark.parametrize("architecture", ["Siglip2VisionModel", "Dinov2ForImageClassification", "SiglipModel"])
def test_low_rank_updates_go_home(tmp_path, architecture):
    """Merged into the weights of the class itself, whose tower is seen through a wrapper."""
    model = load_model(f"hf:{write_model(architecture, tmp_path / 'model')}")
    method = replace(sa.methods.lore(rho=0.1, epsilon=2 / 255), adapter=LoRA(rank=2))
    run = sa.train(model, "photos-mini/train", method, output=tmp_path / "run", steps=1, batch_size=4, workers=0)
    again = load_model(f"hf:{tmp_path / 'run' / 'export'}")
    before, after = (library_model(place).state_dict() for place in (tmp_path / "model", tmp_path / "run" / "export"))
    assert list(before) == list(after)
    pixels = torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        torch.testing.assert_close(again.encoder(pixels), run.model.encoder(pixels))
        assert (again.encoder(pixels) - model.encoder(pixels)).abs().max() > 1e-4


def test_half_precision_goes_home(tmp_path):
    """With the classifier's weights rounded, too."""
    model = load_model(f"hf:{write_model('ViTForImageClassification', tmp_path / 'model')}")
    export = export_model(model, tmp_path / "export", half=True)
    again = load_model(f"hf:{export}")
    pixels = torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        ours, theirs = (each.classifier.head(each.encoder(pixels)) for each in (model, again))
    assert 0 < (ours - theirs).abs().max() < 2e-2 * ours.abs().max()
