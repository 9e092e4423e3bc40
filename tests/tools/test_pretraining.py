"""Pre-training of `seaanchor-lite`: what is read, what is left out, what a batch is, and that a killed run goes on."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.checkpoint import load_state, save_state
from tools.pretraining import distillation
from tools.pretraining.__main__ import app
from tools.pretraining.caltech import split_files, three_parts
from tools.pretraining.copies import near_copies
from tools.pretraining.distillation import DistillConfig, Student, distill
from tools.pretraining.listings import LISTINGS, imagenet_names
from tools.pretraining.lite import (
    go_back,
    held_out_files,
    new_lite,
    original_tower,
    starting_table,
    train_lite,
    write_classifier,
    write_lite,
)
from tools.pretraining.lite_corpus import LiteMix, _masks, load_lite_corpus, make_lite_batch
from tools.pretraining.seen import among_seen, write_seen

MIX = LiteMix((("caltech101", 0.4), ("photos:dogs", 0.2), ("unlabelled:street", 0.2), ("words", 0.2)), 0.5)


def picture(file: Path, seed: int, size: tuple[int, int] = (200, 170)) -> Path:
    """Smooth shapes, another for each seed."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (6, 7, 3), dtype=np.uint8))
    file.parent.mkdir(parents=True, exist_ok=True)
    small.resize(size, Image.Resampling.BICUBIC).save(file, quality=95)
    return file


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("photos")
    for number, name in enumerate(("Faces", "anchor", "BACKGROUND_Google")):
        for i in range(9):
            picture(root / "caltech" / name / f"image_{i:04d}.jpg", 100 * number + i)
    for number, synset in enumerate(("n02085620", "n02085782")):
        for i in range(4):
            picture(root / "dogs" / synset / f"{i}.jpg", 1000 + 100 * number + i)
    for i in range(5):
        picture(root / "street" / f"{i}.png", 2000 + i)
    return {
        "caltech101": root / "caltech",
        "photos:dogs": root / "dogs",
        "unlabelled:street": root / "street",
    }


@pytest.fixture(scope="module")
def corpus(folders, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tools.pretraining.lite_corpus.common_words", lambda: ("boat", "sea"))
        patched.setattr("tools.pretraining.lite_corpus.DRAWINGS", (2, 2))
        return load_lite_corpus(folders, [], [], tmp_path_factory.mktemp("cache"))


def test_copies_of_held_out_photos_are_found_and_nothing_else(tmp_path):
    held = [picture(tmp_path / "held" / f"{i}.jpg", i) for i in range(6)]
    again = tmp_path / "train" / "smaller.jpg"
    again.parent.mkdir()
    Image.open(held[1]).resize((80, 68)).save(again, quality=60)
    mirrored = tmp_path / "train" / "mirrored.png"
    Image.open(held[2]).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirrored)
    squeezed = tmp_path / "train" / "squeezed.png"
    Image.open(held[3]).resize((64, 64)).save(squeezed)
    others = [picture(tmp_path / "train" / f"other{i}.jpg", 50 + i) for i in range(20)]
    assert near_copies([others[0], again, mirrored, *others[1:], squeezed], held, tmp_path / "cache") == [1, 2, 22]


def test_what_was_seen_is_known_again_by_its_hashes(tmp_path, capsys):
    seen = [picture(tmp_path / "seen" / f"{i}.jpg", i) for i in range(6)]
    write_seen(seen, tmp_path / "seen.npy", tmp_path / "cache")
    test = tmp_path / "test"
    picture(test / "new.jpg", 77)
    (test / "same.jpg").write_bytes(seen[0].read_bytes())
    Image.open(seen[1]).transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((150, 127)).save(test / "turned.jpg")
    found = among_seen(sorted(test.iterdir()), tmp_path / "seen.npy", tmp_path / "other")
    assert [file.name for file in found] == ["same.jpg", "turned.jpg"]
    app(["overlap", str(test), "--seen", str(tmp_path / "seen.npy")], result_action="return_value")
    assert "2 of 3 photos are among those seen" in capsys.readouterr().out
    with pytest.raises(SeaAnchorError, match="is missing"):
        among_seen(seen, tmp_path / "none.npy", tmp_path / "other")


def test_skies_are_copies_only_where_their_bytes_are_the_same(tmp_path):
    for name, grey in (("held", 200), ("like", 203)):
        Image.new("RGB", (90, 90), (grey, grey, grey)).save(tmp_path / f"{name}.png")
    same = tmp_path / "same.png"
    same.write_bytes((tmp_path / "held.png").read_bytes())
    assert near_copies([tmp_path / "like.png", same], [tmp_path / "held.png"], tmp_path / "cache") == [1]


