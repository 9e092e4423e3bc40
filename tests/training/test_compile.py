"""Towers through torch.compile: the same steps, few compilations, and one error where torch cannot compile."""

import copy
import json
import os
import pickle
import subprocess
import sys
import sysconfig
import time
from dataclasses import replace

import pytest
import torch

from seaanchor.config.recipes import dpo, fare, lore
from seaanchor.config.schema import AdapterConfig, RunConfig, from_dict, to_dict
from seaanchor.config.validation import check, differences
from seaanchor.distributed.process_group import ONE_PROCESS
from seaanchor.encoders.kernels import CompiledForward, check_compiler, compiling_pays, fast_kernels, num_tokens
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.profiling import dry_run
from seaanchor.profiling.op_counter import OperationCounter
from seaanchor.training.batches import MicroBatch, make_targets
from seaanchor.training.run import train
from seaanchor.training.run_folder import RunFolder
from seaanchor.training.setup import prepare
from seaanchor.training.state import make_state
from seaanchor.training.step import train_step
from seaanchor.types import Batch

CPU = torch.device("cpu")


class Counting:
    """A backend that runs what torch found as it is, or differentiated ahead of time, and counts what it was given."""

    def __init__(self, ahead=False):
        self.count, self.ahead = 0, ahead

    def __call__(self, graph, inputs):
        self.count += 1
        if not self.ahead:
            return graph.forward
        from torch._dynamo.backends.debugging import aot_eager

        return aot_eager(graph, inputs)


@pytest.fixture
def smooth(tiny_run):
    """Runs whose attack follows the gradient itself and not its signs, which the last digit can turn."""

    def make(recipe, **changes):
        config = tiny_run(recipe, batch_size=6, **changes)
        return replace(config, perturbation=replace(config.perturbation, norm="l2", epsilon="0.5"))

    return make


def prepared(config, backend=None):
    setup = prepare(config)
    state = make_state(setup)
    return setup, state if backend is None else replace(state, compiled=CompiledForward(backend))


def step(setup, state, size, number=0):
    pixels = torch.rand(size, 3, 32, 32, generator=torch.Generator().manual_seed(number))
    batch = Batch(pixels, torch.arange(size) % 3, torch.arange(size))
    parts = [MicroBatch(batch, make_targets(setup, batch, None))]
    return train_step(setup.method, state, parts, setup.config, number, setup.reference)


def losses(config, backend, sizes=(6, 6, 4)):
    setup, state = prepared(config, backend)
    records = [step(setup, state, size, number) for number, size in enumerate(sizes)]
    assert not any("forward" in vars(layer) for layer in setup.policy.modules())
    return torch.cat([record.objective_B for record in records]), state


@pytest.mark.parametrize("recipe", [pytest.param(fare, marks=pytest.mark.exhaustive), lore])
def test_losses_are_those_of_the_plain_run(smooth, recipe):
    config, backend = smooth(recipe()), Counting(ahead=True)
    wanted, plain = losses(config, None)
    got, state = losses(config, backend)
    assert backend.count >= 2
    assert torch.allclose(got, wanted, rtol=5e-4)
    assert list(state.policy.state_dict()) == list(plain.policy.state_dict())


@pytest.mark.exhaustive
def test_bf16_goes_through_it(smooth):
    change = {"precision": "bf16", "attack_precision": "bf16"}
    config, backend = smooth(fare(), **change), Counting(ahead=True)
    wanted, _ = losses(config, None)
    got, _ = losses(config, backend)
    assert backend.count >= 2
    assert abs(got.mean() / wanted.mean() - 1) < 0.05


@pytest.mark.parametrize("slice_size", [pytest.param(None, marks=pytest.mark.exhaustive), 4])
def test_batches_and_slices_of_any_size_take_few_compilations(smooth, slice_size):
    """Attack and updates: one size, all sizes, and one image. Evaluations between steps take none."""
    backend, sizes = Counting(), (6, 5, 1, 3, 6, 2, 7, 4, 9)
    setup, state = prepared(smooth(fare(), slice_size=slice_size), backend)
    for number, size in enumerate(sizes[:4]):
        step(setup, state, size, number)
    compiled = backend.count
    assert 2 <= compiled <= 6
    for number, size in enumerate(sizes):
        step(setup, state, size, number)
        setup.policy(torch.rand(size + 3, 3, 32, 32))
    assert backend.count == compiled


