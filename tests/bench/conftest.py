"""What the tests of the bench share."""

from dataclasses import replace

import pytest

from bench.subjects import Ours, ours
from seaanchor.config.recipes import fare
from seaanchor.config.schema import PerturbationConfig


@pytest.fixture(scope="session")
def fare_ours() -> Ours:
    """Our FARE step on four photos and the bench's ViT, with its public code's attack."""
    attack = PerturbationConfig(epsilon="4/255", step_size="1/255")
    return ours(replace(fare(), perturbation=attack), 4)
