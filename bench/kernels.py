"""The bars of single kernels: a layer as its library computes it, over the same layer on the kernel that is chosen for
it here, at the shapes of real towers.

A bar is the least of its ratios, over shapes and over what is asked for: below one, the choice is wrong on this
processor. Attacks ask for the gradient to the input, with weights frozen and in their own number type; updates ask for
the one to the weights, in bf16 under autocast.

Legend: B batch, C channels, H W pixels, T tokens, E width.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.clock import compare
from bench.frame import Bar, Measurement
from bench.real_towers import bf16_only_where_computed
from seaanchor.encoders.encoder import Encoder
from seaanchor.encoders.kernels import fast_kernels

BATCH = 8  # images
STEPS = 3  # gradients of an attack, over which frozen weights are folded once
SHORT = 5  # gradients of layers that take milliseconds
B32, S16 = (50, 768, 12), (197, 384, 6)  # tokens, width and heads of a ViT-B/32 and of a ViT-S/16 at 224 px
STAGES = {2: (24, 32), 5: (112, 8)}  # of tf_efficientnet_lite0 at 128 px: channels and side of what they take
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

Call = Callable[[Any, Tensor], Tensor]


def _itself(layer: Any, x: Tensor) -> Tensor:
    return layer(x)


@dataclass
class Case:
    """A forward and a gradient of one layer, again and again on the same numbers.

    Attributes:
        name: the shape, in a word.
        module: what kernels are chosen for, with random weights; as its library made it outside of `fast_kernels`.
        x: what the layer takes.
        precision: `fp32` or `bf16`.
        weights: whether the gradient to the weights is asked for, besides that to what lies before.
        call: how the layer is called in the module.
        first: whether nothing trained lies before it, so that updates need no gradient to the input.
        tokens: of its sequences.
        steps: gradients that are timed together.
    """

    name: str
    module: nn.Module
    x: Tensor
    precision: str
    weights: bool
    call: Call = _itself
    first: bool = False
    tokens: int = 0
    steps: int = 1
    grad: Tensor = field(init=False)

    def __post_init__(self) -> None:
        asked, dtype = self.weights, torch.float32 if self.weights else DTYPES[self.precision]
        self.module.to(dtype).requires_grad_(asked)
        self.x = self.x.to(DTYPES[self.precision]).requires_grad_(not (asked and self.first))
        self.wanted = [self.x] * self.x.requires_grad + [p for p in self.module.parameters() if asked]
        with torch.no_grad(), self._autocast():
            self.grad = torch.randn_like(self.call(self.module, self.x))

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.weights and self.precision == "bf16")

    @property
    def title(self) -> str:
        """For the table."""
        return f"{self.name}, {'weights' if self.weights else 'input'}"

    def gradient(self) -> tuple[Tensor | None, ...]:
        """On the kernels of the moment; None for weights of the module that take no part."""
        with self._autocast():
            out = self.call(self.module, self.x)
        return torch.autograd.grad(out, self.wanted, self.grad, allow_unused=True)

    @contextmanager
    def chosen(self) -> Iterator[None]:
        """Inside, `gradient` runs on the kernels that are chosen here."""
        with fast_kernels(self.module, DTYPES[self.precision], self.tokens):
            yield

    def library_seconds(self) -> float:
        """Processor seconds."""
        started = time.process_time()
        for _ in range(self.steps):
            self.gradient()
        return time.process_time() - started

    def chosen_seconds(self) -> float:
        """The same on our kernels, whose choice is made once for a whole tower and is not counted."""
        with self.chosen():
            return self.library_seconds()


def patches(precision: str, batch: int = BATCH) -> Iterator[Case]:
    """Patch embeddings of 224 px."""
    for patch, width in ((32, 768), (16, 384)):
        for weights in (False, True):
            layer, pixels_BCHW = nn.Conv2d(3, width, patch, patch, bias=False), torch.rand(batch, 3, 224, 224)
            yield Case(f"patches of {patch}", layer, pixels_BCHW, precision, weights, first=True)


def attentions(precision: str, batch: int = BATCH) -> Iterator[Case]:
    """Layers of self-attention, as OpenCLIP calls them."""
    for tokens, width, heads in (B32, S16):
        for weights in (False, True):
            layer, x_BTE = nn.MultiheadAttention(width, heads, batch_first=True), torch.randn(batch, tokens, width)
            yield Case(f"{tokens} tokens", layer, x_BTE, precision, weights, _attended, tokens=tokens)


def _attended(layer: Any, x_BTE: Tensor) -> Tensor:
    return layer(x_BTE, x_BTE, x_BTE, need_weights=False)[0]


def inner_products(precision: str, batch: int = BATCH) -> Iterator[Case]:
    """Attention between its linear maps: softmax and products alone."""
    for tokens, width, heads in (B32, S16):
        x = torch.randn(3, batch, heads, tokens, width // heads)
        yield Case(f"{tokens} tokens", nn.Identity(), x, precision, False, _inner, tokens=tokens)


def _inner(layer: Any, x: Tensor) -> Tensor:
    query_BHTD, key_BHTD, value_BHTD = layer(x).unbind()
    return F.scaled_dot_product_attention(query_BHTD, key_BHTD, value_BHTD)


def quick_gelus(precision: str, batch: int = BATCH) -> Iterator[Case]:
    """The activation of CLIP's own towers, between the two maps of an MLP."""
    from open_clip.transformer import QuickGELU

    for tokens, width, _ in (B32, S16):
        yield Case(
            f"{tokens} tokens", QuickGELU(), torch.randn(batch, tokens, 4 * width), precision, False, steps=SHORT
        )


