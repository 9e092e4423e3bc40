"""The dual step in training: tables, proportional-integral control and a falling ρ, resumed to the last bit."""

from dataclasses import replace

import pytest
import torch

from seaanchor.anchors.control import NuPI
from seaanchor.anchors.table import MultiplierTable
from seaanchor.api import train_from_config as train
from seaanchor.config.recipes import dpo_linear, fare, lore, tecoa_kl
from seaanchor.config.schema import AnchorConfig, PerturbationConfig
from seaanchor.config.validation import check
from seaanchor.data.loader import SkipLog
from seaanchor.errors import SeaAnchorError
from seaanchor.training.batches import load_steps, make_micro_batch
from seaanchor.training.dual_step import dual_optimizer
from seaanchor.training.run_folder import RunFolder
from seaanchor.training.setup import prepare
from seaanchor.training.state import make_state
from seaanchor.training.step import train_step
from seaanchor.utils.checkpoint import load_state

TABLE = {"dual": "table", "dual_lr": 2.0, "rho": 1e-4}
PI = {"dual_control": "pi", "dual_proportional": 3.0, "dual_smoothing": 0.2}
FALLING = {"rho_start": 0.01, "rho_steps": 3}
CASES = {
    "table": TABLE,
    "table, pi": TABLE | PI,
    "network, pi": {"dual_lr": 1e-3, "rho": 1e-4} | PI,
    "scalar, pi": {"dual": "scalar", "dual_lr": 1e-2, "rho": 1e-4} | PI,
    "falling rho": {"rho": 1e-4} | FALLING,
    "all": TABLE | PI | FALLING | {"relative": True},
}


def constrained(**settings) -> AnchorConfig:
    return AnchorConfig("lagrangian", dual_hidden=8, **settings)


def states(folder: RunFolder) -> dict:
    return load_state(folder.checkpoints()[-1])


def tensors(value, name="") -> dict[str, torch.Tensor]:
    if isinstance(value, dict):
        return {k: t for key, item in value.items() for k, t in tensors(item, f"{name}/{key}").items()}
    if isinstance(value, list | tuple):
        return tensors(dict(enumerate(value)), name)
    return {name: value} if isinstance(value, torch.Tensor) else {}


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_is_the_run(tiny_run, tmp_path, case):
    """Eight steps at once, and two of them again from the checkpoint of the sixth."""
    config = tiny_run(lore("8/255"), anchor=constrained(**CASES[case]), epochs=2, primal_steps=2)
    train(config)
    folder = RunFolder(config.output)
    whole, rows = tensors(states(folder)), [strip(row) for row in folder.rows()]
    folder.checkpoints()[-1].unlink()
    assert states(folder)["step"] == 6
    train(replace(config, resume="auto"))
    again = tensors(states(folder))
    assert whole.keys() == again.keys() and any("dual" in name for name in whole)
    assert not [name for name in whole if not torch.equal(whole[name], again[name])]
    assert [strip(row) for row in folder.rows()] == rows
    multipliers = {row["multiplier"] for row in rows}
    assert len(multipliers) > 4  # or nothing would have been tested


def strip(row: dict) -> dict:
    return {k: v for k, v in row.items() if k not in ("seconds", "images_per_s", "waiting")}


@pytest.mark.parametrize("change", [{}, {"slice_size": 2}, {"batch_size": 2, "grad_accumulation": 2}, PI])
def test_an_image_outside_the_batch_keeps_its_multiplier(tiny_run, change):
    """And one inside moves by the rate times its own violation, as a share of its margin, whatever is in the batch
    beside it."""
    settings = TABLE | {key: value for key, value in change.items() if key in PI}
    run = {key: value for key, value in change.items() if key not in PI}
    config = tiny_run(lore("8/255"), anchor=constrained(**settings), **({"batch_size": 4} | run))
    setup = prepare(config)
    state = make_state(setup)
    table, before = state.dual, torch.ones(12)
    assert isinstance(table, MultiplierTable) and state.dual_optimizer is None
    for step, loaded in enumerate(load_steps(setup, 0, 0, 1, SkipLog(setup.images))):
        micro_batches = [make_micro_batch(setup, batch, is_padding, None) for batch, is_padding in loaded]
        record = train_step(setup.method, state, micro_batches, setup.config, step, setup.reference)
        index_B = torch.cat([m.batch.index_B for m in micro_batches])
        margin_B = record.constraint.bound_B / config.anchor.rho
        gain = 1 + 3 * (1 - 0.2) if change == PI else 1  # at an image's first visit
        expected_B = before[index_B] + 2.0 * gain * record.constraint.violation_B / margin_B
        after = table.multiplier_N.detach().clone()
        assert torch.allclose(after[index_B], expected_B.clamp(min=0), rtol=1e-4)
        outside = torch.ones(12, dtype=torch.bool).index_fill(0, index_B, False)
        assert outside.sum() == 8 and torch.equal(after[outside], before[outside])
        assert step == 0 or not torch.equal(after[index_B], before[index_B])  # at the start there is no distance yet
        before = after
    assert step == 2


