"""Training end to end on a tiny CLIP: what a run leaves, and that it survives everything a machine does to it."""

import errno
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from safetensors.torch import load_file

import seaanchor.training.loop as loop
import seaanchor.training.setup
from seaanchor.api import train_from_config as train
from seaanchor.config.recipes import dpo, dpo_linear, dpo_lore, fare, kto, lore, tecoa_kl
from seaanchor.config.schema import AdapterConfig, AnchorConfig, PerturbationConfig, RunConfig, to_dict
from seaanchor.data.loader import SkipLog
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.report.runs import read_run
from seaanchor.training.batches import load_batches
from seaanchor.training.loggers import flatten
from seaanchor.training.run_folder import RunFolder, steps_and_images
from seaanchor.training.setup import prepare
from seaanchor.utils.checkpoint import load_state

TIMINGS = {"images_per_s", "seconds", "waiting"}


def final(config: RunConfig) -> dict:
    """What a run ended with: state, log without timings, exported weights."""
    folder = RunFolder(config.output)
    rows = [{k: v for k, v in row.items() if k not in TIMINGS} for row in folder.rows()]
    return {
        "state": load_state(folder.checkpoints()[-1]),
        "rows": rows,
        "export": load_file(folder.export / "open_clip_model.safetensors"),
    }


