"""A tower through `torch.compile`: between its matrix products, what torch runs one operation at a time becomes one
kernel.

Legend: B batch, C channels, H W pixels, D embedding dimension.
"""

import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from seaanchor.errors import SeaAnchorError

WITHOUT = "leave --compile out"


def _forward(module: nn.Module, pixels_BCHW: Tensor) -> Tensor:
    """By the class, whatever forward the object has of its own meanwhile."""
    output: Tensor = type(module).forward(module, pixels_BCHW)
    return output


class CompiledForward:
    """A forward and its gradient, compiled: once for the attack and once for updates, and once more each if batches
    come in other sizes, which then serves all sizes but 1.

    Weights are inputs of what is compiled and stay where they are. A forward without a gradient runs as ever, and so
    does one whose operations are counted: torch compiles nothing then.

    Args:
        backend: of `torch.compile`.
    """

    def __init__(self, backend: str | Callable[..., Any] = "inductor") -> None:
        # torch counts compilations, and stops at eight, by the code of a function: another run's are not this one's
        own = FunctionType(_forward.__code__.replace(), globals(), _forward.__name__)
        # layers that draw numbers draw those that they draw without it
        options: dict[str, Any] = {"options": {"fallback_random": True}} if backend == "inductor" else {}
        self._run: Callable[[nn.Module, Tensor], Tensor] = torch.compile(own, backend=backend, **options)

    def __call__(self, module: nn.Module, pixels_BCHW: Tensor) -> Tensor:
        """What the module gives (B, D) for pixels (B, C, H, W).

        Raises:
            SeaAnchorError: torch cannot compile it.
        """
        from torch._dynamo.exc import TorchDynamoException

        if not torch.is_grad_enabled():
            return _forward(module, pixels_BCHW)
        try:
            return self._run(module, pixels_BCHW)
        except TorchDynamoException as error:
            line = " ".join(str(error).split("\n\n")[0].split()) or type(error).__name__
            expected = f"a tower that torch {torch.__version__} compiles"
            raise SeaAnchorError(f"the tower cannot be compiled: {line}", expected, WITHOUT) from error

    @contextmanager
    def inside(self, module: nn.Module) -> Iterator[None]:
        """Inside, calls of the module go through here; its layers, hooks and weights keep their names, and copies of
        it their own forward."""
        vars(module)["forward"] = partial(self, module)
        try:
            yield
        finally:
            del vars(module)["forward"]


def check_compiler(device: torch.device) -> None:
    """See that what torch compiles with is there: a C++ compiler and Python's headers for a processor, Triton for
    a GPU.

    Raises:
        SeaAnchorError: something is missing.
    """
    if device.type == "cpu":
        expected = "a C++ compiler and Python's headers"
        missing = _missing_on_processor()
        change = f"install them (Debian: g++ and python3-dev), set CXX to a compiler, or {WITHOUT}"
    elif device.type in ("cuda", "xpu"):
        from torch.utils._triton import has_triton

        expected, missing = "Triton, on a device that it supports", "" if has_triton() else "no Triton for this device"
        change = f"install triton, or {WITHOUT}"
    else:
        return
    if missing:
        raise SeaAnchorError(f"--compile on {device.type}: {missing}", expected, change)


def _missing_on_processor() -> str:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return "no working C++ compiler was found"
    headers = Path(sysconfig.get_path("include"))
    return "" if (headers / "Python.h").is_file() else f"there is no Python.h in {headers}"
