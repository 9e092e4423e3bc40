"""The bars at the shapes that people have: a ViT-B/32 at 224 px and a convolutional tower with depthwise layers.

Against the build of an earlier commit, against public code, and against what this processor's matrix products reach at
the tower's own shapes. Towers have random weights.

Legend: B batch, R rows (B · T tokens), N M features.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from bench.builds import PAST, Subject, faster_than_past, leaner_than_past
from bench.clock import compare
from bench.frame import Bar, Measurement, NotMeasured
from bench.peers import naive_lore, robustvlm
from bench.subjects import Ours, in_precision, ours
from seaanchor.config.recipes import fare, lore
from seaanchor.encoders.kernels import computes_in_bf16
from seaanchor.profiling.flops import count_flops

B32, CNN = "ViT-B-32", "timm:tf_efficientnet_lite0"
BATCH, FEW = 16, 4  # images of an attack step, and of a whole step against public code
STEPS = 2  # gradients that an attack is timed over
PAIRS = 3  # rounds, where a call takes seconds


def bf16_only_where_computed(precision: str) -> None:
    """Leave a bar in bf16 to processors that have such arithmetic.

    Raises:
        NotMeasured: this one imitates it, and its times would say nothing.
    """
    if precision == "bf16" and not computes_in_bf16("cpu"):
        raise NotMeasured("this processor has no fast bf16 arithmetic")


def attack_against_past(precision: str) -> Measurement:
    """Seconds of the earlier build's attack over ours."""
    bf16_only_where_computed(precision)
    return faster_than_past(Subject("attack", B32, BATCH, precision, STEPS), PAIRS)


def products(tower: nn.Module, rows: int, patches: int, dtype: torch.dtype) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Operands and results of the matrix products in one gradient to the pixels: of every linear map and of the patch
    embedding, forward and to the input.

    Args:
        tower: open_clip's vision transformer.
        rows: R, images times tokens; `patches` without the class token.
        dtype: of the operands.
    """
    weights = [
        w for name, w in tower.named_parameters() if w.dim() == 2 and name.endswith(("in_proj_weight", "weight"))
    ]
    shapes = [(rows, *weight.shape) for weight in weights]
    patch = next(layer for layer in tower.modules() if isinstance(layer, nn.Conv2d))
    shapes.append((patches, patch.out_channels, patch.weight[0].numel()))
    found = []
    for r, n, m in shapes:
        weight_NM, input_RM, grad_RN = (torch.randn(shape, dtype=dtype) for shape in ((n, m), (r, m), (r, n)))
        found += [(input_RM, weight_NM.T, torch.empty(r, n, dtype=dtype))]
        found += [(grad_RN, weight_NM, torch.empty(r, m, dtype=dtype))]
    return found


def multiply(operands: list[tuple[Tensor, Tensor, Tensor]]) -> None:
    """All the products, into memory that is there."""
    for left, right, out in operands:
        torch.mm(left, right, out=out)


def attack_share(precision: str) -> Measurement:
    """Operations a second of the attack as a share of those of its matrix products alone, in percent."""
    bf16_only_where_computed(precision)
    subject = _attacking(precision, STEPS)
    tower, dtype = subject.setup.model.encoder.library_tower, torch.bfloat16 if precision == "bf16" else torch.float32
    patches = (tower.image_size[0] // tower.patch_size[0]) ** 2  # type: ignore[index]
    operands = products(tower, BATCH * (patches + 1), BATCH * patches, dtype)
    times = compare(subject.attack, lambda: multiply(operands), pairs=PAIRS)
    needed, alone = count_flops(subject.attack)[0], count_flops(lambda: multiply(operands))[0]
    rates = {"attack_gflops": needed / times.first / 1e9, "product_gflops": alone / times.second / 1e9}
    note = f"{rates['attack_gflops']:.0f} of {rates['product_gflops']:.0f} GFLOP/s, {BATCH} images"
    share = 100 * rates["attack_gflops"] / rates["product_gflops"]
    return Measurement(share, times.quiet, "processor", {**rates, "batch": BATCH}, note)


def _attacking(precision: str, num_steps: int) -> Ours:
    recipe = in_precision(fare(), precision)
    attack = replace(recipe.perturbation, num_steps=num_steps)
    return ours(replace(recipe, perturbation=attack), BATCH, model=B32)


def fare_against_robustvlm(precision: str, model: str, batch: int, image_size: int | None = None) -> Measurement:
    """The peer's seconds over ours, with FARE's published attack; the peer in fp32 as published."""
    bf16_only_where_computed(precision)
    mine = ours(in_precision(fare("4/255"), precision, "1/255"), batch, model=model, image_size=image_size)
    peer, pixels_BCHW = robustvlm.peer_of(mine.setup.model.encoder), mine.images.pixels_BCHW
    return _against(lambda: robustvlm.fare_step(peer, pixels_BCHW), mine, batch)


def lore_against_naive(precision: str) -> Measurement:
    """The naive transcription's seconds over ours, both in the same precision."""
    bf16_only_where_computed(precision)
    mine = ours(in_precision(lore(), precision), FEW, model=B32)
    dual, pixels_BCHW = mine.state.dual, mine.images.pixels_BCHW
    assert dual is not None, "LORE has a dual network"
    peer = naive_lore.peer_of(mine.setup.model.encoder, dual, bf16=precision == "bf16")
    return _against(lambda: naive_lore.lore_step(peer, pixels_BCHW), mine, FEW)


