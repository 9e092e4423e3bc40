"""What a run is made of before its first step: model, data, method and device."""

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import nn

from seaanchor.adapters.linear_map import LinearMap
from seaanchor.config.assemble import method_of
from seaanchor.config.describe import with_method
from seaanchor.config.schema import RunConfig
from seaanchor.config.validation import check
from seaanchor.data.batch_split import BatchSplit
from seaanchor.data.fingerprint import sizes_digest
from seaanchor.data.loader import SkipLog, subset
from seaanchor.data.sources import open_images
from seaanchor.data.types import (
    Images,
    PreferenceImages,
    labels_of,
    pairs_of,
    texts_of,
)
from seaanchor.encoders.distinct_texts import check_pairs_apart
from seaanchor.encoders.embedding_table import EmbeddingTable, Identity, StoredDrawings
from seaanchor.encoders.encoder import LoadedModel, Reference, copied, with_tokens
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.encoders.head_file import head_digest
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.image_tables import drawn_table
from seaanchor.encoders.kernels import check_compiler
from seaanchor.encoders.load import load_model
from seaanchor.encoders.norm_scales import fold_norm_scales
from seaanchor.encoders.preprocess_option import with_preprocess
from seaanchor.errors import SeaAnchorError, note
from seaanchor.export.possible import check_exportable
from seaanchor.method import Method
from seaanchor.training.data_needs import check_data
from seaanchor.training.heads import keeping, run_head, with_answers
from seaanchor.training.start import recorded
from seaanchor.types import BindContext, Head, NamedHead, needs_of
from seaanchor.utils.log import log


@dataclass(frozen=True)
class Given:
    """Objects that a run uses in place of what its configuration names.

    Attributes:
        model: in place of `model`, `pretrained` and `image_size`. A copy of it is trained.
        images: in place of `train_data` and `class_names`.
        method: in place of the parts that the four sections describe. They must not say something else.
    """

    model: LoadedModel | None = None
    images: Images | None = None
    method: Method | None = None