def test_a_photo_that_cannot_be_read_is_named(tmp_path, folders, capsys):
    broken = tmp_path / "set" / "boats" / "cut.jpg"
    whole = picture(tmp_path / "set" / "boats" / "whole.jpg", 1)
    broken.write_bytes(whole.read_bytes()[:400])
    source = f"photos:boats={tmp_path / 'set'}"
    tower = tmp_path / "tower.pth"
    torch.save(timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict(), tower)
    with pytest.raises(SeaAnchorError, match=r"1 of 2 photos cannot be read(.|\n)*cut\.jpg"):
        app(["lite", "--source", source, "--tower", str(tower), "--held-out", str(folders["unlabelled:street"]),
             "--output", str(tmp_path / "run"), "--cache", str(tmp_path / "cache")])  # fmt: skip


def test_a_missing_source_and_a_foreign_tower_are_one_error_each(tmp_path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(SeaAnchorError, match="is no folder"):
        train_lite({"cifar10": tmp_path / "no"}, [], tmp_path, [], tmp_path, cache=tmp_path)
    with pytest.raises(SeaAnchorError, match="tensors of other shapes"):
        original_tower(tmp_path / "other.pth")


def test_parts_of_caltech_are_disjoint_and_the_test_part_is_that_of_the_tiny_model(folders):
    for folder in sorted(folders["caltech101"].iterdir()):
        train, validation, test = three_parts(folder)
        assert test == split_files(folder)[1]
        assert len({*train, *validation, *test}) == 9
        assert (len(train), len(validation), len(test)) == (5, 1, 3)
    held = held_out_files([folders["unlabelled:street"]], folders["caltech101"])
    assert len(held) == 5 + 2 * 4
    listed = {file for file, _ in LISTINGS["caltech101"]("caltech101", folders["caltech101"]).rows}
    assert not listed & set(held)


def test_names_of_classes(folders, tmp_path):
    faces = LISTINGS["caltech101"]("caltech101", folders["caltech101"]).labels[0]
    assert faces == (("caltech101", "faces"), ("caltech101", "face"), ("caltech101", "off-center face"))
    dogs = LISTINGS["photos"]("photos:dogs", folders["photos:dogs"])
    assert dogs.labels == ((("imagenet", "Chihuahua"),), (("imagenet", "Japanese Chin"),))
    picture(tmp_path / "ice_hockey" / ".thumbs" / "a.jpg", 1)
    picture(tmp_path / "ice_hockey" / "b.jpg", 1)
    sports = LISTINGS["photos"]("photos:sports", tmp_path)
    assert sports.labels == ((("photos:sports", "ice hockey"),),)
    assert [file.name for file, _ in sports.rows] == ["b.jpg"]


def test_another_name_of_a_class_stands_in_for_the_first(corpus):
    texts, labels = corpus.texts, corpus.banks["caltech101"].labels
    own = torch.nonzero(corpus.member_SV[corpus.sets.index("caltech101")]).flatten()
    assert {texts[i] for i in own.tolist()} == {"faces", "anchor"}
    assert {(texts[label.text], texts[label.first]) for label in labels[0]} == {
        ("faces", "faces"), ("face", "faces"), ("off-center face", "faces"),
    }  # fmt: skip
    assert len(corpus.imagenet) == 1000
    assert [texts[i] for i in corpus.imagenet[:3].tolist()] == list(imagenet_names()[:3])


def test_a_batch_is_a_function_of_seed_and_step(corpus):
    one, again, next_one = (make_lite_batch(corpus, 3, step, 20, MIX, 64, 96) for step in (5, 5, 6))
    assert torch.equal(one.pixels, again.pixels)
    assert torch.equal(one.text_B, again.text_B)
    assert not torch.equal(one.pixels, next_one.pixels)
    assert one.pixels.shape == (20, 3, 64, 64)
    assert one.teacher_views.shape == (16, 3, 96, 96)  # all but the drawn words
    assert 0 <= one.pixels.min() <= one.pixels.max() <= 1
    unlabelled = (one.text_B < 0).sum()
    assert unlabelled >= 4  # the street, and backgrounds
    assert torch.equal(one.text_B < 0, one.set_B < 0)


def test_the_teacher_sees_the_same_view_without_letters(corpus):
    batch = make_lite_batch(corpus, 0, 1, 40, replace(MIX, matching_word_rate=0.0), 64, 64)
    seen = batch.pixels[batch.teacher_rows].flatten(1)
    given = batch.teacher_views.flatten(1)
    alike = torch.corrcoef(torch.cat([seen, given]))[: len(seen), len(seen) :]
    assert alike.argmax(1).tolist() == list(range(len(seen)))
    assert alike.diagonal().min() > 0.8


def test_letters_keep_their_size_and_stay_inside_smaller_images(corpus):
    rng = torch.Generator().manual_seed(0)
    texts = [corpus.texts.index(text) for text in ("tench", "anchor", "boat", "sea")] * 8
    parts = _masks(corpus.words, texts, rng, 96, largest=0.4)
    whole = torch.from_numpy(corpus.words.masks[corpus.words.order_N[corpus.words.start_V[texts]]]).float() / 255
    narrow = torch.tensor([extent(mask) <= 96 for mask in whole])
    assert narrow.sum() >= 8
    assert torch.allclose(parts[narrow].sum((1, 2, 3)), whole[narrow].sum((1, 2, 3)))  # nothing is cut, nothing scaled
    assert parts.shape[2:] == (96, 96)


def extent(mask: torch.Tensor) -> int:
    """The longer side of what is drawn, in pixels."""
    inked = mask[1] > 0
    return max(int((places := torch.nonzero(inked.any(axis)).flatten())[-1] - places[0]) + 1 for axis in (0, 1))


def test_the_largest_letters_come_first(corpus):
    words = corpus.words
    for text in (0, 5, len(corpus.texts) - 1):
        own = words.order_N[words.start_V[text] : words.start_V[text] + words.count_V[text]]
        ink = [int(words.masks[row][0, ::2, ::2].sum()) for row in own]
        assert ink == sorted(ink, reverse=True)


@pytest.fixture(scope="module")
def tower():
    torch.manual_seed(0)
    return timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()


def trained(corpus, tower, output: Path, **settings) -> dict[str, torch.Tensor]:
    model = new_lite(tower, 0)
    table = starting_table(corpus, tower, model.visual.head.proj.weight.detach(), 0, each=2)
    config = DistillConfig(
        output, 32, MIX, batch_size=8, frozen_steps=1, warmup=1, save_every=1, log_every=1,
        sizes=((32, 48, 0.5), (48, 64, 1.0)), **settings,
    )  # fmt: skip
    return load_state(distill(config, corpus, Student(model.visual, table, 20.0), tower))["student"]


def test_texts_start_where_their_images_lie(corpus, tower):
    """The classes of the original classifier along its weights, so that cosines order images nearly as it does."""
    projection = new_lite(tower, 0).visual.head.proj.weight.detach()
    table = starting_table(corpus, tower, projection, 0, each=2)
    assert torch.allclose(table.norm(dim=1), torch.ones(len(table)), atol=1e-4)
    weight = tower.get_classifier().weight.detach()
    along = torch.nn.functional.normalize((weight - weight.mean(0)) @ projection.T, dim=1)
    assert torch.allclose(table[corpus.imagenet[7]], along[7], atol=1e-5)
    faces = {texts: table[corpus.texts.index(texts)] for texts in ("faces", "face", "anchor")}
    assert torch.equal(faces["faces"], faces["face"])
    assert faces["faces"] @ faces["anchor"] < 0.9


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("statistics", [False, True])
def test_a_run_that_was_killed_ends_as_one_that_was_not(statistics, corpus, tower, tmp_path, monkeypatch):
    whole = trained(corpus, tower, tmp_path / "whole", batch_statistics=statistics)
    real, died = distillation._step, random.Random(0).choice((1, 2, 3))

    def dies(*args):
        if args[5] == died:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(distillation, "_step", dies)
    with pytest.raises(KeyboardInterrupt):
        trained(corpus, tower, tmp_path / "cut", batch_statistics=statistics)
    monkeypatch.setattr(distillation, "_step", real)
    again = trained(corpus, tower, tmp_path / "cut", batch_statistics=statistics)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    first = new_lite(tower, 0).state_dict()
    assert not torch.equal(first["visual.trunk.conv_stem.weight"], whole["visual.trunk.conv_stem.weight"])
    assert len(whole["table_VD"]) == len(corpus.texts)
    running = "visual.trunk.bn1.running_mean"
    assert torch.equal(first[running], whole[running]) is not statistics  # of the average, as of the student


def test_frozen_blocks_stay_with_their_statistics_and_the_others_learn(corpus, tower, tmp_path):
    kept = trained(corpus, tower, tmp_path, frozen_blocks=2, batch_statistics=True)
    before = new_lite(tower, 0).state_dict()
    changed = {name for name, value in before.items() if name in kept and not torch.equal(kept[name], value)}
    beginning = tuple(f"visual.trunk.{part}." for part in ("conv_stem", "bn1", "blocks.0", "blocks.1"))
    assert not any(name.startswith(beginning) for name in changed)
    assert {"visual.trunk.blocks.2.0.conv_pw.weight", "visual.trunk.blocks.2.0.bn1.running_mean"} <= changed


def test_the_projection_keeps_products_with_the_classifier(tower):
    """What 512 directions can hold of the classes' differences they hold: the best of that rank, by its own error."""
    model = new_lite(tower, 0)
    weight = tower.get_classifier().weight.detach()
    centred = weight - weight.mean(0)
    kept = model.visual.head.proj.weight.detach()
    error = (centred - centred @ kept.T @ kept).square().sum()
    assert error == pytest.approx(torch.linalg.svdvals(centred)[512:].square().sum().item(), rel=1e-3)


def test_the_bare_tower_keeps_its_own_answers(tower, tmp_path):
    model = load_model(f"timm:local-dir:{write_classifier(tower, tmp_path / 'tower')}")
    assert model.classifier is not None
    assert model.classifier.class_names[:2] == ("tench", "goldfish")
    pixels = torch.rand(2, 3, 128, 128)
    with torch.no_grad():
        ours, theirs = model.classifier.head(model.encoder.eval()(pixels)), tower(pixels * 2 - 1)
    assert (ours - theirs).abs().max() < 2e-2 * theirs.abs().max()  # weights are rounded to fp16


def test_what_is_written_loads_as_a_model(tower, tmp_path):
    folder = write_lite(new_lite(tower, 0).state_dict(), tmp_path / "lite")
    model = load_model(str(folder))
    assert model.encoder.image_size == 128
    assert sum(p.numel() for p in model.module.parameters()) < 7_000_000
    assert sum(f.stat().st_size for f in folder.iterdir()) < 14_000_000


def test_half_of_the_way_back_is_the_mean_of_both(tower):
    now, earlier = (Student(new_lite(tower, 0).visual, torch.randn(3, 512), 20.0) for _ in range(2))
    for part in (now, earlier):
        for value in part.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand_like(value))
    before = {name: value.clone() for name, value in now.state_dict().items()}
    go_back(now, earlier.state_dict(), 0.25)
    for name, value in now.state_dict().items():
        wanted = 0.75 * before[name] + 0.25 * earlier.state_dict()[name] if value.is_floating_point() else before[name]
        torch.testing.assert_close(value, wanted)


