"""gradio, imported without the stubs for editors that it writes beside its own sources whenever it is imported."""

import os
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from seaanchor.errors import SeaAnchorError

WRITER, WRITES = "gradio.component_meta", "create_or_modify_pyi"


class _WithoutStubs:
    """Finds the module that writes the stubs, and puts a function that does nothing in place of the one that does."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Of any other module nothing, so that others find it."""
        spec = PathFinder.find_spec(name, path, target) if name == WRITER else None
        if spec is not None and spec.loader is not None:
            setattr(spec.loader, "exec_module", _silenced(spec.loader.exec_module))  # noqa: B010 (no method of its own)
        return spec


def import_gradio() -> Any:
    """The module gradio: nothing of it counts who uses it, and its import takes a third less time.

    Raises:
        SeaAnchorError: the extra `app` is missing.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read on import, and by every component
    sys.meta_path.insert(0, _WithoutStubs)
    try:
        import gradio
    except ImportError:
        raise SeaAnchorError("gradio is not installed", "the extra `app`", "pip install 'seaanchor[app]'") from None
    finally:
        sys.meta_path.remove(_WithoutStubs)
    return gradio


def _silenced(execute: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def executed(module: ModuleType) -> None:
        execute(module)
        setattr(module, WRITES, lambda *_: None)

    return executed
