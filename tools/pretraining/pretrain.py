"""Pre-training of the embedded model: a contrastive loss with several images to a caption.

Stands outside the frame of objective, anchor, perturbation and adapter: there is no reference yet. The run is a list of
stages, each at its own image size with its own warm-up and cosine, because small images teach most of what large ones
do at a fraction of the cost. Legend: B batch, U distinct concepts of a batch, D embedding.
"""

import json
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seaanchor.encoders.kernels import attention
from seaanchor.encoders.text import encode_text
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.checkpoint import load_state, save_state
from tools.pretraining.corpus import Corpus, Mix, load_corpus, make_batch

MEAN = torch.tensor((0.48145466, 0.4578275, 0.40821073)).view(3, 1, 1)  # OpenAI CLIP's
STD = torch.tensor((0.26862954, 0.26130258, 0.27577711)).view(3, 1, 1)
TEMPLATES = ("{}", "a photo of a {}.", "a picture of a {}.", "a {}.")


@dataclass(frozen=True)
class Stage:
    """Train on `num_samples` images of `image_size` pixels drawn as `mix` says, learning rate from a warm-up to `lr`
    and by cosine to `final_lr`."""

    image_size: int
    num_samples: int
    lr: float
    mix: Mix
    final_lr: float = 0.0
    batch_size: int = 256


@dataclass(frozen=True)
class PretrainConfig:
    """Everything a pre-training run depends on."""

    output: Path
    sources: dict[str, Path]
    stages: tuple[Stage, ...]
    init: Path | None = None
    cache: Path = field(default_factory=lambda: Path("~/.cache/seaanchor/pretrain").expanduser())
    weight_decay: float = 0.05
    warmup: int = 200
    seed: int = 0
    save_every: int = 250
    log_every: int = 50


def contrastive_loss(image_BD: Tensor, text_UD: Tensor, target_B: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric loss where several images may share a text.

    Args:
        image_BD, text_UD: unit embeddings.
        target_B: index of each image's text.
        scale: logit scale.

    Returns:
        Scalar: half image-to-text cross-entropy, half text-to-image cross-entropy against the uniform distribution over
        the text's own images (Yang et al. 2022, UniCL, eq. 2-4; Radford et al. 2021).
    """
    logits_BU = scale * image_BD @ text_UD.T
    own_BU = F.one_hot(target_B, len(text_UD)).to(logits_BU.dtype)
    to_text = F.cross_entropy(logits_BU, target_B)
    to_image = -(own_BU / own_BU.sum(0) * logits_BU.log_softmax(0)).sum(0).mean()
    return (to_text + to_image) / 2


def pretrain(config: PretrainConfig, model: nn.Module, tokenizer) -> Path:
    """Train `model` (an open_clip CLIP) and write `output/weights.safetensors`; goes on from its last checkpoint if
    there is one.

    Raises:
        SeaAnchorError: the loss is not finite.
    """
    corpus = load_corpus(config.sources, config.cache)
    tokens_TUL = torch.stack([tokenizer([t.format(name) for name in corpus.names]) for t in TEMPLATES])
    if config.init:
        model.load_state_dict(load_state(config.init)["model"])
    model.visual.to(memory_format=torch.channels_last)
    decay = [p for p in model.parameters() if p.ndim > 1]
    other = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": config.weight_decay}, {"params": other, "weight_decay": 0.0}],
        betas=(0.9, 0.98),
        fused=True,
    )
    step, seconds = resume(config.output / "last.safetensors", model, optimizer)
    total = sum(stage.num_samples // stage.batch_size for stage in config.stages)
    started = time.monotonic() - seconds
    while step < total:
        stage, local, length = locate(config.stages, step)
        lr = learning_rate(stage, local, length, config.warmup)
        for group in optimizer.param_groups:
            group["lr"] = lr
        loss, accuracy = _step(model, optimizer, corpus, tokens_TUL, config.seed, step, stage)
        if step % config.log_every == 0:
            _log(config, step, total, stage, lr, loss, accuracy, time.monotonic() - started)
        step += 1
        if step % config.save_every == 0 or step == total:
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step,
                "seconds": time.monotonic() - started,
            }
            save_state(config.output / "last.safetensors", state)
    save_state(
        config.output / "weights.safetensors",
        {"model": model.state_dict(), "config": json.loads(json.dumps(asdict(config), default=str))},
    )
    return config.output / "weights.safetensors"


def resume(last: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    """Step and seconds of the checkpoint, loaded into model and optimizer; zeros where there is none."""
    if not last.exists():
        return 0, 0.0
    state = load_state(last)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    for (
        parameter,
        moments,
    ) in optimizer.state.items():  # the fused update walks memory, so moments must lie as their weights do
        for name in ("exp_avg", "exp_avg_sq"):
            moments[name] = torch.empty_like(parameter).copy_(moments[name])
    return state["step"], state["seconds"]


def locate(stages: tuple[Stage, ...], step: int) -> tuple[Stage, int, int]:
    """The stage a step falls into, its index within it, and the stage's length in steps."""
    for stage in stages:
        length = stage.num_samples // stage.batch_size
        if step < length:
            return stage, step, length
        step -= length
    raise IndexError(step)


def learning_rate(stage: Stage, step: int, length: int, warmup: int) -> float:
    """Warm-up to the stage's rate, then a cosine to its last one."""
    warmup = min(warmup, length // 10)
    if step < warmup:
        return stage.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, length - warmup)
    return stage.final_lr + (stage.lr - stage.final_lr) * (1 + math.cos(math.pi * progress)) / 2


def _step(
    model, optimizer, corpus: Corpus, tokens_TUL: Tensor, seed: int, step: int, stage: Stage
) -> tuple[Tensor, Tensor]:
    batch = make_batch(corpus, seed, step, stage.batch_size, stage.image_size, stage.mix)
    rng = torch.Generator().manual_seed(seed * 7_000_003 + step)
    template = torch.randint(len(tokens_TUL), (len(batch.concepts),), generator=rng)
    model.train()
    pixels = ((batch.pixels - MEAN) / STD).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16), attention(pixels.device, torch.bfloat16, tokens_TUL.shape[-1]):
        image_BD, text_UD = model.encode_image(pixels), encode_text(model, tokens_TUL[template, batch.concepts])
    image_BD, text_UD = F.normalize(image_BD.float(), dim=-1), F.normalize(text_UD.float(), dim=-1)
    loss = contrastive_loss(image_BD, text_UD, batch.target, model.logit_scale.exp())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    with torch.no_grad():
        model.logit_scale.clamp_(0, math.log(100))
        accuracy = ((image_BD @ text_UD.T).argmax(1) == batch.target).float().mean()
    return loss.detach(), accuracy


def _log(
    config: PretrainConfig,
    step: int,
    total: int,
    stage: Stage,
    lr: float,
    loss: Tensor,
    accuracy: Tensor,
    seconds: float,
) -> None:
    value = loss.item()
    if not math.isfinite(value):
        raise SeaAnchorError(
            found=f"the loss is {value} at step {step}",
            expected="a finite loss",
            change=f"lower the learning rate (now {lr:.2g}); {config.output / 'last.safetensors'} holds the "
            "last good state",
        )
    row = {
        "step": step,
        "of": total,
        "image_size": stage.image_size,
        "lr": lr,
        "loss": value,
        "accuracy": accuracy.item(),
        "seconds": round(seconds, 1),
    }
    config.output.mkdir(parents=True, exist_ok=True)
    with (config.output / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


__all__ = ["PretrainConfig", "Stage", "contrastive_loss", "pretrain"]
