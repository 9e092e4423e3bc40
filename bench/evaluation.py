"""The bars of evaluation: our attacks against AutoAttack's package, what more images and more classes cost, text
classifiers, and start-up.

Models are the embedded ones, photos those of the embedded test set. Both sides of a comparison begin at the same random
starts and see the same frozen weights; AutoAttack's package gets the model as it is, our attacks what our evaluation
makes of it.

Legend: B batch, C classes, D embedding dimension.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from bench import curves
from bench.attacked import CPU, SET, Attacked, attacked
from bench.clock import QUICK, compare, probe
from bench.frame import Bar, Measurement
from bench.peers import autoattack
from seaanchor.attacks.apgd_classifier import apgd_ce, apgd_targeted
from seaanchor.attacks.ball import Ball
from seaanchor.data.loader import ImageDataset
from seaanchor.data.types import Images, take
from seaanchor.distributed.launch import open_group
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.load import load_model
from seaanchor.evaluation.attacks import AttackPlan
from seaanchor.evaluation.suites.interpretability import openai_templates
from seaanchor.evaluation.table import ExecutionOptions, collect
from seaanchor.evaluation.zeroshot import accuracy_rows, classifier, labelled
from seaanchor.types import Batch

STEPS = 100
ROOT = Path(__file__).parents[1]


def against_autoattack(model: str, epsilon: float, count: int, pairs: int) -> Measurement:
    """APGD-CE in fp32: their seconds over ours."""
    seen = attacked(model, count)
    begin = autoattack.start(seen.pixels_BCHW, epsilon)
    ball, fooled = Ball("linf", epsilon), {}

    def ours() -> None:
        found = apgd_ce(
            seen.ours, seen.pixels_BCHW, seen.label_B, ball, num_steps=STEPS, index_B=seen.index_B, start_BCHW=begin
        )
        fooled["ours"] = found.fooled_B

    def theirs() -> None:
        fooled["theirs"] = autoattack.apgd_ce(seen.plain, seen.pixels_BCHW, seen.label_B, epsilon, STEPS)

    times = compare(ours, theirs, pairs=rounds(pairs), warm=False)
    apart = int((fooled["ours"] != fooled["theirs"]).sum())
    note = (
        f"{model}, ε = {255 * epsilon:g}/255: {int(fooled['ours'].sum())} of {len(seen.label_B)} fooled, "
        f"{apart} otherwise than by the package"
    )
    details = {
        "seconds": times.first,
        "peer_seconds": times.second,
        "n": len(seen.label_B),
        "fooled": int(fooled["ours"].sum()),
        "apart": apart,
    }
    return Measurement(times.second / times.first, times.quiet, "processor", details, note)


def rounds(pairs: int) -> int:
    """Fewer than the rule's, for what takes seconds a call; one for a quick look."""
    return 1 if QUICK in os.environ else pairs


def same_images() -> Measurement:
    """Images in a thousand that only one of the two fools: in fp32 on all test photos; in float64 not one may be."""
    single, double = (
        apart_of(attacked("models/seaanchor-tiny-lore", 500), 2 / 255, 40),
        apart_of(attacked("models/seaanchor-tiny-lore", 40, double=True), 2 / 255, 40),
    )
    value = 1000 * single[0] / single[1] if double[0] == 0 else float("inf")
    note = (
        f"40 steps: {single[0]} of {single[1]} in fp32 ({single[2]} fooled), {double[0]} of {double[1]} in "
        f"float64 ({double[2]} fooled)"
    )
    return Measurement(
        value,
        details={"apart_fp32": single[0], "n_fp32": single[1], "apart_float64": double[0], "n_float64": double[1]},
        note=note,
    )


def apart_of(seen: Attacked, epsilon: float, steps: int) -> tuple[int, int, int]:
    """Images that one fools and the other does not, of how many, and how many ours fools."""
    count = 0, 0, 0
    for rows in torch.arange(len(seen.label_B)).split(64):
        pixels, label, index = seen.pixels_BCHW[rows], seen.label_B[rows], seen.index_B[rows]
        begin = autoattack.start(pixels, epsilon)
        found = apgd_ce(
            seen.ours, pixels, label, Ball("linf", epsilon), num_steps=steps, index_B=index, start_BCHW=begin
        )
        with autoattack.in_double():
            theirs = autoattack.apgd_ce(seen.plain, pixels, label, epsilon, steps)
        more = int((found.fooled_B != theirs).sum()), len(rows), int(found.fooled_B.sum())
        count = count[0] + more[0], count[1] + more[1], count[2] + more[2]
    return count


