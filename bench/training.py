"""The bars of training: our step against the formulas, against public code, and against itself with parts taken out.

Times are of the bench's small ViT on 16 photos unless a note says otherwise; the rest of a run (loading, evaluation) is
left out.

Legend: B batch.
"""

import contextlib
import gc
import io
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from bench import two_processes
from bench.clock import compare
from bench.frame import Bar, Measurement, NotMeasured
from bench.memory import saved_bytes
from bench.peers import naive_lore, robustvlm
from bench.subjects import Ours, in_precision, ours, uncached
from seaanchor.adapters.linear_map import LinearMap, decompose
from seaanchor.api import train_from_config as train
from seaanchor.config.recipes import dpo, dpo_linear, dpo_linear_tiny, dpo_tiny, fare, lore, tecoa
from seaanchor.config.schema import RunConfig
from seaanchor.data.sources import open_images
from seaanchor.encoders.load import load_model
from seaanchor.evaluation.typographic_plan import TypographicPlan
from seaanchor.profiling.flops import count_flops, forward_flops, least_passes, prefix_flops
from seaanchor.steering.embeddings import see_people, see_words
from seaanchor.steering.sweep import sweep_bias, sweep_typographic

BATCH = 16
HOPPER_PEAK = 989e12  # FLOP/s of dense bf16 products, H100 and H200 SXM (NVIDIA's data sheets)


def passes(recipe: RunConfig, model: str | None = None) -> tuple[float, int]:
    """F an image of a step, counted and by formula."""
    subject = ours(recipe, 2, model=model)
    encoder = subject.setup.model.encoder
    forward = forward_flops(encoder, encoder.image_size)
    counted = count_flops(subject.step)[0] / len(subject.images.index_B) / forward
    prefix = prefix_flops(encoder, subject.state.prefix) / forward
    return counted, least_passes(recipe, subject.setup.method.needs, cached=True, prefix=prefix)


def flops(recipe: RunConfig) -> Measurement:
    """Counted FLOPs over the formula's, on a ViT-B/32 with random weights; the small ViT beside it."""
    (counted, formula), (small, _) = passes(recipe, "ViT-B-32"), passes(recipe)
    note = (
        f"ViT-B/32: {counted:.2f} F an image, formula {formula} F; with the small ViT's longer sequences {small:.2f} F"
    )
    return Measurement(counted / formula, details={"F": counted, "formula": formula, "F_small_vit": small}, note=note)


def other_flops() -> Measurement:
    """The largest ratio of the other methods."""
    recipes = {"TeCoA": tecoa(), "DPO": dpo(), "DPO on a linear map": dpo_linear()}
    drawn = {
        name: replace(recipe, perturbation=replace(recipe.perturbation, variants=1)) if name != "TeCoA" else recipe
        for name, recipe in recipes.items()
    }
    counts = {name: passes(recipe) for name, recipe in drawn.items()}
    note = ", ".join(f"{name} {counted:.2f} F (formula {formula} F)" for name, (counted, formula) in counts.items())
    ratios = [counted / formula for counted, formula in counts.values() if formula]
    return Measurement(
        max(ratios), details={name: counted for name, (counted, _) in counts.items()}, note=f"small ViT: {note}"
    )


def fare_ours(precision: str, model: str | None = None, batch: int = BATCH) -> Ours:
    """FARE with the settings of its public code, attack and training passes in one precision."""
    return ours(in_precision(fare("4/255"), precision, step_size="1/255"), batch, model=model)


def fare_against_robustvlm(precision: str, model: str | None = None, batch: int = BATCH) -> Measurement:
    """The peer's seconds over ours; the peer in fp32 as published."""
    mine = fare_ours(precision, model, batch)
    peer = robustvlm.peer_of(mine.setup.model.encoder)
    times = compare(lambda: robustvlm.fare_step(peer, mine.images.pixels_BCHW), mine.step)
    details = {"peer_s": times.first, "ours_s": times.second, "batch": batch}
    return Measurement(
        times.first / times.second,
        times.quiet,
        "processor",
        details,
        f"{times.first:.2f} s against {times.second:.2f} s",
    )


