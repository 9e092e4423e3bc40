"""The unsupervised attack against what a linear encoder and random search can reach."""

import pytest
import torch

from seaanchor.attacks.ball import Ball
from seaanchor.attacks.embedding import embedding_attack
from seaanchor.data.loader import ImageDataset, SkipLog, batches, subset
from seaanchor.data.sources import open_images
from seaanchor.encoders.load import load_model
from seaanchor.functional.gradients import frozen
from seaanchor.types import Batch


@pytest.fixture(scope="module")
def embedded():
    """The embedded encoder and 24 photos."""
    images = subset(open_images("photos-mini/test"), 24, 0)
    batch = next(batches(ImageDataset(images, 64), 24, workers=0, order=None, skip_log=SkipLog(images)))
    with frozen(load_model("seaanchor-tiny").encoder) as encoder:
        yield encoder, Batch(batch.pixels_BCHW, None, batch.index_B)


def greys(count: int = 6) -> Batch:
    """Images far enough from 0 and 1 that clipping plays no part."""
    pixels = 0.3 + 0.4 * torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return Batch(pixels, None, torch.arange(count))


def test_linear_encoder_known_optimum():
    """One output a·x: the farthest point is ε·sign(a) (l-inf) or ε·a/‖a‖ (l2) away, so the distance is (ε‖a‖₁)² or
    (ε‖a‖₂)²."""
    a = torch.randn(48, generator=torch.Generator().manual_seed(1))
    batch = greys()

    def encoder(pixels):
        return pixels.flatten(1) @ a[:, None]

    size = encoder(batch.pixels_BCHW).square().squeeze(1)
    for norm, reach in (("linf", a.abs().sum()), ("l2", a.norm())):
        result = embedding_attack(encoder, batch, Ball(norm, 0.05), num_steps=40)
        assert torch.allclose(result.relative_B, (0.05 * reach) ** 2 / size, rtol=1e-3)
        assert torch.allclose(result.cosine_B.abs(), torch.ones(6))


def test_of_tokens_the_mean_distance_is_raised():
    """Tokens with disjoint pixels: the best point of all is the best of each. One token is the embedding itself."""
    a, batch = torch.randn(2, 24, generator=torch.Generator().manual_seed(1)), greys()

    def encoder(pixels):
        return (pixels.flatten(1).unflatten(1, (2, 24)) * a).sum(-1, keepdim=True)

    size = encoder(batch.pixels_BCHW).square().mean((1, 2))
    result = embedding_attack(encoder, batch, Ball("linf", 0.05), num_steps=40)
    assert torch.allclose(result.relative_B, (0.05 * a.abs().sum(1)).square().mean() / size, rtol=1e-3)

    def flat(pixels):
        return pixels.flatten(1) @ torch.randn(48, 3, generator=torch.Generator().manual_seed(2))

    one, same = (
        embedding_attack(encode, batch, Ball("linf", 0.05), num_steps=5)
        for encode in (lambda pixels: flat(pixels)[:, None], flat)
    )
    assert torch.equal(one.pixels_BCHW, same.pixels_BCHW) and torch.equal(one.relative_B, same.relative_B)
    assert torch.equal(one.cosine_B, same.cosine_B)


def test_it_starts_where_there_is_a_gradient():
    """No step at all is the random start, and it already moves the embedding; the clean image itself would not."""
    batch = greys()
    result = embedding_attack(lambda pixels: pixels.flatten(1), batch, Ball("linf", 0.05), num_steps=0)
    assert (result.relative_B > 0).all()
    zero = embedding_attack(lambda pixels: pixels.flatten(1), batch, Ball("linf", 0.0), num_steps=3)
    assert (zero.relative_B == 0).all() and torch.equal(zero.pixels_BCHW, batch.pixels_BCHW)


@pytest.mark.parametrize(
    ("norm", "epsilon"), [("linf", 2 / 255), pytest.param("l2", 0.5, marks=pytest.mark.exhaustive)]
)
def test_on_the_embedded_model(embedded, norm, epsilon):
    encoder, batch = embedded
    ball = Ball(norm, epsilon)
    result = embedding_attack(encoder, batch, ball, num_steps=15)
    assert ball.distance(result.pixels_BCHW, batch.pixels_BCHW).max() <= epsilon * (1 + 1e-4)
    assert result.pixels_BCHW.min() >= 0 and result.pixels_BCHW.max() <= 1
    start = embedding_attack(encoder, batch, ball, num_steps=0)
    assert (result.relative_B > start.relative_B).all() and result.relative_B.median() > 5 * start.relative_B.median()
    with torch.no_grad():
        clean, attacked = encoder(batch.pixels_BCHW).double(), encoder(result.pixels_BCHW).double()
    expected = (attacked - clean).norm(dim=1) ** 2 / clean.norm(dim=1) ** 2
    assert torch.allclose(result.relative_B.double(), expected, rtol=1e-4)
    cosine = (attacked * clean).sum(1) / attacked.norm(dim=1) / clean.norm(dim=1)
    assert torch.allclose(result.cosine_B.double(), cosine, atol=1e-5)


def test_batch_size_changes_nothing_and_the_seed_something(embedded):
    encoder, batch = embedded
    ball = Ball("linf", 2 / 255)
    whole = embedding_attack(encoder, batch, ball, num_steps=4)
    rows = [slice(0, 7), slice(7, 24)]
    parts = [
        embedding_attack(encoder, Batch(batch.pixels_BCHW[r], None, batch.index_B[r]), ball, num_steps=4) for r in rows
    ]
    assert torch.cat([part.relative_B for part in parts]).tolist() == pytest.approx(
        whole.relative_B.tolist(), rel=0.02
    )  # rounding, then signs
    other = embedding_attack(encoder, batch, ball, num_steps=4, seed=1)
    assert (other.relative_B - whole.relative_B).abs().max() > 0.02 * whole.relative_B.max()
