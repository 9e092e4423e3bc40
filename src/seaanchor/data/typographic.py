"""Folders of lettered images whose file names tell label and drawn word, `label=X_text=Y.png`, as RTA-100 and PAINT keep them."""

from pathlib import Path

from seaanchor.data.folder import ImageList
from seaanchor.data.images import EXTENSIONS
from seaanchor.errors import SeaAnchorError


def parse_name(stem: str) -> tuple[str, str] | None:
    """Label and drawn word of a file name without its ending, or None if it has another form.

    >>> parse_name("label=red fox_text=ipod_3")
    ('red fox', 'ipod')
    >>> parse_name("cat")
    """
    if not stem.startswith("label=") or "_text=" not in stem:
        return None
    label, _, rest = stem.removeprefix("label=").partition("_text=")
    word, _, number = rest.rpartition("_")
    return (label, word) if word and number.isdigit() else (label, rest)


def is_lettered(root: Path) -> bool:
    """Whether a folder directly holds `label=X_text=Y` images."""
    return root.is_dir() and any(f.suffix.lower() in EXTENSIONS and parse_name(f.stem) for f in root.iterdir())


def list_lettered(root: Path) -> ImageList:
    """Images with their label, and the drawn word as the rejected text; the classes are all labels and all drawn words.

    Raises:
        SeaAnchorError: a file of another name form among them.
    """
    files = sorted(f for f in root.iterdir() if f.suffix.lower() in EXTENSIONS and not f.name.startswith("."))
    parsed = [parse_name(f.stem) for f in files]
    if strange := [f.name for f, names in zip(files, parsed, strict=True) if names is None]:
        raise SeaAnchorError(f"{root}: {', '.join(strange[:3])}", "files named label=X_text=Y.png", "rename or remove them")
    named = [names for names in parsed if names is not None]
    if same := [f.name for f, (label, word) in zip(files, named, strict=True) if label == word]:
        raise SeaAnchorError(f"{root}: {', '.join(same[:3])} carry their own label", "a wrong word on every image", "remove them")
    texts = tuple(sorted({name for names in named for name in names}))
    number = {text: i for i, text in enumerate(texts)}
    labels = tuple(number[label] for label, _ in named)
    pairs = tuple((number[label], number[word]) for label, word in named)
    return ImageList(root, tuple(files), labels, texts, pairs)
