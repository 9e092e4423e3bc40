"""Paths in what is passed on, such as result files and pages: relative to the working folder or to `~`, without the
names that led there."""

import os
import re
from functools import partial
from pathlib import Path
from typing import Any


def portable(data: Any) -> Any:
    """Plain data in whose texts paths below the working folder are relative to it, and those below the home folder
    begin with `~`.

    Other paths stay, so that from the same working folder every path still leads where it led; `expanded` reads the
    `~`.
    """
    if isinstance(data, dict):
        return {key: portable(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return type(data)(portable(value) for value in data)
    if not isinstance(data, str) or os.sep not in data:
        return data
    for folder, short in ((Path.cwd(), "./"), (Path.home(), "~/")):
        if len(folder.parts) > 1:  # at the root of the disk every path would be below it
            below = re.compile(rf"(?<![\w.~/-]){re.escape(str(folder))}/+([^\s\"']*)")
            data = below.sub(partial(_shortened, short), data)
    return data


def _shortened(short: str, found: re.Match[str]) -> str:
    return (
        found[1] if short == "./" and os.sep in found[1] else short + found[1]
    )  # a bare name could be that of an embedded model or set


def expanded(text: str) -> str:
    """The text with a `~` at its beginning, or after a prefix such as `local-dir:`, read as the home folder.

    >>> expanded("runs/~x")
    'runs/~x'
    """
    return re.sub(r"^((?:[\w-]+:)*)~/", lambda found: f"{found[1]}{Path.home()}/", text)


def beside(path: Path) -> list[str]:
    """Names of what lies beside a path that is missing, hidden ones apart: at most a thousand, and none where the
    folder cannot be read."""
    try:
        return sorted(name for name in os.listdir(path.parent) if not name.startswith("."))[:1000]
    except (OSError, ValueError):
        return []
