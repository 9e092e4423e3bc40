"""Answers of any head: each against an independent calculation, and what cannot answer is refused by name."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from torch import nn

import seaanchor as sa
from seaanchor.data.loader import ImageDataset, SkipLog, batches, to_float
from seaanchor.data.sources import open_images
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.head_file import read_head, write_head
from seaanchor.encoders.own_module import from_encoder
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.protocol import Protocol
from seaanchor.evaluation.result_files import decode, encode
from seaanchor.evaluation.run import evaluate_all, evaluate_loaded
from seaanchor.types import Head, NamedHead

NAMES, D = ("apple", "red fox", "zebra"), 6


class Tower(nn.Module):
    """Colour means of the picture's quarters through a layer: enough to tell coloured pictures apart."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, D)

    def forward(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        return self.layer(nn.functional.adaptive_avg_pool2d(pixels_BCHW, 2).flatten(1))


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    torch.manual_seed(0)
    return from_encoder(sa.Encoder(Tower(), image_size=32))


def folder(root: Path, names=NAMES, count=6, seed=0) -> Path:
    """Coloured noise: each class has a colour of its own, whatever its number."""
    rng = torch.Generator().manual_seed(seed)
    for name in names:
        (root / name).mkdir(parents=True)
        colour_3 = torch.tensor([sum(map(ord, name)) * k % 200 for k in (1, 7, 31)])
        for i in range(count):
            noise = torch.randint(-60, 60, (32, 32, 3), generator=rng)
            pixels = (colour_3 + noise + 28).clamp(0, 255).to(torch.uint8)
            Image.fromarray(pixels.numpy()).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    folder(root / "train", seed=1)
    return folder(root / "test")


def embedded(model: LoadedModel, source: Path) -> tuple[torch.Tensor, torch.Tensor]:
    images = open_images(source)
    stream = batches(ImageDataset(images, 32), len(images.paths), workers=0, order=None, skip_log=SkipLog(images))
    batch = next(stream)
    with torch.no_grad():
        return model.encoder(to_float(batch.pixels_BCHW)), batch.label_B


def layer_file(path: Path, names=None, count=3, dim=D) -> nn.Linear:
    torch.manual_seed(1)
    layer = nn.Linear(dim, count).requires_grad_(False)
    save_file({"fc.weight": layer.weight, "fc.bias": layer.bias}, path)
    if names is not None:
        path.with_suffix(".json").write_text(json.dumps(names))
    return layer


def test_a_head_from_a_file_gives_its_own_accuracy(model, data, tmp_path):
    layer = layer_file(tmp_path / "h.safetensors", ["zebra", "Red Fox", "apple"])
    found = sa.evaluate(model, data, head=tmp_path / "h.safetensors")
    embedding_ND, label_N = embedded(model, data)
    answer_N = torch.tensor([2, 1, 0])[layer(embedding_ND).argmax(-1)]
    assert found.clean.accuracy == pytest.approx((answer_N == label_N).double().mean().item())
    assert found.protocol.class_names == ("zebra", "Red Fox", "apple")
    assert found.protocol.head.kind == "file" and found.protocol.templates == ()
    assert any("a linear head from a file" in note for note in found.notes)


def test_a_head_of_more_classes_answers_among_all_of_them(model, data, tmp_path):
    layer_file(tmp_path / "h.safetensors", ["emu", "zebra", "yak", "apple", "red fox"], 5)
    state = {"weight": torch.zeros(5, D), "bias": torch.tensor([1.0, 0, 0, 0, 0])}
    save_file(state, tmp_path / "h.safetensors")  # which always answers emu
    found = sa.evaluate(model, data, head=tmp_path / "h.safetensors")
    assert found.clean.accuracy == 0 and len(found.protocol.class_names) == 5


def test_a_probe_is_scikit_learns_and_fixed_for_model_and_reference(model, data, tmp_path):
    moved = replace(model, encoder=sa.Encoder(Tower(), image_size=32).eval().requires_grad_(False))
    found = sa.evaluate(moved, str(data), head="probe", reference=model, output=tmp_path)
    train_ND, train_N = embedded(model, data.parent / "train")
    mean, std = train_ND.double().mean(0), train_ND.double().std(0, correction=0)
    head = read_head(tmp_path / found.protocol.head.file)
    assert head.class_names == NAMES and head.head.kind == "probe"
    for result, tower in ((found.reference, model), (found, moved)):
        test_ND, test_N = embedded(tower, data)
        own = head.head(test_ND).argmax(-1) == test_N
        assert result.clean.accuracy == pytest.approx(own.double().mean().item())
        assert result.protocol.head == found.protocol.head
    best = 0.0
    for power in range(-6, 2):
        theirs = LogisticRegression(C=1 / (10.0**power * len(train_N)), max_iter=5000, tol=1e-10)
        theirs.fit(((train_ND - mean) / std).numpy(), train_N.numpy())
        logits = torch.tensor(theirs.decision_function(((embedded(model, data)[0] - mean) / std).numpy()))
        ours = head.head(embedded(model, data)[0]).double()
        best = max(best, torch.corrcoef(torch.stack([logits.flatten(), (ours - ours.mean(1, True)).flatten()]))[0, 1])
    assert best > 0.999


@pytest.mark.parametrize("kind", ["head", "suite"])
def test_training_and_test_classes_meet_by_name(model, tmp_path, kind):
    """Numbers alone would put three of four classes one off."""
    train = folder(tmp_path / "x/train", ("airplane", "butterfly", "car", "dolphin"), seed=1)
    test = folder(tmp_path / "x/test", ("butterfly", "car", "dolphin"))
    asked = {"head": "probe"} if kind == "head" else {"head": "probe", "suites": ["probe"]}
    found = sa.evaluate(model, str(test), train_data=train, **asked)
    share = found.clean if kind == "head" else found.suites.probe.linear
    assert share.accuracy > 0.9
    lacking = folder(tmp_path / "y/test", ("butterfly", "laptop"))
    with pytest.raises(SeaAnchorError, match="laptop"):
        sa.evaluate(model, str(lacking), train_data=train, **asked)


def test_class_names_hold_for_training_images_too(model, data, tmp_path):
    (tmp_path / "names.json").write_text(json.dumps({"apple": "fruit", "red fox": "fox", "zebra": "horse"}))
    images = open_images(data, tmp_path / "names.json")
    settings = {"class_names": tmp_path / "names.json"}
    found = evaluate_loaded(model, str(data), Protocol((), head="probe"), **settings)
    assert found.protocol.class_names == images.class_names == ("fruit", "fox", "horse")
    folder(tmp_path / "x/train", ("apple", "cat", "zebra"), seed=1)
    protocol = Protocol((), head="probe", training=str(tmp_path / "x/train"))
    with pytest.raises(SeaAnchorError, match="a JSON mapping"):
        evaluate_loaded(model, str(data), protocol, class_names=Path("fruit,fox,horse"))


def test_every_attack_and_check_runs_on_a_linear_head(model, data, tmp_path):
    layer_file(tmp_path / "h.safetensors", NAMES)
    attacks = [sa.attacks.PGD(epsilon=2 / 255), sa.attacks.APGD(epsilon=2 / 255, num_steps=5)]
    suites = ["noise", "corruptions", "typographic", "reading", "drift", "words-and-noise"]
    found = sa.evaluate(
        model, str(data), attacks=attacks, suites=suites, head=tmp_path / "h.safetensors", reference=model
    )
    assert {row.attack for row in found.robust.rows} == {"pgd", "apgd"}
    assert all(check.passed for check in found.checks.values())
    assert found.suites.typographic.attacked.n == 18 and found.suites.drift.cosine == pytest.approx(1)


@pytest.mark.parametrize("suite", ["retrieval", "interpretability"])
def test_suites_on_texts_are_refused_by_name(model, data, tmp_path, suite):
    layer_file(tmp_path / "h.safetensors", NAMES)
    with pytest.raises(SeaAnchorError, match=f"suite {suite} for Tower, which has no text tower"):
        sa.evaluate(model, str(data), suites=[suite], head=tmp_path / "h.safetensors")


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (None, "no text tower, no classifier of its own and no head beside it"),
        ("text", "Tower has no text tower"),
        ("classifier", "Tower has no classifier of its own"),
        ("clasifier", "text, classifier, probe, or a file"),
        ("wide", "reads embeddings of 7 dimensions and Tower gives 6"),
        ("few", "has 3 classes and the head 2, and the head has no names"),
        ("others", "2 of the 3 classes of .* are not among the 3 of the head: red fox, zebra"),
    ],
)
def test_what_cannot_answer_is_refused(model, data, tmp_path, head, words):
    layer_file(tmp_path / "wide.safetensors", NAMES, dim=7)
    layer_file(tmp_path / "few.safetensors", count=2)
    layer_file(tmp_path / "others.safetensors", ("apple", "fox", "horse"))
    asked = tmp_path / f"{head}.safetensors" if head in ("wide", "few", "others") else head
    with pytest.raises(SeaAnchorError, match=words):
        sa.evaluate(model, str(data), head=asked)


