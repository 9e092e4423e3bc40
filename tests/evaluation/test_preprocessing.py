"""A model's preprocessing goes with it through training, evaluation, caches, export and report."""

import json
import logging
import re
import shutil
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image

from seaanchor.api import train_from_config
from seaanchor.config.recipes import fare
from seaanchor.data.folder import list_images
from seaanchor.encoders.heads import DEFAULT_TEMPLATES
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError, note
from seaanchor.evaluation.protocol import Protocol
from seaanchor.evaluation.result_files import decode, encode
from seaanchor.evaluation.run import evaluate_all
from seaanchor.report.page import write_report

WAYS = ["shortest", "longest", "squash"]


@pytest.fixture
def wide(image_folder) -> Path:
    """The images stretched to 120 x 40 pixels, with a border that a centre crop loses."""
    for i, file in enumerate(sorted(image_folder.rglob("*.jpg"))):
        with Image.open(file) as image:
            canvas = Image.new("RGB", (120, 40), (20 * i, 255 - 20 * i, (90 * i) % 256))
            canvas.paste(image.resize((50, 40)), (35, 0))
        canvas.save(file)
    return image_folder


@pytest.fixture
def models(clip_folder, tmp_path) -> dict[str, Path]:
    """The same weights, with pictures resized in three ways."""
    found = {}
    for way in WAYS:
        found[way] = tmp_path / "models" / way
        shutil.copytree(clip_folder, found[way])
        file = found[way] / "open_clip_config.json"
        config = json.loads(file.read_text())
        config["preprocess_cfg"] |= {"resize_mode": way}
        file.write_text(json.dumps(config))
    return found


def theirs(folder: Path, images, names) -> list[int]:
    """What open_clip alone answers, picture by picture."""
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")([DEFAULT_TEMPLATES[0].format(name) for name in names])
    with torch.no_grad():
        head_CD = model.encode_text(tokens, normalize=True)
        return [int((model.encode_image(transform(Image.open(path))[None]) @ head_CD.T).argmax()) for path in images]


def test_accuracy_is_that_of_open_clips_own_transform(models, wide, tmp_path):
    images = list_images(wide)
    right, records = {}, {}
    for way, folder in models.items():
        for again in range(2):  # the second time from the cache
            out = tmp_path / f"{way}-{again}"
            result = evaluate_all([str(folder)], [str(wide)], Protocol(()), out, workers=0)[0]
            answers = theirs(folder, images.paths, images.class_names)
            right[way] = [answer == label for answer, label in zip(answers, images.labels, strict=True)]
            assert result.clean is not None and result.clean.n == len(images.paths)
            assert round(result.clean.accuracy * result.clean.n) == sum(right[way])
            records[way] = result.protocol
    assert [records[way].preprocessing for way in WAYS] == [
        "size=32",
        "size=32,resize_mode=longest",
        "size=32,resize_mode=squash",
    ]
    assert records["squash"].normalisation.startswith("mean=0.481454")
    embeddings = {way: embedding_of(folder, images.paths[0]) for way, folder in models.items()}
    assert all((embeddings[way] - embeddings["shortest"]).norm() > 1e-3 for way in WAYS[1:])


def embedding_of(folder: Path, path: Path) -> torch.Tensor:
    from seaanchor.data.images import read_image

    encoder = load_model(str(folder)).encoder
    return encoder(read_image(path, encoder.preprocessing)[None].float() / 255)[0]


def test_an_option_does_what_the_file_does(models, wide, tmp_path):
    by_file, by_option = (
        evaluate_all(
            [str(models[way])], [str(wide)], Protocol((), suites=("drift",), preprocess=text), tmp_path / "out", **more
        )[0]
        for way, text, more in (
            ("squash", None, {"reference": str(models["squash"])}),
            ("shortest", "resize_mode=squash", {"reference": str(models["longest"])}),
        )
    )
    assert by_file.clean == by_option.clean and by_file.suites.drift == by_option.suites.drift
    assert by_file.protocol.preprocessing == by_option.protocol.preprocessing == "size=32,resize_mode=squash"
    assert by_option.reference.protocol.preprocessing == "size=32,resize_mode=squash"