def lore_against_naive() -> Measurement:
    """The naive transcription's seconds over ours, both in bf16."""
    recipe = lore()
    mine = ours(in_precision(recipe, "bf16"), BATCH)
    dual = mine.state.dual
    assert dual is not None, "LORE has a dual network"
    peer = naive_lore.peer_of(mine.setup.model.encoder, dual, bf16=True)
    times = compare(lambda: naive_lore.lore_step(peer, mine.images.pixels_BCHW), mine.step)
    details = {"peer_s": times.first, "ours_s": times.second, "batch": BATCH}
    return Measurement(
        times.first / times.second,
        times.quiet,
        "processor",
        details,
        f"{times.first:.2f} s against {times.second:.2f} s",
    )


def against(one: RunConfig, other: RunConfig) -> Measurement:
    """Seconds of one of our steps over those of another, fp32."""
    first, second = ours(one, BATCH), ours(other, BATCH)
    times = compare(first.step, second.step)
    return Measurement(
        times.first / times.second, times.quiet, "processor", {"first_s": times.first, "second_s": times.second}
    )


def lore_against_fare() -> Measurement:
    return against(lore(), fare())


def dual_against_scalar() -> Measurement:
    recipe = lore()
    return against(recipe, replace(recipe, anchor=replace(recipe.anchor, dual="scalar")))


def fare_bytes(precision: str) -> Measurement:
    """Our peak of saved bytes over the peer's, which trains in fp32."""
    mine = fare_ours(precision)
    peer = robustvlm.peer_of(mine.setup.model.encoder)
    pixels_BCHW, encoder = mine.images.pixels_BCHW, mine.setup.model.encoder
    held = saved_bytes(mine.step, [*encoder.parameters(), *encoder.buffers(), pixels_BCHW])
    theirs = saved_bytes(
        lambda: robustvlm.fare_step(peer, pixels_BCHW), [*peer.model.parameters(), *peer.model.buffers(), pixels_BCHW]
    )
    note = f"{held / 1e6:.0f} MB against {theirs / 1e6:.0f} MB"
    return Measurement(held / theirs, details={"ours_bytes": held, "peer_bytes": theirs}, note=note)


def linear_map_against_tower() -> Measurement:
    """Three epochs through `train`, from loading the model to the verified export: the whole tower's seconds over the
    linear map's."""
    times = compare(_three_epochs(dpo_tiny()), _three_epochs(dpo_linear_tiny()), warm=False)
    return Measurement(
        times.first / times.second,
        times.quiet,
        "processor",
        {"tower_s": times.first, "linear_s": times.second},
        "embedded model, 800 photos",
    )


def _three_epochs(recipe: RunConfig) -> Callable[[], None]:
    def run() -> None:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()), uncached():
            drawing = replace(recipe.perturbation, variants=1)
            train(
                replace(
                    recipe, device="cpu", epochs=3, batch_size=64, perturbation=drawing, output=Path(folder) / "run"
                )
            )

    return run


def many_t(words: bool) -> Measurement:
    """Seconds of 100 values of t with everything embedded beforehand."""
    model, ts = load_model("seaanchor-tiny"), [-1 + 0.03 * i for i in range(100)]
    torch.manual_seed(0)
    spectrum = decompose(LinearMap(model.encoder.dim).weight * torch.linspace(0.5, 1.5, model.encoder.dim))
    if words:
        seen = see_words(model, open_images("photos-mini/test"), TypographicPlan())
        times = compare(lambda: sweep_typographic(seen, spectrum, ts), lambda: None)
    else:
        people = see_people(model, open_images("emoji-people/test"))
        times = compare(lambda: sweep_bias(people, spectrum, ts), lambda: None)
    return Measurement(times.first, times.quiet, "processor", note="embedded model")


def hopper_utilisation() -> Measurement:
    """FLOPs that a FARE step needs by formula, over seconds and the card's peak."""
    if not torch.cuda.is_available() or torch.cuda.get_device_capability()[0] != 9:
        raise NotMeasured("no Hopper GPU here")
    batch = 256
    mine = ours(in_precision(fare(), "bf16"), batch, model="ViT-B-32", device="cuda")
    needed = 23 * batch * forward_flops(mine.setup.model.encoder, 224, "cuda")
    seconds = math.inf
    for warm in (True, True, *[False] * 10):
        torch.cuda.synchronize()
        started = time.perf_counter()
        mine.step()
        torch.cuda.synchronize()
        seconds = seconds if warm else min(seconds, time.perf_counter() - started)
    details = {"batch": batch, "step_s": seconds, "peak_flop_s": HOPPER_PEAK}
    return Measurement(
        100 * needed / seconds / HOPPER_PEAK,
        None,
        "wall",
        details,
        f"{torch.cuda.get_device_name()}, batch {batch}, bf16",
    )


