"""A low-precision copy of an encoder that is trained, for the attacks on it."""

import copy

import torch
from torch import Tensor, nn

from seaanchor.encoders.encoder import Encoder


class _Cast(nn.Module):
    """A tower in another number type behind fp32 input and output.

    Pixels are perturbed and normalised in fp32 and cast only here: just below 1.0 a bf16 step is 1/256, as large as the
    smallest perturbation; normalised pixels lie around 0, where a step is finer.
    """

    def __init__(self, tower: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.tower, self.dtype = tower, dtype

    def forward(self, normalised_BCHW: Tensor) -> Tensor:
        return self.tower(normalised_BCHW.to(self.dtype)).float()


def _held(tower: nn.Module) -> list[Tensor]:
    """Its weights of now, as they lie in this process: where they are split among several, both towers are split
    alike."""
    return [parameter.to_local() if hasattr(parameter, "to_local") else parameter for parameter in tower.parameters()]


@torch.no_grad()
def cast_by(dtype: torch.dtype, module: nn.Module, *kept: type[nn.Module]) -> dict[int, Tensor]:
    """A memo with which `copy.deepcopy` copies the module frozen and in another number type, without a copy in its own
    on the way; layers of the kinds that are `kept` stay as they are.
    """
    layers, memo = list(module.modules()), dict[int, Tensor]()
    for layer in layers:  # their own tensors: peft puts new ones in place whenever it is asked for all of a module's
        for tensor in (*layer._parameters.values(), *layer._buffers.values()):
            if tensor is not None and id(tensor) not in memo:
                stays = isinstance(layer, kept) or not tensor.is_floating_point()
                cast = tensor.clone() if stays else tensor.to(dtype)
                memo[id(tensor)] = nn.Parameter(cast, False) if isinstance(tensor, nn.Parameter) else cast
    return memo


class LowPrecisionCopy:
    """A frozen copy of an encoder in low precision, whose weights follow the encoder's whenever it is refreshed.

    Weights are cast once and not at every step of an attack. Batch normalisation keeps its statistics and weights in
    fp32, for they scale whole channels.

    Args:
        encoder: what is trained; it stays as it is.
        dtype: of the copy's weights and activations.
    """

    def __init__(self, encoder: Encoder, dtype: torch.dtype = torch.bfloat16) -> None:
        self.dtype = dtype
        self.encoder = copy.deepcopy(encoder, cast_by(dtype, encoder.tower, nn.modules.batchnorm._BatchNorm)).eval()
        self._master, self._copy = encoder.tower, self.encoder.tower
        self.encoder.tower = _Cast(self.encoder.tower, dtype)

    @torch.no_grad()
    def refreshed(self) -> Encoder:
        """The copy with the encoder's weights of now: pixels (B, C, H, W) in fp32 → embeddings (B, D) in fp32."""
        torch._foreach_copy_(_held(self._copy), _held(self._master))
        return self.encoder
