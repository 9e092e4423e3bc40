"""The GPU's measurements on a CPU and a small tower: the same code with another device."""

import json
from dataclasses import replace

import pytest
import torch

from bench import gpu
from bench.gpu import CASES, Case, Settings, card, measure, measure_all, peak, subject_of, table, tf32_products
from seaanchor.encoders.kernels import CompiledForward
from seaanchor.errors import SeaAnchorError
from seaanchor.profiling.flops import count_flops
from seaanchor.profiling.hardware import find

CPU = Settings("cpu", None, batch=2, num_steps=1, rounds=1, steps=1)
SLOW = replace(find("H100"), fp32=1e9)  # so that a share of it has digits


@pytest.mark.parametrize("what", ["fare", "lore", "attack"])
def test_operations_are_those_of_the_step(what, monkeypatch):
    """By formula within 4 % of what is counted where no kernel saves any, for the tower's sequences are long beside its
    width; with the kernels the step does less."""
    case = Case(what, "fp32")
    subject = subject_of(case, CPU)
    run = subject.attack if what == "attack" else subject.step
    saving, _ = count_flops(run)
    monkeypatch.setattr("seaanchor.encoders.kernels.choice.class_token_layers", lambda module: [])
    counted, _ = count_flops(run)
    assert gpu.needed(case, subject) == pytest.approx(counted, rel=0.04) and saving <= counted


def test_a_row_holds_together():
    case = Case("attack", "fp32")
    row = measure(case, CPU, SLOW)
    work = gpu.needed(case, subject_of(case, CPU))
    assert row["flop_per_s"] == pytest.approx(work / row["seconds"]) and row["peak_bytes"] is None
    assert row["utilisation"] == pytest.approx(row["flop_per_s"] / 1e9)
    assert row["images_per_s"] == pytest.approx(2 / row["seconds"])
    assert measure(case, CPU, None)["utilisation"] is None


def test_the_variants_are_what_they_say():
    plain, lying = (subject_of(Case("fare", "bf16", channels_last=last, fused=not last), CPU) for last in (False, True))
    for subject, last in ((plain, False), (lying, True)):
        copy = subject.state.low_precision_copy
        for tower in (subject.state.encoder, copy.encoder):
            patches = next(p for p in tower.parameters() if p.dim() == 4)
            assert patches.is_contiguous(memory_format=torch.channels_last) is last
        assert subject.images.pixels_BCHW.is_contiguous(memory_format=torch.channels_last) is last
        assert bool(subject.state.optimizer.defaults["fused"]) is not last
    assert torch.equal(plain.images.pixels_BCHW, lying.images.pixels_BCHW)
    lying.step()


def test_tf32_is_set_and_given_back():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    for allowed in (True, False):
        with tf32_products(allowed):
            assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is allowed
    assert before == (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)


def test_what_does_not_fit_into_the_time_or_the_memory_is_said(monkeypatch):
    now = [0.0]

    def takes_three_minutes(case, settings, sheet):
        now[0] += 180
        if case.what == "lore":
            raise torch.OutOfMemoryError
        return {**vars(case), "seconds": 1.0}

    monkeypatch.setattr(gpu, "measure", takes_three_minutes)
    cases = [Case(what, "fp32") for what in ("fare", "lore", "attack")]
    rows = measure_all(cases, CPU, None, clock=lambda: now[0])
    assert rows[0]["seconds"] == 1.0 and rows[1]["reason"] == "not measured: 2 images do not fit"
    assert rows[2]["reason"] == "not measured: 8 minutes are over" and now[0] == 360


@pytest.mark.exhaustive
def test_compiled_cases_go_through_the_compiler(monkeypatch):
    """Where there is none, the row says so and the others are measured."""
    seen = []

    def backend(graph, inputs):
        seen.append(len(inputs))
        return graph.forward

    monkeypatch.setattr(gpu, "check_compiler", lambda device: None)
    monkeypatch.setattr(gpu, "CompiledForward", lambda: CompiledForward(backend))
    plain, compiled = (measure_all([Case("fare", "fp32", compiled=on)], CPU, None)[0] for on in (False, True))
    assert len(seen) == 2 and plain["flop_per_s"] > 0 and compiled["flop_per_s"] > 0  # attack and update

    def missing(device):
        raise SeaAnchorError("no Triton for this device", "Triton", "install it")

    monkeypatch.setattr(gpu, "check_compiler", missing)
    row, other = measure_all([Case("fare", "fp32", compiled=True), Case("attack", "fp32")], CPU, None)
    assert row["reason"] == "not measured: no Triton for this device" and other["seconds"] > 0
    assert Case("fare", "fp32", compiled=True).name == "fare fp32, compiled"


def test_the_table_has_a_line_for_each():
    rows = [
        {**vars(CASES[0]), "seconds": 0.5, "flop_per_s": 4e14, "utilisation": 0.404, "peak_bytes": 3.21e10}
        | {"images_per_s": 512.4},
        {
            **vars(Case("fare", "bf16", channels_last=True)),
            "seconds": 0.5,
            "flop_per_s": 4e14,
            "utilisation": None,
            "peak_bytes": None,
            "images_per_s": 1,
        },
        {**vars(CASES[-1]), "reason": "not measured: it is late"},
    ]
    lines = table(rows).splitlines()
    assert lines[2] == "| fare bf16 | 0.5 | 400 | 40.4 % | 32.1 GB | 512 |"
    assert lines[3].startswith("| fare bf16, channels-last | 0.5 | 400 | – | – |")
    assert lines[4] == "| lore fp32 | not measured: it is late | | | | |"
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize(
    "name, sheet",
    [
        ("NVIDIA H200", "H200"),
        ("NVIDIA H100 80GB HBM3", "H100-SXM"),
        ("NVIDIA H100 PCIe", "H100-PCIe"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB"),
        ("NVIDIA A100 80GB PCIe", "A100-PCIe"),
    ],
)
def test_cards_by_their_drivers_names(name, sheet):
    found = card(name)
    assert found is not None and found.name == sheet
    fp32, tf32, bf16 = (peak(found, Case("fare", *kind)) for kind in (("fp32",), ("fp32", True), ("bf16",)))
    assert fp32 < tf32 < bf16 and tf32 == pytest.approx(bf16 / 2, rel=0.002)


def test_an_unknown_card_has_no_share():
    assert card("NVIDIA GeForce GTX 1080") is None and peak(None, CASES[0]) is None


def test_without_a_gpu_it_ends_with_the_reason(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    file = tmp_path / "gpu.json"
    with pytest.raises(SystemExit, match=r"nothing to measure: torch .*; run this on a machine with one"):
        gpu.main(["--output", str(file)])
    assert not file.exists() and not capsys.readouterr().out


def test_the_numbers_are_written(tmp_path, capsys):
    """The whole measurement, on the CPU in place of the card."""
    file = tmp_path / "gpu.json"
    assert gpu.write((Case("attack", "fp32"),), CPU, "NVIDIA H200", file) == 1
    kept = json.loads(file.read_text())
    assert kept["sheet"]["name"] == "H200" and kept["rows"][0]["utilisation"] > 0 and kept["settings"]["batch"] == 2
    assert "| attack fp32 |" in capsys.readouterr().out
    assert gpu.write((Case("attack", "fp32"),), replace(CPU, minutes=-1.0), "a card", file) == 0
    assert json.loads(file.read_text())["sheet"] is None
