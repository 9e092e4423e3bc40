"""Training on embeddings that were computed once: what the linear map sees in place of images.

Towers are frozen, so an image, and each of its drawings, has one embedding for good. Legend: N images, V variants, D
embedding dimension, B batch.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from seaanchor.attacks.noise import bits, next_key
from seaanchor.perturbations.typographic import Typographic
from seaanchor.types import Batch, LossOf, Perturbation, Preference


class Identity(nn.Module):
    """The reference of embeddings: they are already its own."""

    def forward(self, embedding_BD: Tensor) -> Tensor:
        """What it is given, in fp32."""
        return embedding_BD.float()


@dataclass(frozen=True)
class EmbeddingTable:
    """Reference embeddings of a data set: clean (N, D), of each drawing (N, V, D) with the drawn class (N, V), labels
    (N,) and pairs (N, 2) where there are any; `read` (N,) says which images could be read."""

    clean_ND: Tensor
    attacked_NVD: Tensor | None
    drawn_NV: Tensor | None
    label_N: Tensor | None
    pairs_N2: Tensor | None
    read_N: Tensor

    def batches(self, order: Sequence[int], batch_size: int) -> Iterator[Batch]:
        """Batches of clean embeddings in the given order, without the images that could not be read."""
        index_M = torch.tensor(list(order), dtype=torch.long, device=self.clean_ND.device)
        for index_B in index_M.split(batch_size):
            index_B = index_B[self.read_N[index_B]]
            preference = None if self.pairs_N2 is None else Preference(*self.pairs_N2[index_B].T)
            yield Batch(
                self.clean_ND[index_B], None if self.label_N is None else self.label_N[index_B], index_B, preference
            )


@dataclass(frozen=True)
class StoredDrawings:
    """The typographic perturbation on stored embeddings: one of the image's V drawings at random."""

    table: EmbeddingTable

    def __call__(self, batch: Batch, loss: LossOf, rng: torch.Generator) -> Batch:
        """The batch with the embeddings of drawings, and the preference of the true class over the drawn word."""
        if self.table.attacked_NVD is None or self.table.drawn_NV is None or batch.label_B is None:
            raise ValueError("the table holds no drawings")
        variant_B = bits(next_key(rng), batch.index_B)[:, 0] % self.table.attacked_NVD.shape[1]
        attacked_BD, drawn_B = (x[batch.index_B, variant_B] for x in (self.table.attacked_NVD, self.table.drawn_NV))
        return replace(batch, pixels_BCHW=attacked_BD, preference=Preference(batch.label_B, drawn_B))


def embed_all(reference: nn.Module, stream: Iterable[Batch], count: int, device: torch.device) -> Tensor:
    """Embeddings (N, D) in data set order; rows of unreadable images stay 0 (they never enter a batch).

    Args:
        reference: the frozen encoder.
        stream: batches covering the data set once.
        count: N.
        device: where the forward runs and the result lies.
    """
    table_ND = torch.zeros(count, 0, device=device)
    for batch in stream:
        if len(batch.index_B) == 0:  # nothing in it could be read
            continue
        embedding_BD = reference(batch.pixels_BCHW.to(device))
        if table_ND.shape[1] == 0:
            table_ND = torch.zeros(count, embedding_BD.shape[1], device=device)
        table_ND[batch.index_B.to(device)] = embedding_BD
    return table_ND


def embed_drawings(
    reference: nn.Module,
    stream: Iterable[Batch],
    count: int,
    dim: int,
    perturbation: Perturbation,
    device: torch.device,
) -> EmbeddingTable:
    """Embed every image, and every drawing that a `Typographic` perturbation can give it: 1 + V forwards an image.

    Args:
        reference: the frozen encoder.
        stream: batches covering the data set once.
        count: N.
        dim: D.
        perturbation: `Typographic` with V = variants ≥ 1; any other gives clean embeddings alone.
        device: where the forward runs and the table lies.
    """
    drawing = perturbation if isinstance(perturbation, Typographic) else None
    clean_ND = torch.zeros(count, dim, device=device)
    read_N = torch.zeros(count, dtype=torch.bool, device=device)
    label_N: Tensor | None = None
    pairs_N2: Tensor | None = None
    attacked_NVD = torch.zeros(count, drawing.variants, dim, device=device) if drawing else None
    drawn_NV = torch.zeros(count, drawing.variants, dtype=torch.long, device=device) if drawing else None
    for batch in stream:
        index_B, pixels_BCHW = batch.index_B.to(device), batch.pixels_BCHW
        if len(index_B) == 0:
            continue
        clean_ND[index_B], read_N[index_B] = reference(pixels_BCHW.to(device)), True
        if batch.label_B is not None:
            label_N = torch.full((count,), -1, device=device) if label_N is None else label_N
            label_N[index_B] = batch.label_B.to(device)
        if batch.preference is not None:
            pairs_N2 = torch.full((count, 2), -1, device=device) if pairs_N2 is None else pairs_N2
            pairs_N2[index_B] = torch.stack([batch.preference.chosen_B, batch.preference.rejected_B], 1).to(device)
        if drawing is None or attacked_NVD is None or drawn_NV is None or batch.label_B is None:
            continue
        for variant in range(drawing.variants):
            drawn = [
                drawing.draw(i, y, variant, pixels_BCHW.shape[-1])
                for i, y in zip(batch.index_B.tolist(), batch.label_B.tolist(), strict=True)
            ]
            attacked_NVD[index_B, variant] = reference(
                drawing.overlay(pixels_BCHW, [lettering for _, lettering in drawn]).to(device)
            )
            drawn_NV[index_B, variant] = torch.tensor([word for word, _ in drawn], device=device)
    return EmbeddingTable(clean_ND, attacked_NVD, drawn_NV, label_N, pairs_N2, read_N)