def test_a_reference_with_other_pixels_is_told_or_refused(models, wide, tmp_path, caplog):
    note.cache_clear()
    names, sources, reference = [str(models["squash"])], [str(wide)], str(models["longest"])
    with caplog.at_level(logging.WARNING, "seaanchor"):
        evaluate_all(names, sources, Protocol(()), tmp_path / "out", reference=reference)
    assert re.search(r"by size=32,resize_mode=squash, its reference .* by size=32,resize_mode=longest", caplog.text)
    with pytest.raises(SeaAnchorError, match="to measure drift"):
        evaluate_all(names, sources, Protocol((), suites=("drift",)), tmp_path / "out", reference=reference)


def test_a_run_with_an_option(tiny_run, wide, models, tmp_path):
    config = tiny_run(fare(), preprocess="resize_mode=squash,interpolation=bilinear")
    config = replace(config, model=str(models["shortest"]))
    folder = train_from_config(config)
    assert (folder / "export" / "open_clip_config.json").read_text().count('"squash"') == 1
    result = evaluate_all([str(folder / "export")], [str(wide)], Protocol((), suites=("drift",)), tmp_path / "out")[0]
    assert result.protocol.preprocessing == "size=32,resize_mode=squash,interpolation=bilinear"
    assert result.reference.protocol.preprocessing == result.protocol.preprocessing
    direct = train_from_config(replace(config, model=str(models["squash"]), preprocess=None, output=tmp_path / "other"))
    ours, other = (load_model(str(path / "export")).encoder for path in (folder, direct))
    assert not torch.equal(ours.tower.conv1.weight, other.tower.conv1.weight)  # bilinear pixels are others
    with pytest.raises(SeaAnchorError, match="preprocess: "):
        train_from_config(replace(config, preprocess=None, resume="auto"))


def test_what_is_trained_sees_the_pixels_of_its_model(tiny_run, wide, models, tmp_path):
    runs = {}
    for way, text in (("shortest", "resize_mode=squash"), ("squash", None), ("shortest", None)):
        config = replace(tiny_run(fare()), model=str(models[way]), preprocess=text, output=tmp_path / f"{way}-{text}")
        runs[way, text] = load_model(str(train_from_config(config) / "export")).encoder.tower.conv1.weight
    assert torch.equal(runs["shortest", "resize_mode=squash"], runs["squash", None])
    assert not torch.equal(runs["shortest", None], runs["squash", None])


def test_a_changed_folder_does_not_resume(tiny_run, wide, models):
    config = replace(tiny_run(fare()), model=str(models["shortest"]))
    folder = train_from_config(config)
    shutil.rmtree(folder / "export")
    shutil.copy(models["squash"] / "open_clip_config.json", models["shortest"])
    with pytest.raises(SeaAnchorError, match="started with other preprocessing"):
        train_from_config(replace(config, resume="auto"))


def test_a_run_of_an_older_version_goes_on_where_it_saw_the_default(tiny_run, wide, models):
    from seaanchor.utils.checkpoint import load_state, save_state

    for way, fits in (("shortest", True), ("squash", False)):
        config = replace(tiny_run(fare()), model=str(models[way]))
        folder = train_from_config(config)
        for file in (folder / "checkpoints").iterdir():
            state = load_state(file)
            del state["identity"]["preprocessing"]
            save_state(file, state)
        if fits:
            train_from_config(replace(config, resume="auto"))
        else:
            with pytest.raises(SeaAnchorError, match="started with other preprocessing"):
                train_from_config(replace(config, resume="auto"))
        shutil.rmtree(folder)


def test_the_report_tells_of_results_that_differ(models, wide, tmp_path):
    for way in ("shortest", "squash"):
        evaluate_all([str(models[way])], [str(wide)], Protocol(()), tmp_path / way)
    page = write_report([tmp_path / "shortest", tmp_path / "squash"], tmp_path / "page.html")
    text = (page if isinstance(page, Path) else tmp_path / "page.html").read_text()
    assert "The results differ in preprocessing" in text and "size=32,resize_mode=squash" in text


def test_older_results_are_of_the_default():
    data = json.loads(next((Path(__file__).parent / "files").glob("format-3.json")).read_text())
    old = decode(data)
    assert old.protocol.preprocessing is None and decode(encode(old)).protocol == old.protocol
    if old.protocol.image_size is not None:
        assert old.protocol.pixels == f"size={old.protocol.image_size}"
    assert replace(old.protocol, image_size=64).pixels == "size=64"
