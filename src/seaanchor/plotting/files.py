"""Figures as files that are whole or not there."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from seaanchor.utils.checkpoint import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_figure(figure: "Figure", path: Path, **options: Any) -> None:
    """Write a figure in the format of its file's ending; a picture that was there stays until the new one is whole.

    Args:
        figure: drawn.
        path: of the file, such as `figure.svg`.
        options: of matplotlib's `savefig`.

    Raises:
        SeaAnchorError: as `write_atomic`.
    """
    write_atomic(path, lambda partial: figure.savefig(partial, format=path.suffix[1:], **options))
