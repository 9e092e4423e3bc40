"""Results and runs as small as can be, in the shape that `seaanchor evaluate` and `seaanchor train` write."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

CONFIG = """
model: seaanchor-tiny
train_data: photos-mini/train
epochs: 3
max_steps: 60
batch_size: 32
lr: 0.0005
seed: 0
objective: {kind: embedding_distance}
anchor: {kind: lagrangian, rho: 0.05}
perturbation: {kind: pgd, norm: linf, epsilon: 2/255, num_steps: 2}
adapter: {kind: full}
"""


def rows(accuracy: float, n: int = 50) -> dict:
    """A proportion."""
    return {"accuracy": accuracy, "low": max(0.0, accuracy - 0.1), "high": min(1.0, accuracy + 0.1), "n": n}


def result(clean: float, robust: float, **more) -> dict:
    """A result of the first format under PGD."""
    protocol = {"plans": [{"name": "pgd", "num_steps": 7, "norm": "linf"}], "seed": 0}
    return {
        "format": 1,
        "dataset": "a [set]",
        "model": "m",
        "pretrained": "abc",
        "clean": rows(clean),
        "constant_predictor": 0.25,
        "skipped": "",
        "notes": [],
        "reference": None,
        "robust": [{"attack": "pgd", "epsilon": 2 / 255} | rows(robust)],
        "protocol": protocol,
        "checks": {"epsilon 0 equals clean": True},
        "metrics": {"acc1": clean, "acc5": 0.9},
        "suites": {},
        "environment": {"python": "3.11", "versions": {"torch": "2"}},
    } | more


def everything(shift: float = 0.0, **more) -> dict:
    """A result of the second format with every suite."""
    plan = {"words": "odd", "fonts": "unseen", "sizes": [0.14, 0.25], "seed": 0}
    moved = {"mean": 0.06, "p50": 0.05, "p90": 0.12, "max": 0.4}
    suites = {
        "embedding": [{"epsilon": 4 / 255, "norm": "linf", "num_steps": 20, "distance": moved, "cosine": 0.7, "n": 50}],
        "typographic": {key: rows(0.5 + shift) for key in ("clean", "attacked", "attack_word", "two_way", "unreadable")}
        | {"plan": plan},
        "reading": {"reading": rows(0.8), "plan": plan},
        "noise": [{"sigma": 32} | rows(0.4)],
        "corruptions": {"kinds": {"motion_blur": [{"severity": 3} | rows(0.3)]}, "mean": 0.3, "n": 50},
        "bias": {
            "gender": rows(0.7),
            "activity": rows(0.8),
            "predicted_man": 0.6,
            "roles": 3,
            "retrieval": {
                "uniform": {"max_skew_at_10": 0.2, "ndkl": 0.1},
                "dataset": {"max_skew_at_10": 0.1, "ndkl": 0.05},
            },
        },
        "interpretability": {"own": 0.3, "other": 0.1, "n": 50, "templates": 5},
        "drift": {
            "cosine": 0.97,
            "distance": moved,
            "deciles": [0.01 * (i + 1) for i in range(11)],
            "rho": 0.1,
            "within": rows(0.9),
            "n": 50,
        },
        "probe": {"linear": rows(0.7), "knn": rows(0.6), "k": 10},
        "retrieval": {
            way: {f"recall@{k}": rows(0.1 * k**0.5) for k in (1, 5, 10)} for way in ("image_to_text", "text_to_image")
        },
    }
    robust = [
        {"attack": "apgd", "epsilon": e / 255, "norm": "linf", "num_steps": 10} | rows(0.5 - 0.1 * e + shift)
        for e in (1, 2)
    ]
    return (
        result(0.7, 0.2)
        | {
            "format": 2,
            "robust": robust,
            "suites": suites,
            "metrics": {"acc1": 0.7, "acc5": 0.9, "ece": 0.05},
            "checks": {"batch size": {"passed": True, "detail": "32 images"}},
        }
        | more
    )


def write_run(folder: Path, *results: dict, steps: int = 60, finished: bool = True, config: str = CONFIG) -> Path:
    """A run folder with a log, and results of its export."""
    (folder / "evaluation").mkdir(parents=True)
    (folder / "config.yaml").write_text(config)
    log = [
        {
            "step": step,
            "lr": 1e-4,
            "adversarial_loss": 100 / step,
            "clean_distance": 2 / step,
            "rho": 0.05,
            "violation_rate": 0.5,
            "multiplier": 1.0,
            "multiplier_p10": 0.9,
            "multiplier_p50": 1.0,
            "multiplier_p90": 1.1,
            "images_per_s": 60.0,
            "seconds": 1.5,
        }
        for step in range(20, steps + 1, 20)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    if finished:
        (folder / "export").mkdir()
    for i, data in enumerate(results):
        (folder / "evaluation" / f"{i}.json").write_text(json.dumps(data | {"model": str(folder / "export")}))
    return folder


@pytest.fixture(scope="session")
def made() -> SimpleNamespace:
    """What makes results and runs."""
    return SimpleNamespace(rows=rows, result=result, everything=everything, write_run=write_run, config=CONFIG)