def _against(peer_step: Callable[[], object], mine: Ours, batch: int) -> Measurement:
    times = compare(peer_step, mine.step, pairs=PAIRS)
    details = {"peer_s": times.first, "ours_s": times.second, "batch": batch}
    note = f"{batch} images; {times.first:.2f} s against {times.second:.2f} s"
    return Measurement(times.first / times.second, times.quiet, "processor", details, note)


def lore_memory() -> Measurement:
    """Peaks of a LORE step of 32 images, its attack and updates cut to what sees the worst moment."""
    return leaner_than_past(Subject("lore", B32, 32, num_steps=1, primal_steps=2))


def _times(name: str, what: str, measure: Callable[[], Measurement], at_least: float, aim: float) -> Bar:
    return Bar(name, what, measure, at_least=at_least, aim=aim, unit="×")


def _share(precision: str, at_least: float, aim: float) -> Bar:
    what = f"attack step, ViT-B/32 at 224 px, {precision}: share of the matrix products' speed at its shapes"
    return Bar(
        f"attack-share-{precision}", what, partial(attack_share, precision), at_least=at_least, aim=aim, unit=" %"
    )


_ATTACK = f"attack step, ViT-B/32 at 224 px, {{}}: build of {PAST} / this one"
_FARE = "FARE step, ViT-B/32 at 224 px, {}: RobustVLM's in fp32 / ours"
_LORE = "LORE step, ViT-B/32 at 224 px, both in {}: naive transcription / ours"
BARS = [
    _times("attack-past-bf16", _ATTACK.format("bf16"), partial(attack_against_past, "bf16"), 1.7, 2.5),
    _times("attack-past-fp32", _ATTACK.format("fp32"), partial(attack_against_past, "fp32"), 1.4, 1.8),
    _share("bf16", 40, 55),
    _share("fp32", 65, 80),
    _times("fare-b32-fp32", _FARE.format("fp32"), partial(fare_against_robustvlm, "fp32", B32, FEW), 1.5, 2.0),
    _times("fare-b32-bf16", _FARE.format("bf16"), partial(fare_against_robustvlm, "bf16", B32, FEW), 5, 7),
    _times("lore-b32-bf16", _LORE.format("bf16"), partial(lore_against_naive, "bf16"), 3.5, 5),
    _times("lore-b32-fp32", _LORE.format("fp32"), partial(lore_against_naive, "fp32"), 1.5, 2),
    _times(
        "fare-cnn-fp32",
        "FARE step, tf_efficientnet_lite0 at 128 px, both in fp32: RobustVLM's / ours",
        partial(fare_against_robustvlm, "fp32", CNN, BATCH, 128),
        1.3,
        1.6,
    ),
    _times("lore-memory", f"peak memory of a LORE step, ViT-B/32, 32 images: {PAST} / this one", lore_memory, 1.5, 2),
]
