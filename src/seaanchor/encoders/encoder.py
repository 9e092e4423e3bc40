"""An image tower with its normalisation inside, and its frozen reference copy.

Legend: B batch, C channels, H W pixels, T patch tokens, D embedding dimension.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seaanchor.data.preprocessing import Preprocessing, preprocessing_of
from seaanchor.encoders.checks import measured_dim
from seaanchor.encoders.layout import layout_of
from seaanchor.encoders.text import TextLimit
from seaanchor.encoders.tokens import Tokens, TokenTower
from seaanchor.errors import SeaAnchorError
from seaanchor.types import NamedHead
from seaanchor.utils.parts import REFERENCE, part

Family = Literal["open_clip", "timm", "hf", "module"]
Numbers = Sequence[float] | float


class Encoder(nn.Module):
    """Pixels (B, C, H, W) in [0, 1] at `image_size` → raw embeddings (B, D), or (B, T, D) with tokens `patches`.

    Args:
        tower: maps normalised pixels to embeddings.
        image_size: side of the square input in pixels.
        dim: D; by default what a forward of two random images gives.
        mean, std: normalisation of each channel, or of all; by default none. It lives here and nowhere else, so that
            attacks act on pixels.
        preprocessing: how a picture becomes such pixels; by default shorter side to `image_size` by bicubic
            resampling, centre crop.
        tokens: what of the tower is the embedding: its `class` token after the final norm, the `mean` of its patch
            tokens, or the `patches` (B, T, D) themselves, row by row without class and register tokens; for a
            convolutional tower the cells of its last map. By default the library's own embedding.

    Attributes:
        grid: rows and columns of the patches, with tokens `patches`.
        unit: whether embeddings are divided by their length; off, unless training asks for it.

    Raises:
        SeaAnchorError: an image size below 1, a `std` that is not positive, a preprocessing of another size; without
            `dim`, as `measured_dim`; tokens that the tower does not have.

    The tower is laid out in memory as `layout_of` says. Values, names and shapes of the weights stay the same.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        tower: nn.Module,
        image_size: int,
        dim: int | None = None,
        mean: Numbers = 0.0,
        std: Numbers = 1.0,
        preprocessing: Preprocessing | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        super().__init__()
        _check_settings(image_size, mean, std)
        read = None if tokens is None else TokenTower(tower, tokens, image_size)
        self.tower, self.image_size, self.tokens = read or tower, image_size, tokens
        self.grid = None if read is None else read.grid
        self.preprocessing = preprocessing_of(preprocessing or image_size)
        if self.preprocessing.size != image_size:
            found = f"preprocessing gives {self.preprocessing.size} pixels and image_size is {image_size}"
            raise SeaAnchorError(found, "one size", "correct one of them")
        self.unit = False
        layout = layout_of(tower)
        if layout is not None:
            tower.to(memory_format=layout)  # type: ignore[call-overload] # missing from torch's signatures
        self.contiguous = layout is torch.contiguous_format  # pixels bring their layout along
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        if dim is None or read is not None:
            dim = measured_dim(self, image_size) if read is None else read.dim
        self.dim = dim

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Raw embeddings (B, D), or of length 1; (B, T, D) with tokens `patches`."""
        normalised_BCHW = (pixels_BCHW - self.mean) / self.std
        embedding_BD = self.tower(normalised_BCHW.contiguous() if self.contiguous else normalised_BCHW)
        return F.normalize(embedding_BD, dim=-1) if self.unit else embedding_BD

    @property
    def library_tower(self) -> nn.Module:
        """The tower that was given, which returns its library's own embedding."""
        return self.tower.tower if isinstance(self.tower, TokenTower) else self.tower

    def with_tokens(self, tokens: Tokens | None) -> "Encoder":
        """The same tower, which both share, with other tokens as its embedding; in eval mode.

        Raises:
            SeaAnchorError: the tower does not have them.
        """
        mean, std = (buffer.flatten().tolist() for buffer in (self.mean, self.std))
        other = Encoder(self.library_tower, self.image_size, None, mean, std, self.preprocessing, tokens)
        return other.to(self.mean.device).eval()

    def requires_grad_(self, requires_grad: bool = True) -> "Encoder":
        """As of any module, except that weights which the tokens do not depend on never ask for a gradient."""
        super().requires_grad_(requires_grad)
        if isinstance(self.tower, TokenTower):
            for name in self.tower.unread:
                self.tower.tower.get_parameter(name).requires_grad_(False)
        return self

    def extra_repr(self) -> str:
        """What distinguishes its embeddings from those of another encoder, besides its layers."""
        return "unit" if self.unit else ""

    def train(self, mode: bool = True) -> "Encoder":
        """Train mode, except that batch normalisation keeps the pre-trained statistics: a batch of attacked images
        would replace them."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


def _check_settings(image_size: int, mean: Numbers, std: Numbers) -> None:
    if image_size < 1:
        raise SeaAnchorError(f"image_size is {image_size}", "the side of an image in pixels, such as 224", "correct it")
    for name, values in (("mean", mean), ("std", std)):
        numbers = [values] if isinstance(values, int | float) else list(values)
        if len(numbers) not in (1, 3) or (name == "std" and not all(number > 0 for number in numbers)):
            positive = " that are positive" if name == "std" else ""
            raise SeaAnchorError(
                f"{name} is {values}", f"one number, or one for each of three channels,{positive}", "correct it"
            )


class Reference(nn.Module):
    """A frozen copy of an encoder: eval mode for good, no gradients, the anchor of every method."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.encoder.eval()
        self.training = False

    @part(REFERENCE)
    @torch.no_grad()
    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Raw embeddings (B, D) of the encoder before training, in fp32."""
        return self.encoder(pixels_BCHW).float()

    def train(self, mode: bool = True) -> "Reference":
        """Stays in eval mode whatever is asked."""
        return self

    def share(self, weights: Mapping[str, Tensor]) -> None:
        """Hold weights together with an encoder in which they stay as they are, instead of a copy.

        Args:
            weights: of that encoder, by their names here. Those that differ in a bit stay apart.
        """
        for name, weight in weights.items():
            own = self.encoder.get_parameter(name)
            if torch.equal(own, weight):
                own.data = weight.detach()

    def release(self) -> None:
        """Give the memory of the weights back, once all that was wanted of them is computed."""
        self.encoder.to("meta")


@dataclass(frozen=True)
class LoadedModel:
    """A model as training, evaluation and export take it: an encoder, and its text side if it has one.

    Attributes:
        name: as the user gave it.
        family: which library it came from and exports to; `module` for the user's own.
        encoder: the image tower with its normalisation; what is trained and attacked.
        module: the whole model of that library, which shares the encoder's weights; what an export writes.
        logit_scale: multiplies cosines; 1 for towers without text.
        encode_texts: list of N texts → raw text embeddings (N, D), frozen; None for towers without text.
        export_config: what an export has to write beside the weights.
        text_limit: how long texts may be; None where that is not known.
        text_identity: JSON values of everything that `encode_texts` depends on; without it, or where it gives None, no
            text is cached.
        classifier: the model's own classifier of raw embeddings, with the names of its classes where they are known;
            None for models without one.
        pretrained: which weights the user named beside the name.
        no_classifier: why there is none, in words, where that is known.
        stored_head: the head that lies with the model, which a run has trained or evaluated it with; None without one.
    """

    name: str
    family: Family
    encoder: Encoder
    module: nn.Module
    logit_scale: float
    encode_texts: Callable[[Sequence[str]], Tensor] | None
    export_config: dict = field(default_factory=dict)
    text_limit: TextLimit | None = None
    text_identity: Callable[[], list | None] | None = None
    classifier: NamedHead | None = None
    pretrained: str | None = None
    no_classifier: str = ""
    stored_head: NamedHead | None = None


def with_tokens(model: LoadedModel, tokens: Tokens | None) -> LoadedModel:
    """The same model with other tokens as its embedding; no text lies in their space. None leaves it as it is.

    Raises:
        SeaAnchorError: the tower does not have them.
    """
    if tokens == model.encoder.tokens or tokens is None:
        return model
    encoder, why = model.encoder.with_tokens(tokens), f"it would read other embeddings than --tokens {tokens}"
    without_texts = replace(model, encode_texts=None, logit_scale=1.0, text_limit=None, text_identity=None)
    return replace(without_texts, encoder=encoder, classifier=None, no_classifier=why)


def with_library_embedding(model: LoadedModel) -> LoadedModel:
    """The same model with its library's own embedding, which other programs that load its weights compute."""
    return model if model.encoder.tokens is None else replace(model, encoder=model.encoder.with_tokens(None))


def copied(model: LoadedModel) -> LoadedModel:
    """A copy with weights of its own; the frozen text side is shared."""
    module, encoder = copy.deepcopy((model.module, model.encoder))  # together, so that they go on sharing weights
    return replace(model, module=module, encoder=encoder)
