"""Pre-training of `seaanchor-lite`: a tower that others trained learns to answer to texts, and keeps what it knows.

Three losses, each a mean over the images that it can be taken of: cross-entropy among the names of an image's own set;
the divergence from the original classifier's answers among ImageNet's names; how far the trunk's features have moved
from the original's. The teacher sees the same view of a photo, larger and without letters.

Texts are rows of a table here, which starts where images of their classes lie and learns with the tower; the text tower
learns the table afterwards. Legend: B batch, T of them taught, D embedding, V texts, C classes of the original
classifier, F features of the trunk.
"""

import copy
import json
import math
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from seaanchor.distributed.process_group import ONE_PROCESS, ProcessGroup
from seaanchor.encoders.kernels import computes_in_bf16, fast_kernels
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.checkpoint import load_state, save_state
from tools.pretraining.lite_corpus import LiteBatch, LiteCorpus, LiteMix, make_lite_batch


@dataclass(frozen=True)
class DistillConfig:
    """Everything that a run depends on, besides corpus and weights.

    Attributes:
        output: run folder.
        num_samples: images, in batches of `batch_size`.
        lr: of the table of texts; trunk and projection take `trunk_lr`; both with warm-up and a cosine to 0.
        frozen_steps: at the start, in which the trunk stays.
        frozen_blocks: of the trunk, from its stem on, that stay throughout.
        distillation, features: weights of the second and the third loss.
        sizes: pixels of images, of the teacher's views, and up to which share of the steps: small images teach most.
        batch_statistics: whether normalisation layers take the statistics of a batch, and keep their running mean, or
            stay with those that the trunk came with.
        average: decay of the average of weights over steps, which is what is kept in the end.
    """

    output: Path
    num_samples: int
    mix: LiteMix
    batch_size: int = 96
    lr: float = 1e-3
    trunk_lr: float = 2e-4
    frozen_steps: int = 50
    frozen_blocks: int = 0
    warmup: int = 100
    weight_decay: float = 0.02
    distillation: float = 1.0
    features: float = 1.0
    sizes: tuple[tuple[int, int, float], ...] = ((96, 128, 0.6), (128, 176, 1.0))
    batch_statistics: bool = False
    average: float = 0.998
    seed: int = 0
    save_every: int = 200
    log_every: int = 20


class Student(nn.Module):
    """A visual tower, the table of texts (V, D) it answers among, and the scale of its logits."""

    def __init__(self, visual: nn.Module, table_VD: Tensor, scale: float) -> None:
        super().__init__()
        self.visual = visual
        self.table_VD = nn.Parameter(table_VD.clone())
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))


@dataclass
class _State:
    student: Student
    averaged: Student
    optimizer: torch.optim.Optimizer


@dataclass(frozen=True)
class _Losses:
    names: Tensor
    answers: Tensor
    features: Tensor
    accuracy: Tensor
    agreement: Tensor


def distill(
    config: DistillConfig,
    corpus: LiteCorpus,
    student: Student,
    teacher: nn.Module,
    group: ProcessGroup = ONE_PROCESS,
) -> Path:
    """Train `student` and write `output/weights.safetensors`, the averaged weights; goes on from its last checkpoint if
    there is one.

    Args:
        config, corpus: what it is trained on, and how.
        student: its visual tower has a timm trunk and a head.
        teacher: the original tower with its classifier, as a timm model of pixels normalised as the student's.
        group: the processes, each of which takes its share of every batch; normalisation layers take the statistics of
            a share, and those of the first process are kept.

    Raises:
        SeaAnchorError: the loss is not finite.
    """
    for part in _beginning(student.visual.trunk, config.frozen_blocks):
        part.requires_grad_(False)
    visual = [p for p in student.visual.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in visual if p.ndim > 1], "weight_decay": config.weight_decay, "scale": config.trunk_lr},
        {"params": [p for p in visual if p.ndim <= 1], "weight_decay": 0.0, "scale": config.trunk_lr},
        {"params": [student.table_VD, student.log_scale], "weight_decay": 0.0, "scale": config.lr},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
    state = _State(student, copy.deepcopy(student), optimizer)
    weights = config.output / "weights.safetensors"
    if weights.exists():
        return weights
    step, seconds = _resume(config, state)
    if group.world > 1:
        for value in student.state_dict().values():
            same = value.contiguous()
            dist.broadcast(same, 0)
            value.copy_(same)
    total, started = config.num_samples // config.batch_size, time.monotonic() - seconds
    with ThreadPoolExecutor(1) as ahead:

        def draw(number: int) -> LiteBatch:
            size, teachers = next((s, t) for s, t, end in config.sizes if number < end * total or end == 1)
            of_all, own = number * group.world + group.rank, config.batch_size // group.world
            return make_lite_batch(corpus, config.seed, of_all, own, config.mix, size, teachers)

        coming = ahead.submit(draw, step)
        while step < total:
            batch, coming = coming.result(), ahead.submit(draw, step + 1)
            share = _share(step, total, config)
            for part in optimizer.param_groups:
                part["lr"] = part["scale"] * share
            losses = _step(config, corpus, state, teacher, batch, step, group)
            step += 1
            if group.first and step % config.log_every == 0:
                _log(config, step, total, share, losses, time.monotonic() - started)
            if group.first and (step % config.save_every == 0 or step == total):
                _save(config, state, step, time.monotonic() - started)
    if group.first:
        save_state(weights, {"student": state.averaged.state_dict(), "dropped": dict(corpus.dropped)})
    group.barrier()
    return weights


def _average_gradients(parameters: Iterable[nn.Parameter], group: ProcessGroup) -> None:
    """Of all processes, in one message."""
    if group.world > 1:
        grads = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([grad.flatten() for grad in grads])
        dist.all_reduce(flat)
        for grad, own in zip(grads, flat.div_(group.world).split([g.numel() for g in grads]), strict=True):
            grad.copy_(own.view_as(grad))


