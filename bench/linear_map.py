"""What the linear map costs: three epochs of it, embedding pass included, against three epochs of the whole tower; and 100 values of t.

Both runs go through `train`, from loading the model to the verified export, on the same photos with the same batch size and drawings. Times are
processor seconds of this process on one thread, as ratios of minima over interleaved pairs (A B B A), with a matrix product before and after as
a probe of how quiet the machine was. `python bench/linear_map.py`.
"""

import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from steps import probe

from seaanchor.adapters.linear_map import LinearMap, decompose
from seaanchor.config import RunConfig
from seaanchor.data.sources import open_images
from seaanchor.encoders.load import load_model
from seaanchor.evaluation.typographic import TypographicPlan
from seaanchor.recipes import dpo_linear_tiny, dpo_tiny
from seaanchor.steering import see_people, see_words, sweep_bias, sweep_typographic
from seaanchor.train import train

ROUNDS = 2
EPOCHS = 3
BAR, AIM = 7.0, 8.5


def run_of(recipe: RunConfig) -> Callable[[], None]:
    """A whole run of `EPOCHS` epochs with one drawing an image, in a folder that is thrown away."""

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            drawing = replace(recipe.perturbation, variants=1)
            train(replace(recipe, device="cpu", epochs=EPOCHS, batch_size=64, perturbation=drawing, output=Path(folder) / "run"))

    return run


def least_seconds(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Least processor seconds of A and of B."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for which, run in ((0, first), (1, second), (1, second), (0, first)):
            started = time.process_time()
            run()
            seconds[which].append(time.process_time() - started)
    return min(seconds[0]), min(seconds[1])


def main() -> None:
    torch.set_num_threads(1)
    before = probe()
    full, linear = least_seconds(run_of(dpo_tiny()), run_of(dpo_linear_tiny()), ROUNDS)
    quiet = abs(probe() / before - 1) <= 0.1
    noise = "" if quiet else "  noisy machine"
    print(f"{EPOCHS} epochs: tower {full:.1f} s, linear map {linear:.1f} s, {full / linear:.2f} times as fast (bar {BAR}, aim {AIM}){noise}", flush=True)
    model, ts = load_model("seaanchor-tiny"), [-1 + 0.03 * i for i in range(100)]
    torch.manual_seed(0)
    spectrum = decompose(LinearMap(model.encoder.dim).weight * torch.linspace(0.5, 1.5, model.encoder.dim))
    words = see_words(model, open_images("photos-mini/test"), TypographicPlan())
    people = see_people(model, open_images("emoji-people/test"))
    sweeps = {"drawn words on 800 photos": lambda: sweep_typographic(words, spectrum, ts), "194 people": lambda: sweep_bias(people, spectrum, ts)}
    for name, sweep in sweeps.items():
        seconds, _ = least_seconds(sweep, lambda: None, 3)
        print(f"{len(ts)} values of t, {name}: {seconds:.2f} s (bar 1)", flush=True)


if __name__ == "__main__":
    main()
