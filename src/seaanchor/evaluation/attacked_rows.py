"""The record of `seaanchor attack`: a row for each image as soon as its files are there, so that what was interrupted
goes on."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seaanchor.errors import SeaAnchorError
from seaanchor.utils.checkpoint import write_atomic
from seaanchor.utils.json_text import to_json

FILE, UNFINISHED = "answers.json", "unfinished.jsonl"
FORMAT = 2  # of the rows


class Journal:
    """Rows by their number, on disk.

    Args:
        folder: new, empty, or of an attack of the same settings.
        settings: JSON values.

    Attributes:
        rows: that are there already.
        finished: the whole record, where the attack was done before.

    Raises:
        SeaAnchorError: the folder is in use, or was written under other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder, self.settings = folder, dict(settings)
        self.rows: dict[int, dict[str, Any]] = {}
        self.finished: dict[str, Any] | None = None
        record, journal = folder / FILE, folder / UNFINISHED
        if record.is_file():
            self.finished = _parsed(record.read_text("utf-8", "replace"))
            self._check((self.finished or {}).get("settings"))
        elif journal.is_file():
            first, *rows = [_parsed(line) for line in journal.read_text("utf-8", "replace").splitlines()] or [None]
            self._check(first)
            self.rows = {row["number"]: row for row in rows if row and "number" in row}  # the last may be cut
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            found = f"{folder} is {'not empty' if folder.is_dir() else 'a file'}"
            raise SeaAnchorError(found, "a new or empty folder", "name another --output")
        if self.finished is None:
            lines = [self.settings, *self.rows.values()]
            write_atomic(journal, "".join(to_json(line) + "\n" for line in lines))

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Keep rows whose files are there."""
        self.rows |= {row["number"]: row for row in rows}
        with (self.folder / UNFINISHED).open("a", encoding="utf-8") as file:
            file.write("".join(to_json(row) + "\n" for row in rows))
            file.flush()
            os.fsync(file.fileno())

    def finish(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Write the whole record, and return it."""
        record = {"settings": self.settings, **result}
        write_atomic(self.folder / FILE, to_json(record, indent=2, ensure_ascii=False) + "\n")
        (self.folder / UNFINISHED).unlink(missing_ok=True)
        return record

    def _check(self, before: Any) -> None:
        if before == self.settings:
            return
        known = before if isinstance(before, dict) else {}
        changed = [key for key in sorted({*known, *self.settings}) if known.get(key) != self.settings.get(key)]
        found = f"{self.folder} holds an attack under other settings ({', '.join(changed[:6])})"
        raise SeaAnchorError(found, "the same settings, or a new folder", "name another --output")


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
