"""What a run is made of before its first step: processes and device, model, data, method, and the stream of batches.

Legend: B batch, N images of the data set, D embedding dimension.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, cast

import torch
from torch import Tensor, nn

from seaanchor.adapters.linear_map import LinearMap
from seaanchor.config.assemble import assemble
from seaanchor.config.schema import RunConfig
from seaanchor.config.validation import DRAWN, PREFERENCE, check, needs_classes, needs_head
from seaanchor.data.batch_split import BatchSplit
from seaanchor.data.loader import ImageDataset, SkipLog, chosen_batches, subset, to_float, training_order
from seaanchor.data.preference_rows import tally
from seaanchor.data.sources import open_images
from seaanchor.data.types import (
    Images,
    PreferenceImages,
    TypographicImages,
    UnlabelledImages,
    labels_of,
    pairs_of,
    texts_of,
)
from seaanchor.encoders.distinct_texts import check_pairs_apart
from seaanchor.encoders.embedding_table import EmbeddingTable, Identity, StoredDrawings
from seaanchor.encoders.encoder import LoadedModel, Reference
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.image_tables import clean_table, drawn_table
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.method import Method
from seaanchor.perturbations.typographic import Typographic
from seaanchor.types import Batch, Head, Preference, Targets
from seaanchor.utils.log import log

CACHE_LIMIT = 4e9  # bytes of reference embeddings at hand; ImageNet's of a ViT-B/32 are 2.6e9
PATIENCE = timedelta(minutes=30)  # a process waits for another at most so long


@dataclass(frozen=True)
class Setup:
    """Everything the loop reads and does not change.

    Attributes:
        policy: what is trained: the model's encoder, or the linear map of its embeddings.
        reference: pixels (or stored embeddings) → the reference's embeddings.
        table: stored embeddings, where training reads those instead of images.
        identity: what a resumed run must share besides its settings; `together`: images of one update.
    """

    config: RunConfig
    model: LoadedModel
    policy: nn.Module
    reference: nn.Module
    method: Method
    images: Images
    head: Head | None
    total_steps: int
    identity: dict[str, Any]
    table: EmbeddingTable | None = None


def start_accelerator(device: str | None):
    """The processes and the device of this run.

    Mixed precision is not left to the library: it wraps the encoder's own forward, and then attacks, evaluation and
    export would run in bf16 too. What an earlier run of this process chose is forgotten first, or a CPU run would fix
    the device for good.

    Raises:
        SeaAnchorError: the machine has no such device, the processes do not find each other, or accelerate is asked to
            split the weights.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import GradientAccumulationPlugin, InitProcessGroupKwargs

    if not torch.distributed.is_initialized():
        AcceleratorState._reset_state(reset_partial_state=True)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    for name in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() in ("true", "1"):
            found = f"accelerate is configured for {name}, which splits the weights among processes"
            change = (
                "configure it for several GPUs alone and add --shard; a smaller --batch-size with "
                "--grad-accumulation makes the same updates"
            )
            raise SeaAnchorError(found, "Sea Anchor's own way to split them", change)
    plain = GradientAccumulationPlugin(num_steps=1)  # or a number from accelerate's environment would divide the loss
    patience = InitProcessGroupKwargs(timeout=PATIENCE)
    try:
        accelerator = Accelerator(
            mixed_precision="no", cpu=device == "cpu", gradient_accumulation_plugin=plain, kwargs_handlers=[patience]
        )
    except (torch.distributed.DistError, ValueError) as error:
        if processes == 1:
            raise
        found = f"{processes} processes were announced and did not find each other: {str(error).splitlines()[0]}"
        change = (
            "start every process, each with its own RANK, and all with the same MASTER_ADDR and "
            "MASTER_PORT that they can reach"
        )
        raise SeaAnchorError(found, f"all {processes} of them", change) from error
    if processes > 1 and accelerator.num_processes != processes:
        found = f"WORLD_SIZE is {processes}, but this process found {accelerator.num_processes}"
        raise SeaAnchorError(
            found,
            "RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT for each process",
            "set them all, or use a launcher",
        )
    torch.backends.cudnn.allow_tf32 = False  # attacks are fp32: a step of 1/255 is near what TF32 rounds away
    if device not in (None, accelerator.device.type):
        change = "leave --device out; choose among several GPUs by CUDA_VISIBLE_DEVICES"
        raise SeaAnchorError(
            f"--device {device}, but training here runs on {accelerator.device.type}",
            f"cpu or {accelerator.device.type}",
            change,
        )
    return accelerator


