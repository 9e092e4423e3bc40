"""What `--pretrained` says: a tag or a file, an entry of a file, and an image tower's file over another's text side."""

from dataclasses import dataclass
from pathlib import Path

from seaanchor.encoders.embedded import embedded_models
from seaanchor.errors import SeaAnchorError

WITH_WEIGHTS = ("local-dir:", "hf-hub:", "hf:", "timm:local-dir:", "timm:hf-hub:")


@dataclass(frozen=True)
class Pretrained:
    """The parts of `BASE+FILE`.

    Attributes:
        base: a tag, a file, `none`, or nothing where the model brings its own weights.
        image_tower: a file whose image tower replaces that of the base.
    """

    base: str | None
    image_tower: str | None = None


def split_entry(path: str | Path) -> tuple[Path, str | None]:
    """`FILE#ENTRY` as its two parts; a file with a # in its name is taken whole.

    >>> split_entry("runs/dino.pth#teacher")
    (PosixPath('runs/dino.pth'), 'teacher')
    """
    whole = Path(path)
    file, mark, entry = str(path).rpartition("#")
    return (whole, None) if not mark or whole.is_file() else (Path(file), entry)


def is_weights_file(text: str | None) -> bool:
    """Whether a file of this name, or one with such an entry, is there."""
    return bool(text) and split_entry(str(text))[0].is_file()


def split_pretrained(text: str | None) -> Pretrained:
    """The base and the image tower's file of `BASE+FILE`; a file with a + in its name is taken whole.

    >>> split_pretrained("openai+fare.pt"), split_pretrained("openai")
    (Pretrained(base='openai', image_tower='fare.pt'), Pretrained(base='openai', image_tower=None))
    """
    if text is None or "+" not in text or is_weights_file(text):
        return Pretrained(text)
    parts = text.split("+")
    cuts = [("+".join(parts[:i]), "+".join(parts[i:])) for i in range(1, len(parts))]
    base, file = next((cut for cut in cuts if is_weights_file(cut[1])), cuts[0])
    return Pretrained(base or None, file)


def brings_weights(name: str) -> bool:
    """Whether a model's name stands for its weights, too: embedded, a folder, or on the Hub."""
    return name in embedded_models() or name.startswith(WITH_WEIGHTS) or Path(name).is_dir()


def check_pretrained(name: str, pretrained: str | None) -> None:
    """Raise a SeaAnchorError where weights are named that would not be loaded, or a file that is not there."""
    asked = split_pretrained(pretrained)
    if brings_weights(name) and asked.base is not None:
        raise SeaAnchorError(
            f"{name} brings its own weights, and pretrained={pretrained!r} was given as well",
            "--pretrained beside bare names alone",
            f"leave it out, or write --pretrained +FILE to set a file's image tower over the text side of {name}",
        )
    if asked.image_tower is not None:
        if name.startswith(("timm:", "hf:")):
            raise SeaAnchorError(
                f"pretrained={pretrained!r} sets an image tower over a text side, and {name} is not OpenCLIP's",
                "an OpenCLIP model",
                "name the file alone",
            )
        if not is_weights_file(asked.image_tower):
            raise SeaAnchorError(
                f"{asked.image_tower} in pretrained={pretrained!r} is no file",
                "BASE+FILE: a tag or a file with the text side, and the image tower's file",
                "correct the path",
            )
