"""What several tests share."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seaanchor.data.folder import FolderDataset, SkipLog, batches, subset
from seaanchor.data.sources import open_images
from seaanchor.parts import Batch

torch.set_num_threads(1)  # the models are too small to share, and threads of parallel runs would fight


@pytest.fixture(scope="session")
def photos() -> Batch:
    """200 embedded photos of 10 classes at 16 pixels."""
    images = open_images("photos-mini/train")
    few = subset(images, 800, 0)
    dataset = FolderDataset(few, 16)
    rows = [i for i, label in enumerate(few.labels or ()) if label < 10]
    return next(batches(dataset, len(rows), workers=0, order=rows, skip_log=SkipLog(few)))


@pytest.fixture(scope="session")
def small_classifier(photos: Batch) -> nn.Module:
    """A small convolutional classifier trained on `photos`, half of it with noise so that it is neither helpless nor robust."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.GELU(), nn.Conv2d(16, 32, 3, 2, 1), nn.GELU(), nn.Flatten(), nn.Linear(512, 10)
    )
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        noisy = photos.pixels_BCHW + 0.05 * torch.randn_like(photos.pixels_BCHW)
        F.cross_entropy(model(noisy), photos.label_B).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model.eval().requires_grad_(False)


def accuracy(model, pixels: Tensor, labels: Tensor) -> float:
    """Top-1."""
    return (model(pixels).argmax(-1) == labels).double().mean().item()


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Three class folders of four 40-pixel JPEGs each."""
    from PIL import Image

    rng = torch.Generator().manual_seed(0)
    for name in ("apple", "red_fox", "zebra"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(4):
            pixels = torch.randint(0, 256, (40, 40, 3), dtype=torch.uint8, generator=rng)
            Image.fromarray(pixels.numpy()).save(tmp_path / "images" / name / f"{i}.jpg")
    return tmp_path / "images"
