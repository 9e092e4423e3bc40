"""What a device computes well: number types and the optimizer's kernel."""

from functools import cache
from typing import Any

import torch

FUSED = ("cpu", "cuda", "mps", "xpu")  # devices with a fused Adam


@cache
def computes_in_bf16(device: str) -> bool:
    """Whether a kind of device has arithmetic in bf16. One without imitates it: LORE on the embedded ResNet ran at 6
    images a second and core on a processor with AVX2 alone, and at 33 in fp32."""
    if device == "cpu":
        return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return device != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


def adam_options(device: torch.device) -> dict[str, Any]:
    """What makes torch's AdamW one pass over memory instead of a dozen, where it can."""
    return {"fused": True} if device.type in FUSED else {}
