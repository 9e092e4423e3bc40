"""Bit flips: one bit of a stored file turns round, and the file is refused, or gives exactly what it gave before."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seaanchor.errors import SeaAnchorError
from tools.campaign.material import make_images, make_run
from tools.campaign.mutations import flipped
from tools.campaign.outcome import Options, Outcome, quiet


@dataclass(frozen=True)
class Stored:
    """A file, and what reads it."""

    name: str
    file: Path
    read: Callable[[], Any]


def bit_flips(options: Options, folder: Path) -> Outcome:
    """`count` flips over all kinds of files that hold a checksum."""
    outcome = Outcome("bit flips")
    for number, stored in enumerate(every := _stored(folder)):
        with quiet():
            before = _plain(stored.read())
        whole = stored.file.read_bytes()
        for at in range(number, options.count, len(every)):
            stored.file.write_bytes(flipped(whole, options.rng(stored.name, at)))
            outcome.add(_wrong(stored, before, at))
        stored.file.write_bytes(whole)
    return outcome


def _wrong(stored: Stored, before: Any, at: int) -> str | None:
    """What is wrong with what a damaged file gave; None if nothing is."""
    try:
        with quiet():
            after = _plain(stored.read())
    except SeaAnchorError:
        return None
    except Exception as error:
        return f"{stored.name}: {type(error).__name__} (number {at})"
    return None if after == before else f"{stored.name}: other values, and nothing said (number {at})"


def _plain(value: Any) -> Any:
    """Something that can be compared: tensors as their bytes."""
    from torch import Tensor

    if isinstance(value, Tensor):
        return value.dtype, tuple(value.shape), value.contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _stored(folder: Path) -> list[Stored]:
    import torch

    from seaanchor.data.images import UnreadableImage, read_image
    from seaanchor.encoders.head_file import read_head, write_head
    from seaanchor.export.trained import read_map
    from seaanchor.types import Head, NamedHead
    from seaanchor.utils import disk_cache
    from seaanchor.utils.checkpoint import load_state, save_state
    from seaanchor.utils.checksums import NAME, check_checksums

    run, images = make_run(folder / "run"), make_images(folder / "images")
    head, part = folder / "head.safetensors", folder / "part.safetensors"
    write_head(NamedHead(Head(torch.eye(3, 8), unit=False, kind="probe"), ("a", "b", "c")), head)
    save_state(part, {"index": torch.arange(8), "right": torch.ones(8, dtype=torch.bool)})
    disk_cache.write("tables", "entry", {"embedding": torch.rand(8, 4)})
    entry = Path(str(disk_cache.location())) / "tables" / "entry.safetensors"

    def picture() -> Any:
        try:
            return read_image(images[0], 32)
        except UnreadableImage as error:
            raise SeaAnchorError(str(error), "a picture", "copy it again") from error

    def cached() -> Any:
        if (found := disk_cache.read("tables", "entry")) is None:
            raise SeaAnchorError("damaged", "an entry", "it is computed again")
        return found

    def weights_of(state: Any) -> Any:
        return {key: state[key] for key in state if key != "reference"}

    export = run / "export"
    return [
        Stored("checkpoint", (newest := sorted(run.glob("checkpoints/*"))[-1]), lambda: load_state(newest)),
        Stored("linear map", run / "linear_map.safetensors", lambda: read_map(run)),
        Stored("head", head, lambda: vars(read_head(head).head) | {"names": read_head(head).class_names}),
        Stored("partial rows", part, lambda: weights_of(load_state(part, unchecked=False))),
        Stored("export, weights", export / "open_clip_model.safetensors", lambda: check_checksums(export)),
        Stored("export, settings", export / "open_clip_config.json", lambda: check_checksums(export)),
        Stored("export, list", export / NAME, lambda: check_checksums(export)),
        Stored("PNG", images[0], picture),
        Stored("cache", entry, cached),
    ]
