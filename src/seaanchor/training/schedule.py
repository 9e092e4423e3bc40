"""The learning rate of every step."""

import math

import torch

from seaanchor.config.schema import RunConfig


def learning_rate(config: RunConfig, step: int, total: int) -> float:
    """Linear warm-up, then cosine to 0.

    Args:
        config: of the run: `lr` and `warmup`.
        step: counted from 0.
        total: steps of the run.
    """
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    return config.lr * (1 + math.cos(math.pi * (step - config.warmup) / max(1, total - config.warmup))) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, config: RunConfig, step: int, total: int) -> float:
    """Set this step's learning rate, which holds for all its K updates, and return it."""
    lr = learning_rate(config, step, total)
    for group in optimizer.param_groups:
        group["lr"] = lr
    return lr