def low_precision() -> Measurement:
    """APGD-CE, then targeted APGD on the survivors: their seconds over ours with gradients in bf16; worth nothing if
    more images survive ours."""
    seen, epsilon, standing = attacked("models/seaanchor-tiny-lore", 48), 4 / 255, {}
    ball, begin = Ball("linf", epsilon), autoattack.start(seen.pixels_BCHW, epsilon)

    def ours() -> None:
        first = apgd_ce(
            seen.ours,
            seen.pixels_BCHW,
            seen.label_B,
            ball,
            num_steps=STEPS,
            index_B=seen.index_B,
            start_BCHW=begin,
            follow=seen.ours.low,
        )
        left = (~first.fooled_B).nonzero().squeeze(1)
        pixels, label, index = seen.pixels_BCHW[left], seen.label_B[left], seen.index_B[left]
        begun = autoattack.starts(pixels, epsilon)
        second = apgd_targeted(
            seen.ours, pixels, label, ball, num_steps=STEPS, index_B=index, starts=begun, follow=seen.ours.low
        )
        standing["ours"] = len(left) - int(second.fooled_B.sum())

    def theirs() -> None:
        left = (~autoattack.apgd_ce(seen.plain, seen.pixels_BCHW, seen.label_B, epsilon, STEPS)).nonzero().squeeze(1)
        fooled = autoattack.apgd_targeted(seen.plain, seen.pixels_BCHW[left], seen.label_B[left], epsilon, STEPS)
        standing["theirs"] = len(left) - int(fooled.sum())

    times = compare(ours, theirs, pairs=rounds(2), warm=False)
    details = {
        "seconds": times.first,
        "peer_seconds": times.second,
        "n": len(seen.label_B),
        "standing": standing["ours"],
        "peer_standing": standing["theirs"],
    }
    note = (
        f"seaanchor-tiny-lore, ε = 4/255: {standing['ours']} of {len(seen.label_B)} still stand, "
        f"{standing['theirs']} after the package's"
    )
    valid = standing["ours"] <= standing["theirs"]
    return Measurement(times.second / times.first if valid else 0.0, times.quiet, "processor", details, note)


def twice_the_images() -> Measurement:
    """How far seconds for 2N photos are from twice those for N: read, classified, and attacked with nothing to be
    found."""
    model, images = load_model("seaanchor-tiny"), labelled(SET, None, 200, 0)
    twice = take(images, [*range(len(images.paths))] * 2)
    logits = classifier(model, build_head(model, images.class_names), CPU)
    plan = AttackPlan("pgd", "linf", (0.0,), 2)

    def measure(batch: Batch) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            logits_BC = logits(batch.pixels_BCHW)
        return accuracy_rows(logits, batch, logits_BC, (plan,))

    def pass_over(some: Images) -> Callable[[], object]:
        def run() -> None:
            with tempfile.TemporaryDirectory() as folder, open_group() as group:
                collect(
                    "bench",
                    "images",
                    ImageDataset(some, 64),
                    measure,
                    ExecutionOptions(50, 0, CPU, group, Path(folder)),
                )

        return run

    times = compare(pass_over(twice), pass_over(images))
    ratio = times.first / times.second
    return Measurement(
        abs(ratio - 2), times.quiet, "processor", {"ratio": ratio, "n": 200}, f"ratio {ratio:.3f}, N = 200"
    )


def resident_growth() -> Measurement:
    """Megabytes by which 50,000 photos take more than 1,000, each evaluated by a process of its own."""
    few, many = (curves.point("images", count) for count in (1_000, 50_000))
    grown = many["peak_mb"] - few["peak_mb"]
    return Measurement(
        grown,
        details={"few_mb": few["peak_mb"], "many_mb": many["peak_mb"]},
        note="clean accuracy; peak of resident memory",
    )


def many_classes() -> Measurement:
    """Seconds of a step of APGD-CE on 64 photos with 21,000 random classes over those with 1,000."""
    steps = [curves.class_step(count) for count in (21_000, 1_000)]
    times = compare(*steps)
    details = {"ms_21000": 1e3 * times.first, "ms_1000": 1e3 * times.second}
    return Measurement(times.first / times.second, times.quiet, "processor", details)


def text_tower(classes: int) -> tuple[LoadedModel, list[str]]:
    """ViT-B/32 with random weights, and that many class names."""
    torch.manual_seed(0)
    return load_model("ViT-B-32", "none"), class_names(classes)


