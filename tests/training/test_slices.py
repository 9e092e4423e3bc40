"""A step in slices is the step: the same losses, records and gradients of policy and dual, from less at a time."""

from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace

import pytest
import torch

from seaanchor.config.recipes import dpo, dpo_linear, fare, ipo, kto, lore, ppo, tecoa
from seaanchor.config.schema import AdapterConfig, AnchorConfig
from seaanchor.data.loader import SkipLog
from seaanchor.training.batches import MicroBatch, embed_in_slices, load_steps, make_micro_batch, make_targets
from seaanchor.training.setup import prepare
from seaanchor.training.slices import Slicing, joined, rows_of, sliced, sliced_pair
from seaanchor.training.state import make_state
from seaanchor.training.step import train_step
from seaanchor.types import Batch, Head, Preference, Targets

EXACT = 1e-10  # of the largest number, or of 0.1: sums in float64, put together in another order
KL = AnchorConfig("kl", weight=0.3)
DUALS = ("network", "linear", "scalar")
GAIN = {"dual_proportional": 2.0}


def constrained(**changes):
    return AnchorConfig("lagrangian", rho=1e-3, dual_lr=0.01, dual_hidden=8, **changes)


@contextmanager
def in_float64(double):
    """What a step computes in fp32, it computes in fp64 here, so that rounding cannot hide a wrong share."""
    with pytest.MonkeyPatch.context() as patch:
        if double:
            patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        yield


def taken(config, slice_size, *, double=False, padding=False):
    """Record, gradients and weights of a step of the run's first images that moves the policy K times."""
    setup = prepare(replace(config, slice_size=slice_size))
    state = make_state(setup)
    if double:
        for module in (state.policy, setup.reference, state.dual):
            if module is not None:
                module.double()
        for average in (state.average, state.moving_reference):
            if average is not None:
                average.mean = [mean.double() for mean in average.mean]
    (loaded,) = list(load_steps(setup, 0, 0, 1, SkipLog(setup.images)))[:1]
    if padding:
        loaded = [*loaded, (loaded[0][0], True)]
    micro_batches = [make_micro_batch(setup, batch, is_padding, None) for batch, is_padding in loaded]
    if double:
        micro_batches = [doubled(micro_batch) for micro_batch in micro_batches]
    with in_float64(double):
        record = train_step(setup.method, state, micro_batches, setup.config, 0, setup.reference)
    modules = [state.policy] if state.dual is None else [state.policy, state.dual]
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    weights = torch.cat([p.detach().flatten() for p in parameters])  # Adam makes much of gradients that are 0
    return numbers(record), [p.grad for p in parameters if p.grad is not None], [weights]


def doubled(record):
    if isinstance(record, torch.Tensor):
        return record.double() if record.is_floating_point() else record
    if not is_dataclass(record):
        return record
    return replace(record, **{f.name: doubled(getattr(record, f.name)) for f in fields(record)})


def numbers(record):
    found = [record.objective_B, record.multiplier_B, record.adapter_P]
    if record.constraint is not None:
        found += [record.constraint.distance_B, record.constraint.bound_B]
    return [tensor for tensor in found if tensor is not None]


def assert_same(found, wanted, tolerance):
    for mine, theirs in zip(found, wanted, strict=True):
        assert len(mine) == len(theirs) > 0
        for one, other in zip(mine, theirs, strict=True):
            assert one.shape == other.shape
            assert (one - other).abs().max() <= tolerance * max(other.abs().max(), torch.tensor(0.1))


