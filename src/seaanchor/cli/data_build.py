"""Subcommand `data build`. Nothing heavy is imported before it runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from seaanchor.cli.data import data_app
from seaanchor.errors import SeaAnchorError

if TYPE_CHECKING:
    from seaanchor.data.preprocessing import Preprocessing


@data_app.command
def build(
    *,
    data: str,
    output: Path,
    split: str = "test",
    shard_size: int = 10_000,
    image_size: int | None = None,
    preprocess: str | None = None,
    class_names: Path | None = None,
    templates: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
) -> None:
    """Write labelled images as WebDataset shards in CLIP_benchmark's layout. CLIP_benchmark reads them as `wds/NAME`,
    and every command here reads them too.

    Parameters
    ----------
    data
        Class folders, shards, hf-data:NAME, or an embedded set.
    output
        Folder of the data set; a second split of the same classes may be added to it.
    split
        Name of the split to write; where the source has several splits, the one to read.
    shard_size
        Images in each shard.
    image_size
        Side in pixels to scale and crop to; by default images are not changed.
    preprocess
        With --image-size: how, where the models that the set is for do not crop, such as resize_mode=squash.
    class_names
        File that names the classes.
    templates
        Prompts with `{}`, a file of them, openai-imagenet or simple-imagenet; by default the data set's own, or 'a
        photo of a {}.'.
    """
    from seaanchor.data.names import read_templates
    from seaanchor.data.sources import open_images
    from seaanchor.data.webdataset.write import build_shards

    images = open_images(data, class_names, split)
    built = build_shards(
        images,
        output,
        split,
        shard_size=shard_size,
        image_size=_how(image_size, preprocess),
        templates=read_templates(templates) if templates else None,
    )
    print(
        f"{built.images} images in {built.shards} shard(s) written to "
        f"{output / split}{'; ' + built.skipped if built.skipped else ''}"
    )


@data_app.command
def emoji_scenes(*, output: Path, train: int = 400, test: int = 200, image_size: int = 128, seed: int = 0) -> None:
    """Write made-up scenes with exact masks, emoji on smooth colours, as a segmentation set that needs no download.

    Parameters
    ----------
    output
        New folder, with images and masks of the splits train and test.
    train
        Scenes of the drawings of one set.
    test
        Scenes of the drawings of another.
    image_size
        Side in pixels.
    seed
        Random seed of everything that is drawn.
    """
    from seaanchor.data.emoji_scenes import CLASS_NAMES, write_scenes

    write_scenes(output, train, test, image_size, seed)
    print(f"{train} and {test} scenes of {len(CLASS_NAMES)} classes written to {output}")


def _how(image_size: int | None, preprocess: str | None) -> "int | Preprocessing | None":
    """The preprocessing that the two flags describe."""
    if preprocess is None:
        return image_size
    from seaanchor.data.preprocessing import Preprocessing
    from seaanchor.encoders.input_settings import InputSettings, changed

    before = InputSettings(Preprocessing(image_size or 1), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    after = changed(before, preprocess)
    if image_size is None or (after.mean, after.std) != (before.mean, before.std):
        found = f"--preprocess {preprocess}" + ("" if image_size is None else " with mean or std")
        raise SeaAnchorError(found, "--image-size beside it, and settings of pixels alone", "correct them")
    return after.preprocessing
