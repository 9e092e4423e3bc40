"""Reference embeddings of a whole data set, computed once.

Legend: N images, D embedding dimension.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from seaanchor.types import Batch


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