METHODS = {
    "fare": lambda: fare("8/255"),
    **{f"lore, {dual}": lambda dual=dual: replace(lore("8/255"), anchor=constrained(dual=dual)) for dual in DUALS},
    "lore, exact dual": lambda: replace(lore("8/255"), anchor=constrained(exact_dual=True)),
    "lore, moving reference": lambda: replace(lore("8/255"), anchor=constrained(reference="ema")),
    "lore, augmented": lambda: replace(lore("8/255"), anchor=constrained(augmented=0.5)),
    "lore, table": lambda: replace(lore("8/255"), anchor=constrained(dual="table", dual_control="pi", **GAIN)),
    "lore, pi": lambda: replace(lore("8/255"), anchor=constrained(dual_control="pi", **GAIN)),
    "lore, relative": lambda: replace(lore("8/255"), anchor=constrained(relative=True, augmented=0.5)),
    "lore, patch tokens": lambda: replace(lore("8/255"), tokens="patches", anchor=constrained()),
    "tecoa": lambda: tecoa("8/255"),
    "dpo with kl": lambda: replace(dpo(), anchor=KL),
    "ipo with kl": lambda: replace(ipo(), anchor=KL),
    "kto with kl": lambda: replace(kto(), anchor=KL),
    "ppo with kl": lambda: replace(ppo(), anchor=KL),
    "penalty": lambda: replace(fare("8/255"), anchor=AnchorConfig("penalty", weight=0.3)),
    "lora": lambda: replace(lore("8/255"), anchor=constrained(), adapter=AdapterConfig("lora", rank=2)),
    "linear map": lambda: replace(dpo_linear(), adapter=AdapterConfig("linear", orthogonality=0.3)),
}


@pytest.mark.parametrize("name", METHODS)
def test_slices_add_up_to_the_whole(tiny_run, name):
    """Seven images in slices of three, so that they are uneven; three updates, each at the weights of the last."""
    config = tiny_run(METHODS[name](), batch_size=7, primal_steps=3, grad_clip=0.5, lr=1e-3, wd=0.0)
    whole = taken(config, None, double=True)
    assert len(whole[0][0]) == 7
    for size in (3, 1):
        assert_same(taken(config, size, double=True), whole, EXACT)
    assert_same(taken(config, 7, double=True), whole, 0)


def test_the_comparison_sees_a_share_that_is_wrong(tiny_run, monkeypatch):
    config = tiny_run(replace(lore("8/255"), anchor=constrained()), batch_size=7)
    whole = taken(config, None, double=True)
    real = MicroBatch.num_images.fget
    monkeypatch.setattr(MicroBatch, "num_images", property(lambda self: min(2, real(self))))
    with pytest.raises(AssertionError):
        assert_same(taken(config, 3, double=True), whole, EXACT)


@pytest.mark.parametrize("recipe", [fare, lore])
def test_in_fp32_as_well(tiny_run, recipe):
    """To rounding, where an attack's signs are not in the way."""
    config = tiny_run(recipe("200/255"), batch_size=7)
    config = replace(config, perturbation=replace(config.perturbation, num_steps=0))
    found, wanted = taken(config, 3), taken(config, None)
    assert_same(found[:1], wanted[:1], 3e-6)
    assert_same(found[1:2], wanted[1:2], 1e-5)


def test_with_micro_batches_and_padding(tiny_run):
    """Two micro-batches of four and an image of another process, in slices of three."""
    config = tiny_run(replace(lore("8/255"), anchor=constrained()), batch_size=4, grad_accumulation=2)
    found = [taken(config, size, double=True, padding=True) for size in (None, 3)]
    assert len(found[0][0][0]) == 8
    assert_same(found[1], found[0], EXACT)
    whole = taken(replace(config, batch_size=8, grad_accumulation=1), 5, double=True)
    order = [tensor.sort().values for tensor in whole[0]], whole[1], whole[2]
    assert_same(order, ([tensor.sort().values for tensor in found[0][0]], *found[0][1:]), EXACT)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_attacks_and_updates_see_no_more_images_than_a_slice(tiny_run, precision):
    config = tiny_run(lore("8/255"), batch_size=7, attack_precision=precision, slice_size=2)
    setup = prepare(config)
    state, seen = make_state(setup), {"attack": [], "update": []}
    towers = {"update": state.encoder, "attack": getattr(state.low_precision_copy, "encoder", state.encoder)}
    for tower in {id(tower): tower for tower in towers.values()}.values():
        tower.register_forward_pre_hook(
            lambda module, inputs: seen["update" if module.training else "attack"].append(len(inputs[0]))
        )
    (loaded,) = list(load_steps(setup, 0, 0, 1, SkipLog(setup.images)))[:1]
    train_step(setup.method, state, [make_micro_batch(setup, *loaded[0], None)], config, 0, setup.reference)
    assert seen["attack"] == [3, 3, 4, 4]  # two steps on each half
    assert seen["update"] == [2, 4, 4, 4] * config.primal_steps  # clean and perturbed images go through together


