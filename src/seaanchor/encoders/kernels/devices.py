"""What a device computes well: number types and the optimizer's kernel."""

import platform
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

FUSED = ("cpu", "cuda", "mps", "xpu")  # devices with a fused Adam


@cache
def computes_in_bf16(device: str) -> bool:
    """Whether a kind of device has arithmetic in bf16 that is faster than its fp32.

    A processor without any imitates it: LORE on the embedded ResNet ran at 6 images a second and core on one with AVX2
    alone, and at 33 in fp32. Intel's AVX-512 instructions for bf16, alone where a virtual machine hides the matrix
    units (AMX), are no match for its fp32: 78 against 139 GFLOP/s in a product of 800 x 768 x 3072 on one thread of an
    Emerald Rapids. AMD's are: 530 against 118 on a Zen 5.
    """
    if device == "cpu":
        supported = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return supported and (torch.cpu._is_amx_tile_supported() or not _is_intel())
    return device != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


def _is_intel() -> bool:
    with suppress(OSError):
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    return "GenuineIntel" in platform.processor()  # as Windows names it


def adam_options(device: torch.device) -> dict[str, Any]:
    """What makes torch's AdamW one pass over memory instead of a dozen, where it can."""
    return {"fused": True} if device.type in FUSED else {}
