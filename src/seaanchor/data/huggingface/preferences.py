"""Preference data in the columns of a Hugging Face data set, to a folder that training reads: pictures and a JSON lines
file.

Rows pass one at a time, so that a set may be larger than the memory.
"""

import contextlib
import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from seaanchor.data.huggingface.library import check_there, library, load, read_stored
from seaanchor.data.images import FORMATS
from seaanchor.data.preference_rows import DESIRABLE, TEXT, PreferenceRow, Tally, to_lines, to_row
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.staging import staged

FILE = "preferences.jsonl"
ENDINGS = {"JPEG": "jpg", "MPO": "jpg", "JPEG2000": "jp2"}  # of formats that are not called by their own


@dataclass(frozen=True)
class Columns:
    """Names of the columns; text and label may also go by their usual other names."""

    image: str = "image"
    chosen: str = "chosen"
    rejected: str = "rejected"
    text: str | None = None
    label: str | None = None

    def check(self, there: Iterable[str]) -> None:
        """Fail at the first row rather than skip them all.

        Raises:
            SeaAnchorError: the columns that make a preference are not among those `there`.
        """
        there = set(there)
        paired = {self.chosen, self.rejected} <= there
        unpaired = bool(there & set(self._texts())) and bool(there & set(self._labels()))
        if self.image not in there or not (paired or unpaired):
            expected = (
                f"{self.image}, and {self.chosen} with {self.rejected} or {self._texts()[0]} with {self._labels()[0]}"
            )
            change = (
                "name them: --image-column, --chosen-column and --rejected-column, or --text-column and --label-column"
            )
            raise SeaAnchorError(f"the columns are {', '.join(sorted(there))}", expected, change)

    def rename(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row under the names that `to_row` reads."""
        found = {"image": row.get(self.image), "chosen": row.get(self.chosen), "rejected": row.get(self.rejected)}
        for name, candidates in (("text", self._texts()), ("label", self._labels())):
            found[name] = next((row[key] for key in candidates if row.get(key) is not None), None)
        return found

    def _texts(self) -> tuple[str, ...]:
        return (self.text,) if self.text else TEXT

    def _labels(self) -> tuple[str, ...]:
        return (self.label,) if self.label else tuple(reversed(DESIRABLE))


@dataclass
class Imported:
    """What came of it: rows of each kind, different pictures, and rows left out with the first reasons."""

    kinds: Counter = field(default_factory=Counter)
    pictures: int = 0
    left_out: int = 0
    reasons: list[str] = field(default_factory=list)

    @property
    def tally(self) -> Tally:
        """Rows of each kind."""
        return Tally(**{name: self.kinds[name] for name in ("paired", "desirable", "undesirable")})


def import_preferences(
    source: str,
    output: Path,
    columns: Columns = Columns(),
    split: str | None = None,
    subset: str | None = None,
    samples: int | None = None,
) -> Imported:
    """Read a data set row by row into `output`: `images/`, named by content, and `preferences.jsonl`.

    Args:
        source: a folder written by `save_to_disk`, a parquet, JSON, CSV or Arrow file, a folder of such, or a name on
            the Hub.
        output: new or empty folder, which appears as a whole at the end; pictures that an attempt which ended half-way
            left beside it are not written again.
        columns: which ones hold image and texts.
        split: such as `train`; may be left out where there is one, or one called so.
        subset: configuration of the data set, where it has several.
        samples: at most this many rows.

    Raises:
        SeaAnchorError: no such data set, split or columns, no usable row, or a folder in use, a full disk; the library
            is missing.
    """
    rows, base = open_rows(source, columns.image, split, subset)
    done = Imported()
    with staged(output, keep=True) as folder, _tidied(folder):
        (folder / "images").mkdir(exist_ok=True)
        with (folder / FILE).open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(
                to_lines(from_columns(islice(rows, samples), folder / "images", columns, done, base), folder)
            )
            file.flush()
            os.fsync(file.fileno())
        if not done.kinds:
            raise SeaAnchorError(
                f"no preference in {source}: {'; '.join(done.reasons) or 'it has no rows'}",
                "at least one row",
                "name other columns",
            )
    return done


@contextmanager
def _tidied(folder: Path) -> Iterator[None]:
    """Leave no trace of an attempt that saved no picture; else its pictures stay for the next attempt to go on."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            (folder / FILE).unlink(missing_ok=True)
            (folder / "images").rmdir()  # only where it is empty
        raise


def from_columns(
    rows: Iterable[Mapping[str, Any]],
    folder: Path,
    columns: Columns = Columns(),
    done: Imported | None = None,
    base: Path | str = Path(),
) -> Iterator[PreferenceRow]:
    """Rows of a table as preferences; pictures are saved to `folder` as they are stored, each once. What is no
    preference is left out and counted.

    Args:
        rows: images as bytes, pictures or paths.
        folder: where pictures go; it exists.
        columns: their names.
        done: counts along.
        base: the folder that image paths are relative to and must not leave, or the name of a data set on the Hub, in
            which the library itself made them.

    Raises:
        SeaAnchorError: the first row lacks the columns.
        OSError: a picture could not be written.
    """
    done = Imported() if done is None else done
    for number, row in enumerate(rows):
        if number == 0:
            columns.check(row)
        data = columns.rename(row)
        try:
            found = to_row(data | {"image": "checked below"}, folder)
            raw, ending = picture(data["image"], base)
        except ValueError as error:
            done.left_out += 1
            done.reasons += [f"row {number}: {error}"] if done.left_out <= 3 else []
            continue
        path = folder / f"{hashlib.blake2b(raw, digest_size=12).hexdigest()}.{ending}"
        if not path.exists() or path.read_bytes() != raw:  # cut short when the disk was full, or by a kill
            path.write_bytes(raw)
            done.pictures += 1
        done.kinds["paired" if found.chosen and found.rejected else "desirable" if found.chosen else "undesirable"] += 1
        yield PreferenceRow(path, found.chosen, found.rejected)


def picture(value: Any, base: Path | str) -> tuple[bytes, str]:
    """Bytes and file ending of an image cell: a Pillow picture, bytes, a path, or the pair of both that the library
    stores.

    Raises:
        ValueError: it is none, or no picture.
    """
    if hasattr(value, "save"):
        buffer = io.BytesIO()
        value.save(buffer, "PNG")
        return buffer.getvalue(), "png"
    stored = value.get("bytes") or value.get("path") if isinstance(value, Mapping) else value
    raw = read_stored(stored, base) if isinstance(stored, str) else stored
    if not isinstance(raw, bytes):
        raise ValueError(
            "no image" if value is None else f"the image is {type(value).__name__}, neither picture nor path"
        )
    try:
        with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
            return raw, ENDINGS.get(str(image.format), str(image.format).lower())
    except Exception as error:  # decoders raise whatever they like on broken bytes
        raise ValueError(f"its image is no picture ({len(raw)} bytes)") from error


def open_rows(
    source: str, image: str, split: str | None, subset: str | None
) -> tuple[Iterator[Mapping[str, Any]], Path | str]:
    """The rows of one split, read one after the other with images undecoded, and the folder that image paths are
    relative to, or the name of the data set on the Hub.

    Raises:
        SeaAnchorError: the library is missing; no such data set or split.
    """
    check_there(source)
    datasets, path = library(), Path(source)
    try:
        rows = _one_split(load(source, subset, streaming=True), source, split)
        if not isinstance(rows, datasets.IterableDataset):
            rows = rows.to_iterable_dataset()
        elif path.exists():
            # Arrow keeps what it reads of a parquet file to its end (apache/arrow 39808); so it gets one row group at a
            # time
            rows = rows.reshard()
        if isinstance((rows.features or {}).get(image), datasets.Image):
            rows = rows.cast_column(
                image, datasets.Image(decode=False)
            )  # saved as they are, not decoded and compressed again
    except SeaAnchorError:
        raise
    except Exception as error:  # the library, the file and the Hub each fail in their own way
        raise _not_opened(source, error) from error
    base: Path | str = (path if path.is_dir() else path.parent) if path.exists() else source
    return _told(iter(rows), source), base


def _one_split(loaded: Any, source: str, split: str | None) -> Any:
    if not isinstance(loaded, dict):
        if split is not None and getattr(loaded, "split", None) is not None and str(loaded.split) != split:
            raise SeaAnchorError(
                f"{source} is one table, {str(loaded.split)!r}", "no --split, or its own", "leave --split out"
            )
        return loaded
    name = split or ("train" if "train" in loaded else next(iter(loaded)) if len(loaded) == 1 else None)
    if name not in loaded:
        found = f"{source} has no split {name!r}" if name else f"{source} has several splits"
        raise SeaAnchorError(found, f"one of {', '.join(loaded)}", "set --split")
    return loaded[name]


def _told(rows: Iterator[Mapping[str, Any]], source: str) -> Iterator[Mapping[str, Any]]:
    """The rows, where a broken file is met only on the way."""
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except Exception as error:  # as above
            raise _not_opened(source, error) from error
        yield row


def _not_opened(source: str, error: Exception) -> SeaAnchorError:
    first = " ".join(str(error).split())[:300]
    expected = (
        "a folder written by save_to_disk, a parquet, JSON, CSV or Arrow file, or a name on the Hub that can be reached"
    )
    return SeaAnchorError(
        f"{source} could not be read: {type(error).__name__}: {first}", expected, "correct the name, or set --subset"
    )