def last_blocks(precision: str, batch: int = BATCH) -> Iterator[Case]:
    """The last block of a ViT-B/32 as far as its class token asks for it."""
    from open_clip.transformer import VisionTransformer

    tokens, width, heads = B32
    for weights in (False, True):
        tower = VisionTransformer(224, 32, width, layers=1, heads=heads, mlp_ratio=4.0, output_dim=512)
        yield Case(
            "ViT-B/32", tower, torch.randn(batch, tokens, width), precision, weights, _class_token, False, tokens
        )


def _class_token(tower: Any, x_BTE: Tensor) -> Tensor:
    """(B, T, E) → (B, E), as the tower's own forward calls its last block."""
    from seaanchor.encoders.kernels.openclip_class_token import ClassTokenBlock

    last = tower.transformer.resblocks[-1]
    alone = {"class_token_alone": True} if isinstance(last, ClassTokenBlock) else {}
    return last(x_BTE, **alone)[:, 0]


def _efficientnet() -> Encoder:
    import timm

    torch.manual_seed(0)
    return Encoder(timm.create_model("tf_efficientnet_lite0", num_classes=0), 128).eval()


def stages(precision: str, batch: int = BATCH) -> Iterator[Case]:
    """Stages of depthwise and 1 x 1 convolutions with batch normalisation and ReLU6, on large and on small maps."""
    for stage, (channels, side) in STAGES.items():
        for weights in (False, True):
            maps_BCHW = torch.randn(batch, channels, side, side).to(memory_format=torch.channels_last)
            call, steps = partial(_stage, stage), 1 if weights else STEPS
            yield Case(f"{side} x {side}", _efficientnet(), maps_BCHW, precision, weights, call, steps=steps)


def _stage(number: int, encoder: Any, maps_BCHW: Tensor) -> Tensor:
    return encoder.tower.blocks[number](maps_BCHW)


def in_place(precision: str, batch: int = BATCH) -> Iterator[Case]:
    """Activations in place behind a batch normalisation, which keep a copy of what they overwrite."""
    for kind in (nn.SiLU, nn.Hardswish):
        layers = nn.Sequential(nn.BatchNorm2d(144), kind(inplace=True)).eval()
        maps_BCHW = torch.randn(batch, 144, 32, 32).to(memory_format=torch.channels_last)
        yield Case(kind.__name__, layers, maps_BCHW, precision, False, steps=SHORT)


def least(cases: Callable[[str], Iterator[Case]], precision: str) -> Measurement:
    """The least of the libraries' seconds over ours."""
    bf16_only_where_computed(precision)
    torch.manual_seed(0)
    times = {
        case.title: compare(case.library_seconds, case.chosen_seconds, own_clocks=True) for case in cases(precision)
    }
    ratios = {title: each.first / each.second for title, each in times.items()}
    details = {
        title: {"library_s": each.first, "ours_s": each.second, "ratio": ratios[title]} for title, each in times.items()
    }
    note = "; ".join(f"{title} {ratio:.2f}" for title, ratio in ratios.items())
    quiet = all(each.quiet for each in times.values())
    return Measurement(min(ratios.values()), quiet, "processor", {"batch": BATCH, **details}, note)


def _bar(name: str, what: str, cases: Callable[[str], Iterator[Case]], precision: str, aim: float) -> Bar:
    return Bar(
        f"kernel-{name}-{precision}",
        f"{what}, {precision}: library's own / ours, the least",
        partial(least, cases, precision),
        at_least=1.0,
        aim=aim,
        unit="×",
    )


_PATCHES = "patch embedding as a matrix product"
_ATTENTION = "self-attention with the batch first"
_GELU = "QuickGELU as one kernel"
_TOKEN = "last block with the class token alone"
BARS = [
    _bar("patches", _PATCHES, patches, "fp32", 1.2),
    _bar("patches", _PATCHES, patches, "bf16", 1.2),
    _bar("attention", _ATTENTION, attentions, "fp32", 1.2),
    _bar("attention", _ATTENTION, attentions, "bf16", 1.2),
    _bar("written-out", "attention's inner products written out", inner_products, "bf16", 1.5),
    _bar("quick-gelu", _GELU, quick_gelus, "fp32", 1.1),
    _bar("quick-gelu", _GELU, quick_gelus, "bf16", 1.1),
    _bar("class-token", _TOKEN, last_blocks, "fp32", 3.5),
    _bar("class-token", _TOKEN, last_blocks, "bf16", 3.5),
    _bar("convolutions", "convolutions with batch normalisation folded in", stages, "fp32", 1.2),
    _bar("in-place", "activations that would be in place, out of it", in_place, "fp32", 1.1),
]
