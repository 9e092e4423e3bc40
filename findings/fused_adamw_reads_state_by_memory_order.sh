#!/usr/bin/env bash
# torch 2.13.0 and 2.14.1, CPU (seen 2026-11-29): a fused AdamW pairs weights and moments by their order in memory.
#
# A convolution's weights are channels-last; the optimizer's state comes from a checkpoint whose tensors are contiguous
# (as safetensors stores them, or after `.contiguous()`). `load_state_dict` keeps the state's layout. With fused=False
# training goes on as if nothing had happened. With fused=True there is no error and no warning, and every weight is
# updated with the moments of another one: after two steps at learning rate 0.1 weights are off by more than 0.1.
# Guessed: the kernel follows strides, or refuses. What helps: give the state the parameter's strides before the step.
#
# Usage: bash findings/fused_adamw_reads_state_by_memory_order.sh      (fails if the behaviour has changed)
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==${TORCH:-2.13.0}" numpy
"$folder/venv/bin/python" - <<'PY'
import copy

import torch


def weights_after_resuming(fused: bool, state_layout: torch.memory_format) -> torch.Tensor:
    """One step, a checkpoint, two more steps."""
    torch.manual_seed(0)

    def tensor() -> torch.Tensor:
        return torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)

    weight, gradients = torch.nn.Parameter(tensor()), [tensor() for _ in range(3)]
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=fused)
    weight.grad = gradients[0]
    optimizer.step()
    state = copy.deepcopy(optimizer.state_dict())
    for moments in state["state"].values():
        for name in ("exp_avg", "exp_avg_sq"):
            moments[name] = moments[name].contiguous(memory_format=state_layout)
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=fused)
    optimizer.load_state_dict(state)
    for gradient in gradients[1:]:
        weight.grad = gradient
        optimizer.step()
    return weight.detach().contiguous()


expected = weights_after_resuming(False, torch.channels_last)
print("torch", torch.__version__)
for fused in (False, True):
    for layout in (torch.channels_last, torch.contiguous_format):
        off = (weights_after_resuming(fused, layout) - expected).abs().max().item()
        print(f"fused={fused!s:5}  state {layout}: largest difference {off:.2g}")
        wrong = fused and layout is torch.contiguous_format
        assert off > 0.1 if wrong else off < 1e-6, "the behaviour has changed"
print("as described")
PY
