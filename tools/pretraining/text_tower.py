"""The text tower of `seaanchor-lite`: it learns a table of embeddings that image tower and texts agreed on, without any
image."""

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seaanchor.encoders.kernels import computes_in_bf16, fast_kernels
from seaanchor.encoders.text import encode_text
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.checkpoint import save_state
from seaanchor.utils.log import log
from tools.pretraining.pretrain import resume
from tools.pretraining.words import common_words

NUM_STEPS = 2400
BATCH_SIZE = 256
LR = 3e-3
WARMUP = 100
SCALE = 20.0  # of cosines, as logits
SAVE_EVERY = 200
Tokenizer = Callable[[list[str]], Tensor]


def learn_texts(
    model: nn.Module,
    goal_VD: Tensor,
    texts: Sequence[str],
    captions: Sequence[str],
    tokenizer: Tokenizer,
    output: Path,
    seed: int = 0,
    num_steps: int = NUM_STEPS,
) -> None:
    """Teach the text tower a table: the embedding of each text, in any caption, becomes its row.

    Half of each batch are class names, the other half any texts: without that, ImageNet's names are a fifth of it and
    come last. A run that ended early goes on from `output/text.safetensors`.

    Args:
        model: an open_clip CLIP, whose visual tower stays.
        goal_VD: unit vectors.
        texts, captions: of the rows, and what they are put in; the first caption stands for half of them.
        tokenizer: of the text tower.
        output: folder of the checkpoint.
        seed: of the order of texts and captions.
        num_steps: of 256 captions.
    """
    towers = {id(p) for p in model.visual.parameters()} | {id(model.logit_scale)}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if id(p) not in towers], lr=LR, weight_decay=0.01)
    bf16, names = computes_in_bf16("cpu"), num_class_names(texts)
    last = output / "text.safetensors"
    start, seconds = resume(last, model, optimizer)
    started = time.monotonic() - seconds
    for step in range(start, num_steps):
        for group in optimizer.param_groups:
            group["lr"] = LR * min(1.0, (step + 1) / WARMUP) * (1 + math.cos(math.pi * step / num_steps)) / 2
        rng = torch.Generator().manual_seed(seed * num_steps + step)
        often = torch.randperm(names, generator=rng)[: BATCH_SIZE // 2]
        rows = torch.cat([often, torch.randperm(len(texts), generator=rng)[: BATCH_SIZE - len(often)]])
        tokens_NL = tokenizer([captioned(captions, texts[row], rng) for row in rows.tolist()])
        kernels = fast_kernels(model, torch.bfloat16 if bf16 else torch.float32, tokens_NL.shape[-1])
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16), kernels:
            text_ND = F.normalize(encode_text(model, tokens_NL).float(), dim=-1)
        cosine_NV = text_ND.float() @ goal_VD.T
        own_N = cosine_NV.gather(1, rows[:, None]).squeeze(1)
        loss = (1 - own_N).mean() + F.cross_entropy(SCALE * cosine_NV, rows)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % SAVE_EVERY == 0 or step == num_steps - 1:
            right = (cosine_NV.argmax(1) == rows).float().mean().item()
            log.info(
                f"texts: step {step + 1} of {num_steps}, {time.monotonic() - started:.0f} s, loss {loss.item():.3f}, "
                f"cosine {own_N.mean().item():.3f}, {right:.0%} of {len(rows)} captions right"
            )
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            save_state(last, state | {"seconds": time.monotonic() - started})


def num_class_names(texts: Sequence[str]) -> int:
    """How many texts, from the first, are class names; common words come after them."""
    common = set(common_words())
    return max((number for number, text in enumerate(texts, 1) if text not in common), default=len(texts))


def captioned(templates: Sequence[str], text: str, rng: torch.Generator) -> str:
    """The text in a caption: half of the time the first, else any of them."""
    number = int(torch.randint(2 * len(templates), (1,), generator=rng))
    return templates[number if number < len(templates) else 0].format(text)


def templates() -> tuple[str, ...]:
    """Captions: the plain one first, then CLIP's 80 for ImageNet and the name by itself."""
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

    return ("a photo of a {}.", "{}", *(one("{}") for one in OPENAI_IMAGENET_TEMPLATES))


def teach_text_tower(folder: Path, output: Path, seed: int = 0) -> Path:
    """Train a text tower for what `lite.write_tower` wrote, which needs no image, and write `output/export`.

    Raises:
        SeaAnchorError: the folder does not hold the tower and its texts.
    """
    import open_clip
    from open_clip.tokenizer import SimpleTokenizer
    from safetensors.torch import load_file

    from seaanchor.encoders.load import load_model
    from seaanchor.export.folder import export_model
    from tools.pretraining.distillation import Student
    from tools.pretraining.lite import CONTEXT, LOGIT_SCALE, MODEL_CFG, write_lite
    from tools.pretraining.tiny import tokenizer_file

    files = folder / "tower.safetensors", folder / "texts.json"
    if missing := [file.name for file in files if not file.is_file()]:
        raise SeaAnchorError(
            f"{folder} lacks {' and '.join(missing)}", "a tower that pre-training wrote", "name its folder"
        )
    torch.manual_seed(seed)
    model = open_clip.CLIP(**MODEL_CFG)
    texts = json.loads(files[1].read_text())
    student = Student(model.visual, torch.zeros(len(texts), MODEL_CFG["embed_dim"]), LOGIT_SCALE)
    student.load_state_dict(load_file(files[0]))
    tokenizer = SimpleTokenizer(bpe_path=str(tokenizer_file(output)), context_length=CONTEXT)
    goal_VD = F.normalize(student.table_VD.detach(), dim=-1)
    learn_texts(model, goal_VD, texts, templates(), tokenizer, output, seed)
    with torch.no_grad():
        model.logit_scale.copy_(student.log_scale)
    weights = write_lite(model.state_dict(), output / "weights")
    return export_model(load_model(str(weights)), output / "export", half=True)