def _beginning(trunk: nn.Module, num_blocks: int) -> list[nn.Module]:
    """Stem and first blocks of a trunk of MobileNet's kind; without blocks, nothing."""
    return [trunk.conv_stem, trunk.bn1, *trunk.blocks[:num_blocks]] if num_blocks else []


def _share(step: int, total: int, config: DistillConfig) -> float:
    """Of the full learning rate: warm-up at the start and again where the trunk joins, cosine to 0."""
    since = step if step < config.frozen_steps else step - config.frozen_steps
    return min(1.0, (since + 1) / config.warmup) * (1 + math.cos(math.pi * step / total)) / 2


def _step(
    config: DistillConfig,
    corpus: LiteCorpus,
    state: _State,
    teacher: nn.Module,
    batch: LiteBatch,
    step: int,
    group: ProcessGroup,
) -> _Losses:
    student, frozen = state.student, step < config.frozen_steps
    student.train()
    if not config.batch_statistics or frozen:
        student.visual.trunk.eval()  # normalisation as it was trained, on more photos than are here
    for part in _beginning(student.visual.trunk, config.frozen_blocks):
        part.eval()
    pixels = (batch.pixels * 2 - 1).contiguous(memory_format=torch.channels_last)
    bf16 = computes_in_bf16("cpu")
    dtype = torch.bfloat16 if bf16 else torch.float32
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16), fast_kernels(student.visual, dtype, 0):
        with torch.set_grad_enabled(not frozen):
            features_BF = student.visual.trunk(pixels).float()
        image_BD = F.normalize(student.visual.head(features_BF).float(), dim=-1)
        logits_BV = (student.log_scale.exp() * image_BD @ F.normalize(student.table_VD, dim=-1).T).float()
        losses = _losses(corpus, teacher, batch, features_BF, logits_BV)
        loss = losses.names + config.distillation * losses.answers
        if not frozen:
            loss = loss + config.features * losses.features
    if not math.isfinite(loss.item()):
        raise SeaAnchorError(
            f"the loss is {loss.item()} at step {step}",
            "a finite loss",
            f"lower the learning rate; {config.output / 'last.safetensors'} holds the last good state",
        )
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    _average_gradients(student.parameters(), group)
    nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    state.optimizer.step()
    with torch.no_grad():
        student.log_scale.clamp_(0, math.log(100))
        decay = min(config.average, (step + 1) / (step + 10))
        for kept, now in zip(state.averaged.parameters(), student.parameters(), strict=True):
            kept.lerp_(now, 1 - decay)
        for kept, now in zip(state.averaged.buffers(), student.buffers(), strict=True):
            kept.copy_(now)
    return losses


def _losses(
    corpus: LiteCorpus, teacher: nn.Module, batch: LiteBatch, features_BF: Tensor, logits_BV: Tensor
) -> _Losses:
    named = batch.text_B >= 0
    text_N, rows_N = batch.text_B[named], torch.arange(int(named.sum()))
    allowed_NV = corpus.member_SV[batch.set_B[named]].clone()
    allowed_NV[rows_N, batch.first_B[named]] = False
    allowed_NV[rows_N, text_N] = True
    among_NV = logits_BV[named].masked_fill(~allowed_NV, -torch.inf)
    names = F.cross_entropy(among_NV, text_N)
    accuracy = (among_NV.argmax(1) == text_N).float().mean()
    if not len(batch.teacher_rows):
        nothing = logits_BV.new_zeros(())
        return _Losses(names, nothing, nothing, accuracy.detach(), nothing)
    with torch.no_grad():
        views = (batch.teacher_views * 2 - 1).contiguous(memory_format=torch.channels_last)
        taught_TF = teacher.forward_head(teacher.forward_features(views), pre_logits=True).float()
        answers_TC = teacher.get_classifier()(taught_TF).float().softmax(-1)
    said_TC = logits_BV[batch.teacher_rows][:, corpus.imagenet]
    answers = F.kl_div(said_TC.log_softmax(-1), answers_TC, reduction="batchmean")
    moved_T = (features_BF[batch.teacher_rows] - taught_TF).square().sum(-1) / taught_TF.square().sum(-1)
    agreement = (said_TC.argmax(1) == answers_TC.argmax(1)).float().mean()
    return _Losses(names, answers, moved_T.mean(), accuracy.detach(), agreement.detach())


def _resume(config: DistillConfig, state: _State) -> tuple[int, float]:
    last = config.output / "last.safetensors"
    if not last.exists():
        return 0, 0.0
    kept = load_state(last)
    state.student.load_state_dict(kept["student"])
    state.averaged.load_state_dict(kept["averaged"])
    state.optimizer.load_state_dict(kept["optimizer"])
    for parameter, moments in state.optimizer.state.items():  # the fused update walks memory as the weights lie
        for name in ("exp_avg", "exp_avg_sq"):
            moments[name] = torch.empty_like(parameter).copy_(moments[name])
    return kept["step"], kept["seconds"]


def _save(config: DistillConfig, state: _State, step: int, seconds: float) -> None:
    save_state(
        config.output / "last.safetensors",
        {
            "student": state.student.state_dict(),
            "averaged": state.averaged.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "step": step,
            "seconds": seconds,
        },
    )


def _log(config: DistillConfig, step: int, total: int, share: float, losses: _Losses, seconds: float) -> None:
    row = {"step": step, "of": total, "lr": config.lr * share, "seconds": round(seconds, 1)}
    row |= {name: round(value.item(), 4) for name, value in vars(losses).items()}
    config.output.mkdir(parents=True, exist_ok=True)
    with (config.output / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)
