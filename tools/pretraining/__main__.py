"""`python -m tools.pretraining`: the embedded model from scratch (docs/pretraining.md)."""

from pathlib import Path
from typing import Literal

from cyclopts import App

from seaanchor.utils.log import log_to_terminal

app = App(name="python -m tools.pretraining", help_format="plaintext")


@app.default
def pretrain(
    *,
    tiny_imagenet: Path,
    cifar10: Path,
    caltech101: Path,
    emoji: Path,
    output: Path = Path("runs/pretrain"),
    image_size: Literal[32, 64] = 64,
    seed: int = 0,
    scale: float = 1.0,
) -> None:
    """Pre-train the embedded model from scratch; killed, it goes on where it was.

    Parameters
    ----------
    tiny_imagenet
        Folder with `train/`, `words.txt`.
    cifar10
        Folder with `train/CLASS/`.
    caltech101
        Folder `101_ObjectCategories`.
    emoji
        Folder made by `tools/build_data.py pretraining-art`.
    output
        Run folder; the model lands in OUTPUT/export.
    image_size
        64, or 32 for the sibling alone.
    seed
        Of weights, data and augmentation.
    scale
        Multiplies the number of images.
    """
    from tools.pretraining.tiny import train_tiny

    sources = {"tiny-imagenet": tiny_imagenet, "cifar10": cifar10, "caltech101": caltech101, "emoji": emoji}
    print(f"done: {train_tiny(sources, output, image_size, seed=seed, scale=scale)}")


if __name__ == "__main__":
    log_to_terminal()
    app()
