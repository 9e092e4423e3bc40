"""Data sets of the `datasets` library: `hf-data:NAME`, `hf-data:NAME:SPLIT` or `hf-data:NAME:CONFIG:SPLIT`, where NAME
is a name on the Hugging Face Hub, a folder written by `save_to_disk`, or a parquet file or a folder of them."""

import contextlib
import io
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from seaanchor.data.files import file_below
from seaanchor.data.huggingface.library import is_saved, library, load
from seaanchor.data.labels import class_numbers
from seaanchor.data.name_pairing import class_order, clean_names, note_numbers
from seaanchor.data.names import note_unused, read_class_names
from seaanchor.data.types import ClassifiedImages, UnlabelledImages
from seaanchor.errors import SeaAnchorError

PREFIX = "hf-data:"
FORM = "hf-data:NAME, hf-data:NAME:SPLIT or hf-data:NAME:CONFIG:SPLIT"
IMAGE_COLUMNS, LABEL_COLUMNS = ("image", "img"), ("label", "labels", "fine_label")
MAPPED = 16_000_000  # bytes


@dataclass
class Table:
    """The image column of a `datasets.Dataset`, read through a memory map that is made anew from time to time: what was
    read through it counts as this process's memory until then."""

    data: Any
    column: str
    mapped: int = 0  # bytes read through this map

    def read(self, row: int) -> Any:
        """The stored image of a row."""
        if self.mapped > MAPPED and self.data.cache_files:
            self.data, self.mapped = (
                pickle.loads(pickle.dumps(self.data)),
                0,
            )  # of a table on disk that is the names of its files
        value = self.data[row][self.column]
        value = value.get("bytes") or value.get("path") if isinstance(value, dict) else value
        self.mapped += len(value) if value is not None else 0
        return value


@dataclass(frozen=True, slots=True)
class Row:
    """An image in a row of a table: the source's name, the row, and its stored size in bytes."""

    source: str
    row: int
    size: int
    table: Table = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """`row 3`."""
        return f"row {self.row}"

    def __str__(self) -> str:
        return f"{self.source}/{self.row}"

    def open(self, mode: Any = "rb") -> IO[Any]:
        """The image's bytes.

        Raises:
            ValueError, OSError: the row holds no image, or its file is gone or lies outside the source.
        """
        value = self.table.read(self.row)
        if isinstance(value, str):
            return _file(value, self.source).open("rb")
        if not isinstance(value, bytes):
            raise ValueError("no image in it")
        return io.BytesIO(value)


def _file(name: str, source: str) -> Path:
    """The regular file that a row names: below its source, or where the library put what it fetched from the Hub."""
    place = Path(_parse(source)[0])
    if place.exists():
        return file_below(name, place if place.is_dir() else place.parent)
    config = library().config
    for root in (config.HF_DATASETS_CACHE, config.HF_CACHE_HOME):
        with contextlib.suppress(ValueError):
            return file_below(name, Path(root))
    raise ValueError(f"its image {name[:80]!r} is no file of the data set")


def is_table(source: str) -> bool:
    """Whether a source is one of these: by its prefix, as a parquet file, or as a folder that `save_to_disk` wrote."""
    return source.startswith(PREFIX) or source.endswith(".parquet") or is_saved(Path(source))


def list_rows(source: str, class_names: Path | None = None, split: str = "test") -> UnlabelledImages | ClassifiedImages:
    """List the rows of a data set.

    The image column is the one of type Image, or called image or img; the label column that of type ClassLabel, or
    called label. A text as label is a class name. A row whose class number no class has is named among what is
    `refused`; without class names, the data set's own or given, the images are unlabelled.

    Args:
        class_names: as `read_class_names` takes it; a mapping is from the data set's own names.
        split: taken where the data set has several and the source names none.

    Raises:
        SeaAnchorError: `datasets` is not installed, no such data set or split, no image column, or no row.
    """
    table = _open(source, split)
    column = _column(table, "Image", IMAGE_COLUMNS)
    if column is None:
        raise SeaAnchorError(
            f"{source} has the columns {', '.join(table.column_names)}",
            "one of type Image, or called image",
            "rename the column",
        )
    if len(table) == 0:
        raise SeaAnchorError(f"{source} is empty", "at least one row", "name another split")
    table, sizes = _undecoded(table, column)
    pixels = Table(table.select_columns([column]), column)
    values, own = _labels(table)
    names = own if class_names is None else read_class_names(class_names, own)
    if class_names is None:
        note_numbers(own or (), source)
    rows = tuple(Row(source, number, size, pixels) for number, size in enumerate(sizes))
    if names is None or not values:
        return UnlabelledImages(Path(source), rows)
    found = class_numbers(values, names, own, source, [f"row {row.row}" for row in rows])
    refused = tuple(reason for _, reason in found if reason)
    labelled = [(row, label) for row, (label, reason) in zip(rows, found, strict=True) if not reason]
    if not labelled:
        raise SeaAnchorError(
            f"no labelled image in {source}: {'; '.join(refused[:3])}", "class numbers from 0", "name another split"
        )
    paths, labels = zip(*labelled, strict=True)
    note_unused(names, labels, source)
    return ClassifiedImages(Path(source), paths, labels, names, refused=refused)