def prepare(config: RunConfig, world: int = 1, device: torch.device | None = None) -> Setup:
    """Load model, data and head, and assemble the method; for a linear map, embed the data on `device`.

    Raises:
        SeaAnchorError: settings that do not go together, bad data or weights, data without what the method needs.
    """
    check(config)
    torch.manual_seed(config.seed)
    model = load_model(config.model, config.pretrained, config.image_size)
    model.encoder.unit = config.unit_embeddings
    images = open_images(config.train_data, config.class_names)
    if config.train_samples is not None:
        images = subset(images, config.train_samples, config.seed)
    if len(images.paths) < world:
        raise SeaAnchorError(
            f"{len(images.paths)} images in {config.train_data}",
            f"at least one for each of {world} processes",
            "use fewer processes",
        )
    head = None
    if needs_classes(config):
        _check_labels(config, images)
    if needs_head(config):
        texts = isinstance(images, PreferenceImages)
        head = build_head(model, texts_of(images), ("{}",) if texts else config.templates, classes=not texts)
        if isinstance(images, PreferenceImages) and model.text_limit is not None:
            check_pairs_apart(model.text_limit, images.texts, images.pairs, config.train_data)
    method = assemble(config, model.encoder.dim, texts_of(images))
    for part in getattr(method.perturbation, "links", (method.perturbation,)):
        if isinstance(part, Typographic):
            part.check_size(model.encoder.image_size)
    deal = BatchSplit(len(images.paths), config.batch_size, world, config.grad_accumulation)
    longest = config.epochs * deal.per_epoch
    total = min(config.max_steps or longest, longest)
    names = "\n".join(
        [
            *(str(path)[len(str(images.root)) :] for path in images.paths),
            str((labels_of(images), texts_of(images) or None, pairs_of(images))),
        ]
    )
    identity = {
        "reference": fingerprint(model.encoder),
        "images": hashlib.sha256(names.encode()).hexdigest()[:16],
        "together": deal.whole,
    }
    setup = Setup(config, model, model.encoder, Reference(model.encoder), method, images, head, total, identity)
    return setup if config.adapter.kind != "linear" else _on_embeddings(setup, device or torch.device("cpu"))


def _check_labels(config: RunConfig, images: Images) -> None:
    """Objective and perturbation get the labels or preferences they ask for."""
    preference, kind = config.objective.kind in PREFERENCE, config.perturbation.kind
    if isinstance(images, PreferenceImages):
        holds = f"{config.train_data} holds preferences"
        if not preference:
            raise SeaAnchorError(holds, "objective dpo, ipo or kto for them", "name class folders, or another recipe")
        if kind in (*DRAWN, "attribute"):
            raise SeaAnchorError(holds, f"class folders for perturbation {kind}", "add --perturbation.kind none")
        _check_pairs(config, holds, images)
    elif isinstance(images, UnlabelledImages):
        wanted = f"labelled images for objective {config.objective.kind} with an anchor on {config.anchor.space}"
        raise SeaAnchorError(f"{config.train_data} has no class folders", wanted, "sort the images into class folders")
    elif preference and not isinstance(images, TypographicImages) and kind not in (*DRAWN, "attribute"):
        found = f"objective {config.objective.kind} on class folders with perturbation {kind}"
        raise SeaAnchorError(
            found, "preferences: a JSON lines file, or perturbation typographic or attribute", "change one of the two"
        )


def _check_pairs(config: RunConfig, holds: str, images: PreferenceImages) -> None:
    """Rows of the kinds the objective learns from, over at least two texts."""
    kinds, wanted = tally(images.pairs), config.objective.kind
    if wanted != "kto" and kinds.paired < len(images.paths):
        found = f"{holds}, {len(images.paths) - kinds.paired} of {len(images.paths)} with one text only"
        raise SeaAnchorError(
            found, f"a chosen and a rejected text in every row for {wanted}", "use kto, or remove those rows"
        )
    if kinds.one_sided:
        present, missing, flag = (
            ("desirable", "undesirable", "false") if kinds.desirable else ("undesirable", "desirable", "true")
        )
        expected = (
            "desirable and undesirable rows: KTO learns from their contrast, and one kind alone "
            "pushes every text the same way"
        )
        raise SeaAnchorError(
            f"{holds}, all {len(images.paths)} {present} and none {missing}",
            expected,
            f'add rows with "desirable": {flag}',
        )
    if len(images.texts) < 2:
        raise SeaAnchorError(
            f"{holds} over one text, {images.texts[0]!r}",
            "at least two different texts",
            "add rows with others",
        )


