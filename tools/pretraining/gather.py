"""Photos of several folders in one, without those that look like held-out ones."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from seaanchor.errors import SeaAnchorError
from seaanchor.utils.log import log
from tools.pretraining.copies import near_copies
from tools.pretraining.listings import images_of


def gather(sources: Sequence[Path], held_out: Sequence[Path], output: Path) -> int:
    """Link the photos of folders into one, called by the number of their folder and their own.

    Args:
        sources: folders of photos, at any depth.
        held_out: folders of photos that nothing in `output` may look like, mirrored copies included.
        output: a new folder.

    Returns:
        How many photos there are.

    Raises:
        SeaAnchorError: a folder without a photo, a photo that cannot be read, or the output exists.
    """
    if output.exists():
        raise SeaAnchorError(f"{output} exists", "a new folder", "name another, or remove it")
    others = [file for folder in held_out for file in images_of(folder)]
    kept = list[tuple[str, Path]]()
    with TemporaryDirectory() as cache:
        for number, folder in enumerate(sources):
            files = images_of(folder)
            if not files:
                raise SeaAnchorError(f"{folder} holds no photo", "photos, at any depth", "correct the folder")
            left_out = set(near_copies(files, others, Path(cache)))
            log.info(f"{folder}: {len(files):,} photos, {len(left_out)} of which look like held-out ones")
            kept += [(f"{number}-{i:05d}{f.suffix}", f) for i, f in enumerate(files) if i not in left_out]
    output.mkdir(parents=True)
    for name, file in kept:
        (output / name).symlink_to(file.resolve())
    return len(kept)