@dataclass(frozen=True)
class Setup:
    """Everything the loop reads and does not change.

    Attributes:
        policy: what is trained: the model's encoder, or the linear map of its embeddings.
        reference: pixels (or stored embeddings) → the reference's embeddings.
        table: stored embeddings, where training reads those instead of images.
        total_steps: of the whole run.
        identity: what a resumed run must share besides its settings: reference, preprocessing, images,
            `global_batch_size`.
        start: what the run folder says of the model as it was loaded.
        device: of this process.
        given: the objects that the run was called with.
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
    start: dict[str, Any]
    table: EmbeddingTable | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    given: Given = Given()


def prepare(config: RunConfig, world: int = 1, device: torch.device | None = None, given: Given = Given()) -> Setup:
    """Load model, data and head, and assemble the method; for a linear map, embed the data, too.

    Args:
        config: of the run.
        world: number of processes.
        device: of this process; by default the CPU. What is trained is moved there later, by `make_state`.
        given: objects in place of what the configuration names.

    Raises:
        SeaAnchorError: settings that do not go together, bad data or weights, data without what the method needs,
            no compiler for `compile`.
    """
    config = config if given.method is None else with_method(config, given.method)
    check(config, given.method)
    if config.compile:
        check_compiler(device or torch.device("cpu"))
    method = given.method or method_of(config)
    torch.manual_seed(config.seed)
    model = untrained_model(config, given)
    start = recorded(model.encoder)
    if config.fold_norms and not fold_norm_scales(model.encoder):
        note(f"fold_norms changes nothing: no batch normalisation follows a convolution of {model.name}")
    check_exportable(model)
    model.encoder.unit = config.unit_embeddings
    images = _open_training_images(config, world, given)
    check_data(config, method, images)
    named = run_head(config, method, model, images, device or torch.device("cpu"))
    model, images = keeping(model, named), with_answers(images, named, method, config.train_data)
    head = _class_head(config, model, images, named) if method.needs.head else None
    dim, side = model.encoder.dim, model.encoder.image_size
    method = method.bind(BindContext(dim, texts_of(images), config.seed, side, len(images.paths)))
    split = batch_split(config, len(images.paths), world)
    longest = config.epochs * split.per_epoch
    setup = Setup(
        config=config,
        model=model,
        policy=model.encoder,
        reference=Reference(model.encoder),
        method=method,
        images=images,
        head=head,
        total_steps=min(config.max_steps or longest, longest),
        identity=_identity(model, images, split) | ({} if named is None else {"head": head_digest(named)}),
        start=start,
        device=device or torch.device("cpu"),
        given=given,
    )
    return _on_embeddings(setup) if needs_of(method.adapter).stored_embeddings else setup


def batch_split(config: RunConfig, count: int, world: int) -> BatchSplit:
    """How a run of `world` processes splits its `count` images into steps."""
    return BatchSplit(count, config.batch_size, world, config.grad_accumulation)


def untrained_model(config: RunConfig, given: Given) -> LoadedModel:
    """The model that the run starts from: loaded, or a copy of the one that was given."""
    if given.model is None:
        return load_model(
            config.model, config.pretrained, config.image_size, config.tokens, preprocess=config.preprocess
        )
    return with_tokens(with_preprocess(copied(given.model), config.preprocess), config.tokens)


def _open_training_images(config: RunConfig, world: int, given: Given) -> Images:
    """The images of the run, at least one for each process."""
    images = open_images(config.train_data, config.class_names) if given.images is None else given.images
    if config.train_samples is not None:
        images = subset(images, config.train_samples, config.seed)
    if len(images.paths) < world:
        raise SeaAnchorError(
            f"{len(images.paths)} images in {config.train_data}",
            f"at least one for each of {world} processes",
            "use fewer processes",
        )
    return images


def _class_head(config: RunConfig, model: LoadedModel, images: Images, named: NamedHead | None) -> Head:
    """The run's linear head, or that of texts over the class names, or over the texts of preferences."""
    if named is not None:
        return named.head
    texts = isinstance(images, PreferenceImages)
    head = build_head(model, texts_of(images), ("{}",) if texts else config.templates, classes=not texts)
    if isinstance(images, PreferenceImages) and model.text_limit is not None:
        check_pairs_apart(model.text_limit, images.texts, images.pairs, config.train_data)
    return head


def _identity(model: LoadedModel, images: Images, split: BatchSplit) -> dict[str, Any]:
    names = [str(path)[len(str(images.root)) :] for path in images.paths]
    listing = "\n".join([*names, str((labels_of(images), texts_of(images) or None, pairs_of(images)))])
    return {
        "reference": fingerprint(model.encoder),
        "preprocessing": str(model.encoder.preprocessing),
        "images": hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()[:16],
        "image sizes": sizes_digest(images),
        "global_batch_size": split.global_batch_size,
    }


def _on_embeddings(setup: Setup) -> Setup:
    """The same run on embeddings computed once: the linear map as policy, and the perturbation looked up."""
    config, method = setup.config, setup.method
    skip_log, reference = SkipLog(setup.images), cast(Reference, setup.reference.to(setup.device))
    table = drawn_table(
        reference,
        setup.model.family,
        setup.images,
        method.perturbation,
        config.batch_size,
        config.workers,
        setup.device,
        skip_log,
    )
    if summary := skip_log.summary():
        log.info(summary)
    if not bool(table.read_N.any()):
        raise SeaAnchorError(
            f"no image in {config.train_data} could be read", "readable images", "see the reasons above"
        )
    if needs_of(method.perturbation).draws_words:
        method = replace(method, perturbation=StoredDrawings(table))
    torch.manual_seed(config.seed)
    return replace(setup, policy=LinearMap(setup.model.encoder.dim), reference=Identity(), method=method, table=table)
