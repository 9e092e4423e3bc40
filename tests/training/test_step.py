"""A training step with the options that change how it is computed."""

from dataclasses import replace

import pytest
import torch

from seaanchor.config.recipes import dpo, fare, lore
from seaanchor.config.schema import AdapterConfig
from seaanchor.config.validation import check
from seaanchor.encoders.kernels.self_attention import SelfAttention
from seaanchor.errors import SeaAnchorError
from seaanchor.training.batches import MicroBatch, make_targets
from seaanchor.training.setup import prepare
from seaanchor.training.state import make_state
from seaanchor.training.step import train_step
from seaanchor.types import Batch


def stepped(config, steps=2):
    """Weights and objective after some steps on the same photos, and what was seen of the towers meanwhile."""
    setup = prepare(config)
    state = make_state(setup)
    pixels = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    batch = Batch(pixels, torch.arange(6) % 3, torch.arange(6))
    targets = make_targets(setup, batch, None)
    for number in range(steps):
        record = train_step(setup.method, state, [MicroBatch(batch, targets)], setup.config, number, setup.reference)
    assert not any(isinstance(layer, SelfAttention) for layer in setup.policy.modules())
    return torch.cat([p.detach().flatten() for p in setup.policy.parameters()]), record.objective_B, state


@pytest.mark.parametrize("recipe", [fare, lore])
@pytest.mark.parametrize(
    "change",
    [{"checkpoint_activations": True}, {"attack_precision": "bf16"}, {"attack_precision": "bf16", "precision": "bf16"}],
)
def test_options_that_change_the_arithmetic_leave_the_step(tiny_run, recipe, change):
    plain = tiny_run(recipe("8/255"))
    wanted, wanted_B, _ = stepped(plain)
    got, got_B, state = stepped(replace(plain, **change))
    exact = "checkpoint_activations" in change
    if exact:
        assert torch.allclose(got_B, wanted_B, rtol=1e-4)
    assert (
        abs(got_B.mean() / wanted_B.mean() - 1) < 0.15
    )  # a tower of random weights, 16 numbers an embedding: bf16 rounds a few of them
    start = stepped(replace(plain, lr=0.0), 1)[0]
    assert (wanted - start).abs().max() > 1e-3
    agree = torch.nn.functional.cosine_similarity(got - start, wanted - start, dim=0)
    assert agree > (0.999 if exact else 0.8)  # Adam's first steps go by the signs of the gradients, small ones too
    assert (state.low_precision_copy is None) == (change.get("attack_precision") is None)


def test_low_rank_updates_are_attacked_in_low_precision_and_move(tiny_run):
    plain = tiny_run(fare("8/255"), adapter=AdapterConfig(kind="lora", rank=2), lr=0.01)
    _, wanted_B, _ = stepped(plain, 3)
    *_, got_B, state = stepped(replace(plain, attack_precision="bf16", precision="bf16"), 3)
    assert abs(got_B.mean() / wanted_B.mean() - 1) < 0.15
    moved = [p for name, p in state.policy.named_parameters() if "lora_B" in name]
    assert moved and all(p.abs().max() > 0 for p in moved)


def test_recomputed_activations_in_bf16_are_those_of_the_forward(tiny_run):
    plain = tiny_run(fare("8/255"), precision="bf16")
    _, wanted_B, _ = stepped(plain)
    _, got_B, _ = stepped(replace(plain, checkpoint_activations=True))
    assert abs(got_B.mean() / wanted_B.mean() - 1) < 0.15


def test_the_attack_looks_at_the_weights_of_now(tiny_run):
    config = tiny_run(fare("8/255"), attack_precision="bf16", lr=0.05)
    *_, state = stepped(config, 3)
    trained = [p.detach() for p in state.policy.tower.parameters()]
    followed = list(state.low_precision_copy.encoder.parameters())
    before = [(a - b.float()).abs().max() for a, b in zip(trained, followed, strict=True)]
    state.low_precision_copy.refreshed()
    after = [(a - b.float()).abs().max() for a, b in zip(trained, followed, strict=True)]
    assert max(before) > 0.01  # the last update came after the last attack
    assert max(after) < 0.004 * max(p.abs().max() for p in trained)


def test_options_without_effect_are_refused(tiny_run):
    check(tiny_run(fare(), attack_precision="bf16", checkpoint_activations=True))
    with pytest.raises(SeaAnchorError, match="takes no gradient"):
        check(replace(dpo(), attack_precision="bf16"))


@pytest.mark.parametrize("adapter", [{"last_blocks": 1}, {"kind": "lora", "rank": 2}], ids=["last_blocks", "lora"])
@pytest.mark.parametrize(
    "change",
    [{}, {"checkpoint_activations": True}, {"precision": "bf16"}, {"grad_accumulation": 2}, {"exact_dual": True}],
    ids=lambda change: next(iter(change), "plain"),
)
def test_a_frozen_prefix_that_is_looked_up_leaves_the_step_as_it_is(tiny_run, adapter, change):
    """Weights, Adam's moments and what is logged, to the last bit, after three steps of three updates."""
    change = dict(change)
    recipe = lore("8/255")
    anchor = replace(recipe.anchor, exact_dual=change.pop("exact_dual", False))
    adapter = AdapterConfig(**adapter)
    config = tiny_run(recipe, anchor=anchor, adapter=adapter, primal_steps=3, lr=0.01, **change)
    parts = config.grad_accumulation
    seen = {}
    for looked_up in (True, False):
        setup = prepare(config)
        state = make_state(setup)
        assert state.prefix is not None
        state = state if looked_up else replace(state, prefix=None)
        pixels = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        micro_batches = []
        for rows in torch.arange(6).chunk(parts):
            batch = Batch(pixels[rows], rows % 3, rows)
            micro_batches.append(MicroBatch(batch, make_targets(setup, batch, None)))
        records = [train_step(setup.method, state, micro_batches, setup.config, n, setup.reference) for n in range(3)]
        moments = [value for values in state.optimizer.state.values() for value in values.values()]
        seen[looked_up] = [value for r in records for value in (r.objective_B, r.constraint.distance_B)]
        seen[looked_up] += [*setup.policy.state_dict().values(), *moments, *state.dual.parameters()]
    assert len(seen[True]) == len(seen[False]) > 16
    # an exact dual step asks for the clean images alone, which were half of a batch: products of other shapes
    compared = seen[True][:2] if anchor.exact_dual else seen[True]
    for got, wanted in zip(compared, seen[False], strict=not anchor.exact_dual):
        assert torch.allclose(got, wanted, rtol=1e-5) if anchor.exact_dual else torch.equal(got, wanted)


def test_a_prefix_is_sought_where_a_step_goes_through_it_again(tiny_run):
    for config, found in (
        (tiny_run(lore(), adapter=AdapterConfig(last_blocks=1)), True),
        (tiny_run(fare(), adapter=AdapterConfig(last_blocks=1)), False),
        (tiny_run(lore()), False),
    ):
        assert (make_state(prepare(config)).prefix is not None) == found
