"""Random images by which a tower is asked how it is put together."""

import torch
from torch import Tensor, nn

SIDE = 32  # of images for a module that does not say which it takes


def random_images(module: nn.Module, count: int = 2, seed: int = 0) -> Tensor:
    """The same noise (count, 3, side, side) in [0, 1] every time, on the device of the module.

    Args:
        module: its `image_size` is the side, one number or two; without it 32.
        count: of images.
        seed: another one gives other images.
    """
    size, first = getattr(module, "image_size", SIDE), next(module.parameters(), torch.zeros(()))
    height, width = size if isinstance(size, tuple | list) else (size, size)
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, height, width, generator=rng).to(first.device)
