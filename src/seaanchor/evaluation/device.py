"""Where an evaluation computes."""

import torch

from seaanchor.errors import SeaAnchorError


def device_named(name: str | None, rank: int = 0) -> torch.device:
    """The device of a name, by default the accelerator if there is one; products on it are of fp32.

    Args:
        name: cpu, cuda, cuda:1, mps ...
        rank: of this process among those of the machine.

    Raises:
        SeaAnchorError: it cannot be used.
    """
    torch.backends.cudnn.allow_tf32 = False  # success is judged in fp32
    default = f"cuda:{rank % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name or default).device
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        reason = str(error).splitlines()[0][:200]
        raise SeaAnchorError(
            f"device {name!r} cannot be used: {reason}", "cpu, cuda, cuda:1, mps ...", "correct --device"
        ) from error
