"""A table with one row an image, filled batch by batch: by one process or several, at once or with a kill in between.

An image leaves a few numbers, so that memory does not grow with the pixels. Batches are cut from the list
of images once and for all; whoever computes them, and whenever, computes them from the same neighbours, and the table
comes out the same to the last bit.

Legend: B batch, N images.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.distributed.process_group import ProcessGroup
from seaanchor.errors import SeaAnchorError
from seaanchor.types import Batch, Preference
from seaanchor.utils.checkpoint import load_state, save_state
from seaanchor.utils.log import log
from seaanchor.utils.numbers import check_count
from seaanchor.utils.stages import on_terminal, stage, tick

Table = dict[str, Tensor]
"""Columns, each (N, ...); `index` is the image's number in its list."""

FLUSH_IMAGES, FLUSH_SECONDS = 500, 60.0  # what a kill may cost at most


@dataclass(frozen=True)
class ExecutionOptions:
    """How rows are computed, which changes none of them.

    Attributes:
        batch_size: images at a time.
        workers: loading processes.
        device: where the model runs.
        group: the processes that share the options.
        partial: folder of what is done so far, so that an evaluation that was ended goes on; None writes nothing.
    """

    batch_size: int
    workers: int
    device: torch.device
    group: ProcessGroup
    partial: Path | None = None

    def __post_init__(self) -> None:
        """A batch that holds something."""
        check_count("batch_size", self.batch_size)


@dataclass
class _Part:
    """Rows since the last write."""

    rows: list[Table] = field(default_factory=list)
    skipped: dict[int, str] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        return (
            sum(len(rows["index"]) for rows in self.rows) >= FLUSH_IMAGES
            or time.monotonic() - self.since >= FLUSH_SECONDS
        )


def collect(
    title: str, name: str, dataset: ImageDataset, measure: Callable[[Batch], Table], options: ExecutionOptions
) -> tuple[Table, str] | None:
    """Measure every image that can be read.

    Args:
        title: what this is, for the user.
        name: of the table, which its partial files are named after.
        dataset: the images.
        measure: what a batch gives, one row an image.
        options: how.

    Returns:
        The table, sorted by `index`, and in words what could not be read; None in all processes but the first.

    Raises:
        SeaAnchorError: no image could be read.
    """
    done = _read_parts(options.partial, name) if options.group.first else []
    finished = options.group.agree(
        {i for part in done for i in (*part.skipped, *(i for rows in part.rows for i in rows["index"].tolist()))}
    )
    count = len(dataset)
    units = [range(i, min(i + options.batch_size, count)) for i in range(0, count, options.batch_size)]
    mine = [i for unit in units[options.group.rank :: options.group.world] for i in unit if i not in finished]
    with stage(f"{title}: {name}", len(mine), "images"):
        parts = done + list(_measure_all(title, name, dataset, mine, measure, options))
    gathered = options.group.gather(parts)
    if not options.group.first:
        return None
    return _join([part for several in gathered for part in several], dataset)


def _measure_all(
    title: str,
    name: str,
    dataset: ImageDataset,
    order: Sequence[int],
    measure: Callable[[Batch], Table],
    options: ExecutionOptions,
) -> Iterator[_Part]:
    part, skip_log = _Part(), SkipLog(dataset.images)
    begun, rows_done, live = time.monotonic(), 0, on_terminal()
    for batch in batches(dataset, options.batch_size, workers=options.workers, order=order, skip_log=skip_log):
        part.skipped |= skip_log.reasons
        skip_log.reasons.clear()
        if len(batch.index_B):
            rows = measure(to_device(batch, options.device)) | {"index": batch.index_B}
            part.rows.append({column: values.detach().cpu() for column, values in rows.items()})
        tick("images", len(batch.index_B))
        if part.due():
            rows_done += _write(name, part, options)
            if options.group.first and not live:
                log.info(f"  {title}: {rows_done:,} of {len(order):,} images, {time.monotonic() - begun:.0f} s")
            yield part
            part = _Part()
    if part.rows or part.skipped:
        _write(name, part, options)
        yield part


def _write(name: str, part: _Part, options: ExecutionOptions) -> int:
    """Write a part to disk, named by its first image's number, where there is a folder for it; returns its rows."""
    whole = _stack(part.rows)
    if options.partial is not None:
        first = min([*part.skipped, *whole.get("index", torch.empty(0)).tolist()])
        save_state(
            options.partial / f"{name}-{int(first):09d}.safetensors",
            {"rows": whole, "skipped": [[i, why] for i, why in part.skipped.items()]},
        )
    part.rows[:] = [whole] if whole else []
    return len(whole["index"]) if whole else 0


def _read_parts(folder: Path | None, name: str) -> list[_Part]:
    parts = []
    for file in sorted(folder.glob(f"{name}-*.safetensors")) if folder else ():
        try:
            state = load_state(file, unchecked=False)
        except SeaAnchorError as error:
            log.warning(f"{error.found}; its images are measured again")
            file.unlink(missing_ok=True)
            continue
        parts.append(_Part([state["rows"]] if state["rows"] else [], {int(i): why for i, why in state["skipped"]}))
    return parts


def _stack(rows: Sequence[Table]) -> Table:
    return {column: torch.cat([row[column] for row in rows]) for column in rows[0]} if rows else {}


def _join(parts: Sequence[_Part], dataset: ImageDataset) -> tuple[Table, str]:
    table = _stack([rows for part in parts for rows in part.rows])
    skip_log = SkipLog(dataset.images, dict(sorted((i, why) for part in parts for i, why in part.skipped.items())))
    if not table:
        raise SeaAnchorError(
            f"no labelled image could be read: {skip_log.summary()}",
            "at least one readable image in a class folder",
            "check the folder",
        )
    order = table["index"].argsort()
    table = {column: values[order] for column, values in table.items()}
    if bool((table["index"].diff() == 0).any()):
        raise RuntimeError("an image is in the table twice")
    return table, skip_log.summary()


def remove_partial(folder: Path) -> None:
    """Remove partial results, once the whole one is written."""
    shutil.rmtree(folder, ignore_errors=True)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with all its tensors there."""
    pair = batch.preference
    preference = None if pair is None else Preference(pair.chosen_B.to(device), pair.rejected_B.to(device))
    label_B = None if batch.label_B is None else batch.label_B.to(device)
    return Batch(batch.pixels_BCHW.to(device), label_B, batch.index_B.to(device), preference)
