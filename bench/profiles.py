"""Where the time of a step goes: `python -m bench.profiles [TOWER ...]`, from the root of the repository.

Shares of processor time by kind of kernel, on one thread in fp32: of the attack step (forward and gradient to the
pixels, weights frozen) and of the update (forward and gradient to the weights). It uses names that every build since
the first has, so that `PYTHONPATH=OTHER/src python bench/profiles.py` profiles another.
"""

import sys
from collections import Counter
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from seaanchor.encoders.kernels import fast_kernels, num_tokens
from seaanchor.encoders.load import load_model
from seaanchor.functional.gradients import frozen, input_grad

TOWERS = {
    "ViT-B-32": ("ViT-B-32", None, 16),
    "ViT-S-16": ("timm:vit_small_patch16_224", None, 8),
    "EfficientNet-Lite0": ("timm:tf_efficientnet_lite0", 128, 16),
}
"""Name, side in pixels, images."""
KINDS = {
    "matrix products": ("addmm", "mm", "bmm", "baddbmm", "_addmm_activation"),
    "convolutions": ("convolution", "conv"),
    "attention": ("scaled_dot_product", "softmax"),
    "activations": ("gelu", "silu", "sigmoid", "hardtanh", "hardswish", "clamp", "relu"),
    "normalisation": ("layer_norm", "batch_norm"),
    "copies": ("copy_", "cat", "clone", "contiguous", "fill_", "zero_"),
}


def kind_of(name: str) -> str:
    """The kind of a kernel, by a part of its name; products by the whole."""
    plain = name.removeprefix("aten::")
    if plain in KINDS["matrix products"]:
        return "matrix products"
    found = [kind for kind, parts in KINDS.items() if kind != "matrix products" and any(p in plain for p in parts)]
    return found[0] if found else "other"


def steps(name: str, side: int | None, batch: int) -> dict[str, Callable[[], object]]:
    """The attack step and the update of a tower with random weights."""
    torch.manual_seed(0)
    encoder = load_model(name, "none", side).encoder.eval().requires_grad_(True)
    pixels_BCHW = torch.rand(batch, 3, encoder.image_size, encoder.image_size)
    with torch.no_grad():
        clean_BD = encoder(pixels_BCHW)
    moved_BCHW, tokens = (pixels_BCHW + 0.01).clamp(0, 1), num_tokens(encoder)

    def loss(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding_BD = encoder(pixels)
        return (embedding_BD - clean_BD).square().sum(-1), embedding_BD

    def attack() -> None:
        with frozen(encoder), fast_kernels(encoder, torch.float32, tokens):
            input_grad(loss, moved_BCHW)

    def update() -> None:
        encoder.zero_grad(set_to_none=True)
        with fast_kernels(encoder, torch.float32, tokens):
            loss(moved_BCHW)[0].mean().backward()

    return {"attack step": attack, "update": update}


def shares(run: Callable[[], object]) -> tuple[float, dict[str, float]]:
    """Seconds, and the share of each kind of kernel."""
    run()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        run()
    spent: Counter[str] = Counter()
    for event in seen.key_averages():
        spent[kind_of(event.key)] += event.self_cpu_time_total
    total = sum(spent.values())
    return total / 1e6, {kind: spent[kind] / total for kind in [*KINDS, "other"]}


def main() -> None:
    torch.set_num_threads(1)
    print("| tower | step | seconds | " + " | ".join([*KINDS, "other"]) + " |")
    print("| --- " * (4 + len(KINDS)) + "|")
    for name in sys.argv[1:] or TOWERS:
        tower, side, batch = TOWERS[name]
        for step, run in steps(tower, side, batch).items():
            seconds, found = shares(run)
            cells = " | ".join(f"{100 * share:.1f} %" for share in found.values())
            print(f"| {name}, {batch} images | {step} | {seconds:.2f} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
