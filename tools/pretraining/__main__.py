"""`python -m tools.pretraining`: the embedded models from scratch (docs/pretraining.md)."""

import sys
from pathlib import Path
from typing import Literal

from cyclopts import App

from seaanchor.errors import SeaAnchorError
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


@app.command
def lite(
    *,
    source: list[str],
    tower: Path,
    held_out: list[Path] | None = None,
    fonts: Path | None = None,
    output: Path = Path("runs/pretrain-lite"),
    cache: Path = Path("~/.cache/seaanchor/pretrain-lite"),
    seed: int = 0,
    scale: float = 1.0,
) -> None:
    """Pre-train `seaanchor-lite` on a tower that others trained; killed, it goes on where it was. Under torchrun each
    process takes a share of every batch.

    Parameters
    ----------
    source
        KIND=FOLDER, once for each: caltech101, tiny-imagenet, cifar10, emoji, emoji-100, photos:NAME (one folder a
        class), unlabelled:NAME.
    tower
        State dict of EfficientNet-Lite0.
    held_out
        Folders of photos that must not be trained on.
    fonts
        Folder of further fonts for drawn words.
    output
        Run folder; the model lands in OUTPUT/export.
    cache
        Folder of decoded images.
    seed
        Of weights, data and augmentation.
    scale
        Multiplies the number of images.
    """
    from seaanchor.distributed.launch import open_group
    from tools.pretraining.lite import train_lite

    sources = {kind: Path(folder) for kind, _, folder in (item.partition("=") for item in source)}
    faces = [] if fonts is None else sorted(file for file in fonts.rglob("*") if file.suffix in (".ttf", ".otf"))
    with open_group() as group:
        done = train_lite(
            sources, held_out or [], tower, faces, output, cache=cache.expanduser(), seed=seed, scale=scale, group=group
        )  # fmt: skip
    if group.first:
        print(f"done: {done}")


@app.command
def overlap(folder: Path, *, seen: Path = Path("models/seaanchor-lite-pretraining/seen.npy")) -> None:
    """Tell which photos of a folder a model was pre-trained on, near copies included.

    Parameters
    ----------
    folder
        Photos, at any depth.
    seen
        Hashes that pre-training wrote.
    """
    from tempfile import TemporaryDirectory

    from tools.pretraining.listings import images_of
    from tools.pretraining.seen import among_seen

    files = images_of(folder)
    with TemporaryDirectory() as cache:
        found = among_seen(files, seen, Path(cache))
    print("\n".join(map(str, found)))
    print(f"{len(found)} of {len(files):,} photos are among those seen")


@app.command
def text_tower(folder: Path, output: Path, *, seed: int = 0) -> None:
    """Train the text tower of `seaanchor-lite` for an image tower that is done; no image is needed.

    Parameters
    ----------
    folder
        With `tower.safetensors` and `texts.json`, such as models/seaanchor-lite-pretraining.
    output
        Run folder; the model lands in OUTPUT/export.
    seed
        Of weights, texts and captions.
    """
    from tools.pretraining.text_tower import teach_text_tower

    print(f"done: {teach_text_tower(folder, output, seed)}")


@app.command
def held_out(name: str, folder: Path, output: Path, *, named: bool = False) -> None:
    """Link the held-out photos of a set into class folders, for `seaanchor evaluate`.

    Parameters
    ----------
    name
        caltech101 (its test part), imagenet (photos called SYNSET_NAME.JPEG), nips2017 or tiny-imagenet (its validation
        part); imagenet and nips2017 take `--class-names imagenet`.
    folder
        The unpacked set.
    output
        A new folder.
    named
        Call ImageNet's classes by their names instead of their synsets, for the studies.
    """
    from tools.pretraining.held_out import arrange

    print(f"{arrange(name, folder, output, named):,} photos in {output}")


@app.command
def gather(output: Path, /, *sources: Path, held_out: list[Path]) -> None:
    """Link the photos of several folders into one, without those that look like held-out ones.

    Parameters
    ----------
    output
        A new folder, for `--data`, or for `--extra train=` of a study.
    sources
        Folders of photos, at any depth.
    held_out
        A folder of photos to measure on, which nothing in OUTPUT looks like; once for each.
    """
    from tools.pretraining.gather import gather as gather_photos

    print(f"{gather_photos(sources, held_out, output):,} photos in {output}")


@app.command
def classifier(tower: Path, output: Path) -> None:
    """Write the original tower with its own 1,000-class head as a folder that timm loads.

    Parameters
    ----------
    tower
        State dict of EfficientNet-Lite0.
    output
        Folder, such as models/efficientnet-lite0.
    """
    from tools.pretraining.lite import original_tower, write_classifier

    print(f"done: {write_classifier(original_tower(tower), output)}")


if __name__ == "__main__":
    log_to_terminal()
    try:
        app()
    except SeaAnchorError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
