"""The encoder contract: pixels in, raw embeddings out, normalisation once, a reference that never moves."""

import copy

import pytest
import torch
from torch import nn

from seaanchor.encoders.embedding_table import embed_all
from seaanchor.encoders.encoder import Encoder, Reference
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.encoders.load import load_model
from seaanchor.types import Batch


class Identity(nn.Module):
    """Returns its input, flat: shows what a tower is given."""

    def forward(self, x):
        return x.flatten(1)


@pytest.fixture
def resnet(architectures) -> Encoder:
    torch.manual_seed(0)
    return load_model("tiny-resnet", "none").encoder


def test_normalisation_is_applied_once():
    encoder = Encoder(Identity(), 2, 12, (0.5, 0.25, 0.0), (0.5, 0.25, 2.0))
    pixels = torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    expected = torch.tensor([-1.0, 1.0, 0.5]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    torch.testing.assert_close(encoder(pixels), expected.flatten(1))


def test_embeddings_are_raw(architectures):
    encoder = load_model("tiny-vit", "none").encoder
    lengths = encoder(torch.rand(8, 3, 32, 32)).norm(dim=-1)
    assert (lengths - 1).abs().min() > 1e-3
    assert lengths.std() > 1e-4


def test_reference_never_leaves_eval_mode_and_gets_no_gradient(resnet):
    reference = Reference(resnet)
    parent = nn.ModuleList([reference])
    parent.train()
    assert not any(module.training for module in reference.modules())
    assert not any(p.requires_grad for p in reference.parameters())
    pixels = torch.rand(2, 3, 32, 32, requires_grad=True)
    assert not reference(pixels).requires_grad
    before = fingerprint(reference)
    with torch.no_grad():
        for parameter in resnet.parameters():
            parameter.add_(1.0)
    assert fingerprint(reference) == before  # a copy, not a view of the policy
    assert fingerprint(resnet) != before


def test_batch_norm_keeps_its_statistics_in_training(resnet):
    resnet.train()
    norms = [m for m in resnet.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(m.training for m in norms)
    assert resnet.training
    before = [m.running_mean.clone() for m in norms]
    alone = resnet(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    others = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    first = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(resnet(torch.cat([first, others]))[:1], alone)
    assert all(torch.equal(m.running_mean, b) for m, b in zip(norms, before, strict=True))


def test_convolutional_towers_are_channels_last_and_transformers_are_left_alone(resnet, architectures):
    kernels = [m.weight for m in resnet.modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in kernels)
    transformer = load_model("tiny-vit", "none").encoder
    assert transformer.tower.conv1.weight.is_contiguous()


def test_memory_layout_changes_no_embedding(resnet):
    plain = copy.deepcopy(resnet)
    plain.to(memory_format=torch.contiguous_format)
    pixels = torch.rand(4, 3, 32, 32)
    assert any(not p.is_contiguous() for p in resnet.parameters())
    assert all(p.is_contiguous() for p in plain.parameters())
    torch.testing.assert_close(resnet(pixels), plain(pixels), rtol=1e-5, atol=1e-5)


def test_copies_and_checkpoints_keep_the_layout(resnet, tmp_path):
    from seaanchor.utils.checkpoint import load_state, save_state

    twin = copy.deepcopy(resnet)
    for a, b in zip(resnet.parameters(), twin.parameters(), strict=True):
        assert a.stride() == b.stride()
    save_state(tmp_path / "state.safetensors", {"policy": resnet.state_dict()})
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    twin.load_state_dict(load_state(tmp_path / "state.safetensors")["policy"])
    for a, b in zip(resnet.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.stride() == b.stride()


def test_fingerprint_sees_weights_buffers_and_normalisation_but_not_the_layout(resnet):
    first = fingerprint(resnet)
    assert fingerprint(copy.deepcopy(resnet)) == first
    assert fingerprint(copy.deepcopy(resnet).to(memory_format=torch.contiguous_format)) == first
    weight, buffer, normalisation = (copy.deepcopy(resnet) for _ in range(3))
    with torch.no_grad():
        next(weight.parameters())[0] += 1e-3
        next(m for m in buffer.modules() if isinstance(m, nn.BatchNorm2d)).running_var[0] += 1e-3
        normalisation.mean[0] += 1e-3
    assert len({first, *map(fingerprint, (weight, buffer, normalisation))}) == 4


def test_embed_all_puts_rows_where_they_belong(architectures):
    reference = Reference(load_model("tiny-vit", "none").encoder)
    pixels = torch.rand(5, 3, 32, 32)
    nothing = Batch(torch.empty(0, 3, 32, 32), None, torch.empty(0, dtype=torch.long))
    stream = [
        Batch(pixels[[3, 0]], None, torch.tensor([3, 0])),
        nothing,
        Batch(pixels[[4, 1]], None, torch.tensor([4, 1])),
    ]
    table = embed_all(reference, stream, 5, torch.device("cpu"))
    torch.testing.assert_close(table[[0, 1, 3, 4]], reference(pixels[[0, 1, 3, 4]]))
    assert not table[2].any()  # nobody could read image 2