def _freed(measure: Callable[[], Measurement]) -> Callable[[], Measurement]:
    """A bar that leaves nothing behind: towers and their optimizers are large."""

    def run() -> Measurement:
        try:
            return measure()
        finally:
            gc.collect()

    return run


FARE_B32 = "the same on a ViT-B/32 at 224 px, 2 images"
FARE_TINY = "the same on the embedded ResNet"
_BARS = [
    Bar("fare-flops", "FARE step: FLOPs counted / formula", lambda: flops(fare()), at_most=1.03, aim=1.01),
    Bar("lore-flops", "LORE step: FLOPs counted / formula", lambda: flops(lore()), at_most=1.03, aim=1.01),
    Bar("other-flops", "TeCoA and DPO: FLOPs counted / formula", other_flops, at_most=1.03, aim=1.01),
    Bar(
        "fare-step-bf16",
        "FARE step, ours in bf16 / RobustVLM's as published",
        lambda: fare_against_robustvlm("bf16"),
        at_least=1.6,
        aim=2.2,
        unit="×",
    ),
    Bar(
        "fare-step-fp32",
        "FARE step, both in fp32",
        lambda: fare_against_robustvlm("fp32"),
        at_least=1.12,
        aim=1.3,
        unit="×",
    ),
    Bar(
        "fare-step-bf16-b32",
        FARE_B32,
        lambda: fare_against_robustvlm("bf16", "ViT-B-32", 2),
        at_least=1.6,
        aim=2.2,
        unit="×",
    ),
    Bar(
        "fare-step-bf16-tiny",
        FARE_TINY,
        lambda: fare_against_robustvlm("bf16", "seaanchor-tiny"),
        at_least=1.6,
        aim=2.2,
        unit="×",
    ),
    Bar(
        "lore-step-bf16",
        "LORE step against a naive transcription, both in bf16",
        lore_against_naive,
        at_least=1.6,
        aim=2.2,
        unit="×",
    ),
    Bar("lore-fare", "LORE step / FARE step", lore_against_fare, at_most=2.35, aim=2.2),
    Bar("dual-network", "LORE step, dual network / scalar multiplier", dual_against_scalar, at_most=1.015, aim=1.005),
    Bar(
        "fare-bytes-fp32",
        "saved bytes of a FARE step, ours / RobustVLM's",
        lambda: fare_bytes("fp32"),
        at_most=0.55,
        aim=0.5,
    ),
    Bar(
        "fare-bytes-bf16",
        "saved bytes of a FARE step, ours in bf16 / RobustVLM's",
        lambda: fare_bytes("bf16"),
        at_most=0.35,
        aim=0.27,
    ),
    Bar(
        "linear-map",
        "linear map against full fine-tuning, three epochs",
        linear_map_against_tower,
        at_least=7,
        aim=8.5,
        unit="×",
    ),
    Bar(
        "many-t-words", "100 values of t, words drawn on 800 photos", lambda: many_t(True), at_most=1, aim=1, unit=" s"
    ),
    Bar("many-t-people", "100 values of t, 194 images of people", lambda: many_t(False), at_most=1, aim=1, unit=" s"),
    Bar(
        "two-processes",
        "two processes against one: images a second",
        two_processes.throughput,
        at_least=1.85,
        aim=1.95,
        unit="×",
    ),
    Bar(
        "two-processes-gradient",
        "two processes against one: largest gradient difference",
        two_processes.gradients,
        at_most=1e-5,
        aim=1e-6,
    ),
    Bar(
        "hopper",
        "FARE, ViT-B/32, one Hopper GPU: model-FLOPs utilisation",
        hopper_utilisation,
        at_least=40,
        aim=55,
        unit=" %",
    ),
]
BARS = [replace(bar, measure=_freed(bar.measure)) for bar in _BARS]
