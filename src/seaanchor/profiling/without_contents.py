"""Running a model on tensors that have shapes and no contents."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from seaanchor.errors import SeaAnchorError

P = ParamSpec("P")
T = TypeVar("T")


def without_contents() -> FakeTensorMode:
    """Tensors that have shapes alone; what a tower keeps from an earlier forward, such as positions, comes as it is."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def shapes_alone(predict: Callable[P, T]) -> Callable[P, T]:
    """A prediction, with an error of our own where the tower asks for what is not there: the values of tensors."""

    @wraps(predict)
    def told(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return predict(*args, **kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise SeaAnchorError(
                f"the cost of this model cannot be predicted: its forward reads values of tensors ({error})",
                "a tower whose work depends on shapes alone",
                "measure it with --dry-run, which runs one step",
            ) from error

    return told