def _open(source: str, split: str) -> Any:
    """The `datasets.Dataset` that a source names."""
    name, config, asked = _parse(source)
    path = Path(name)
    try:
        found = load(name, config, asked or split)
    except SeaAnchorError:
        raise
    except Exception as error:  # the library and its connections raise whatever they like
        if isinstance(error, IndexError) or "corresponds to no data" in str(
            error
        ):  # what the library says of a table without rows
            raise SeaAnchorError(f"{source} is empty", "at least one row", "name another split") from error
        reason = f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}"
        raise SeaAnchorError(
            f"{source} could not be opened ({reason})", f"{FORM}, with a split that is there", "correct the name"
        ) from error
    if not isinstance(found, dict):
        if asked and path.exists():
            raise SeaAnchorError(
                f"{source} names the split {asked}", "no split: this data set has none", f"write {PREFIX}{name}"
            )
        return found
    if (asked or split) not in found:
        there = list(found)
        expected = f"{asked or split}, or one that is named"
        raise SeaAnchorError(
            f"{name} holds the splits {', '.join(there)}", expected, f"name one, such as {PREFIX}{name}:{there[0]}"
        )
    return found[asked or split]


def _parse(source: str) -> tuple[str, str | None, str | None]:
    """Name, configuration and split."""
    name = source.removeprefix(PREFIX)
    if name and Path(name).exists():
        return name, None, None
    parts = name.split(":")
    if not all(parts) or len(parts) > 3:
        raise SeaAnchorError(f"{source!r} is no name of a data set", FORM, "correct it")
    return parts[0], parts[1] if len(parts) == 3 else None, parts[-1] if len(parts) > 1 else None


def _column(table: Any, kind: str, usual: Sequence[str]) -> str | None:
    typed = [name for name, feature in table.features.items() if type(feature).__name__ == kind]
    return next(
        (name for name in usual if name in typed),
        next(iter(typed), next((name for name in usual if name in table.column_names), None)),
    )


def _undecoded(table: Any, column: str) -> tuple[Any, list[int]]:
    """The table whose images come as bytes, and each image's stored size, for which no image is read."""
    import pyarrow as pa
    import pyarrow.compute as pc

    datasets = library()

    if isinstance(table.features[column], datasets.Image):
        table = table.cast_column(column, datasets.Image(decode=False))

    def lengths() -> Iterator[int]:
        for part in table.select_columns([column]).with_format("arrow").iter(1000):
            stored = part[column]
            if pa.types.is_struct(stored.type) and stored.type.get_field_index("bytes") >= 0:
                stored = pc.struct_field(stored, "bytes")
            known = pa.types.is_binary(stored.type) or pa.types.is_large_binary(stored.type)
            yield from (size or 0 for size in pc.binary_length(stored).to_pylist()) if known else [0] * len(part)

    return table, list(lengths())


def _labels(table: Any) -> tuple[list[Any], tuple[str, ...] | None]:
    """Each row's class number as stored (empty if there is no such column), and the class names that the table
    has."""
    column = _column(table, "ClassLabel", LABEL_COLUMNS)
    if column is None:
        return [], None
    values = table.select_columns([column])[:][column]
    if hasattr(table.features[column], "names"):
        return values, clean_names(table.features[column].names, f"column {column}")
    texts = class_order(sorted({value for value in values if isinstance(value, str) and value.strip()}))
    if not texts:
        return values, None
    number = {text: i for i, text in enumerate(texts)}
    return [number.get(value) for value in values], clean_names(texts, f"column {column}")
