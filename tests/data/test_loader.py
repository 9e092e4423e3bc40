"""Batches in any order, without what cannot be read, and parts of a data set."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from seaanchor.data.folder import list_images
from seaanchor.data.images import read_image
from seaanchor.data.loader import ImageDataset, SkipLog, batches, chosen_batches, subset, to_float, training_order
from seaanchor.data.sources import open_images
from seaanchor.data.types import ClassifiedImages, Images, UnlabelledImages
from seaanchor.errors import SeaAnchorError


def write(path: Path, colour: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 12), (colour, 0, 0)).save(path, "JPEG")


def read(images: Images, batch_size: int = 3, workers: int = 0, order=None):
    """All batches and the skip log."""
    log = SkipLog(images)
    return list(batches(ImageDataset(images, 8), batch_size, workers=workers, order=order, skip_log=log)), log


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_files_are_counted_and_never_crash(image_folder, workers):
    whole = (image_folder / "apple" / "0.jpg").read_bytes()
    (image_folder / "apple" / "1.jpg").write_bytes(whole[: len(whole) // 2])
    (image_folder / "red_fox" / "0.jpg").write_bytes(b"")
    (image_folder / "zebra" / "text.png").write_text("hello")
    (image_folder / "zebra" / "folder.jpg").mkdir()
    Image.new("RGB", (9, 9), "red").convert("CMYK").save(image_folder / "zebra" / "cmyk.jpg")
    images = list_images(image_folder)
    got, log = read(images, workers=workers)
    assert len(images.paths) == 14
    assert sum(len(b.index_B) for b in got) == 11
    assert len(log.reasons) == 3
    assert log.summary().startswith("3 of 14 images in")
    for batch in got:
        assert batch.pixels_BCHW.shape == (len(batch.index_B), 3, 8, 8)
        for pixels, label, index in zip(batch.pixels_BCHW, batch.label_B, batch.index_B, strict=True):
            assert label == images.labels[index]
            assert torch.equal(pixels, read_image(images.paths[index], 8).float() / 255)
    assert min(b.pixels_BCHW.min() for b in got) >= 0
    assert max(b.pixels_BCHW.max() for b in got) <= 1


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_of_nothing_but_bad_files_is_empty_and_keeps_its_place(image_folder, workers):
    """Training counts batches to know where it is in the data, so one that comes out empty must still come out."""
    for i in range(4):
        (image_folder / "red_fox" / f"{i}.jpg").write_bytes(b"")
    got, log = read(list_images(image_folder), batch_size=4, workers=workers)
    assert [len(b.index_B) for b in got] == [4, 0, 4]
    assert got[1].pixels_BCHW.shape == (0, 3, 8, 8)
    assert got[1].label_B.shape == (0,)
    assert len(log.reasons) == 4


def test_a_bad_file_counts_once_however_often_it_is_tried(image_folder):
    (image_folder / "apple" / "0.jpg").write_bytes(b"")
    images = list_images(image_folder)
    log = SkipLog(images)
    assert log.summary() == ""
    for _ in range(3):
        list(batches(ImageDataset(images, 8), 4, workers=0, order=None, skip_log=log))
    assert log.summary().startswith("1 of 12")


def test_order_is_what_was_asked_for_in_any_number_of_processes(image_folder):
    images = list_images(image_folder)
    order = training_order(12, 0, 0)
    for workers in (0, 2):
        got, _ = read(images, batch_size=5, workers=workers, order=order)
        assert torch.cat([b.index_B for b in got]).tolist() == order
        assert [len(b.index_B) for b in got] == [5, 5, 2]
    assert torch.cat([b.index_B for b in read(images)[0]]).tolist() == list(range(12))


@pytest.mark.parametrize("workers", [0, 2])
def test_pixels_travel_as_bytes_and_become_the_same_floats(image_folder, workers):
    images = list_images(image_folder)
    few = list(chosen_batches(ImageDataset(images, 8), [[3, 1], [7]], workers=workers, skip_log=SkipLog(images)))
    whole = read(images)[0]
    assert [batch.pixels_BCHW.dtype for batch in few] == [torch.uint8] * 2 and {
        batch.pixels_BCHW.dtype for batch in whole
    } == {torch.float32}
    asked = torch.cat([batch.pixels_BCHW for batch in whole])[[3, 1, 7]]
    assert torch.equal(to_float(torch.cat([batch.pixels_BCHW for batch in few])), asked) and asked.std() > 0.01


def test_bytes_become_floats_by_division():
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    exact = torch.tensor([i / 255 for i in range(256)], dtype=torch.float64).float().view(1, 1, 16, 16)
    assert torch.equal(to_float(every), exact)
    assert not torch.equal(every * torch.tensor(1 / 255), exact)  # what a GPU would compute
    assert to_float(exact) is exact


def test_reading_leaves_the_global_random_state_alone(image_folder):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    for workers in (0, 2):
        read(list_images(image_folder), workers=workers)
        assert torch.equal(torch.get_rng_state(), before)


def test_training_order_depends_on_seed_and_epoch_alone():
    first = training_order(50, 0, 0)
    assert sorted(first) == list(range(50))
    assert first != list(range(50))
    torch.manual_seed(9)
    assert training_order(50, 0, 0) == first
    assert training_order(50, 1, 0) != first
    assert training_order(50, 0, 1) not in (first, training_order(50, 1, 0))


def uneven() -> ClassifiedImages:
    """20, 3 and 7 images of three classes."""
    labels = (0,) * 20 + (1,) * 3 + (2,) * 7
    return ClassifiedImages(Path("x"), tuple(Path(f"x/{i}.jpg") for i in range(30)), labels, ("a", "b", "c"))


@pytest.mark.parametrize("limit", [1, 3, 9, 12, 17, 29, 30, 99])
def test_a_subset_is_balanced(limit):
    images = subset(uneven(), limit, 0)
    got = [images.labels.count(c) for c in range(3)]
    assert sum(got) == min(limit, 30)
    for c, size in enumerate((20, 3, 7)):  # nobody gets more than another class that still had some to give
        assert got[c] == size or got[c] >= max(got) - 1
    assert list(images.paths) == sorted(images.paths, key=lambda p: int(p.stem))
    assert images.class_names == ("a", "b", "c")
    assert all(images.labels[i] == uneven().labels[int(p.stem)] for i, p in enumerate(images.paths))


def test_a_subset_depends_on_the_seed_alone():
    assert subset(uneven(), 9, 0).paths == subset(uneven(), 9, 0).paths
    assert subset(uneven(), 9, 0).paths != subset(uneven(), 9, 1).paths
    unlabelled = UnlabelledImages(Path("x"), uneven().paths)
    assert len(subset(unlabelled, 9, 0).paths) == 9
    assert isinstance(subset(unlabelled, 9, 0), UnlabelledImages)


def test_images_beside_the_class_folders_are_named_and_counted(image_folder):
    write(image_folder / "stray.jpg")
    images = list_images(image_folder)
    assert len(images.paths) == 12
    assert (
        SkipLog(images).summary().startswith("1 of 13 images")
        and "stray.jpg lies in no class folder" in SkipLog(images).summary()
    )


def test_class_names_for_what_names_its_own_classes_are_refused(tmp_path, image_folder):
    for name in ("label=cat_text=dog.jpg", "label=dog_text=cat.jpg"):
        write(tmp_path / "lettered" / name)
    (tmp_path / "names.txt").write_text("x\ny\nz\n")
    for source in (str(tmp_path / "lettered"), "emoji-people/test", "rows.jsonl"):
        with pytest.raises(SeaAnchorError, match="class names from"):
            open_images(source, tmp_path / "names.txt")
    assert open_images(str(tmp_path / "lettered")).class_names == ("cat", "dog")
    assert open_images(str(image_folder), tmp_path / "names.txt").class_names == ("x", "y", "z")