def class_names(count: int) -> list[str]:
    """Up to 1,000 names of two words, taken from the names of the embedded set."""
    words = sorted({word for name in labelled(SET, None, None, 0).class_names for word in name.split()})
    names = [f"{a} {b}" for a in words for b in words if a != b]
    return names[:: len(names) // count][:count]


def text_classifier() -> Measurement:
    """open_clip's builder over ours, the cache off: 80 prompts each of a few classes, the time for 1,000 being in
    proportion."""
    import open_clip

    model, names = text_tower(6)
    templates, found = openai_templates(), {}

    def ours() -> None:
        found["ours"] = build_head(model, names, templates).weight_CD

    def theirs() -> None:
        tokenizer = open_clip.get_tokenizer("ViT-B-32")
        found["theirs"] = open_clip.build_zero_shot_classifier(
            model.module, tokenizer, names, [t.replace("{}", "{0}") for t in templates]
        ).T

    with cache_at("off"):
        times = compare(ours, theirs, pairs=rounds(2), warm=False)
    difference = (found["ours"] - found["theirs"]).abs().max().item()
    note = (
        f"text tower of ViT-B/32, {len(names)} classes of 80 prompts; largest difference of an entry {difference:.1e}"
    )
    details = {"seconds": times.first, "peer_seconds": times.second, "difference": difference}
    return Measurement(times.second / times.first, times.quiet, "processor", details, note)


def cached_classifier() -> Measurement:
    """Seconds of a process for 1,000 classes of 80 prompts that an earlier run left in the cache; the model is loaded
    already."""
    names, templates = class_names(1_000), openai_templates()
    with tempfile.TemporaryDirectory() as folder, cache_at(folder):
        model = small_text_model(Path(folder))
        times = compare(lambda: build_head(model, names, templates), lambda: None, pairs=rounds(3))
    return Measurement(
        times.first,
        times.quiet,
        "processor",
        {"classes": len(names)},
        f"small text tower of 77 tokens, {len(names)} classes",
    )


def small_text_model(folder: Path) -> LoadedModel:
    """A CLIP of random weights whose text tower reads as far as OpenAI's and is small, for what does not depend on its
    size."""
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 32, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
    weights = open_clip.CLIP(64, vision, text).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "open_clip_model.safetensors")
    config = {"model_cfg": {"embed_dim": 64, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": {"size": 32}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return load_model(f"local-dir:{folder}")


@contextmanager
def cache_at(place: str) -> Iterator[None]:
    """The cache there, or `off`, and afterwards where it was."""
    before = os.environ.get("SEAANCHOR_CACHE")
    os.environ["SEAANCHOR_CACHE"] = place
    try:
        yield
    finally:
        del os.environ["SEAANCHOR_CACHE"]
        os.environ |= {} if before is None else {"SEAANCHOR_CACHE": before}


def start_up(*command: str) -> Measurement:
    """Least processor seconds of ten fresh processes, beyond those of an empty one for an import alone."""
    before = probe()
    seconds = min(child_seconds([sys.executable, *command]) for _ in range(10))
    empty = min(child_seconds([sys.executable, "-c", ""]) for _ in range(10))
    quiet = abs(probe() / before - 1) <= 0.1
    value = seconds - empty if command[0] == "-c" else seconds
    return Measurement(
        value, quiet, "processor", {"whole": seconds, "empty_python": empty}, f"an empty python takes {empty:.3f} s"
    )


def child_seconds(command: list[str]) -> float:
    """Processor seconds of a child process, the system's for it included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


BARS = [
    Bar(
        "autoattack-undefended",
        "APGD-CE against AutoAttack's package, every image fooled",
        lambda: against_autoattack("seaanchor-tiny", 4 / 255, 40, 3),
        40,
        at_least=10,
        unit="×",
    ),
    Bar(
        "autoattack-half",
        "half of the images fooled",
        lambda: against_autoattack("models/seaanchor-tiny-lore", 2 / 255, 40, 3),
        1.8,
        at_least=1.5,
        unit="×",
    ),
    Bar(
        "autoattack-nothing",
        "no image fooled",
        lambda: against_autoattack("models/seaanchor-tiny-lore", 0.05 / 255, 32, 5),
        1.05,
        at_least=1.02,
        unit="×",
    ),
    Bar("autoattack-same-images", "images in 1,000 that only one of the two fools", same_images, 0, at_most=2),
    Bar(
        "autoattack-bf16",
        "APGD-CE and targeted APGD, ours with gradients in bf16",
        low_precision,
        2.2,
        at_least=1.7,
        unit="×",
    ),
    Bar("twice-the-images", "seconds for 2N images / for N: away from 2 by", twice_the_images, 0.02, at_most=0.05),
    Bar("images-memory", "resident memory, 50,000 images beyond 1,000", resident_growth, 50, at_most=100, unit=" MB"),
    Bar("many-classes", "a step of APGD-CE with 21,000 classes / with 1,000", many_classes, 1.10, at_most=1.15),
    Bar(
        "text-classifier",
        "zero-shot classifier of 80 prompts a class against open_clip's builder",
        text_classifier,
        9,
        at_least=4.5,
        unit="×",
    ),
    Bar(
        "text-classifier-cached", "1,000 × 80 prompts, the second time", cached_classifier, 0.1, at_most=0.5, unit=" s"
    ),
    Bar("help", "`seaanchor --help`", lambda: start_up("-m", "seaanchor.cli", "--help"), 0.1, at_most=0.3, unit=" s"),
    Bar(
        "import",
        "`import seaanchor`, beyond an empty Python",
        lambda: start_up("-c", "import seaanchor"),
        0.05,
        at_most=0.1,
        unit=" s",
    ),
    *curves.BARS,
]
