"""Random numbers that belong to an image."""

import pytest
import torch
from scipy import stats

from seaanchor.attacks.ball import Ball
from seaanchor.attacks.noise import bits, next_key, normal, uniform
from seaanchor.perturbations.apgd import APGD
from seaanchor.perturbations.pgd import PGD
from seaanchor.perturbations.typographic import Typographic
from seaanchor.types import Batch


def splitmix64(seed: int, count: int) -> list[int]:
    """The published C code in Python's integers."""
    numbers, mask = [], 2**64 - 1
    for _ in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) & mask
        z = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        numbers.append(z ^ (z >> 31))
    return numbers


def test_it_is_splitmix64():
    """Each image's sequence is that of a seed which is itself a number of the sequence that starts at the key."""
    key = 2**61 + 12345
    (*_, seed) = splitmix64(key, 7)  # of image 7, whose seed is mixed from key + 7 increments
    assert bits(key, torch.tensor([7]), 50)[0].tolist() == [number >> 1 for number in splitmix64(seed, 50)]


@pytest.mark.parametrize(("draw", "law"), [(uniform, "uniform"), (normal, "norm")])
def test_distribution(draw, law):
    sample = draw(3, torch.arange(400), (501,))
    assert sample.isfinite().all() and sample.shape == (400, 501)
    assert stats.kstest(sample.flatten().numpy(), law).pvalue > 0.01
    within, between = torch.corrcoef(sample.T[:50]), torch.corrcoef(sample[:50])
    for apart in (within, between):  # neither places of one image nor images have to do with each other
        assert (apart - torch.eye(50)).abs().max() < 5 / 400**0.5


def test_uniform_never_reaches_its_ends():
    sample = uniform(0, torch.arange(2000), (1000,))
    assert 0 < sample.min() < 1e-5 and 1 - 1e-5 < sample.max() < 1


def test_it_depends_on_key_and_image_and_nothing_else():
    index = torch.arange(100)
    whole = uniform(5, index, (3, 30, 30))  # larger than what is drawn at once
    assert torch.equal(uniform(5, index[[70, 3]], (3, 30, 30)), whole[[70, 3]])
    assert not torch.equal(uniform(6, index, (3, 30, 30)), whole)
    assert uniform(5, index[:0], (3, 4)).shape == (0, 3, 4)
    rng = torch.Generator().manual_seed(0)
    assert next_key(rng) != next_key(rng)
    assert next_key(rng.manual_seed(0)) == next_key(torch.Generator().manual_seed(0))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("attack", [PGD, APGD])
def test_attacks_in_training_do_not_see_the_batch(attack, norm):
    pixels, index = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([4, 9, 2, 7, 0, 5])
    perturb = attack(Ball(norm, 0.1), num_steps=2)

    def attacked(rows: slice) -> torch.Tensor:
        batch = Batch(pixels[rows], None, index[rows])
        return perturb(
            batch, lambda _: lambda p: (p.sin().sum((1, 2, 3)), p), torch.Generator().manual_seed(3)
        ).pixels_BCHW

    assert torch.equal(torch.cat([attacked(slice(0, 4)), attacked(slice(4, 6))]), attacked(slice(0, 6)))


@pytest.mark.parametrize("variants", [0, 3])
def test_words_in_training_do_not_see_the_batch(variants):
    index, label = torch.arange(8), torch.arange(8) % 3
    draw = Typographic(("apple", "zebra", "fox"), variants=variants)

    def drawn(rows: slice) -> Batch:
        return draw(
            Batch(torch.zeros(8, 3, 32, 32)[rows], label[rows], index[rows]), None, torch.Generator().manual_seed(1)
        )

    parts = [drawn(slice(0, 3)), drawn(slice(3, 8))]
    assert torch.equal(torch.cat([part.pixels_BCHW for part in parts]), drawn(slice(0, 8)).pixels_BCHW)


@pytest.mark.parametrize("numbers", [3, 4])
def test_uniform_takes_two_numbers_of_each_integer(numbers):
    """The 23 highest of its 63 bits, then the next 23, each in the middle of its step of 2⁻²³."""
    pairs = (numbers + 1) // 2
    (whole,) = bits(9, torch.tensor([4]), pairs).tolist()
    first, second = [b >> 40 for b in whole], [(b >> 17) % 2**23 for b in whole]
    expected = [(n + 0.5) / 2**23 for n in (*first, *second)][:numbers]
    assert uniform(9, torch.tensor([4]), (numbers,))[0].tolist() == pytest.approx(expected, rel=1e-7, abs=1e-9)
