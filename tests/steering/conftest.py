"""A run with a linear map, and what the embedded model sees of people."""

import pytest

from seaanchor.api import train_from_config as train
from seaanchor.cli.app import app
from seaanchor.config.recipes import dpo_linear
from seaanchor.config.schema import PerturbationConfig
from seaanchor.data.sources import open_images
from seaanchor.encoders.load import load_model
from seaanchor.steering.embeddings import see_people

DRAWN = PerturbationConfig("typographic", variants=2, sizes=(0.25, 0.4))


@pytest.fixture
def call():
    """Calls a command in this process; its errors are raised."""

    def called(*arguments):
        given = [str(argument) for argument in arguments]
        return app(given, exit_on_error=False, print_error=False, result_action="return_value")

    return called


@pytest.fixture
def run(tiny_run):
    return train(tiny_run(dpo_linear(), perturbation=DRAWN, epochs=10, lr=1e-2))


@pytest.fixture(scope="module")
def tiny():
    return load_model("seaanchor-tiny")


@pytest.fixture(scope="module")
def people(tiny):
    return see_people(tiny, open_images("emoji-people/test"))