def micro_batch(images=5):
    head = Head(torch.randn(images, 4))
    pair = Preference(torch.arange(images), torch.arange(images) + 1)
    batch = Batch(torch.rand(images, 3, 8, 8), torch.arange(images), torch.arange(images) + 10, pair)
    targets = Targets(torch.randn(images, 4), batch.label_B, head, pair, baseline=torch.tensor(3.0))
    return MicroBatch(batch, targets)


def test_rows_leave_what_all_images_share():
    whole = micro_batch().targets
    parts = [rows_of(whole, slice(0, 1)), rows_of(whole, slice(1, 3)), rows_of(whole, slice(3, 5))]
    assert all(part.head is whole.head and part.baseline is whole.baseline for part in parts)
    assert parts[1].preference.rejected_B.tolist() == [2, 3] and parts[1].label_B.tolist() == [1, 2]
    assert parts[1].reference_BD.untyped_storage().data_ptr() == whole.reference_BD.untyped_storage().data_ptr()
    again = joined(parts)
    assert torch.equal(again.reference_BD, whole.reference_BD) and again.head is whole.head
    assert torch.equal(again.preference.chosen_B, whole.preference.chosen_B)


@pytest.mark.parametrize(
    ("images", "slicing", "counts"),
    [
        (5, Slicing(), [5]),
        (5, Slicing(5), [5]),
        (5, Slicing(2), [1, 2, 2]),
        (9, Slicing(8), [4, 5]),
        (2, Slicing(2, rounds=3), [1, 1, 0]),
        (5, Slicing(2, rounds=3), [1, 2, 2]),
        (1, Slicing(1), [1]),
    ],
)
def test_slices_are_even_and_filled_up_where_all_must_have_equally_many(images, slicing, counts):
    whole = micro_batch(images)
    pairs = sliced_pair((whole, whole.batch), slicing)
    assert [part.num_images for part, _ in pairs] == counts
    for which in (0, 1):
        batches = [hard if which else part.batch for part, hard in pairs]
        counted = [batch.index_B for batch, (part, _) in zip(batches, pairs, strict=True) if not part.is_padding]
        assert torch.equal(torch.cat(counted), torch.arange(images) + 10)
        assert all(len(batch.index_B) == max(1, count) for batch, count in zip(batches, counts, strict=True))


def test_padding_stays_padding():
    slices = sliced(replace(micro_batch(4), is_padding=True), Slicing(2))
    assert [part.num_images for part in slices] == [0, 0]


def test_the_reference_sees_no_more_images_than_a_slice(tiny_run):
    """Whose embeddings are those of the whole batch."""
    config = tiny_run(lore("8/255"), batch_size=7, slice_size=2)
    setup, pixels, seen = prepare(config), torch.rand(7, 3, 32, 32), []
    setup.reference.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    found = make_targets(setup, Batch(pixels, torch.zeros(7, dtype=torch.long), torch.arange(7)), None).reference_BD
    assert seen == [2, 2, 2, 1]
    torch.testing.assert_close(found, embed_in_slices(setup.reference, pixels, replace(config, slice_size=None)))
    assert seen[4:] == [7]
