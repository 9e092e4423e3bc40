"""Auto-PGD (Croce & Hein 2020, algorithm 1): a step size that halves by itself, and restarts from the best point.

The attack is a state and a pure step. All of an image's tensors lie in one record, so retiring fooled images is one
`select`.
Legend: B batch, C channels or classes, H W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial

import torch
from torch import Tensor

from seaanchor.attacks.ball import Ball
from seaanchor.attacks.classification import AttackResult, Fooled, not_finite
from seaanchor.functional.gradients import input_grad
from seaanchor.utils.stages import tick

MOMENTUM = 0.75  # alpha of algorithm 1
OSCILLATION = 0.75  # rho: fewer improving steps than this share halves the step
FIRST_STEP = 2.0  # of epsilon

Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(pixels of the images still attacked, their rows in the batch) → (loss of each, output)."""


@dataclass(frozen=True)
class State:
    """Everything an image carries through the attack; each tensor's first dimension runs over the images still
    attacked."""

    row: Tensor
    clean: Tensor
    pixels: Tensor
    previous: Tensor
    grad: Tensor
    loss: Tensor
    best: Tensor
    best_grad: Tensor
    best_loss: Tensor
    step_size: Tensor
    increases: Tensor
    best_loss_at_check: Tensor
    halved_at_check: Tensor

    def select(self, keep: Tensor) -> "State":
        """The state of some of the images."""
        return State(*(getattr(self, f.name)[keep] for f in fields(self)))


def checkpoints(num_steps: int) -> tuple[int, ...]:
    """Steps after which the step size is reconsidered: p_0 = 0, p_1 = .22, p_{j+1} = p_j + max(p_j − p_{j−1} − .03,
    .06), in whole steps as the public code rounds them.

    >>> checkpoints(100)
    (22, 41, 57, 70, 80, 87, 93, 99)
    """
    gap, smallest, shrink = (max(int(share * num_steps), 1) for share in (0.22, 0.06, 0.03))
    steps, at = [], gap
    while at <= num_steps:
        steps.append(at)
        gap = max(gap - shrink, smallest)
        at += gap
    return tuple(steps)


def begin(loss: Loss, clean_BCHW: Tensor, start_BCHW: Tensor, ball: Ball) -> tuple[State, Tensor]:
    """The state at the start, and the output there."""
    row = torch.arange(len(clean_BCHW), device=clean_BCHW.device)
    start = start_BCHW.clamp(0.0, 1.0)
    loss_B, grad, output = input_grad(lambda p: loss(p, row), start)
    step = clean_BCHW.new_full((len(row), 1, 1, 1), FIRST_STEP * ball.epsilon)
    nothing = torch.zeros_like(loss_B)
    state = State(
        row,
        clean_BCHW,
        start,
        start,
        grad,
        nothing,
        start,
        grad,
        loss_B,
        step,
        nothing,
        loss_B,
        torch.ones_like(row, dtype=torch.bool),
    )
    return state, output


def move(state: State, ball: Ball, momentum: float) -> State:
    """One ascent step with momentum, projected (algorithm 1, lines 7-8)."""
    ahead = ball.project(state.pixels + state.step_size * ball.ascent_direction(state.grad), state.clean)
    inertia = state.pixels - state.previous
    pixels = ball.project(state.pixels + (ahead - state.pixels) * momentum + inertia * (1 - momentum), state.clean)
    return replace(state, pixels=pixels, previous=state.pixels)


def look(state: State, loss_B: Tensor, grad: Tensor | None) -> State:
    """Note what the new point brought. Without a gradient (the last step), only the best point is updated."""
    better = loss_B > state.best_loss
    wide = better.view(-1, 1, 1, 1)
    return replace(
        state,
        loss=loss_B,
        best=torch.where(wide, state.pixels, state.best),
        best_loss=torch.where(better, loss_B, state.best_loss),
        grad=state.grad if grad is None else grad,
        best_grad=state.best_grad if grad is None else torch.where(wide, grad, state.best_grad),
        increases=state.increases + (loss_B > state.loss),
    )


def halve(state: State, gap: int) -> State:
    """At a checkpoint: halve the step and go back to the best point where too few steps improved, or where nothing
    improved since the last checkpoint although the step was kept (conditions 1 and 2 of section 3.2)."""
    oscillating = state.increases <= gap * OSCILLATION
    stuck = ~state.halved_at_check & (state.best_loss_at_check >= state.best_loss)
    halved = oscillating | stuck
    wide = halved.view(-1, 1, 1, 1)
    return replace(
        state,
        step_size=torch.where(wide, state.step_size / 2, state.step_size),
        pixels=torch.where(wide, state.best, state.pixels),
        grad=torch.where(wide, state.best_grad, state.grad),
        increases=torch.zeros_like(state.increases),
        best_loss_at_check=state.best_loss,
        halved_at_check=halved,
    )


def _swapped(loss: Loss, row: Tensor, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    return loss(pixels_BCHW, row)


def apgd(
    loss: Loss, clean_BCHW: Tensor, start_BCHW: Tensor, ball: Ball, num_steps: int, fooled: Fooled | None = None
) -> AttackResult:
    """Raise a per-sample loss.

    Args:
        loss: of the images still attacked.
        clean_BCHW: centres of the balls.
        start_BCHW: where to start.
        ball: norm and radius.
        num_steps: gradient steps; an image that is never fooled costs num_steps + 1 forwards and num_steps gradients.
        fooled: which images are done; they are retired at once. None: nothing is, and the best point is returned.

    Returns:
        Where fooled: the first fooling image; else the image of the highest loss.
    """
    ball.check_fits(clean_BCHW.shape[1:])
    result_BCHW = clean_BCHW.clone()
    fooled_B, broken_B = torch.zeros(2, len(clean_BCHW), dtype=torch.bool, device=clean_BCHW.device)

    def retire(state: State, output: Tensor) -> State:
        if fooled is None:
            return state
        done = fooled(output, state.row, state.pixels)
        fooled_B[state.row[done]] = True
        result_BCHW[state.row[done]] = state.pixels[done]
        return state.select(~done) if bool(done.any()) else state

    if len(clean_BCHW) == 0:
        return AttackResult(result_BCHW, fooled_B, broken_B)
    state, output = begin(loss, clean_BCHW, start_BCHW, ball)
    broken_B |= not_finite(state.grad)
    state = retire(state, output)
    checks = checkpoints(num_steps)
    last_check = 0
    for step in range(1, num_steps + 1):
        if len(state.row) == 0:
            break
        tick("steps")
        state = move(state, ball, MOMENTUM if step > 1 else 1.0)
        row = state.row
        if step < num_steps:
            loss_B, grad, output = input_grad(partial(_swapped, loss, row), state.pixels)
            broken_B[row] |= not_finite(grad)
        else:
            with torch.no_grad():
                (loss_B, output), grad = loss(state.pixels, row), None
        state = retire(look(state, loss_B, grad), output)
        if step in checks:
            state = halve(state, step - last_check)
            last_check = step
    result_BCHW[state.row] = state.best
    return AttackResult(result_BCHW, fooled_B, broken_B)