def _on_embeddings(setup: Setup, device: torch.device) -> Setup:
    """The same run on embeddings computed once: the map as policy, and the perturbation looked up."""
    config, dim = setup.config, setup.model.encoder.dim
    skip_log, reference = SkipLog(setup.images), cast(Reference, setup.reference.to(device))
    table = drawn_table(
        reference,
        setup.model.family,
        setup.images,
        setup.method.perturbation,
        config.batch_size,
        config.workers,
        device,
        skip_log,
    )
    if summary := skip_log.summary():
        log.info(summary)
    if not bool(table.read_N.any()):
        raise SeaAnchorError(
            f"no image in {config.train_data} could be read", "readable images", "see the reasons above"
        )
    method = setup.method
    if config.perturbation.kind == "typographic":
        method = replace(method, perturbation=StoredDrawings(table))
    torch.manual_seed(config.seed)
    return replace(setup, policy=LinearMap(dim), reference=Identity(), method=method, table=table)


@dataclass(frozen=True)
class Share:
    """Images that one process takes at once, 8-bit until `to_device`; what does `not count` takes part and changes
    nothing."""

    batch: Batch
    counts: bool = True


def share_stream(setup: Setup, step: int, rank: int, world: int, skip_log: SkipLog) -> Iterator[list[Share]]:
    """This process's shares of every whole batch from `step` on. The order is a pure function of seed, epoch and the
    size of a whole batch, so resuming needs no state and any number of processes sees the same batches."""
    config, count = setup.config, len(setup.images.paths)
    deal = BatchSplit(count, config.batch_size, world, config.grad_accumulation)
    for epoch in range(step // deal.per_epoch, config.epochs):
        order = training_order(count, epoch, config.seed)
        dealt = [deal.hands(order, number, rank) for number in range(step % deal.per_epoch, deal.per_epoch)]
        chunks = [images for hands in dealt for images, _ in hands]
        stream: Iterator[Batch]
        if setup.table is not None:
            stream = (batch for images in chunks for batch in setup.table.batches(images, len(images)))
        else:
            dataset = ImageDataset(setup.images, setup.model.encoder.image_size)
            stream = chosen_batches(dataset, chunks, workers=config.workers, skip_log=skip_log)
        for hands in dealt:
            yield [Share(next(stream), counts) for _, counts in hands]
        step = (epoch + 1) * deal.per_epoch


def batch_stream(setup: Setup, step: int, rank: int, world: int, skip_log: SkipLog) -> Iterator[Batch]:
    """The batches of `share_stream` one after the other, with pixels in [0, 1]."""
    for shares in share_stream(setup, step, rank, world, skip_log):
        yield from (replace(share.batch, pixels_BCHW=to_float(share.batch.pixels_BCHW)) for share in shares)


def make_targets(setup: Setup, batch: Batch, cache_ND: Tensor | None) -> Targets:
    """The reference's embeddings of the batch, from the cache or in one forward, with labels and head."""
    reference_BD = setup.reference(batch.pixels_BCHW) if cache_ND is None else cache_ND[batch.index_B]
    head = setup.head
    if head is not None:
        head = replace(head, weight_CD=head.weight_CD.to(reference_BD.device))
    return Targets(reference_BD, batch.label_B, head)


def caches_reference(setup: Setup, world: int) -> bool:
    """Whether all reference embeddings are computed beforehand: each is used more than once, and they fit in memory."""
    if setup.table is not None:
        return False
    count = len(setup.images.paths)
    visits = (
        setup.total_steps
        * BatchSplit(count, setup.config.batch_size, world, setup.config.grad_accumulation).whole
        / count
    )
    return visits > 1.5 and 4 * count * setup.model.encoder.dim <= CACHE_LIMIT


def reference_cache(setup: Setup, accelerator) -> Tensor | None:
    """All reference embeddings (N, D), or None where `caches_reference` says that they do not pay."""
    if not caches_reference(setup, accelerator.num_processes):
        return None
    config, family = setup.config, setup.model.family
    return clean_table(
        cast(Reference, setup.reference), family, setup.images, config.batch_size, config.workers, accelerator.device
    )


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on the device, pixels in [0, 1]. Nothing waits for a copy from pinned memory: whatever reads the pixels
    comes after it."""
    label_B = None if batch.label_B is None else batch.label_B.to(device)
    pair = batch.preference
    preference = None if pair is None else Preference(pair.chosen_B.to(device), pair.rejected_B.to(device))
    return Batch(
        to_float(batch.pixels_BCHW.to(device, non_blocking=True)), label_B, batch.index_B.to(device), preference
    )
