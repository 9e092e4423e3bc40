"""The reference takes no memory that it does not need: its weights go when its embeddings are cached, and it shares
what the adapter freezes."""

from dataclasses import replace

import pytest
import torch

from seaanchor.config.recipes import dpo, fare, lore
from seaanchor.config.schema import AdapterConfig
from seaanchor.data.loader import SkipLog
from seaanchor.encoders.encoder import Reference
from seaanchor.encoders.load import load_model
from seaanchor.training.batches import let_reference_go, load_steps, make_micro_batch, reference_cache
from seaanchor.training.setup import prepare
from seaanchor.training.state import make_state
from seaanchor.training.step import train_step


def first_micro_batch(setup, cache_ND=None):
    loaded, *_ = load_steps(setup, 0, 0, 1, SkipLog(setup.images))
    return make_micro_batch(setup, *loaded[0], cache_ND)


def test_weights_go_once_embeddings_are_cached(tiny_run):
    setup = prepare(tiny_run(lore("8/255"), epochs=3))
    state, cache_ND = make_state(setup), reference_cache(setup, 1)
    wanted = first_micro_batch(setup).targets.reference_BD
    let_reference_go(setup)
    assert all(tensor.is_meta for tensor in setup.reference.parameters())
    found = first_micro_batch(setup, cache_ND)
    assert torch.allclose(found.targets.reference_BD, wanted, atol=1e-6)
    record = train_step(setup.method, state, [found], setup.config, 0, setup.reference)
    assert record.objective_B.isfinite().all()


@pytest.mark.parametrize("adapter", ["full", "lora"])
def test_weights_stay_where_they_are_asked_for_again(tiny_run, adapter):
    """By preferences on perturbed images, and by low-rank updates, whose frozen weights they are."""
    recipe = dpo() if adapter == "full" else replace(fare("8/255"), adapter=AdapterConfig("lora", rank=2))
    setup = prepare(tiny_run(recipe, epochs=3))
    let_reference_go(setup)
    assert not any(tensor.is_meta for tensor in setup.reference.parameters())


@pytest.mark.parametrize(
    ("adapter", "least"),
    [(AdapterConfig("last_blocks", last_blocks=1), 0.4), (AdapterConfig("lora", rank=2), 0.3)],
    ids=["last blocks", "lora"],
)
def test_frozen_weights_are_held_once_and_stay(tiny_run, adapter, least):
    config = tiny_run(replace(lore("8/255"), adapter=adapter), lr=0.05)
    setup = prepare(config)
    clean = first_micro_batch(setup)
    state = make_state(setup)
    mine = {p.untyped_storage().data_ptr() for p in state.encoder.parameters()}
    own = list(setup.reference.parameters())
    shared = sum(p.numel() for p in own if p.untyped_storage().data_ptr() in mine)
    assert shared >= least * sum(p.numel() for p in own)
    for step in range(2):
        train_step(setup.method, state, [clean], setup.config, step, setup.reference)
    assert torch.equal(setup.reference(clean.batch.pixels_BCHW), clean.targets.reference_BD)
    state.encoder.eval()
    assert (state.encoder(clean.batch.pixels_BCHW) - clean.targets.reference_BD).abs().max() > 1e-3


def test_weights_that_differ_stay_apart(clip_folder):
    encoder = load_model(str(clip_folder)).encoder
    reference = Reference(encoder)
    name, weight = next(iter(encoder.named_parameters()))
    with torch.no_grad():
        weight.view(-1)[0] += 1e-3
    before = reference.encoder.get_parameter(name).clone()
    reference.share(dict(encoder.named_parameters()))
    pointers = [module.get_parameter(name).untyped_storage().data_ptr() for module in (encoder, reference.encoder)]
    assert pointers[0] != pointers[1] and torch.equal(reference.encoder.get_parameter(name), before)
    others = [n for n, p in encoder.named_parameters() if n != name]
    assert all(
        encoder.get_parameter(n).untyped_storage().data_ptr()
        == reference.encoder.get_parameter(n).untyped_storage().data_ptr()
        for n in others
    )
