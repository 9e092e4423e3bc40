"""What one NVIDIA GPU reaches, in one go of at most eight minutes: `python -m bench.gpu [--minutes 8] [--output FILE]`.

FARE and LORE steps of a ViT-B/32 at 224 px on 256 images, and their attack alone: in bf16, in fp32 and with TF32
products; with the tower channels-last, compiled, and with AdamW as a loop instead of one fused kernel. Of each:
seconds, operations a second and as a share of the card's data sheet, the most memory that was allocated, and the images
a second that loading has to bring. What the minutes do not suffice for is said. Without a GPU it ends with an error.

Operations are those that the step needs by formula (`docs/performance.md`): a pass too many lowers the share, and work
that a kernel saves raises it.
"""

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bench.report import machine
from bench.subjects import Ours, in_precision, ours
from seaanchor.config.recipes import fare, lore
from seaanchor.encoders.kernels import CompiledForward, check_compiler, computes_in_bf16
from seaanchor.errors import SeaAnchorError
from seaanchor.profiling.flops import forward_flops, least_passes
from seaanchor.profiling.hardware import GPUS, Machine
from seaanchor.utils.checkpoint import write_atomic

# Parts of the names that drivers give to cards, each with its data sheet; of two that fit, the first.
CARDS = {
    "H200": "H200",
    "H100 PCIe": "H100-PCIe",
    "H100 NVL": "H100-NVL",
    "H100": "H100-SXM",
    "A100 80GB PCIe": "A100-PCIe",
    "A100-PCIE": "A100-PCIe",
    "A100-SXM4-40GB": "A100-40GB",
    "A100": "A100-80GB",
}
TF32 = {"H200": 494e12, "H100-SXM": 494e12, "H100-PCIe": 378e12, "H100-NVL": 417e12}  # dense, of the same data sheets
TF32 |= dict.fromkeys(("A100-PCIe", "A100-40GB", "A100-80GB"), 156e12)
ROUNDS, STEPS = 3, 4  # the least of some rounds, each of some steps in a row without a wait between them


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    Attributes:
        what: `fare`, `lore`, or `attack`, the attack of a FARE step alone.
        precision: of attack and updates.
        tf32: whether products of fp32 numbers may round their inputs to 10 bits.
        channels_last: whether tower and images lie so.
        fused: whether AdamW is one kernel.
        compiled: whether the tower goes through torch.compile.
    """

    what: str
    precision: str
    tf32: bool = False
    channels_last: bool = False
    fused: bool = True
    compiled: bool = False

    @property
    def name(self) -> str:
        """A line of the table."""
        marks = [("TF32", self.tf32), ("channels-last", self.channels_last), ("AdamW not fused", not self.fused)]
        marks.append(("compiled", self.compiled))
        return ", ".join([f"{self.what} {self.precision}", *(mark for mark, on in marks if on)])


CASES = (
    Case("fare", "bf16"),
    Case("attack", "bf16"),
    Case("lore", "bf16"),
    Case("attack", "bf16", compiled=True),
    Case("fare", "bf16", compiled=True),
    Case("fare", "bf16", channels_last=True),
    Case("fare", "bf16", fused=False),
    Case("fare", "fp32", tf32=True),
    Case("fare", "fp32"),
    Case("attack", "fp32", tf32=True),
    Case("attack", "fp32"),
    Case("lore", "fp32", tf32=True),
    Case("lore", "fp32"),
)


@dataclass(frozen=True)
class Settings:
    """On what, and how long.

    Attributes:
        device: `cuda`; tests take `cpu`.
        model: with random weights; None for the bench's small tower.
        batch: images of a step.
        num_steps: of the attack.
        minutes: after which no further case begins.
        rounds, steps: how often each is timed.
    """

    device: str = "cuda"
    model: str | None = "ViT-B-32"
    batch: int = 256
    num_steps: int = 10
    minutes: float = 8.0
    rounds: int = ROUNDS
    steps: int = STEPS


def card(name: str) -> Machine | None:
    """The data sheet of a card by the name that its driver gives it; None where it is not known."""
    sheet = next((sheet for part, sheet in CARDS.items() if part.lower() in name.lower()), None)
    return next((gpu for gpu in GPUS if gpu.name == sheet), None)


def peak(sheet: Machine | None, case: Case) -> float | None:
    """Operations a second of the data sheet for the case's products; None where the card is not known."""
    if sheet is None:
        return None
    return TF32.get(sheet.name) if case.tf32 else sheet.rate(case.precision)


@contextmanager
def tf32_products(allowed: bool) -> Iterator[None]:
    """Whether products and convolutions of fp32 numbers on a GPU may run in TF32; as it was on leaving."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def subject_of(case: Case, settings: Settings) -> Ours:
    """The step of a case, on the device."""
    recipe = in_precision(lore() if case.what == "lore" else fare(), case.precision)
    recipe = replace(recipe, perturbation=replace(recipe.perturbation, num_steps=settings.num_steps))
    subject = ours(recipe, settings.batch, model=settings.model, device=settings.device)
    if case.channels_last:
        for tower in (subject.state.encoder, *([copy.encoder] if (copy := subject.state.low_precision_copy) else [])):
            tower.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # missing from torch's signatures
        pixels_BCHW = subject.images.pixels_BCHW.contiguous(memory_format=torch.channels_last)
        subject = replace(subject, images=replace(subject.images, pixels_BCHW=pixels_BCHW))
    if not case.fused:
        parameters = [p for group in subject.state.optimizer.param_groups for p in group["params"]]
        loop = torch.optim.AdamW(parameters, lr=0.0, foreach=False, fused=False)
        subject = replace(subject, state=replace(subject.state, optimizer=loop))
    if case.compiled:
        check_compiler(torch.device(settings.device))
        subject = replace(subject, state=replace(subject.state, compiled=CompiledForward()))
    return subject


def needed(case: Case, subject: Ours) -> float:
    """Operations of the case by formula: an attack's gradient to the pixels costs 2 F an image."""
    config, encoder = subject.setup.config, subject.setup.model.encoder
    forward = forward_flops(encoder, subject.setup.model.encoder.image_size, subject.setup.device)  # type: ignore[arg-type]
    passes = least_passes(config, subject.setup.method.needs, cached=True)
    assert passes is not None, "the cost of PGD is known"
    passes = 2 * config.perturbation.num_steps if case.what == "attack" else passes
    return float(passes * forward * len(subject.images.index_B))