@pytest.mark.slow
def test_what_each_stage_starts_from_and_what_comes_out(tower, tmp_path, monkeypatch, corpus):
    """Where a stage adds one to every weight: the fourth starts on the way back to the first, the last two from what
    the text tower says."""
    started, run = [], tmp_path / "run"

    def add_one(config, corpus, student, teacher, group):
        started.append((config.output.name, student.table_VD.detach().clone(), student.table_VD.requires_grad))
        state = {name: v + 1 if v.is_floating_point() else v for name, v in student.state_dict().items()}
        save_state(config.output / "weights.safetensors", {"student": state})
        return config.output / "weights.safetensors"

    def teach(folder, output, seed):
        assert (folder / "tower.safetensors").is_file()
        write_lite(new_lite(tower, 1).state_dict(), output / "export")

    monkeypatch.setattr("tools.pretraining.lite.load_lite_corpus", lambda *args: corpus)
    monkeypatch.setattr("tools.pretraining.lite.original_tower", lambda file: tower)
    monkeypatch.setattr("tools.pretraining.lite.distill", add_one)
    monkeypatch.setattr("tools.pretraining.lite.teach_text_tower", teach)
    made = load_model(str(train_lite({}, [], tmp_path, [], run, cache=tmp_path)))
    assert [name for name, *_ in started] == ["photos", "words", "both", "again", "texts", "over"]
    for (_, found, learns), added in zip(started[:4], (0, 1, 2, 3 - 0.35 * 2), strict=True):
        torch.testing.assert_close(found, started[0][1] + added)
        assert learns
    taught = load_model(str(run / "text" / "export"))
    with torch.no_grad():
        said = taught.encode_texts(["a photo of a boat."])[0]
        assert torch.equal(made.encode_texts(["a photo of a boat."])[0], said)
    for _, table, learns in started[4:]:
        torch.testing.assert_close(table[corpus.texts.index("boat")], said)
        assert not learns
    before, texts = (load_state(run / name / "weights.safetensors")["student"] for name in ("again", "texts"))
    stem, name = made.module.visual.trunk.conv_stem.weight, "visual.trunk.conv_stem.weight"
    torch.testing.assert_close(stem, 0.7 * texts[name] + 0.3 * before[name] + 1, rtol=1e-3, atol=1e-3)
    assert made.module.logit_scale.item() == pytest.approx(texts["log_scale"].item() - 0.3 + 1, rel=1e-3)
