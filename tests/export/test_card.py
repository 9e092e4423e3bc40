"""Model cards: they say what stands on the disk, call the rest unknown, and their snippets run."""

import json
import re

import pytest
import torch
import yaml

from seaanchor.config.io import to_dict
from seaanchor.config.recipes import recipe_named
from seaanchor.encoders.load import load_model
from seaanchor.export.card_method import citations, data_lines, method_lines
from seaanchor.export.folder import export_model
from seaanchor.export.licence import base_of, front_matter
from seaanchor.export.origin import Number, Numbers, Origin


def card(folder) -> tuple[dict, str]:
    text = (folder / "README.md").read_text()
    return front_matter(text), text


def run_snippet(folder) -> dict:
    """The first Python of a card, as a user runs it."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    found: dict = {}
    exec(code.replace("FOLDER", str(folder.absolute())), found)
    return found


def test_every_snippet_runs(architectures, hf_folder, tmp_path):
    """Each loads the export, with a forward where there is a model."""
    torch.manual_seed(0)
    clip, transformer, tower = (
        load_model("tiny-vit", "none"),
        load_model(f"hf:{hf_folder}"),
        load_model("timm:test_vit", "none"),
    )
    pixels = torch.rand(1, 3, 32, 32)
    found = run_snippet(export_model(clip, tmp_path / "clip"))
    assert found["model"].encode_image(pixels).shape == (1, 24) and found["tokenizer"](["a"]).shape[0] == 1
    found = run_snippet(export_model(clip, tmp_path / "vision", format="hf-vision"))
    assert found["tower"](pixels).pooler_output.shape == (1, 32) and found["processor"]
    found = run_snippet(export_model(clip, tmp_path / "onnx", format="onnx"))
    assert found["embedding"].shape == (1, 24)
    found = run_snippet(export_model(transformer, tmp_path / "hf"))
    assert found["tokenizer"]("a cat")["input_ids"] and type(found["model"]).__name__ == "CLIPModel"
    found = run_snippet(export_model(tower, tmp_path / "timm"))
    assert found["model"](torch.rand(1, 3, 160, 160)).shape[0] == 1 and found["preprocess"]


def test_the_front_matter_is_the_hubs(clip_folder, tmp_path):
    from huggingface_hub import ModelCard

    folder = export_model(load_model(str(clip_folder)), tmp_path / "out")
    data = ModelCard.load(folder / "README.md").data
    assert (data.library_name, data.pipeline_tag, data.license) == (
        "open_clip",
        "zero-shot-image-classification",
        "unknown",
    )
    said, text = card(folder)
    assert "not known here" in text and "base_model" not in said
    assert "no run that trained it is known" in text and "## Method" not in text and "## Citation" not in text


@pytest.mark.parametrize(
    ("recipe", "papers", "said"),
    [
        ("lore", ["2505.18884", "2402.12336"], ["ε = 2/255 (linf), 10 steps", "ρ = 0.1, on embeddings"]),
        ("fare", ["2402.12336"], ["ε = 2/255 (linf)", "anchor: `none`"]),
        ("dpo", ["2411.08923"], ["β = 1", "perturbation: `typographic`\n"]),
        ("tecoa-lore", ["2505.18884", "2212.07016"], ["objective: `tecoa`"]),
        ("typographic-ce", [], ["objective: `cross_entropy`"]),
    ],
)
def test_method_and_citations_follow_from_the_settings(recipe, papers, said):
    settings = to_dict(recipe_named(recipe))
    assert re.findall(r"abs/([\d.]+)", "".join(citations(settings))) == papers
    text = "\n".join(method_lines(settings)) + "\n"
    for part in said:
        assert part in text
    assert ("ρ" in text) == (settings["anchor"]["kind"] == "lagrangian")
    assert ("ε" in text) == ("pgd" in settings["perturbation"]["kind"])


def test_data_and_no_private_paths(tmp_path):
    settings = to_dict(recipe_named("lore")) | {"train_data": str(tmp_path / "secret" / "photos"), "batch_size": 8}
    text = "\n".join(data_lines(settings, 1_000, 7_990))
    assert "trained on `photos`: 1,000 steps, 7,990 images seen, repeats counted\n" in text and "secret" not in text
    assert "batch size per process 8, learning rate" in text and "accumulation" not in text
    text = "\n".join(data_lines(settings | {"grad_accumulation": 4}, 1, 1))
    assert "1 step, 1 image seen" in text and "gradient accumulation 4" in text
    assert "seen" not in "\n".join(data_lines(settings, 1_000))
    assert "`hf-data:org/set`" in data_lines({"train_data": "hf-data:org/set"}, None)[0]


def test_numbers_are_of_these_weights_alone(clip_folder, tmp_path):
    from seaanchor.encoders.fingerprint import fingerprint

    model = load_model(str(clip_folder))
    rows = (Number("APGD: ε = 2/255", "31.5 (28.1 to 35.2)", "4.6 (3.1 to 6.6)", "+26.9 (+23.1 to +30.7)", "800"),)
    right = Numbers("photos", fingerprint(model.encoder), "Protocol: 800 images.", rows, ("epsilon_0 (off)",))
    wrong = Numbers("others", "0" * 16, "Protocol: of other weights.", rows)
    origin = Origin(to_dict(recipe_named("lore")), 10, (right, wrong), "A note.")
    _, text = card(export_model(model, tmp_path / "a", origin=origin, half=True))
    assert "| APGD: ε = 2/255 | 31.5 (28.1 to 35.2) | 4.6 (3.1 to 6.6) | +26.9 (+23.1 to +30.7) | 800 |" in text
    assert "Protocol: 800 images." in text and "others" not in text and "A note." in text
    assert "do not believe these numbers:** epsilon_0 (off)" in text
    assert "upper bound" in text and "rounded to fp16" in text
    _, text = card(export_model(model, tmp_path / "b", origin=Origin(origin.settings, 10, (wrong,))))
    assert "is not stated here: no evaluation lay beside the run when" in text and "31.5" not in text


def test_licences_are_read_and_never_guessed(tmp_path):
    assert base_of("ViT-B-32", None).licence is None
    tiny = base_of("seaanchor-tiny", None)
    assert tiny.licence and tiny.licence.identifier == "other" and tiny.licence.text.startswith("research use")
    lite = base_of("seaanchor-lite", None).licence
    assert lite and lite.text.endswith(" See THIRD_PARTY.md")  # the card's link leads nowhere in an export
    tower = base_of("timm:vit_small_patch14_dinov2.lvd142m", None)
    assert tower.licence and tower.licence.identifier == "apache-2.0" and tower.hub
    assert base_of("timm:vit_small_patch14_dinov2.lvd142m", "none").licence is None  # of random weights
    (tmp_path / "weights.safetensors").write_bytes(b"")
    for weights in (str(tmp_path / "weights.safetensors"), "no-such-tag"):
        assert base_of("timm:vit_small_patch14_dinov2.lvd142m", weights).licence is None
    folder = tmp_path / "base"
    folder.mkdir()
    assert base_of(str(folder), None).licence is None
    for text, found in (
        ("---\nlicense: cc-by-4.0\n---\n# x", "cc-by-4.0"),
        ("---\nlicense: unknown\n---\n", None),
        ("---\nlicense: [a, b]\n---\n", None),
        ("---\nlicense: : x\n---\n", None),
        ("license: mit", None),
    ):
        (folder / "README.md").write_text(text)
        licence = base_of(f"hf:{folder}", None).licence
        assert (licence and licence.identifier) == found, text


def test_the_licence_goes_from_export_to_export(tmp_path):
    model = load_model("seaanchor-tiny")
    first = export_model(model, tmp_path / "first")
    second = export_model(load_model(str(first)), tmp_path / "second")
    for folder in (first, second):
        said, text = card(folder)
        assert said["license"] == "other" and said["license_name"] == "terms-of-the-base-model", text


def test_a_run_writes_its_method_and_an_export_of_it_its_numbers(tiny_run, image_folder, tmp_path):
    import seaanchor as sa
    from seaanchor.config.recipes import recipe_named

    settings = tiny_run(recipe_named("lore"))
    run = sa.train_from_config(settings)
    said, text = card(run / "export")
    assert "-lore\n" in text and "arXiv 2505.18884" in text and "4 steps" in text
    assert said["tags"] == ["seaanchor", "adversarial-robustness"]
    sa.evaluate(
        str(run / "export"),
        str(image_folder),
        attacks=[sa.attacks.PGD(epsilon=2 / 255, num_steps=2)],
        reference=settings.model,
        output=run / "evaluation",
    )
    results = [json.loads(file.read_text()) for file in (run / "evaluation").glob("*.json")]
    (result,) = [result for result in results if result["reference"]]
    again = sa.export_model(load_model(str(run / "export")), tmp_path / "again")
    _, text = card(again)
    accuracy = 100 * result["clean"]["accuracy"]
    assert f"| Clean images: top-1 | {accuracy:.1f} (" in text and "| PGD, 2 steps, ℓ∞: ε = 2/255 |" in text
    assert "12 images of 3 classes" in text and "a photo of a {}." in text
    assert yaml.safe_load(text.split("---")[1])["license"] == "unknown"
