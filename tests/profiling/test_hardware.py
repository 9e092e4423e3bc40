"""GPUs are found as people write them, and the table is one of dense rates."""

import pytest

from seaanchor.errors import SeaAnchorError
from seaanchor.profiling.hardware import GPUS, find, fleet


@pytest.mark.parametrize(
    ("text", "count", "name"),
    [
        ("H100", 1, "H100-SXM"),
        ("8xH100", 8, "H100-SXM"),
        ("H100x8", 8, "H100-SXM"),
        ("4 × A100-40GB", 4, "A100-40GB"),
        ("rtx4090", 1, "RTX-4090"),
        ("RTX 4090x2", 2, "RTX-4090"),
        ("2xMI300X", 2, "MI300X"),
        ("mi300x", 1, "MI300X"),
        ("NVIDIA A10G", 1, "A10G"),
        ("L40S*4", 4, "L40S"),
    ],
)
def test_a_fleet_as_people_write_it(text, count, name):
    found = fleet(text)
    assert (found.count, found.gpu.name) == (count, name)


def test_an_unknown_gpu_names_near_ones_and_all():
    with pytest.raises(SeaAnchorError) as caught:
        fleet("8xH10")
    assert "'H10'" in caught.value.found and "H100-SXM" in caught.value.change and "L40S" in caught.value.expected
    with pytest.raises(SeaAnchorError, match="measures the machine"):
        fleet("cpu")
    with pytest.raises(SeaAnchorError, match="similar rates"):
        find("abacus")


@pytest.mark.parametrize("text", ["0xH100", "H100x0", "-2xH100", "H100x9999999"])
def test_no_gpus_or_absurdly_many_are_refused(text):
    with pytest.raises(SeaAnchorError, match="1 to 100,000"):
        fleet(text)


@pytest.mark.parametrize("text", ["", "x", "8x", "x8"])
def test_no_name_is_refused(text):
    with pytest.raises(SeaAnchorError, match="no GPU is called"):
        fleet(text)


def test_rates_are_dense_and_plausible():
    """Tensor cores give 2 to 16 times plain single precision on these cards, up to 30 on the newest; a sparse number
    would stand out, and so would a unit."""
    for gpu in GPUS:
        assert gpu.rate("bf16") == gpu.bf16 and gpu.rate("fp32") == gpu.fp32
        assert 8e12 <= gpu.fp32 <= 200e12 and 1 <= gpu.bf16 / gpu.fp32 <= 30
        assert 15e9 < gpu.memory < 300e9 and 250e9 < gpu.bandwidth < 10e12
    assert len({gpu.name for gpu in GPUS}) == len(GPUS)
