"""The slice size that is chosen: arithmetic with stated memory, on real steps."""

import logging
from dataclasses import dataclass, replace

import pytest
import torch

from seaanchor.config.recipes import fare, kto, lore
from seaanchor.distributed.process_group import ONE_PROCESS
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.objectives.embedding import EmbeddingDistance
from seaanchor.profiling import fitting
from seaanchor.profiling.cost_model import step_memory
from seaanchor.profiling.fitting import fast_on_processor, fitted, largest_slice, look_at
from seaanchor.profiling.memory import SPARE, Footprint
from seaanchor.profiling.memory_advice import footprint_of, held_bytes, in_slices
from seaanchor.training.setup import prepare
from seaanchor.training.state import make_state


def ready(config):
    setup = prepare(config)
    return setup, make_state(setup)


def with_room(setup, state, room):
    """What is chosen where a step may take so many bytes in all, beside two batches that are read ahead."""
    ahead = 2 * 3 * 4 * 32**2 * setup.config.batch_size
    return fitted(setup, state, ONE_PROCESS, lambda device: int(room + ahead) - held_bytes(setup, state))


def room_for(setup, state, need, images):
    """Bytes of which half holds slices of so many images, those that wait included: a processor is filled no more."""
    size = setup.config.batch_size
    need = need if images == size else in_slices(need, state)
    return 2 * (need.of(images) + 2 * 3 * 4 * 32**2 * (size - images))


@pytest.mark.parametrize("recipe", [fare, lore])
def test_as_many_images_as_fit(tiny_run, caplog, monkeypatch, recipe):
    setup, state = ready(tiny_run(recipe("8/255"), batch_size=12))
    need = footprint_of(setup, setup.config, 1)
    monkeypatch.setattr(fitting, "footprint_of", lambda *run: need)  # it is the same each time
    caplog.set_level(logging.INFO, "seaanchor")
    for images in (1, 5, 8):
        assert with_room(setup, state, room_for(setup, state, need, images) + 100).slice_size == images
        assert f"{images} of 12 images at once" in caplog.messages[-1]
    caplog.clear()
    for room in (room_for(setup, state, need, 12) + 100, 2**40):
        assert with_room(setup, state, room) == setup.config
    assert not caplog.messages


def test_a_batch_holds_no_more_than_the_data(tiny_run, caplog, monkeypatch):
    """12 images are all that a batch of 100 can have: room is looked for no more of them."""
    setup, state = ready(tiny_run(fare("8/255"), batch_size=100))
    twelve = replace(setup, config=replace(setup.config, batch_size=12))
    need, sizes = footprint_of(twelve, twelve.config, 1), []
    monkeypatch.setattr(fitting, "footprint_of", lambda setup, config, world: sizes.append(config.batch_size) or need)
    caplog.set_level(logging.INFO, "seaanchor")
    room = room_for(twelve, state, need, 5) + 100 + 2 * 3 * 4 * 32**2 * 12
    found = fitted(setup, state, ONE_PROCESS, lambda device: int(room) - held_bytes(setup, state))
    assert (found.slice_size, found.batch_size, sizes) == (5, 100, [12])
    assert "5 of 12 images at once" in caplog.messages[-1]


def test_the_largest_slice_is_the_last_that_fits(tiny_run):
    config = replace(fare(), batch_size=64, grad_accumulation=2)
    need, pixels = Footprint(1e6, 9e5), 2 * 3 * 4 * 32**2
    for room in (7e6, 2e7, 5e7):
        images = largest_slice(need, config, 32, room)
        takes = lambda n: need.of(n) + pixels * (128 - n)  # noqa: E731
        assert takes(images) <= room < takes(images + 1)


def test_what_was_asked_for_is_not_looked_at(tiny_run):
    setup, state = ready(tiny_run(fare("8/255"), slice_size=2))
    assert with_room(setup, state, 0).slice_size == 2


@pytest.mark.exhaustive
def test_a_step_that_fits_with_no_image_names_what_would(tiny_run, clip_folder):
    setup, state = ready(tiny_run(lore("8/255"), batch_size=12))
    need = in_slices(footprint_of(setup, setup.config, 1), state)
    waiting = 2 * 3 * 4 * 32**2 * 12
    room = need.fixed + waiting + 0.4 * (1 + SPARE) * need.per_image
    with pytest.raises(SeaAnchorError) as caught:
        with_room(setup, state, room)
    error = caught.value
    assert error.found == "a step does not fit into the memory of cpu, even with one image at a time"
    assert f"about {need.of(1) / 2**20:.1f} MiB" in error.expected and "of 32 px" in error.expected
    assert "could be had" in error.expected and "a tower of about" in error.change
    if "--image-size 16" in error.change:
        smaller = load_model(str(clip_folder), image_size=16).encoder
        assert step_memory(setup.config, smaller, setup.method, 1, False).of(1) <= room
    with pytest.raises(SeaAnchorError) as caught:
        with_room(setup, state, 0.5 * need.fixed)
    assert "--image-size" not in caught.value.change and "a tower of about 0 M" in caught.value.change


class _Dropping(torch.nn.Module):
    """A tower with dropout behind it."""

    def __init__(self, tower):
        super().__init__()
        self.tower, self.drop = tower, torch.nn.Dropout(0.5)

    def forward(self, pixels_BCHW):
        return self.drop(self.tower(pixels_BCHW))


@pytest.mark.exhaustive
def test_layers_that_draw_are_seen_and_left_whole(tiny_run, caplog, monkeypatch):
    setup, state = ready(tiny_run(lore("8/255"), batch_size=12))
    assert not look_at(setup).draws
    before = torch.random.get_rng_state()
    setup.policy.tower = _Dropping(setup.policy.tower)
    setup.policy.train()
    assert look_at(setup).draws and torch.equal(torch.random.get_rng_state(), before)
    assert (
        with_room(setup, state, room_for(setup, state, footprint_of(setup, setup.config, 1), 5) + 100) == setup.config
    )
    assert "draw random numbers" in caplog.text and "--slice-size 5 fits" in caplog.text
    monkeypatch.setattr(fitting, "LARGE", 0)
    assert with_room(setup, state, 2**40) == setup.config


def test_a_look_sees_what_training_keeps(tiny_run):
    """Clean and perturbed images with copies of their pixels are about the slope of the whole step's memory."""
    setup, _ = ready(tiny_run(lore("8/255"), batch_size=12))
    seen = 2 * look_at(setup).saved + fitting.PIXELS * 12 * 32**2
    assert seen / fitting.ROUGH < footprint_of(setup, setup.config, 1).per_image < seen * fitting.ROUGH


@dataclass(frozen=True)
class Own(EmbeddingDistance):
    """An objective that is not the package's."""


def test_a_processor_takes_slices_where_they_are_free(tiny_run, monkeypatch):
    setup, state = ready(tiny_run(lore("8/255"), batch_size=12))
    monkeypatch.setattr(fitting, "ROWS", 4 / torch.get_num_threads())
    size = fast_on_processor(setup)
    assert 0 < size < 12
    assert with_room(setup, state, 2**40) == setup.config, "small activations are left alone"
    monkeypatch.setattr(fitting, "LARGE", 0)
    assert with_room(setup, state, 2**40).slice_size == size
    for other in (
        replace(setup, config=replace(setup.config, precision="bf16")),
        replace(setup, config=replace(setup.config, checkpoint_activations=True)),
        replace(setup, method=replace(setup.method, objective=Own())),
        replace(setup, device=torch.device("meta")),
        prepare(tiny_run(kto(), batch_size=12)),
    ):
        assert fast_on_processor(other) == 12
