"""Clean embeddings: of a batch, of a stream, of the reference and of training images, each computed once.

Legend: B batch, N images, D embedding dimension.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from seaanchor.data.loader import ImageDataset
from seaanchor.data.types import Images, labels_of
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.encoders.image_tables import clean_rows
from seaanchor.encoders.kernels import fast_kernels, num_tokens
from seaanchor.evaluation.context import EvaluationContext
from seaanchor.evaluation.images import listing
from seaanchor.evaluation.table import ExecutionOptions, Table, collect
from seaanchor.types import Batch


@dataclass(frozen=True)
class EmbeddingCache:
    """Clean embeddings of one data set, by model, so that none is computed twice."""

    tables: dict[str, Table | None] = field(default_factory=dict)


@torch.no_grad()
def embed(model: LoadedModel, batch: Batch) -> Tensor:
    """Raw embeddings (B, D) in fp32."""
    return model.encoder(batch.pixels_BCHW).float()


@torch.no_grad()
def embed_stream(encoder: nn.Module, stream: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Embeddings (N, D) of a stream and each image's number (N,)."""
    parts = [(encoder(batch.pixels_BCHW).float(), batch.index_B) for batch in stream if len(batch.index_B)]
    return torch.cat([embedding for embedding, _ in parts]), torch.cat([index for _, index in parts])


def embeddings_of(name: str, model: LoadedModel, images: Images, options: ExecutionOptions) -> Table | None:
    """Clean embeddings of a list of images, from the disk cache where it has them; in the first process only."""
    dataset = ImageDataset(images, model.encoder.preprocessing)

    def measure(batch: Batch) -> Table:
        return {"embedding": embed(model, batch)}

    def compute() -> Table | None:
        with fast_kernels(
            model.encoder, torch.float32, num_tokens(model.encoder)
        ):  # the arithmetic that the evaluated model has, to the last bit
            collected = collect(f"{name} images of {model.name}", name, dataset, measure, options)
        return None if collected is None else collected[0]

    table = clean_rows(model, dataset, compute, options.group.first, options.group.agree)
    labels = labels_of(images)
    if table is None or labels is None:
        return table
    return table | {"label": torch.tensor(labels)[table["index"]]}


def reference_embeddings(context: EvaluationContext, options: ExecutionOptions, cache: EmbeddingCache) -> Table | None:
    """Clean embeddings by the reference, from the cache where it has them; None without a reference."""
    if context.reference is None:
        return None
    key = cache_key(context.reference, context.images)
    if not options.group.agree(key in cache.tables):
        context.reference.encoder.to(context.device).eval()
        cache.tables[key] = embeddings_of("reference", context.reference, context.images, options)
    return cache.tables.get(key)


def cache_key(model: LoadedModel, images: Images) -> str:
    """What the embeddings of a list of images depend on."""
    return f"{fingerprint(model.encoder)} {model.encoder.preprocessing} {listing(images)}"
