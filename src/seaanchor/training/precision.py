"""How a run computes its updates: precision, kernels and recomputed activations."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from seaanchor.config.schema import RunConfig
from seaanchor.encoders.kernels import (
    CompiledForward,
    activation_checkpointing,
    computes_in_bf16,
    fast_kernels,
    num_tokens,
)
from seaanchor.method import Encode
from seaanchor.utils.log import log


@contextmanager
def training_kernels(encoder: nn.Module, config: RunConfig, compiled: CompiledForward | None = None) -> Iterator[None]:
    """Around a forward and its backward, which may compute the forward again and must then find the same kernels."""
    # what a backward computes again runs outside of torch's function modes, one of which writes attention out in bf16
    written_out = config.precision == "bf16" and not config.checkpoint_activations
    dtype = torch.bfloat16 if written_out else torch.float32
    with (
        fast_kernels(encoder, dtype, num_tokens(encoder), compiled),
        activation_checkpointing(encoder) if config.checkpoint_activations else nullcontext(),
    ):
        yield


def runnable(config: RunConfig, device: torch.device) -> RunConfig:
    """The settings as a device runs them: updates and attacks in fp32 in place of bf16 where it would only imitate
    that."""
    if computes_in_bf16(device.type):
        return config
    return replace(config, precision="fp32", attack_precision="fp32")


def told_runnable(config: RunConfig, device: torch.device, tells: bool = True) -> RunConfig:
    """`runnable`, with a word where it changes something and this process `tells`."""
    runs = runnable(config, device)
    if tells and runs != config:
        asked = {"updates": config.precision, "attacks": config.attack_precision}
        parts = " and ".join(name for name, precision in asked.items() if precision == "bf16")
        log.info(f"  {device.type} has no fast arithmetic in bf16 here: {parts} run in fp32, which is faster")
    return runs


def computed_in(config: RunConfig, device: torch.device) -> dict[str, str]:
    """The device and the precisions that a run's numbers come of there, whatever it asks for."""
    runs = runnable(config, device)
    return {"device": device.type, "updates": runs.precision, "attacks": runs.attack_precision}


def training_forward(policy: nn.Module, precision: str) -> Encode:
    """The policy as the primal updates call it, in bf16 where asked for; everything but an attack in bf16 calls the
    encoder itself, in fp32."""

    def encode(pixels_BCHW: Tensor) -> Tensor:
        with torch.autocast(pixels_BCHW.device.type, torch.bfloat16, enabled=precision == "bf16"):
            return policy(pixels_BCHW)

    return encode
