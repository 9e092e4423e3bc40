"""The linear probe and nearest neighbours against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from seaanchor.data.loader import ImageDataset, SkipLog, batches, subset
from seaanchor.data.sources import open_images
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.suites.probe import evaluate_probe, linear_probe, nearest_neighbours
from seaanchor.functional.logistic import PENALTIES, fit_logistic, held_out

CLASSES = 6


def clouds(count: int, seed: int, spread: float = 1.5):
    """Overlapping Gaussian clouds around fixed centres, not around the origin."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(CLASSES, 10)) + 0.7
    label = rng.integers(CLASSES, size=count)
    return torch.from_numpy(centres[label] + spread * rng.normal(size=(count, 10))), torch.from_numpy(label)


@pytest.fixture(scope="module")
def embedded():
    """Embeddings of half the embedded photos, train and test."""
    encoder = load_model("seaanchor-tiny").encoder

    def embed(split):
        images = subset(open_images(f"photos-mini/{split}"), 400, 0)
        batch = next(batches(ImageDataset(images, 64), 400, workers=0, order=None, skip_log=SkipLog(images)))
        with torch.no_grad():
            return torch.cat([encoder(part) for part in batch.pixels_BCHW.split(200)]), batch.label_B

    return *embed("train"), *embed("test")


@pytest.mark.parametrize("penalty", [1.0, 1e-2, 1e-4])
def test_logistic_regression_reaches_scikit_learns_minimum(penalty):
    x, y = clouds(300, 0)
    weight, bias = fit_logistic(x, y, CLASSES, penalty)
    peer = LogisticRegression(C=1 / (penalty * len(x)), tol=1e-10, max_iter=10_000).fit(x.numpy(), y.numpy())
    assert np.allclose(weight.numpy(), peer.coef_, atol=1e-4)
    assert np.allclose(
        bias.numpy() - bias.numpy().mean(), peer.intercept_ - peer.intercept_.mean(), atol=1e-4
    )  # a shift of all changes nothing


def test_the_start_changes_nothing_but_the_time():
    x, y = clouds(200, 0)
    cold = fit_logistic(x, y, CLASSES, 1e-2)
    warm = fit_logistic(x, y, CLASSES, 1e-2, fit_logistic(x, y, CLASSES, 1.0))
    assert torch.allclose(cold[0], warm[0], atol=1e-5)


@pytest.mark.parametrize("k", [1, 5, 20])
def test_nearest_neighbours_are_scikit_learns(k):
    (x, y), (test, _) = clouds(200, 0), clouds(150, 1)
    peer = KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.07)
    )
    expected = peer.fit(x.numpy(), y.numpy()).predict(test.numpy())
    for chunk in (7, 1000):
        assert nearest_neighbours(x, y, test, CLASSES, k, chunk=chunk).tolist() == expected.tolist()


def test_temperature_weighs_the_near_above_the_many():
    train, label = torch.tensor([[1.0, 0.0], [0.7, 0.7], [0.7, 0.7]]), torch.tensor([0, 1, 1])
    test = torch.tensor([[1.0, 0.05]])
    assert nearest_neighbours(train, label, test, 2, 3).item() == 0
    assert nearest_neighbours(train, label, test, 2, 3, temperature=100.0).item() == 1


def test_held_out_images_are_a_fifth_of_each_class():
    label = torch.tensor([0] * 10 + [1] * 6 + [2] * 2 + [3])
    held = held_out(label, 0)
    assert [int(held[label == c].sum()) for c in range(4)] == [2, 1, 1, 0]
    assert torch.equal(held, held_out(label, 0)) and not torch.equal(held, held_out(label, 1))
    with pytest.raises(SeaAnchorError, match="no class with two"):
        held_out(torch.tensor([0, 1, 2]), 0)


def test_the_penalty_is_the_best_of_scikit_learns_fits():
    """Ten informative dimensions among 200, so that neither end of the list is best; 120 images to fit and to choose
    on."""
    rng = torch.Generator().manual_seed(0)
    (x, y), (test, label) = clouds(120, 0, 1.0), clouds(400, 1, 1.0)
    noisy, noisy_test = (
        torch.cat([part, torch.randn(len(part), 190, generator=rng, dtype=part.dtype)], 1) for part in (x, test)
    )
    scaled, held = ((noisy - noisy.mean(0)) / noisy.std(0, correction=0)).numpy(), held_out(y, 0).numpy()
    score = {}
    for penalty in PENALTIES:
        peer = LogisticRegression(C=1 / (penalty * (~held).sum()), tol=1e-8, max_iter=10_000).fit(
            scaled[~held], y.numpy()[~held]
        )
        score[penalty] = peer.score(scaled[held], y.numpy()[held])
    chosen, answers = linear_probe(noisy, y, noisy_test, CLASSES)
    assert chosen == max(score, key=score.get)  # the first of equals is the strongest
    assert PENALTIES[0] > chosen > PENALTIES[-1] and len(set(score.values())) > 2
    assert (answers == label).double().mean() > 2 / CLASSES


def test_on_embedded_photos(embedded):
    result = evaluate_probe(*embedded)
    train, y, test, label = embedded
    scaled, scaled_test = ((part - train.mean(0)) / train.std(0, correction=0) for part in (train, test))
    peer = LogisticRegression(C=1 / (result.penalty * len(train)), max_iter=5000).fit(scaled.numpy(), y.numpy())
    assert result.linear.accuracy == pytest.approx(peer.score(scaled_test.numpy(), label.numpy()), abs=0.005)
    assert result.linear.accuracy > 0.5 and result.knn.accuracy > 0.5
    assert result.linear.n == result.knn.n == 400 == result.train
    assert result.k == 20
    assert evaluate_probe(*embedded) == result


def test_no_test_image():
    x, y = clouds(20, 0)
    with pytest.raises(ValueError, match="no test image"):
        evaluate_probe(x, y, x[:0], y[:0])
