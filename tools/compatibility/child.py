"""The checks of one model, each told on a line of its own as soon as it has run: some kill the process."""

import json
import logging
import os
import resource
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.compatibility.stand_ins import standing_in


def tell(**record: Any) -> None:
    """One JSON line on standard output."""
    print(json.dumps(record), flush=True)


def timed(check: str, run: Callable[[], Any]) -> Any:
    """Run a check and tell how it went; its result, or None."""
    start, result, said = time.perf_counter(), None, ""
    tell(begins=check)
    try:
        result = run()
    except Exception as error:  # whatever it raises goes into the table
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"[:600]
        refused = type(error).__name__ == "SeaAnchorError" and check == "load"
        if not refused and not isinstance(error, AssertionError):
            traceback.print_exc()
    tell(check=check, error=said, seconds=round(time.perf_counter() - start, 2))
    return result


def prepare() -> None:
    """Import once what every model needs."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    import open_clip  # noqa: F401
    import timm  # noqa: F401
    import torch
    import transformers  # noqa: F401

    import tools.compatibility.models  # noqa: F401

    torch.set_num_threads(1)


def main(name: str, side: int | None, work: Path, only: list[str]) -> None:
    """Check one model, by all checks or by some."""
    import torch

    torch.manual_seed(0)
    if name.startswith("open_clip:"):
        with standing_in(name.removeprefix("open_clip:"), work) as needed:
            tell(stand_in=needed)
            _check(name, side, only)
    elif name.startswith("hf:"):
        from tools.compatibility.hugging_face import written

        _check(f"hf:{written(name.removeprefix('hf:'), work)}", side, only)
    else:
        _check(name, side, only)
    tell(memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def absent(model: Any, library: Any) -> list[str]:
    """Checks that have nothing to compare."""
    there = {
        "texts": model.encode_texts is not None,
        "classes": model.classifier is not None and library.classify is not None,
        "pixels": library.transform is not None,
    }
    return [check for check, found in there.items() if not found]


def _check(name: str, side: int | None, only: list[str]) -> None:
    from seaanchor.testing.encoder import check_tower
    from seaanchor.testing.loaded_model import model_checks
    from tools.compatibility.models import library_of, loaded, made

    with tempfile.TemporaryDirectory() as folder:
        this = timed("made", lambda: made(name, side, Path(folder)))
        model = timed("load", lambda: loaded(this, side)) if this is not None else None
    if model is None:
        return
    encoder = model.encoder
    parameters = sum(parameter.numel() for parameter in model.module.parameters())
    tell(parameters=parameters, side=encoder.image_size, dim=encoder.dim)
    library = timed("library", lambda: library_of(this, model, side))
    if library is None:
        return
    tell(absent=absent(model, library))
    checks = {"tower": lambda: check_tower(encoder), **model_checks(model, library)}
    for check, run in checks.items():
        if not only or check in only:
            timed(check, run)