def assert_same(a, b, path: str = "") -> None:
    """Equal to the last bit."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}[{i}]")
    else:
        assert a == b, path


def at_step(monkeypatch, number: int, act):
    """Call `act(state)` right after the given step, counted from 1 over all runs of the test."""
    original, count = loop.train_step, [0]

    def step(method, state, *args):
        record = original(method, state, *args)
        count[0] += 1
        if count[0] == number:
            act(state)
        return record

    monkeypatch.setattr(loop, "train_step", step)


def killed(state) -> None:
    raise InterruptedError("the machine died")


# --- what a run leaves


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_run_folder(tiny_run, precision):
    config = tiny_run(lore(), precision=precision)
    assert train(config) == config.output
    assert {p.name for p in config.output.iterdir()} == {
        "config.yaml",
        "env.json",
        "metrics.jsonl",
        "checkpoints",
        "export",
    }
    assert yaml.safe_load((config.output / "config.yaml").read_text()) == to_dict(config) | {"output": "./"}
    rows = [json.loads(line) for line in (config.output / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    wanted = (
        "lr adversarial_loss clean_distance cosine spread rho violation_rate multiplier multiplier_p10 "
        "multiplier_p50 multiplier_p90 images_per_s seconds waiting images_seen"
    )
    for row in rows:
        assert row.keys() == {"step", *wanted.split()} and all(math.isfinite(v) for v in row.values())
        assert row["multiplier_p10"] <= row["multiplier_p50"] <= row["multiplier_p90"]
    assert [row["lr"] for row in rows] == pytest.approx([1e-3 * (1 + math.cos(math.pi * i / 4)) / 2 for i in range(4)])
    import open_clip

    state, exported = (
        load_state(RunFolder(config.output).checkpoints()[-1]),
        open_clip.create_model(f"local-dir:{config.output / 'export'}"),
    )
    assert state["step"] == 4
    for key, value in exported.visual.state_dict().items():
        assert torch.equal(value, state["policy"][f"tower.{key}"])


def test_logged_numbers_are_those_of_the_model(tiny_run):
    """Recomputed from checkpoint, images and reference alone."""
    config = tiny_run(lore(), batch_size=12, epochs=3, save_every=1, anchor=AnchorConfig("lagrangian", rho=0.005))
    train(config)
    setup = prepare(config)
    images = next(load_batches(setup, 0, 0, 1, SkipLog(setup.images))).pixels_BCHW
    row, state = RunFolder(config.output).rows()[-1], load_state(RunFolder(config.output).checkpoints()[-1])
    reference = setup.reference(images)
    setup.model.encoder.load_state_dict(state["policy"])
    with torch.no_grad():
        now = setup.model.encoder(images)
    assert row["clean_distance"] == pytest.approx(
        ((now - reference).norm(dim=1) / reference.norm(dim=1)).square().mean().item(), rel=1e-4
    )
    assert row["cosine"] == pytest.approx(
        ((now * reference).sum(1) / now.norm(dim=1) / reference.norm(dim=1)).mean().item(), rel=1e-4
    )
    assert row["violation_rate"] * 12 == pytest.approx(round(row["violation_rate"] * 12)) and row["rho"] == 0.005


def test_evaluation_while_training(tiny_run, image_folder):
    config = tiny_run(fare(), val_data=(str(image_folder),), eval_every=2, eval_samples=6)
    train(config)
    rows = RunFolder(config.output).rows()
    evaluated = {row["step"]: row["eval"][str(image_folder)] for row in rows if "eval" in row}
    assert list(evaluated) == [0, 2, 4]  # and the model as it was before training
    assert all(e["n"] == 6 and 0 <= e["pgd"] <= e["clean"] <= 1 for e in evaluated.values())
    plain = replace(config, eval_every=None, val_data=(), output=config.output.with_name("plain"))
    train(plain)
    assert_same(final(config)["state"], final(plain)["state"])  # looking changes nothing


def test_evaluation_that_cannot_work_fails_before_the_first_batch(tiny_run, tmp_path, monkeypatch):
    at_step(monkeypatch, 1, killed)
    (tmp_path / "val").mkdir()
    with pytest.raises(SeaAnchorError):
        train(tiny_run(fare(), val_data=(str(tmp_path / "val"),), eval_every=100))


def test_two_runs_of_one_process_may_differ_in_precision(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr("seaanchor.training.precision.computes_in_bf16", lambda device: True)
    configs = [tiny_run(fare(), precision=p) for p in ("fp32", "bf16", "fp32")]
    configs = [replace(config, output=tmp_path / str(i)) for i, config in enumerate(configs)]
    for config in configs:
        train(config)
    first, low, again = (final(config) for config in configs)
    assert_same(first, again)
    assert not torch.equal(first["state"]["policy"]["tower.proj"], low["state"]["policy"]["tower.proj"])


def test_a_run_says_that_it_takes_fp32_for_bf16(tiny_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("seaanchor.training.precision.computes_in_bf16", lambda device: False)
    settings = {"fp32": {}, "updates": {"precision": "bf16"}, "attacks": {"attack_precision": "bf16"}}
    configs = [replace(tiny_run(fare(), **changed), output=tmp_path / name) for name, changed in settings.items()]
    said = []
    for config in configs:
        train(config)
        said.append(capsys.readouterr().out)
    first, *others = ({"policy": final(config)["state"]["policy"]} for config in configs)
    for other in others:
        assert_same(first, other)
    assert "no arithmetic" not in said[0]
    assert "no fast arithmetic in bf16 here: updates run" in said[1] and "bf16 here: attacks run" in said[2]
    for config in configs:
        computed = json.loads((config.output / "env.json").read_text())["computed"]
        assert computed == {"device": "cpu", "updates": "fp32", "attacks": "fp32"}
        assert read_run(config.output).computed == "updates in fp32, attacks in fp32, on cpu"


def test_settings_of_accelerate_in_the_environment_change_nothing(tiny_run, tmp_path, monkeypatch):
    """Other tools leave them there; the precision, for one, would change every gradient."""
    plain = replace(tiny_run(lore()), output=tmp_path / "plain")
    train(plain)
    for name, value in {
        "MIXED_PRECISION": "bf16",
        "GRADIENT_ACCUMULATION_STEPS": "4",
        "USE_FSDP": "true",
        "USE_DEEPSPEED": "true",
        "TORCH_DEVICE": "meta",
        "DYNAMO_BACKEND": "INDUCTOR",
    }.items():
        monkeypatch.setenv(f"ACCELERATE_{name}", value)
    other = replace(plain, output=tmp_path / "other")
    train(other)
    assert_same(final(plain), final(other))


def test_the_encoder_is_in_train_mode_whatever_happens_in_between(tiny_run, image_folder, monkeypatch):
    """After logging, evaluating and saving too, so that dropout and the like stay on."""
    modes = []
    original = loop.train_step
    monkeypatch.setattr(
        loop,
        "train_step",
        lambda method, state, *args: modes.append(state.policy.training) or original(method, state, *args),
    )
    train(tiny_run(fare(), save_every=1, eval_every=1, eval_samples=3, val_data=(str(image_folder),)))
    assert modes == [True] * 4


def test_random_layers_do_not_keep_a_run_from_going_on_to_the_same_bits(tiny_run, tmp_path, monkeypatch, clip_folder):
    """Patches dropped at random, in a run logged at other times than the one it is compared with."""
    shutil.copytree(clip_folder, tmp_path / "model")
    file = tmp_path / "model" / "open_clip_config.json"
    settings = json.loads(file.read_text())
    settings["model_cfg"]["vision_cfg"]["patch_dropout"] = 0.5
    file.write_text(json.dumps(settings))
    whole = replace(tiny_run(fare(), epochs=2), model=str(tmp_path / "model"), resume="auto")
    train(whole)
    broken = replace(whole, output=tmp_path / "broken", log_every=3)
    with monkeypatch.context() as patch:
        at_step(patch, 5, killed)
        with pytest.raises(InterruptedError):
            train(broken)
    train(broken)
    assert_same(final(whole)["state"], final(broken)["state"])
    plain = replace(whole, model=str(clip_folder), output=tmp_path / "plain")
    train(plain)
    assert not torch.equal(
        final(whole)["state"]["policy"]["tower.proj"], final(plain)["state"]["policy"]["tower.proj"]
    )  # some were dropped


def test_what_may_change_on_resuming_changes_nothing(tiny_run, tmp_path):
    plain, other = tiny_run(lore(), epochs=2), tiny_run(lore(), epochs=2, log_every=3, save_every=100, workers=1)
    other = replace(other, output=tmp_path / "other")
    train(plain)
    train(other)
    assert_same(final(plain)["state"], final(other)["state"])


# --- interrupted runs


@pytest.mark.parametrize("recipe", [fare(), lore(), tecoa_kl()], ids=["fare", "lore", "tecoa-kl"])
@pytest.mark.parametrize("epochs", [pytest.param(1, marks=pytest.mark.exhaustive), 2])
def test_a_killed_run_goes_on_to_the_same_bits(tiny_run, tmp_path, monkeypatch, recipe, epochs):
    whole = tiny_run(recipe, epochs=epochs)
    train(whole)
    broken = replace(whole, output=tmp_path / "broken", resume="auto")
    with monkeypatch.context() as patch:
        at_step(patch, 4 * epochs - 1, killed)  # between two checkpoints
        with pytest.raises(InterruptedError):
            train(broken)
    train(broken)
    assert_same(final(whole), final(broken))
    train(broken)  # a finished run is exported again and otherwise left alone
    assert_same(final(whole), final(broken))


@pytest.mark.parametrize(
    ("recipe", "adapter"),
    [
        pytest.param(dpo(), "full", marks=pytest.mark.exhaustive),
        (dpo(), "lora"),
        (kto(), "full"),
        pytest.param(dpo_lore(), "full", marks=pytest.mark.exhaustive),
        (dpo_lore(), "linear"),
        (dpo_linear(), "linear"),
    ],
    ids=["dpo", "dpo-lora", "kto", "dpo-lore", "dpo-lore-linear", "dpo-linear"],
)
def test_preference_runs_go_on_to_the_same_bits(tiny_run, tmp_path, monkeypatch, recipe, adapter):
    """With Adamax, averaged weights, drawn words, low-rank updates and stored embeddings."""
    if adapter == "linear" and recipe.anchor.kind == "lagrangian":
        recipe = replace(recipe, anchor=replace(recipe.anchor, space="distribution"))
    recipe = replace(
        recipe, adapter=AdapterConfig(adapter), perturbation=replace(recipe.perturbation, variants=2), average="beta"
    )
    whole = tiny_run(recipe, epochs=2, perturbation=recipe.perturbation)
    train(whole)
    broken = replace(whole, output=tmp_path / "broken", resume="auto")
    with monkeypatch.context() as patch:
        at_step(patch, 7, killed)
        with pytest.raises(InterruptedError):
            train(broken)
    train(broken)
    assert_same(final(whole), final(broken))
    assert final(whole)["state"]["average"]["index"] == 8  # every batch went into it
    average, last = (
        load_file(whole.output / name / "open_clip_model.safetensors") for name in ("export-averaged", "export")
    )
    assert any(not torch.equal(average[key], last[key]) for key in last)


def start(config: RunConfig, path: Path, **kwargs) -> subprocess.Popen:
    path.write_text(yaml.safe_dump(to_dict(config)))
    code = (
        "import sys, torch; torch.set_num_threads(1); from pathlib import Path; from seaanchor.config.schema "
        "import RunConfig, from_dict, read_yaml\n"
        "from seaanchor.api import train_from_config; train_from_config(from_dict(RunConfig, "
        "read_yaml(Path(sys.argv[1]))))"
    )
    (path.with_suffix(".py")).write_text(code)
    return subprocess.Popen([sys.executable, str(path.with_suffix(".py")), str(path)], **kwargs)


def test_sigkill_at_a_random_moment(tiny_run, tmp_path):
    whole = tiny_run(lore(), epochs=12, save_every=3, primal_steps=2)
    train(whole)
    broken = replace(whole, output=tmp_path / "broken", resume="auto")
    metrics, moment = broken.output / "metrics.jsonl", random.Random(os.getpid()).uniform(0, 0.3)
    process = start(broken, tmp_path / "recipe.yaml", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (metrics.exists() and metrics.stat().st_size > 0):
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(moment)
    process.kill()
    process.wait()
    train(broken)
    assert_same(final(whole), final(broken))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_and_says_how_to_go_on(tiny_run, tmp_path, monkeypatch, capsys, signum):
    whole = tiny_run(lore())
    train(whole)
    broken = replace(whole, output=tmp_path / "broken", save_every=100)
    with monkeypatch.context() as patch:
        at_step(patch, 3, lambda state: os.kill(os.getpid(), signum))
        with pytest.raises(
            SeaAnchorError, match=r"stopped at step 3 of 4[\s\S]*in .*broken; .* same command with --resume auto"
        ):
            train(broken)
    assert capsys.readouterr().out.count("stopping after this step") == 1
    assert load_state(RunFolder(broken.output).checkpoints()[-1])["step"] == 3
    assert not (broken.output / "export").exists()
    train(replace(broken, resume="auto"))
    assert_same(final(whole), final(broken))


def test_a_scheduler_and_a_launcher_may_both_send_sigterm(tiny_run, monkeypatch):
    def twice(state):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    at_step(monkeypatch, 2, twice)
    with pytest.raises(SeaAnchorError, match="stopped at step 2 of 4"):
        train(tiny_run(fare()))


def test_a_second_interrupt_stops_at_once(tiny_run, monkeypatch):
    def twice(state):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    at_step(monkeypatch, 2, twice)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_run(fare()))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_ctrl_c_reaches_loading_processes_too_and_they_leave_it_to_the_trainer(tiny_run, monkeypatch, capfd):
    """A terminal sends SIGINT to all of them."""
    import psutil

    def interrupt(state):
        for process in (*psutil.Process().children(recursive=True), psutil.Process()):
            process.send_signal(signal.SIGINT)
        time.sleep(0.1)

    at_step(monkeypatch, 2, interrupt)
    with pytest.raises(SeaAnchorError, match="stopped at step 2 of 4"):
        train(tiny_run(fare(), workers=1))
    output = capfd.readouterr()
    assert output.out.count("stopping after this step") == 1 and "Traceback" not in output.err


def test_trains_outside_the_main_thread(tiny_run):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(train, tiny_run(fare())).result().exists()


def test_a_torn_checkpoint_is_passed_over(tiny_run, tmp_path, monkeypatch):
    whole = tiny_run(lore(), epochs=2)
    train(whole)
    broken = replace(whole, output=tmp_path / "broken", resume="auto")
    with monkeypatch.context() as patch:
        at_step(patch, 5, killed)
        with pytest.raises(InterruptedError):
            train(broken)
    newest = RunFolder(broken.output).checkpoints()[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    train(broken)
    assert_same(final(whole), final(broken))


def test_a_full_disk_keeps_the_last_checkpoint(tiny_run, tmp_path, monkeypatch):
    whole = tiny_run(lore())
    train(whole)
    broken = replace(whole, output=tmp_path / "broken", resume="auto")

    def fill_disk(state):
        def full(*args):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(os, "fsync", full)

    with monkeypatch.context() as patch:
        at_step(patch, 3, fill_disk)
        with pytest.raises(SeaAnchorError, match="No space left on device"):
            train(broken)
    assert [p.name for p in (broken.output / "checkpoints").iterdir()] == ["step-00000002.safetensors"]
    train(broken)
    assert_same(final(whole), final(broken))


# --- numbers that are none


def sound(folder: RunFolder) -> list[int]:
    """Steps of the checkpoints, each of which must be finite."""
    states = [load_state(path) for path in folder.checkpoints()]
    for state in states:
        assert all(v.isfinite().all() for v in state["policy"].values())
    return [state["step"] for state in states]


@pytest.mark.parametrize("save_every", [1, 2, 3])
def test_weights_poisoned_by_a_step_are_not_saved(tiny_run, monkeypatch, save_every):
    """The loss of step 3 is finite, its update is not, and a checkpoint is due at step 3."""

    def poison(state):
        with torch.no_grad():
            state.policy.tower.proj.view(-1)[0] = float("nan")

    at_step(monkeypatch, 3, poison)
    config = tiny_run(fare(), save_every=save_every, log_every=100)
    with pytest.raises(SeaAnchorError, match=r"not finite at step [34]") as error:
        train(config)
    steps = sound(RunFolder(config.output))
    assert steps == {1: [1, 2], 2: [2], 3: []}[save_every]
    assert ("step-00000002" if steps else "no checkpoint was due yet") in str(error.value)
    assert not (config.output / "export").exists()


@pytest.mark.parametrize("what", ["optimizer", "dual", "dual_optimizer"])
def test_other_poison_is_not_saved_either(tiny_run, monkeypatch, what):
    def poison(state):
        tensor = (
            state.dual.weight.data if what == "dual" else next(iter(getattr(state, what).state.values()))["exp_avg"]
        )
        tensor.view(-1)[0] = float("inf")

    at_step(monkeypatch, 2, poison)
    config = tiny_run(lore())
    with pytest.raises(SeaAnchorError, match="not finite at step 2"):
        train(config)
    assert sound(RunFolder(config.output)) == []


def test_a_learning_rate_far_too_large(tiny_run):
    config = tiny_run(fare(), lr=1e30, save_every=1, epochs=5)
    with pytest.raises(SeaAnchorError, match=r"not finite[\s\S]*lower --lr"):
        train(config)
    assert sound(RunFolder(config.output)) == []
    assert all(math.isfinite(v) for row in RunFolder(config.output).rows() for v in row.values())


# --- runs that are not the same


def test_an_output_in_use_is_refused_before_the_model_loads(tiny_run, monkeypatch):
    config = tiny_run(fare())
    train(config)
    monkeypatch.setattr(seaanchor.training.setup, "load_model", lambda *args: pytest.fail("the model was loaded"))
    with pytest.raises(SeaAnchorError, match="already holds a run"):
        train(config)
    with pytest.raises(SeaAnchorError, match=r"seed: 0 → 1"):
        train(replace(config, seed=1, resume="auto"))


def test_other_weights_or_images_under_the_same_names_are_noticed(tiny_run, tmp_path, clip_folder, image_folder):
    folder = tmp_path / "model"
    shutil.copytree(clip_folder, folder)
    config = replace(tiny_run(fare()), model=str(folder), resume="auto")
    train(config)
    moved = image_folder / "apple" / "0.jpg"
    moved.rename(moved.with_name("9.jpg"))
    with pytest.raises(SeaAnchorError, match="started with other images"):
        train(config)
    moved.with_name("9.jpg").rename(moved)
    shutil.copy(config.output / "export" / "open_clip_model.safetensors", folder)
    with pytest.raises(SeaAnchorError, match="started with other reference"):
        train(config)


def test_a_device_that_is_not_there(tiny_run):
    with pytest.raises(SeaAnchorError, match="--device tpu"):
        train(tiny_run(fare(), device="tpu"))


# --- data


def test_broken_images_are_left_out_and_a_batch_of_them_is_skipped(tiny_run, image_folder, capsys):
    for image in sorted(image_folder.rglob("*.jpg"))[:7]:
        image.write_bytes(b"no image")
    config = tiny_run(lore(), batch_size=1, save_every=5)
    train(config)
    folder = RunFolder(config.output)
    rows, state = folder.rows(), load_state(folder.checkpoints()[-1])
    assert sum("lr" in row for row in rows) == 5 and (state["step"], state["images_seen"]) == (12, 5)
    assert "7 of 12 images" in capsys.readouterr().out
    assert steps_and_images(rows) == (12, 5)
    assert ": 12 steps, 5 images seen, repeats counted" in (folder.export / "README.md").read_text()


@pytest.mark.parametrize("batch_size", [5, 128])
def test_the_card_counts_the_images_that_were_seen(tiny_run, batch_size):
    """Of 12 in two epochs: the last batch is smaller, or the only one not full."""
    config = tiny_run(lore(), batch_size=batch_size, epochs=2)
    train(config)
    steps = {5: 6, 128: 2}[batch_size]
    assert f": {steps} steps, 24 images seen, repeats counted" in (config.output / "export/README.md").read_text()


def test_a_run_whose_log_counts_no_images_has_no_number_of_them(tiny_run, monkeypatch):
    """As a run that an older version began."""
    config = tiny_run(lore())
    with monkeypatch.context() as patch:
        at_step(patch, 3, killed)
        with pytest.raises(InterruptedError):
            train(config)
    folder = RunFolder(config.output)
    state = folder.latest()
    del state["images_seen"]
    folder.save(2, state)
    train(replace(config, resume="auto"))
    assert [row.get("images_seen") for row in folder.rows()] == [3, 6, None, None]
    text = (folder.export / "README.md").read_text()
    assert ": 4 steps\n" in text and "seen" not in text


def test_nothing_but_broken_images(tiny_run, image_folder):
    for image in image_folder.rglob("*.jpg"):
        image.write_bytes(b"no image")
    config = tiny_run(fare())
    with pytest.raises(SeaAnchorError, match=r"no image in .* could be read"):
        train(config)
    assert not (config.output / "export").exists()


# --- the constraint, processes, trackers


def test_multipliers_reduce_violations(tiny_run, tmp_path):
    """Same weak initial multiplier, free to rise or frozen."""
    rates = {}
    for dual_lr in (0.0, 0.05):
        anchor = AnchorConfig("lagrangian", rho=0.01, dual_lr=dual_lr, dual_hidden=32, initial_multiplier=0.1)
        attack = PerturbationConfig(epsilon="16/255", num_steps=3)
        config = tiny_run(
            lore(),
            batch_size=12,
            epochs=20,
            primal_steps=2,
            log_every=20,
            save_every=100,
            perturbation=attack,
            anchor=anchor,
        )
        train(replace(config, output=tmp_path / str(dual_lr)))
        *_, row = RunFolder(tmp_path / str(dual_lr)).rows()
        rates[dual_lr] = row
    assert rates[0.0]["violation_rate"] > 0.7 and rates[0.0]["multiplier"] == pytest.approx(0.1)
    assert rates[0.05]["violation_rate"] < 0.2 and rates[0.05]["multiplier"] > 1
    assert rates[0.05]["clean_distance"] < rates[0.0]["clean_distance"] / 4


@pytest.mark.parametrize("kind", ["wandb", "trackio", "tensorboard"])
def test_trackers_get_every_line(tiny_run, monkeypatch, kind):
    seen: list = []
    package = ModuleType(kind)
    if kind == "tensorboard":

        class SummaryWriter:
            def __init__(self, log_dir):
                seen.append(("init", log_dir))

            def __enter__(self):
                return self

            def __exit__(self, *args):
                seen.append(("finish",))

            def add_scalar(self, name, value, step):
                seen.append((name, value, step))

        package.SummaryWriter = SummaryWriter
    else:
        package.init = lambda **kwargs: seen.append(("init", kwargs["name"]))
        package.log = lambda row, step: seen.extend((name, value, step) for name, value in row.items())
        package.finish = lambda: seen.append(("finish",))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard" if kind == "tensorboard" else kind, package)
    config = tiny_run(fare(), report_to=kind)
    train(config)
    assert seen[0][0] == "init" and seen[-1] == ("finish",)
    expected = [
        (name, value, row["step"]) for row in RunFolder(config.output).rows() for name, value in flatten(row).items()
    ]
    assert seen[1:-1] == expected


@pytest.mark.parametrize("kind", ["wandb", "trackio", "tensorboard"])
def test_a_tracker_that_is_not_installed_is_named_at_once(tiny_run, monkeypatch, kind):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard" if kind == "tensorboard" else kind, None)
    config = tiny_run(fare(), report_to=kind)
    with pytest.raises(SeaAnchorError, match=rf"{kind} is not installed[\s\S]*seaanchor\[tracking\]"):
        train(config)
    assert not config.output.exists()


def test_the_averaged_weights_are_evaluated_too(tiny_run, image_folder):
    """And the raw ones go on as if nobody had looked."""
    config = tiny_run(
        dpo(), average="ema", ema_decay=0.5, lr=0.05, val_data=(str(image_folder),), eval_every=2, eval_samples=12
    )
    rows = [row for row in RunFolder(train(config)).rows() if "eval" in row]
    assert "eval_averaged" not in rows[0] and all(set(row["eval_averaged"]) == {str(image_folder)} for row in rows[1:])
    plain = replace(config, eval_every=None, val_data=(), output=config.output.with_name("plain"))
    train(plain)
    for name in ("export", "export-averaged"):
        one, other = (load_model(str(run.output / name)).encoder.state_dict() for run in (config, plain))
        assert all(torch.equal(one[key], other[key]) for key in one)
    raw, averaged = (
        load_model(str(config.output / name)).encoder.state_dict() for name in ("export", "export-averaged")
    )
    assert any(not torch.equal(raw[key], averaged[key]) for key in raw)


def test_an_average_without_memory_holds_nothing_and_one_with_memory_does(tiny_run):
    """The anchor's distance to the weights of a moment ago is 0 with gradient 0, which leaves FARE; to the pre-trained
    ones it holds."""
    held = {"kind": "penalty", "weight": 5.0}

    def weights(**anchor) -> torch.Tensor:
        config = tiny_run(fare(), anchor=AnchorConfig(**anchor))
        shutil.rmtree(config.output, ignore_errors=True)
        train(config)
        return torch.cat([w.flatten().float() for w in final(config)["export"].values()])

    free, forgetful = weights(), weights(**held, reference="ema", reference_decay=1e-6)
    frozen, averaged = weights(**held), weights(**held, reference="beta")
    rounding = (
        free - forgetful
    ).norm()  # of a distance that is 0; Adam makes steps of it where a weight's gradient is 0
    assert (free - frozen).norm() > 5 * rounding
    assert (averaged - frozen).norm() > 0 and (averaged - free).norm() > 5 * rounding, "the weighted average is neither"


def test_a_run_with_a_moving_reference_resumes_where_it_was(tiny_run):
    recipe = replace(lore(), anchor=AnchorConfig("lagrangian", reference="beta"))
    whole = tiny_run(recipe, save_every=2)
    train(whole)
    cut = replace(tiny_run(recipe, save_every=2), output=whole.output.with_name("cut"), resume="auto")
    shutil.copytree(whole.output, cut.output)
    shutil.rmtree(cut.output / "export")
    last = RunFolder(cut.output).checkpoints()[-1]
    last.unlink()
    train(cut)
    assert_same(final(whole)["state"], final(cut)["state"])


def test_an_anchor_that_holds_nothing_has_no_moving_reference():
    with pytest.raises(SeaAnchorError, match=r"anchor\.reference"):
        train(replace(fare(), anchor=AnchorConfig(reference="ema")))
