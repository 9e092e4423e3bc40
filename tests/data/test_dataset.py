"""Data sets of PyTorch as listings: the same images as files, and every form that is refused."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset

from seaanchor.data.dataset import from_dataset
from seaanchor.data.fingerprint import identity_of
from seaanchor.data.folder import list_images
from seaanchor.data.in_memory import to_pixels
from seaanchor.data.loader import ImageDataset, SkipLog, batches, subset
from seaanchor.data.types import ClassifiedImages, UnlabelledImages
from seaanchor.errors import SeaAnchorError

SIZES = [(16, 16), (20, 30), (41, 17), (8, 8), (16, 25), (90, 9)]


class Photos(Dataset):
    """As torchvision's: items are (PIL image, label), with `classes` and `targets`."""

    classes = ("red_fox", "zebra")

    def __init__(self, count: int = 6, transform=None, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        shapes = [SIZES[i % len(SIZES)] for i in range(count)]
        self.images = [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in shapes]
        self.targets = [i % 2 for i in range(count)]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int):
        image = self.images[index]
        return (image if self.transform is None else self.transform(image)), self.targets[index]


def as_tensor(image: Image.Image) -> torch.Tensor:
    """As torchvision's `ToTensor`."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).to(torch.float32).div(255)


def as_bytes(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def read(images, workers: int = 0, size: int = 16):
    log = SkipLog(images)
    return list(batches(ImageDataset(images, size), 4, workers=workers, order=None, skip_log=log)), log


@pytest.fixture
def folder(tmp_path):
    """The images of `Photos` as PNG files in class folders."""
    for i, (image, label) in enumerate(Photos()):
        path = tmp_path / "photos" / Photos.classes[label] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return tmp_path / "photos"


@pytest.mark.parametrize("transform", [None, as_tensor, as_bytes], ids=["pil", "float", "uint8"])
@pytest.mark.parametrize("workers", [0, 2])
def test_pixels_are_those_of_the_same_images_as_files(folder, transform, workers):
    files, ours = list_images(folder), from_dataset(Photos(transform=transform))
    order = sorted(range(6), key=lambda i: (i % 2, i))  # class folders come one after the other
    expected = torch.cat([batch.pixels_BCHW for batch in read(files)[0]])
    got, log = read(ours, workers)
    assert torch.equal(torch.cat([batch.pixels_BCHW for batch in got])[order], expected)
    assert torch.cat([batch.label_B for batch in got])[order].tolist() == list(files.labels)
    assert isinstance(ours, ClassifiedImages) and ours.class_names == files.class_names == ("red fox", "zebra")
    assert log.summary() == ""


def test_a_float_tensor_of_the_right_size_passes_unchanged():
    values = torch.rand(3, 16, 16)
    (batch,), _ = read(from_dataset([values, Image.new("L", (20, 16), 7)]))
    assert torch.equal(batch.pixels_BCHW[0], values)
    assert torch.equal(batch.pixels_BCHW[1], torch.full((3, 16, 16), 7 / 255))
    assert batch.label_B is None


def test_a_grey_tensor_has_three_equal_channels():
    grey = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    assert torch.equal(to_pixels(grey, 16), grey.expand(3, 16, 16))
    assert to_pixels(grey, 8).unique(dim=0).shape == (1, 8, 8)


@pytest.mark.parametrize(
    "form",
    [
        lambda image, label: {"image": image, "label": label},
        lambda image, label: (image, torch.tensor(label)),
        lambda image, label: [image, np.int64(label)],
    ],
)
def test_forms_of_items_and_labels_that_are_read_from_them(form):
    images = from_dataset([form(*item) for item in Photos()], class_names=["fox", "zebra"], name="mine")
    assert images.labels == (0, 1, 0, 1, 0, 1)
    assert images.class_names == ("fox", "zebra") and str(images.root) == "mine"


def test_labels_without_names_are_left_out_with_a_note(caplog):
    images = from_dataset(list(Photos(seed=5)), name="unnamed")
    assert isinstance(images, UnlabelledImages)
    assert "unnamed has labels and no class names" in caplog.text


def test_a_target_transform_is_seen():
    """`targets` says one thing and the items another: the items count."""

    class Swapped(Photos):
        def __getitem__(self, index: int):
            image, label = super().__getitem__(index)
            return image, 1 - label

    assert from_dataset(Swapped()).labels == (1, 0, 1, 0, 1, 0)


def test_parts_and_sums_of_data_sets():
    part = from_dataset(Subset(Photos(), [4, 1]))
    assert part.labels == (0, 1) and part.class_names == ("red fox", "zebra") and part.root.name == "Photos"
    both = from_dataset(ConcatDataset([Photos(), Photos(seed=1)]), class_names=Photos.classes)
    assert both.labels == (0, 1) * 6
    assert from_dataset(Subset(Photos(), [4, 1])).paths[0].pixels(16).equal(to_pixels(Photos()[4][0], 16))


def test_names_of_items_follow_the_images_and_not_the_object():
    first, again, other = (from_dataset(Photos(seed=seed)) for seed in (0, 0, 1))
    assert [str(item) for item in first.paths] == [str(item) for item in again.paths]
    assert not {str(item) for item in first.paths} & {str(item) for item in other.paths}
    assert str(from_dataset(Photos(7)).paths[0]) != str(first.paths[0])
    assert len(subset(first, 2, 0).paths) == 2


def test_the_identity_for_the_cache_is_that_of_the_pixels(monkeypatch):
    first = identity_of(from_dataset(Photos()), 16)
    assert first is not None and first == identity_of(from_dataset(Photos()), 16)
    changed = Photos(200)
    before = identity_of(from_dataset(changed), 16)
    changed.images[1] = Image.new("RGB", (16, 16))  # none of the images that name the listing
    assert str(from_dataset(changed).paths[0]) == str(from_dataset(Photos(200)).paths[0])
    assert identity_of(from_dataset(changed), 16) != before
    monkeypatch.setattr("seaanchor.data.fingerprint.READ_WHOLE", 100)
    assert identity_of(from_dataset(Photos()), 16) is None


def test_an_item_opens_as_a_picture_file():
    item = from_dataset(Photos(transform=as_tensor)).paths[1]
    with Image.open(io.BytesIO(item.open().read())) as image:
        assert np.array_equal(np.array(image), np.array(Photos()[1][0]))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_item_that_cannot_be_read_is_left_out_and_counted(workers):
    class Torn(Photos):
        def __getitem__(self, index: int):
            if index == 2:
                raise OSError("disk on fire")
            return super().__getitem__(index)

    got, log = read(from_dataset(Torn()), workers)
    assert torch.cat([batch.index_B for batch in got]).tolist() == [0, 1, 3, 4, 5]
    assert log.summary() == "1 of 6 images in Torn could not be read and were skipped (image 2: OSError: disk on fire)"


class Stream(IterableDataset):
    def __iter__(self):
        yield from Photos()


def flipped_at_random(image: Image.Image) -> torch.Tensor:
    return torch.rand(3, 16, 16)


@pytest.mark.parametrize(
    ("dataset", "found", "change"),
    [
        (Stream(), "Stream is an IterableDataset", "seaanchor data build"),
        ("photos", "the data set is a str", "open_images"),
        ([], "list is empty", "correct the data set"),
        ([np.zeros((16, 16, 3))], "is ndarray", "PIL.Image.fromarray"),
        ([{"picture": torch.zeros(3, 4, 4)}], "a dictionary of picture", "__getitem__"),
        ([(torch.zeros(3, 4, 4), 0, 1)], "a tuple of Tensor, int, int", "__getitem__"),
        ([torch.zeros(16, 16, 3)], r"a tensor of shape \(16, 16, 3\)", "permute"),
        ([torch.zeros(4, 16, 16)], r"a tensor of shape \(4, 16, 16\)", "RGB or grey"),
        ([torch.zeros(16, 16)], r"a tensor of shape \(16, 16\)", "RGB or grey"),
        ([torch.zeros(3, 4, 4, dtype=torch.int64)], "a tensor of torch.int64", "uint8"),
        ([torch.full((3, 4, 4), -1.5)], "values from -1.5 to -1.5", "remove Normalize"),
        ([torch.full((3, 4, 4), 255.0)], "values from 255 to 255", "remove Normalize"),
        ([torch.full((3, 4, 4), torch.nan)], "values from nan to nan", "remove Normalize"),
        (Photos(transform=flipped_at_random), "other pixels each time", "RandomHorizontalFlip"),
        ([(torch.zeros(3, 4, 4), 3)], "the label 3, and there are 2 class names", "class_names"),
        ([(torch.zeros(3, 4, 4), -1)], "the label -1", "class_names"),
        ([(torch.zeros(3, 4, 4), 0.5)], "the label '0.5'", "convert the labels"),
        ([(torch.zeros(3, 4, 4), "fox")], "the label 'fox'", "convert the labels"),
        ([(torch.zeros(3, 4, 4), None), (torch.zeros(3, 4, 4), 1)], "image 0 has the label 'None'", "convert"),
    ],
)
def test_what_is_refused(dataset, found, change):
    with pytest.raises(SeaAnchorError, match=found) as caught:
        from_dataset(dataset, class_names=("a", "b"))
    assert change in caught.value.change


def test_a_data_set_of_which_nothing_can_be_read():
    class Broken(Photos):
        def __getitem__(self, index: int):
            raise OSError("gone")

    with pytest.raises(SeaAnchorError, match=r"no image of Broken can be read \(OSError: gone\)"):
        from_dataset(Broken())


def test_a_label_that_cannot_be_read():
    items = Photos(100)

    class Torn(Dataset):
        def __len__(self) -> int:
            return 100

        def __getitem__(self, index: int):
            if index == 2:  # not among those that are looked at first
                raise OSError("gone")
            return items[index]

    with pytest.raises(SeaAnchorError, match="the label of image 2 cannot be read"):
        from_dataset(Torn(), class_names=Photos.classes)


def test_names_beside_classes_that_are_numbers_or_have_another_order():
    """torchvision numbers folders in the order of texts: 0, 1, 10, 11, 2, ..."""
    numbered, names = Photos(12), [f"animal {chr(97 + i)}" for i in range(12)]
    numbered.classes, numbered.targets = sorted(str(i) for i in range(12)), list(range(12))
    images = from_dataset(numbered, names)
    assert [images.class_names[label] for label in images.labels] == [names[int(own)] for own in numbered.classes]
    assert from_dataset(numbered, {str(i): name for i, name in enumerate(names)}).class_names == images.class_names
    assert from_dataset(Photos(), ["fox", "zebra"]).class_names == ("fox", "zebra")
    with pytest.raises(SeaAnchorError, match="has 'zebra' where 'red fox' is expected"):
        from_dataset(Photos(), ["zebra", "red_fox"])
    with pytest.raises(SeaAnchorError, match="holds 1 names"):
        from_dataset(Photos(), ["fox"])
