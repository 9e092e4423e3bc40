"""The models that ship inside the package."""

from importlib.resources import files
from pathlib import Path

from seaanchor.errors import SeaAnchorError

ZOO = Path(str(files("seaanchor"))) / "zoo" / "models"


def embedded_models() -> list[str]:
    """Names of the models that ship inside the package."""
    return sorted(p.name for p in ZOO.iterdir() if p.is_dir()) if ZOO.is_dir() else []


def embedded_folder(name: str) -> Path:
    """Where the files of an embedded model of this name are, or would be."""
    return ZOO / name


def base_folder(folder: Path, base: str) -> Path:
    """Where the model lies whose text tower a variant in `folder` borrows: beside it, or in the package.

    Raises:
        SeaAnchorError: a name that leads elsewhere.
    """
    if not isinstance(base, str) or base != Path(base).name or base == "..":
        raise SeaAnchorError(
            f"{folder} borrows the text tower of {base!r}", "the name of a folder beside it", "correct text_tower_of"
        )
    beside = folder.parent / base
    return beside if beside.is_dir() else embedded_folder(base)
