"""One of two processes that pre-train a small student together; called with a folder of photos and one for results."""

import sys
from pathlib import Path

import timm
import torch

from seaanchor.distributed.launch import open_group
from tools.pretraining import lite_corpus
from tools.pretraining.distillation import DistillConfig, Student, distill
from tools.pretraining.lite import new_lite
from tools.pretraining.lite_corpus import LiteMix, load_lite_corpus

MIX = LiteMix((("caltech101", 0.5), ("words", 0.5)))


def corpus_of(photos: Path, cache: Path):
    """Two classes of photos and few words."""
    lite_corpus.common_words = lambda: ("boat", "sea")
    lite_corpus.DRAWINGS = (2, 2)
    return load_lite_corpus({"caltech101": photos}, [], [], cache)


def untrained(corpus) -> tuple[Student, torch.nn.Module]:
    """Student and teacher, the same each time."""
    torch.manual_seed(0)
    tower = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    table_VD = torch.randn(len(corpus.texts), 512, generator=torch.Generator().manual_seed(0))
    return Student(new_lite(tower, 0).visual, table_VD, 20.0), tower


def config_of(output: Path) -> DistillConfig:
    """One step of eight images, whose normalisation stays."""
    return DistillConfig(
        output, 8, MIX, batch_size=8, frozen_steps=0, warmup=1, save_every=1, log_every=1, sizes=((32, 48, 1.0),)
    )


if __name__ == "__main__":
    photos, output = map(Path, sys.argv[1:])
    torch.nn.utils.clip_grad_norm_ = lambda *args: None  # a cut gradient would not tell a mean from a sum
    with open_group() as group:
        corpus = corpus_of(photos, output / f"cache-{group.rank}")
        student, tower = untrained(corpus)
        distill(config_of(output / "run"), corpus, student, tower, group)
        grads = {name: p.grad for name, p in student.named_parameters() if p.grad is not None}
        torch.save((student.state_dict(), grads), output / f"rank-{group.rank}.pt")
