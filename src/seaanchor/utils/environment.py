"""Versions and hardware of this machine."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def environment() -> dict[str, Any]:
    """Versions and hardware, for a bug report."""
    versions: dict[str, str | None] = {}
    for package in (
        "seaanchor",
        "torch",
        "torchvision",
        "open_clip_torch",
        "timm",
        "transformers",
        "pyautoattack",
        "numpy",
        "pillow",
    ):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "versions": versions,
    }
