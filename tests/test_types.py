"""A head's logits against torch's own layers, in all of its kinds."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from seaanchor.types import Head

B, C, D = 5, 4, 6


def drawn() -> tuple[torch.Tensor, nn.Linear]:
    torch.manual_seed(0)
    return 3 * torch.randn(B, D), nn.Linear(D, C).requires_grad_(False)


def test_a_linear_head_is_a_linear_layer_of_raw_embeddings():
    embedding_BD, layer = drawn()
    head = Head(layer.weight, bias_C=layer.bias, unit=False, kind="classifier")
    torch.testing.assert_close(head(embedding_BD), layer(embedding_BD), rtol=0, atol=1e-6)


def test_a_text_head_is_a_scaled_cosine():
    embedding_BD, layer = drawn()
    text_CD = F.normalize(layer.weight, dim=-1)
    expected_BC = 30 * F.cosine_similarity(embedding_BD[:, None], text_CD[None], dim=-1)
    torch.testing.assert_close(Head(text_CD, 30.0)(embedding_BD), expected_BC)


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("with_bias", [True, False])
def test_the_logits_of_pairs_are_those_of_the_whole_table(unit, with_bias):
    embedding_BD, layer = drawn()
    head = Head(layer.weight, 2.5, layer.bias if with_bias else None, unit)
    class_B = torch.tensor([0, 3, 1, 1, 2])
    torch.testing.assert_close(head.pair_logits(embedding_BD, class_B), head(embedding_BD)[torch.arange(B), class_B])


def test_a_head_moves_whole():
    _, layer = drawn()
    moved = Head(layer.weight, 2.0, layer.bias, False, "file").to("meta")
    assert moved.weight_CD.is_meta and moved.bias_C.is_meta
    assert (moved.logit_scale, moved.unit, moved.kind) == (2.0, False, "file")
