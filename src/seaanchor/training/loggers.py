"""The numbers of a log line, and where lines go besides metrics.jsonl: TensorBoard, Weights & Biases, trackio, by
`--report-to`.

Legend: B batch, D embedding dimension, P processes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from seaanchor.anchors.lagrangian import Lagrangian
from seaanchor.config.schema import RunConfig, to_dict
from seaanchor.errors import SeaAnchorError
from seaanchor.functional.distances import cosine, relative_distance, spread
from seaanchor.method import Method
from seaanchor.types import Constraint, needs_of

Report = Callable[[dict[str, Any]], None]
PROJECT = "seaanchor"
MODULES = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb", "trackio": "trackio"}


@dataclass(frozen=True)
class StepRecord:
    """What a step leaves for the log, still on the device: per-sample loss, the constraint and multipliers where there
    are any, and the adapter's own loss (a row a process) where it has one."""

    objective_B: Tensor
    constraint: Constraint | None
    multiplier_B: Tensor | None
    adapter_P: Tensor | None = None


def measure(
    record: StepRecord, now_BD: Tensor, reference_BD: Tensor, config: RunConfig, method: Method
) -> dict[str, float]:
    """The numbers of one log line, of a method as it was in that step.

    Loss, KL, violation and multipliers are those the last primal step saw; relative clean distance, cosine and spread
    are of `now_BD`, the clean images' embeddings (B, D), or tokens (B, T, D), after it, against the reference's. A
    number that means nothing for a run is left out. A linear map may rotate all embeddings together, which moves each
    of them and changes no answer, so its distance from orthogonal is logged in place of theirs. `rho` is logged where
    it bounds distances, and, for comparison, where a tower has no constraint on its embeddings.
    """
    stored, on_classes = needs_of(method.adapter).stored_embeddings, needs_of(method.anchor).head
    rho = method.anchor.rho if isinstance(method.anchor, Lagrangian) else config.anchor.rho
    row = {"adversarial_loss": record.objective_B.mean().item()}
    relative_B = relative_distance(now_BD, reference_BD)
    if not stored:
        row |= {
            "clean_distance": relative_B.mean().item(),
            "cosine": cosine(now_BD, reference_BD).mean().item(),
        }
        if (apart := spread(reference_BD).item()) > 0:
            row["spread"] = spread(now_BD).item() / apart
    elif record.adapter_P is not None and config.adapter.orthogonality > 0:
        row["orthogonality"] = record.adapter_P.mean().item() / config.adapter.orthogonality
    if on_classes and record.constraint is not None:
        row["kl"] = record.constraint.distance_B.mean().item()
    if record.multiplier_B is not None or not (stored or on_classes):
        violated_B = relative_B > rho if record.constraint is None else record.constraint.violation_B > 0
        row |= {"rho": rho, "violation_rate": violated_B.float().mean().item()}
    if record.multiplier_B is not None:
        low, middle, high = record.multiplier_B.quantile(
            torch.tensor([0.1, 0.5, 0.9], device=record.multiplier_B.device)
        ).tolist()
        row |= {
            "multiplier": record.multiplier_B.mean().item(),
            "multiplier_p10": low,
            "multiplier_p50": middle,
            "multiplier_p90": high,
        }
    return row


@contextmanager
def reporting(config: RunConfig, enabled: bool = True) -> Iterator[Report]:
    """A function that takes log rows, each with its `step`; it does nothing for report_to none, or where not
    enabled."""
    package = tracker_package(config.report_to) if enabled else None
    if package is None:
        yield lambda row: None
    elif config.report_to == "tensorboard":
        with package.SummaryWriter(log_dir=str(config.output / "tensorboard")) as writer:

            def write(row: dict[str, Any]) -> None:
                for name, value in flatten(row).items():
                    writer.add_scalar(name, value, row["step"])

            yield write
    else:
        place = {"dir": str(config.output)} if config.report_to == "wandb" else {}
        package.init(project=PROJECT, name=config.output.name, config=to_dict(config), **place)
        try:
            yield lambda row: package.log(flatten(row), step=row["step"])
        finally:
            package.finish()


def tracker_package(kind: str) -> ModuleType | None:
    """The package behind a value of `--report-to`, None for none.

    Raises:
        SeaAnchorError: it is not installed.
    """
    if kind == "none":
        return None
    try:
        return import_module(MODULES[kind])
    except ImportError as error:
        raise SeaAnchorError(
            f"--report-to {kind}, but {kind} is not installed", "its package", "pip install 'seaanchor[tracking]'"
        ) from error


def flatten(row: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a row on one level, without its step.

    >>> flatten({"step": 5, "lr": 0.1, "eval": {"emoji": {"clean": 0.5}}})
    {'lr': 0.1, 'eval/emoji/clean': 0.5}
    """
    flat: dict[str, float] = {}
    for key, value in row.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}/")
        elif prefix or key != "step":
            flat[prefix + key] = value
    return flat
