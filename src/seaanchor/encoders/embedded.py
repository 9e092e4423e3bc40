"""The models that ship inside the package."""

from importlib.resources import files
from pathlib import Path

ZOO = Path(str(files("seaanchor"))) / "zoo" / "models"


def embedded_models() -> list[str]:
    """Names of the models that ship inside the package."""
    return sorted(p.name for p in ZOO.iterdir() if p.is_dir()) if ZOO.is_dir() else []


def embedded_folder(name: str) -> Path:
    """Where the files of an embedded model of this name are, or would be."""
    return ZOO / name