def test_runs_in_one_process_do_not_use_up_each_others_compilations(smooth):
    """torch gives a function up after eight, with nothing but a warning."""
    for _ in range(9):
        backend = Counting()
        module = torch.nn.Linear(2, 2)
        forward = CompiledForward(backend)
        with forward.inside(module):
            module(torch.ones(3, 2))
        assert backend.count == 1


def test_operations_are_counted_on_the_plain_tower(smooth):
    """Also where it has been compiled before: what torch's compiler makes of products no counter sees."""
    config, ran = smooth(fare()), []

    def backend(graph, inputs):
        return lambda *given: ran.append(1) or graph.forward(*given)

    def counted(state):
        with OperationCounter() as counter:
            step(setup, state, 2)
        return counter.flops

    setup, state = prepared(config)
    wanted = counted(state)
    setup, state = prepared(config, backend)
    step(setup, state, 2)
    before = len(ran)
    assert counted(state) == wanted and len(ran) == before > 0


@pytest.mark.exhaustive
def test_a_dry_run_leaves_compilation_out_of_the_time(smooth, monkeypatch):
    passed = [0.0]
    now = time.monotonic
    monkeypatch.setattr(dry_run.time, "monotonic", lambda: now() + passed[0])

    def slow(graph, inputs):
        passed[0] += 1e6
        return graph.forward

    setup, state = prepared(replace(smooth(fare()), compile=True), slow)
    seen = dry_run.rehearse(setup, state, ONE_PROCESS)
    assert passed[0] >= 2e6 and seen.batch_seconds < 1e5 and seen.passes > 0


def test_updates_from_a_frozen_prefix_look_it_up(smooth):
    """What answers from memory is not compiled; the attack is."""
    config, backend = smooth(lore(), adapter=AdapterConfig(last_blocks=1), primal_steps=3), Counting()
    wanted, _ = losses(config, None, (6, 6))
    got, state = losses(config, backend, (6, 6))
    assert state.prefix is not None and backend.count == 1
    assert torch.allclose(got, wanted, rtol=5e-4)


@pytest.mark.exhaustive
def test_copies_made_meanwhile_have_their_own_weights(clip_folder):
    encoder, backend, pixels = load_model(str(clip_folder)).encoder, Counting(), torch.rand(2, 3, 32, 32)
    keys = list(encoder.state_dict())
    with CompiledForward(backend).inside(encoder):
        with torch.no_grad():
            encoder(pixels)
        assert backend.count == 0  # without a gradient
        before = encoder(pixels)
        assert backend.count == 1
        other = copy.deepcopy(encoder)
        with torch.no_grad():
            other.tower.proj.zero_()
        assert other(pixels).abs().max() == 0 < before.abs().max()
        assert list(encoder.state_dict()) == list(other.state_dict()) == keys
    assert torch.allclose(pickle.loads(pickle.dumps(encoder))(pixels), before, rtol=1e-4)


def test_towers_of_convolutions_are_left_alone_on_a_processor(smooth):
    setup = prepare(smooth(fare()))
    compiled = replace(setup, config=replace(setup.config, compile=True))
    assert make_state(setup).compiled is None
    assert make_state(compiled).compiled is not None
    convolutions = prepare(replace(smooth(fare()), model="seaanchor-tiny", compile=True))
    assert make_state(convolutions).compiled is None
    assert compiling_pays(convolutions.policy, torch.device("cuda"))


@pytest.mark.parametrize("library", ["timm", "hf"])
def test_vision_transformers_of_other_libraries_are_one_graph(hf_folder, library):
    """Under attack, with the class token alone in the last block."""
    name, weights = {"timm": ("timm:vit_tiny_patch16_224", "none"), "hf": (f"hf:{hf_folder}", None)}[library]
    encoder = load_model(name, weights, 32).encoder.requires_grad_(False)
    backend, grads = Counting(), []
    pixels = torch.rand(2, 3, encoder.image_size, encoder.image_size, generator=torch.Generator().manual_seed(0))
    for compiled in (None, CompiledForward(backend)):
        with fast_kernels(encoder, torch.float32, num_tokens(encoder), compiled):
            leaf = pixels.clone().requires_grad_()
            grads += torch.autograd.grad(encoder(leaf).square().sum(), leaf)
    assert backend.count == 1
    assert torch.allclose(*grads, rtol=1e-4, atol=1e-6 * float(grads[0].abs().max()))


