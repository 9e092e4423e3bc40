"""Embeddings are computed once, for training and for evaluation, and again as soon as anything about them has
changed."""

import os

import pytest
import torch
from PIL import Image

from seaanchor.data.loader import ImageDataset, SkipLog
from seaanchor.data.sources import open_images
from seaanchor.encoders.encoder import Reference
from seaanchor.encoders.image_tables import clean_rows, clean_table, drawn_table
from seaanchor.encoders.load import load_model
from seaanchor.perturbations.none import NoPerturbation
from seaanchor.perturbations.typographic import Typographic
from seaanchor.utils import disk_cache

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(disk_cache.VARIABLE, str(tmp_path / "cache"))


@pytest.fixture
def model(clip_folder):
    return load_model(str(clip_folder))


@pytest.fixture
def reference(model):
    """Counts the images it has seen in `seen`."""
    reference = Reference(model.encoder)
    reference.seen = 0
    reference.register_forward_hook(lambda module, inputs, output: setattr(module, "seen", module.seen + len(output)))
    return reference


def table(reference, folder) -> torch.Tensor:
    return clean_table(reference, "open_clip", open_images(str(folder)), 5, 0, CPU)


def test_once_for_all_runs(reference, image_folder):
    first, second = table(reference, image_folder), table(reference, image_folder)
    assert (
        reference.seen == 12
        and torch.equal(first, second)
        and first.shape == (12, 16)
        and first.abs().sum(-1).min() > 0
    )


def test_again_after_a_change_of_image_weights_or_normalisation(reference, image_folder):
    first = table(reference, image_folder)
    file = sorted(image_folder.rglob("*.jpg"))[3]
    times = file.stat().st_mtime_ns
    Image.new("RGB", (40, 40), "red").save(file)
    os.utime(file, ns=(times, times))
    second = table(reference, image_folder)
    assert reference.seen == 24 and (first != second).any(-1).tolist() == [i == 3 for i in range(12)]
    with torch.no_grad():
        reference.encoder.std *= 1.1
    assert (table(reference, image_folder) != second).any() and reference.seen == 36
    with torch.no_grad():
        list(reference.encoder.tower.parameters())[-1][0] += 1e-3
    table(reference, image_folder)
    assert reference.seen == 48


def test_an_image_that_is_mended_is_seen(reference, image_folder):
    """An entry without it stays good only as long as it cannot be read."""
    file = sorted(image_folder.rglob("*.jpg"))[3]
    whole = file.read_bytes()
    images = open_images(str(image_folder))
    real, type(file).open = type(file).open, refuse(file)
    try:
        assert [table(reference, image_folder)[3].abs().sum().item() for _ in range(2)] == [
            0,
            0,
        ] and reference.seen == 11
    finally:
        type(file).open = real
    assert file.read_bytes() == whole and images.paths[3] == file
    assert table(reference, image_folder)[3].abs().sum() > 0 and reference.seen == 23


def refuse(file):
    """A disk that does not give this file for a while, neither to the reader nor to who asks what the images are."""
    real = type(file).open

    def call(self, *arguments, **settings):
        if self == file:
            raise OSError("stale file handle")
        return real(self, *arguments, **settings)

    return call


def test_drawings(reference, image_folder):
    images = open_images(str(image_folder))

    def ask(**changes):
        drawing = Typographic(images.class_names, **({"sizes": (0.2, 0.3), "variants": 2, "seed": 0} | changes))
        return drawn_table(reference, "open_clip", images, drawing, 5, 0, CPU, SkipLog(images))

    first, second = ask(), ask()
    assert reference.seen == 36
    for name in ("clean_ND", "attacked_NVD", "drawn_NV", "label_N", "read_N"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    assert first.pairs_N2 is None and second.pairs_N2 is None
    ask(seed=1), ask(sizes=(0.2, 0.25)), ask(fonts="unseen"), ask(variants=1)
    assert reference.seen == 36 + 3 * 36 + 24
    plain = drawn_table(reference, "open_clip", images, NoPerturbation(), 5, 0, CPU, SkipLog(images))
    assert (
        plain.attacked_NVD is None
        and torch.equal(plain.clean_ND, first.clean_ND)
        and reference.seen == 36 + 3 * 36 + 24 + 12
    )


def test_what_could_not_be_read_is_told_from_the_cache_too(reference, image_folder):
    images = open_images(str(image_folder))
    images.paths[2].write_bytes(b"no image")
    logs = [SkipLog(images), SkipLog(images)]
    for log in logs:
        read_N = drawn_table(reference, "open_clip", images, NoPerturbation(), 5, 0, CPU, log).read_N
    assert (
        reference.seen == 11
        and logs[0].summary() == logs[1].summary() != ""
        and read_N.tolist() == [i != 2 for i in range(12)]
    )


def test_evaluation_shares_them_with_training(reference, model, image_folder):
    images = open_images(str(image_folder))
    images.paths[2].write_bytes(b"no image")
    dataset = ImageDataset(images, model.encoder.image_size)
    trained = table(reference, image_folder)

    def never():
        raise AssertionError("computed again")

    rows = clean_rows(model, dataset, never, True, lambda value: value)
    assert rows["index"].tolist() == [i for i in range(12) if i != 2] and torch.equal(
        rows["embedding"], trained[rows["index"]]
    )
    assert (
        clean_rows(model, dataset, never, False, lambda value: True) is None
    )  # another process of the same evaluation
    disk_cache.clear()
    assert clean_rows(model, dataset, lambda: rows, True, lambda value: value) is rows
    assert torch.equal(table(reference, image_folder), trained) and reference.seen == 11


def test_a_resumed_run_reads_the_references_and_not_its_own(tiny_run):
    """The policy has moved when the cache is asked."""
    from seaanchor.config.recipes import fare
    from seaanchor.training.batches import reference_cache
    from seaanchor.training.setup import prepare

    first = reference_cache(prepare(tiny_run(fare(), epochs=2)), 1)
    setup = prepare(tiny_run(fare(), epochs=2))
    with torch.no_grad():
        for weight in setup.policy.parameters():
            weight += 0.1
    setup.reference.register_forward_hook(lambda module, inputs, output: pytest.fail("computed again"))
    assert torch.equal(reference_cache(setup, 1), first)
