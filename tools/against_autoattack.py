"""Our APGD beside AutoAttack's own package: same model, images, radius and steps, image by image.

python tools/against_autoattack.py --model models/seaanchor-tiny-lore --samples 500 --epsilon 4/255 --output
runs/against-autoattack/lore.json

The package's standard version runs APGD-CE, targeted APGD, targeted FAB and Square, each on what the one before left
standing; ours are APGD-CE and targeted APGD at the same 100 steps. Needs the extra `attacks`.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from torch import Tensor

from seaanchor.attacks.apgd_classifier import apgd_ce, apgd_targeted
from seaanchor.attacks.ball import Ball
from seaanchor.config.schema import parse_epsilon
from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.types import texts_of
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.load import load_model
from seaanchor.evaluation.zeroshot import labelled
from seaanchor.utils.log import log_to_terminal

STEPS = 100


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
    report = {
        "model": args.model,
        "n": len(label_N),
        "epsilon": args.epsilon,
        "steps": STEPS,
        "clean": int(clean_N.sum()),
    }
    ours, report["ours"] = _ours(logits, batch.pixels_BCHW, label_N, batch.index_B, clean_N, ball, args.batch_size)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(report, indent=1))
    theirs, report["theirs"] = _theirs(logits, batch.pixels_BCHW, label_N, clean_N, ball, args.batch_size)
    report["standing for both"] = int((ours & theirs).sum())
    report["standing for ours alone"], report["standing for theirs alone"] = (
        int((ours & ~theirs).sum()),
        int((theirs & ~ours).sum()),
    )
    args.output.write_text(json.dumps(report, indent=1))
    print(json.dumps(report, indent=1))


def _ours(
    logits, pixels: Tensor, label_N: Tensor, index_N: Tensor, clean_N: Tensor, ball: Ball, size: int
) -> tuple[Tensor, dict]:
    standing_N, found = clean_N.clone(), {}
    for name, attack in (("apgd-ce", apgd_ce), ("apgd-t", apgd_targeted)):
        started = time.process_time()
        for rows in standing_N.nonzero().squeeze(1).split(size):
            result = attack(logits, pixels[rows], label_N[rows], ball, num_steps=STEPS, index_B=index_N[rows], seed=0)
            standing_N[rows] = ~result.fooled_B
        found[name] = {"standing": int(standing_N.sum()), "processor seconds": round(time.process_time() - started)}
        print("ours", name, found[name], flush=True)
    return standing_N, found


class _Module(torch.nn.Module):
    """A function as the package wants it."""

    def __init__(self, logits) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Logits (B, C)."""
        return self.logits(pixels_BCHW)


def _theirs(logits, pixels: Tensor, label_N: Tensor, clean_N: Tensor, ball: Ball, size: int) -> tuple[Tensor, dict]:
    from pyautoattack import AutoAttack

    standing_N, found = clean_N.clone(), {}
    for name in ("apgd-ce", "apgd-t", "fab-t", "square"):
        started = time.process_time()
        attack = AutoAttack(_Module(logits), norm="Linf", eps=ball.epsilon, seed=0)
        attack.attacks_to_run = [name]  # of the standard version, whose settings stay
        rows = standing_N.nonzero().squeeze(1)
        if len(rows):
            attacked = attack.run_standard_evaluation(pixels[rows], label_N[rows], batch_size=size)[0]
            with torch.no_grad():
                standing_N[rows] = torch.cat([logits(x).argmax(-1) for x in attacked.split(size)]) == label_N[rows]
        found[name] = {"standing": int(standing_N.sum()), "processor seconds": round(time.process_time() - started)}
        print("theirs", name, found[name], flush=True)
    return standing_N, found


if __name__ == "__main__":
    log_to_terminal()
    main()