def test_combinations_that_are_refused(smooth):
    compiled = check(replace(smooth(fare()), compile=True))
    for setting in ("shard", "checkpoint_activations"):
        with pytest.raises(SeaAnchorError, match=f"compile with {setting}"):
            check(replace(compiled, **{setting: True}))
    linear = replace(dpo(), adapter=AdapterConfig("linear"))
    linear = replace(linear, perturbation=replace(linear.perturbation, variants=1))
    with pytest.raises(SeaAnchorError, match="compiles the tower"):
        check(replace(check(linear), compile=True))
    setup = prepare(smooth(fare(), adapter=AdapterConfig(kind="lora", rank=2)))
    with pytest.raises(SeaAnchorError, match="low-rank"):
        make_state(replace(setup, config=replace(setup.config, compile=True)))


def test_old_settings_are_read_and_it_may_change_when_resuming():
    old = to_dict(RunConfig())
    del old["compile"]
    assert from_dict(RunConfig, old) == RunConfig()
    assert not differences(to_dict(RunConfig()), to_dict(RunConfig(compile=True)))


def test_what_torch_cannot_compile_is_one_error():
    def refusing(graph, inputs):
        raise NotImplementedError("no such kernel")

    module = torch.nn.Linear(2, 2)
    with CompiledForward(refusing).inside(module), pytest.raises(SeaAnchorError, match="no such kernel") as error:
        module(torch.ones(3, 2))
    assert "leave --compile out" in error.value.change


@pytest.mark.exhaustive
def test_without_a_compiler_there_is_one_error_before_the_run(smooth, tmp_path):
    """As a user meets it: no compiler on the path, and CXX points nowhere."""
    import yaml

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(to_dict(smooth(fare()))))
    command = [sys.executable, "-m", "seaanchor.cli", "train", str(recipe), "--compile"]
    environment = os.environ | {"PATH": str(tmp_path), "CXX": str(tmp_path / "no-compiler")}
    for extra in ([], ["--dry-run"]):
        ended = subprocess.run([*command, *extra], env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode != 0 and "Traceback" not in ended.stderr
        assert "no working C++ compiler was found" in ended.stderr and "leave --compile out" in ended.stderr
    assert not (tmp_path / "run").exists()


def test_without_headers_or_triton_there_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", lambda: "g++")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(SeaAnchorError, match=r"no Python\.h"):
        check_compiler(CPU)
    (tmp_path / "Python.h").touch()
    check_compiler(CPU)
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: False)
    with pytest.raises(SeaAnchorError, match="no Triton"):
        check_compiler(torch.device("cuda"))


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_compiled_run_is_the_plain_one(smooth, tmp_path, monkeypatch):
    """With torch's own compiler: losses, keys of checkpoints and exports, and what loads them."""
    try:
        check_compiler(CPU)
    except SeaAnchorError as error:
        pytest.skip(f"no compiler here: {error.found}")
    monkeypatch.setattr("torch._inductor.config.cpp.simdlen", 0)  # scalar code takes half as long to compile
    monkeypatch.setattr("torch._inductor.config.cpp.vec_isa_ok", True)
    config = smooth(fare(), max_steps=2)
    plain = train(replace(config, output=tmp_path / "plain"))
    compiled = train(replace(config, output=tmp_path / "compiled", compile=True))
    logs = [(run / "metrics.jsonl").read_text().splitlines() for run in (plain, compiled)]
    assert len(logs[0]) == len(logs[1]) == 2
    for wanted, got in zip(*([json.loads(line) for line in log] for log in logs), strict=True):
        assert got["adversarial_loss"] == pytest.approx(wanted["adversarial_loss"], rel=2e-5)
    towers = [load_model(str(run / "export")).encoder for run in (plain, compiled)]
    assert list(towers[0].state_dict()) == list(towers[1].state_dict())
    policies = [RunFolder(run).load(2)["policy"] for run in (plain, compiled)]
    assert list(policies[0]) == list(policies[1]) == list(towers[0].state_dict())