def seconds(run: Callable[[], object], settings: Settings) -> float:
    """Wall seconds of a call: the least of some rounds, within which nothing waits for the device."""
    wait = torch.cuda.synchronize if settings.device.startswith("cuda") else lambda: None
    for _ in range(2):
        run()  # kernels are chosen, the optimizer makes its state
    taken = []
    for _ in range(settings.rounds):
        wait()
        started = time.perf_counter()
        for _ in range(settings.steps):
            run()
        wait()
        taken.append((time.perf_counter() - started) / settings.steps)
    return min(taken)


def measure(case: Case, settings: Settings, sheet: Machine | None) -> dict[str, Any]:
    """What a case reaches; a row of the table."""
    on_gpu = settings.device.startswith("cuda")
    with tf32_products(case.tf32):
        subject = subject_of(case, settings)
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        taken = seconds(subject.attack if case.what == "attack" else subject.step, settings)
        rate, most = needed(case, subject) / taken, peak(sheet, case)
    return {
        **asdict(case),
        "seconds": taken,
        "flop_per_s": rate,
        "utilisation": None if most is None else rate / most,
        "peak_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
        "images_per_s": settings.batch / taken,
    }


def measure_all(
    cases: Sequence[Case], settings: Settings, sheet: Machine | None, clock: Callable[[], float] = time.monotonic
) -> list[dict[str, Any]]:
    """A row for each case; a case that does not fit, or that the minutes do not suffice for, has a `reason`."""
    rows, end = list[dict[str, Any]](), clock() + 60 * settings.minutes
    longest = 0.0  # a case that takes as long as the longest so far must end in time
    for case in cases:
        started = clock()
        if started + longest > end:
            rows.append({**asdict(case), "reason": f"not measured: {settings.minutes:g} minutes are over"})
            continue
        if case.precision == "bf16" and settings.device.startswith("cuda") and not computes_in_bf16("cuda"):
            rows.append({**asdict(case), "reason": "not measured: this card has no bf16 arithmetic"})
            continue
        try:
            rows.append(measure(case, settings, sheet))
        except torch.OutOfMemoryError:
            rows.append({**asdict(case), "reason": f"not measured: {settings.batch} images do not fit"})
        except SeaAnchorError as error:  # nothing to compile with
            rows.append({**asdict(case), "reason": f"not measured: {error.found}"})
        gc.collect()
        torch.cuda.empty_cache()
        longest = max(longest, clock() - started)
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown, a line for each row."""
    lines = [
        "| what | seconds | TFLOP/s | of the data sheet | memory | images a second |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        name = Case(**{key: row[key] for key in asdict(CASES[0])}).name
        if "reason" in row:
            lines.append(f"| {name} | {row['reason']} | | | | |")
            continue
        share = "–" if row["utilisation"] is None else f"{100 * row['utilisation']:.1f} %"
        memory = "–" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e9:.1f} GB"
        numbers = f"{row['seconds']:.4g} | {row['flop_per_s'] / 1e12:.4g} | {share} | {memory}"
        lines.append(f"| {name} | {numbers} | {row['images_per_s']:,.0f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description="What one NVIDIA GPU reaches.")
    parser.add_argument("--minutes", type=float, default=Settings.minutes, help="after which no further case begins")
    parser.add_argument("--batch", type=int, default=Settings.batch, help="images of a step")
    parser.add_argument("--output", type=Path, default=Path("gpu.json"), help="all numbers, as JSON")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        built = "was built without CUDA" if torch.version.cuda is None else "finds no NVIDIA GPU"
        sys.exit(f"nothing to measure: torch {torch.__version__} {built}; run this on a machine with one")
    settings = Settings(minutes=options.minutes, batch=options.batch)
    if not write(CASES, settings, torch.cuda.get_device_name(), options.output):
        sys.exit("nothing was measured")


def write(cases: Sequence[Case], settings: Settings, name: str, output: Path) -> int:
    """Measure on a card of this name, keep all numbers and print the table; returns how many cases were measured."""
    sheet = card(name)
    rows = measure_all(cases, settings, sheet)
    found = {"card": name, "sheet": None if sheet is None else asdict(sheet), **machine(), "settings": asdict(settings)}
    write_atomic(output, json.dumps({**found, "rows": rows}, indent=2) + "\n")
    model = settings.model or "the bench's ViT"
    print(f"{name}, {model}, {settings.batch} images, torch {torch.__version__}\n\n{table(rows)}")
    return sum("reason" not in row for row in rows)


if __name__ == "__main__":
    main()