def test_the_models_own_classifier_answers_by_default(model, data):
    torch.manual_seed(2)
    weight_CD = torch.randn(3, D)
    own = replace(model, classifier=NamedHead(Head(weight_CD, unit=False, kind="classifier"), NAMES))
    found = sa.evaluate(own, str(data), reference=own)
    embedding_ND, label_N = embedded(model, data)
    expected = ((embedding_ND @ weight_CD.T).argmax(-1) == label_N).double().mean().item()
    assert found.clean.accuracy == pytest.approx(expected) and found.protocol.head.kind == "classifier"
    other = replace(own, classifier=NamedHead(Head(weight_CD + 1, unit=False, kind="classifier"), NAMES))
    assert any("another classifier" in note for note in sa.evaluate(own, str(data), reference=other).notes)
    fewer = replace(own, classifier=NamedHead(Head(weight_CD[:2], unit=False, kind="classifier"), NAMES[:2]))
    with pytest.raises(SeaAnchorError, match="have other classes"):
        sa.evaluate(own, str(data), reference=fewer)


def test_a_head_in_the_models_folder_comes_first(clip_folder, image_folder, tmp_path):
    import shutil

    own = shutil.copytree(clip_folder, tmp_path / "m")
    assert evaluate_all([str(own)], [str(image_folder)], Protocol(()), tmp_path / "a")[0].protocol.head.kind == "text"
    head = NamedHead(Head(torch.randn(3, 16), unit=False, kind="probe"), ("apple", "red fox", "zebra"))
    write_head(head, own / "head.safetensors")
    found = evaluate_all([str(own)], [str(image_folder)], Protocol(()), tmp_path / "b")[0]
    assert (found.protocol.head.kind, found.protocol.templates) == ("probe", ())
    asked = evaluate_all([str(own)], [str(image_folder)], Protocol((), head="text"), tmp_path / "c")[0]
    assert asked.protocol.head.kind == "text"


def test_files_that_do_not_say_their_head_had_texts(model, data, tmp_path):
    layer_file(tmp_path / "h.safetensors", NAMES)
    found = sa.evaluate(model, str(data), head=tmp_path / "h.safetensors")
    assert decode(encode(found)).protocol.head == found.protocol.head
    plain = encode(found)
    del plain["protocol"]["head"]
    assert decode(plain).protocol.head.kind == "text"