def test_padding_says_nothing_to_a_table(tiny_run):
    setup = prepare(tiny_run(lore("8/255"), anchor=constrained(**TABLE)))
    state = make_state(setup)
    first, second = [loaded[0][0] for loaded in list(load_steps(setup, 0, 0, 1, SkipLog(setup.images)))[:2]]
    micro_batches = [make_micro_batch(setup, first, False, None), make_micro_batch(setup, second, True, None)]
    train_step(setup.method, state, micro_batches, setup.config, 0, setup.reference)
    moved = state.dual.multiplier_N.detach() != 1
    assert moved[first.index_B].all() and moved.sum() == len(first.index_B)


def test_a_table_of_distributions_and_of_stored_embeddings(tiny_run):
    """A KL has no unit of the tower and is taken as it is; a linear map's rows have numbers too."""
    words = PerturbationConfig("typographic", variants=1, sizes=(0.25, 0.4))
    held = constrained(space="distribution", **TABLE)
    for recipe, changes in ((tecoa_kl("8/255"), {}), (dpo_linear(), {"perturbation": words})):
        config = tiny_run(replace(recipe, anchor=held), average="none", **changes)
        config = replace(config, output=config.output.with_name(config.adapter.kind))
        train(config)
        table = states(RunFolder(config.output))["dual"]["multiplier_N"]
        assert len(table) == 12 and (table != 1).any()


def test_the_log_holds_the_rho_of_its_step(tiny_run):
    config = tiny_run(lore("8/255"), anchor=constrained(rho=0.1, rho_start=0.4, rho_steps=2), epochs=1)
    train(config)
    assert [row["rho"] for row in RunFolder(config.output).rows()] == pytest.approx([0.4, 0.2, 0.1, 0.1], rel=1e-12)


def test_the_step_is_held_to_the_rho_of_its_number(tiny_run):
    setup = prepare(tiny_run(lore("8/255"), anchor=constrained(rho=0.1, rho_start=0.4, rho_steps=2)))
    state, bounds = make_state(setup), []
    for step, ((batch, _),) in enumerate(load_steps(setup, 0, 0, 1, SkipLog(setup.images))):
        micro_batch = make_micro_batch(setup, batch, False, None)
        record = train_step(setup.method, state, [micro_batch], setup.config, step, setup.reference)
        length_B = micro_batch.targets.reference_BD.square().sum(-1)
        bounds.append((record.constraint.bound_B / length_B).mean().item())
    assert bounds == pytest.approx([0.4, 0.2, 0.1, 0.1], rel=1e-5)


@pytest.mark.parametrize("kind", ["ema", "tail", "beta"])
def test_a_constrained_run_exports_its_average_beside_the_last_weights(tiny_run, kind):
    config = tiny_run(lore("8/255"), average=kind, ema_decay=0.5, tail_share=0.5, anchor=constrained(**TABLE))
    train(config)
    files = [config.output / name / "open_clip_model.safetensors" for name in ("export", "export-averaged")]
    assert all(file.is_file() for file in files) and files[0].read_bytes() != files[1].read_bytes()


def test_what_takes_the_dual_step(tiny_run):
    dual, cpu = torch.nn.Linear(2, 1), torch.device("cpu")
    assert isinstance(dual_optimizer(dual, AnchorConfig(), cpu), torch.optim.AdamW)
    found = dual_optimizer(dual, AnchorConfig(dual_lr=0.1, **PI), cpu)
    assert isinstance(found, NuPI) and found.defaults == {"lr": 0.1, "proportional": 3.0, "smoothing": 0.2}
    assert dual_optimizer(MultiplierTable(3), AnchorConfig(**PI), cpu) is None
    assert dual_optimizer(None, AnchorConfig(), cpu) is None


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            replace(fare(), anchor=AnchorConfig("penalty", rho_start=0.2, rho_steps=5)),
            "with anchor penalty, which has no",
        ),
        (replace(fare(), anchor=AnchorConfig("penalty", relative=True)), "with anchor penalty, which has no"),
        (replace(tecoa_kl(), objective=replace(tecoa_kl().objective, relative=True)), r"objective\.relative with"),
        (lore(rho_start=0.01, rho_steps=5), r"rho_start 0\.01, which falls to"),
        (lore(dual_control="pi", dual_smoothing=1.0), r"dual_smoothing is 1\.0"),
        (lore(dual_control="pi", dual_proportional=-1.0), r"dual_proportional is -1\.0"),
        (lore(rho_start=-1.0, rho_steps=5), r"rho_start is -1\.0"),
        (replace(lore(), average="tail", tail_share=0.0), r"tail_share is 0\.0"),
    ],
)
def test_settings_without_effect_or_sense_are_refused(recipe, message):
    with pytest.raises(SeaAnchorError, match=message):
        check(recipe)


def test_legal_settings_are_let_through():
    for settings in CASES.values():
        check(lore(**settings))
    check(
        replace(lore(relative=True), objective=replace(lore().objective, relative=True), average="tail", tail_share=1.0)
    )
