#!/usr/bin/env bash
# cooper-optim 1.0.1 with torch 2.13.0, CPU (seen 2026-12-01): nuPI's default start, `nuPIInitType.SGD`, postpones the
# jump that it is documented to leave out.
#
# The documentation sets the smoothed error before the first step to the first error, so that under a constant gradient
# of 1 the proportional term is 0 for ever and every step is lr * Ki. The first step is that. The second one is
# lr * (Ki + (1 - nu) * Kp): what is stored after the first step is 0, not the first error, and the whole proportional
# term arrives one step late (with nu > 0 spread over the following steps). All later multipliers are off by lr * Kp
# times the first error, which for a constraint that starts far from its bound is the largest error of the run.
# Guessed: as documented. What helps: `init_type=nuPIInitType.ZEROS`, where documentation and steps agree.
#
# Usage: bash findings/nupi_sgd_start_delays_the_proportional_kick.sh      (fails if the behaviour has changed)
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==${TORCH:-2.13.0}" numpy "cooper-optim==1.0.1"
"$folder/venv/bin/python" - <<'PY'
import torch
from cooper.optim import nuPI, nuPIInitType


def steps(start: nuPIInitType, smoothing: float) -> list[float]:
    """How far a multiplier goes in each of four steps whose gradient is 1, at lr 1, Ki 0.1 and Kp 10."""
    value = torch.nn.Parameter(torch.zeros(1))
    optimizer = nuPI([value], lr=1.0, Kp=10.0, Ki=0.1, ema_nu=smoothing, init_type=start, maximize=True)
    gone, before = [], 0.0
    for _ in range(4):
        value.grad = torch.ones(1)
        optimizer.step()
        gone.append(round(value.item() - before, 4))
        before = value.item()
    return gone


for smoothing in (0.0, 0.5):
    for start in (nuPIInitType.SGD, nuPIInitType.ZEROS):
        print(f"nu = {smoothing}, {start}: {steps(start, smoothing)}")
assert steps(nuPIInitType.SGD, 0.0) == [0.1, 10.1, 0.1, 0.1], "the behaviour has changed"
assert steps(nuPIInitType.SGD, 0.5) == [0.1, 5.1, 2.6, 1.35], "the behaviour has changed"
assert steps(nuPIInitType.ZEROS, 0.0) == [10.1, 0.1, 0.1, 0.1], "the behaviour has changed"
print("as described")
PY
