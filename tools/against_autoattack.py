"""Our APGD beside AutoAttack's own package: same model, images, radius and steps, image by image.

python tools/against_autoattack.py --model models/seaanchor-tiny-lore --samples 500 --epsilon 4/255 --output
runs/against-autoattack/lore.json

The package's standard version runs APGD-CE, targeted APGD, targeted FAB and Square, each on what the one before left
standing; ours are APGD-CE and targeted APGD at the same 100 steps. The same command goes on after the last attack that
it finished. Needs the extra `attacks`.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seaanchor.attacks.apgd_classifier import apgd_ce, apgd_targeted
from seaanchor.attacks.ball import Ball
from seaanchor.attacks.classification import Logits
from seaanchor.config.schema import parse_epsilon
from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.types import texts_of
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.load import load_model
from seaanchor.evaluation.zeroshot import labelled
from seaanchor.utils.checkpoint import write_atomic
from seaanchor.utils.log import log_to_terminal

STEPS = 100
Attack = Callable[[Tensor], Tensor]  # numbers of images → those of them that it does not fool


def main() -> None:
    """Run both and print robust accuracies after each stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="models/seaanchor-tiny-lore")
    parser.add_argument("--data", default="photos-mini/test")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--epsilon", default="4/255")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    model, images = load_model(args.model), labelled(args.data, None, args.samples, 0)
    head, encoder = build_head(model, texts_of(images)), model.encoder.eval().requires_grad_(False)

    def logits(pixels_BCHW: Tensor) -> Tensor:
        return head(encoder(pixels_BCHW).float())

    dataset = ImageDataset(images, encoder.preprocessing)
    (batch,) = batches(dataset, len(images.paths), workers=0, order=None, skip_log=SkipLog(images))
    ball, label_N = Ball("linf", parse_epsilon(args.epsilon)), batch.label_B
    assert label_N is not None, "labelled images"
    with torch.no_grad():
        clean_N = torch.cat([logits(x).argmax(-1) for x in batch.pixels_BCHW.split(args.batch_size)]) == label_N
    settings = {"model": args.model, "data": args.data, "n": len(label_N), "epsilon": args.epsilon, "steps": STEPS}
    comparison = Comparison(args.output, settings | {"clean": int(clean_N.sum())})
    ours = comparison.run(
        "ours", _ours(logits, batch.pixels_BCHW, label_N, batch.index_B, ball, args.batch_size), clean_N
    )
    theirs = comparison.run("theirs", _theirs(logits, batch.pixels_BCHW, label_N, ball, args.batch_size), clean_N)
    comparison.report["standing for both"] = int((ours & theirs).sum())
    comparison.report["standing for ours alone"] = int((ours & ~theirs).sum())
    comparison.report["standing for theirs alone"] = int((theirs & ~ours).sum())
    comparison.write()
    print(json.dumps({name: value for name, value in comparison.report.items() if name != "rows"}, indent=1))


class Comparison:
    """The report as a file, written after every attack; the same command goes on after the last one.

    Attributes:
        report: what the file holds; `rows` are the numbers of the images that stand after each attack.
    """

    def __init__(self, file: Path, settings: dict[str, Any]) -> None:
        self.file, self.report = file, settings | {"rows": {}}
        if file.exists():
            before = json.loads(file.read_text())
            if other := [name for name, value in settings.items() if before.get(name) != value]:
                sys.exit(f"{file} holds a comparison with other {', '.join(other)}: name another --output")
            self.report = before

    def run(self, side: str, attacks: Mapping[str, Attack], standing_N: Tensor) -> Tensor:
        """Which images (N,) stand after all attacks, each on what the one before left standing."""
        found, rows = self.report.setdefault(side, {}), self.report["rows"].setdefault(side, {})
        for name, attack in attacks.items():
            if name not in found:
                started = time.process_time()
                at = standing_N.nonzero().squeeze(1)
                left = attack(at).tolist() if len(at) else []
                found[name] = {"standing": len(left), "processor seconds": round(time.process_time() - started)}
                rows[name] = left
                self.write()
            print(side, name, found[name], flush=True)
            standing_N = torch.zeros_like(standing_N).index_fill(0, torch.tensor(rows[name], dtype=torch.long), True)
        return standing_N

    def write(self) -> None:
        """As a whole or not at all."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.file, json.dumps(self.report, indent=1))


def _ours(logits: Logits, pixels: Tensor, label_N: Tensor, index_N: Tensor, ball: Ball, size: int) -> dict[str, Attack]:
    def attacked(attack: Any, at: Tensor) -> Tensor:
        left = []
        for rows in at.split(size):
            result = attack(logits, pixels[rows], label_N[rows], ball, num_steps=STEPS, index_B=index_N[rows], seed=0)
            left.append(rows[~result.fooled_B])
        return torch.cat(left)

    return {"apgd-ce": partial(attacked, apgd_ce), "apgd-t": partial(attacked, apgd_targeted)}


class _Module(torch.nn.Module):
    """A function as the package wants it."""

    def __init__(self, logits: Logits) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Logits (B, C)."""
        return self.logits(pixels_BCHW)


def _theirs(logits: Logits, pixels: Tensor, label_N: Tensor, ball: Ball, size: int) -> dict[str, Attack]:
    from pyautoattack import AutoAttack

    def attacked(name: str, at: Tensor) -> Tensor:
        attack = AutoAttack(_Module(logits), norm="Linf", eps=ball.epsilon, seed=0)
        attack.attacks_to_run = [name]  # of the standard version, whose settings stay
        moved = attack.run_standard_evaluation(pixels[at], label_N[at], batch_size=size)[0]
        with torch.no_grad():
            return at[torch.cat([logits(x).argmax(-1) for x in moved.split(size)]) == label_N[at]]

    return {name: partial(attacked, name) for name in ("apgd-ce", "apgd-t", "fab-t", "square")}


if __name__ == "__main__":
    log_to_terminal()
    main()
