"""The bench's frame: verdicts, what is kept, and the table."""

import json
import time
from dataclasses import replace

import pytest
import torch

from bench import report
from bench.__main__ import bars, chosen, run
from bench.clock import compare, probe
from bench.frame import Bar, Measurement, NotMeasured, verdict


def bar(measure=lambda: Measurement(2.0), **limits) -> Bar:
    return Bar("speed", "ours against theirs", measure, **({"at_least": 1.6, "aim": 2.2} | limits))


def test_verdicts():
    assert verdict(bar(), 1.6) == "pass" and verdict(bar(), 1.59) == "short" and verdict(bar(), None) == "not measured"
    most = bar(at_least=None, at_most=0.55, aim=0.5)
    assert verdict(most, 0.55) == "pass" and verdict(most, 0.56) == "short"
    for limits in ({"at_least": None}, {"at_most": 1.0}):
        with pytest.raises(ValueError, match="either"):
            bar(**limits)


def test_names_are_unique_and_those_asked_for_run():
    every = bars()
    names = [each.name for each in every]
    assert len(set(names)) == len(names) and "fare-flops" in names
    assert [each.name for each in chosen(every, "lore-flops,fare-flops", False)] == ["fare-flops", "lore-flops"]
    assert chosen(every, None, False) == every
    with pytest.raises(SystemExit, match="no bar is called nothing"):
        chosen(every, "nothing", False)


def test_missing_bars_are_those_without_a_measurement(monkeypatch):
    every = bars()
    monkeypatch.setattr(report, "read", lambda: {"fare-flops": {"value": 1.0}, "lore-flops": {"value": None}})
    left = [each.name for each in chosen(every, None, True)]
    assert "fare-flops" not in left and "lore-flops" in left


def test_a_reason_and_a_failure_are_no_measurements(capsys):
    def no_gpu():
        raise NotMeasured("no GPU")

    def broken():
        raise RuntimeError("shapes differ\nmore")

    reasons = [run(bar(measure)) for measure in (no_gpu, broken)]
    assert [r["value"] for r in reasons] == [None, None] and [r["verdict"] for r in reasons] == ["not measured"] * 2
    assert [r["note"] for r in reasons] == ["no GPU", "failed: RuntimeError: shapes differ"]
    assert "RuntimeError: shapes differ" in capsys.readouterr().err


def test_a_noisy_bar_is_measured_once_more():
    for quiet, values in (((False, True), 2.0), ((False, False), 2.0), ((True,), 1.0), ((None,), 1.0)):
        outcomes = iter([Measurement(float(i + 1), each) for i, each in enumerate(quiet)])
        result = run(bar(lambda outcomes=outcomes: next(outcomes)))
        assert (result["value"], result["quiet"], next(outcomes, None)) == (values, quiet[-1], None)


def test_results_are_kept_by_bar_and_written_into_the_page(tmp_path):
    file, page = tmp_path / "results.json", tmp_path / "performance.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    first, second = (
        bar(lambda: Measurement(2.0, True, "processor", {"F": 23})),
        bar(lambda: Measurement(1.0, False, "wall")),
    )
    other = Bar("other", "not run", first.measure, 1.0, at_most=2.0)
    report.keep("speed", report.row(first, second.measure(), 1.0), file)
    report.keep("older", report.row(first, "no GPU", 1.0), file)
    results = report.keep("speed", report.row(first, first.measure(), 1.0), file)
    assert json.loads(file.read_text()) == results == report.read(file) and set(results) == {"older", "speed"}
    assert {"date", "processor", "instruction_sets", "torch"} <= set(results["speed"]) and results["speed"][
        "details"
    ] == {"F": 23}
    report.write_table([first, other], results, page)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert (
        "| ours against theirs (`speed`) | 2 | ≥ 1.6 | 2.2 | pass, quiet | processor | A |  |" in text
        and "not run yet" in text
    )
    report.write_table([first, other], results, page)
    assert page.read_text() == text
    page.write_text("no marks")
    with pytest.raises(ValueError, match="lacks the marks"):
        report.write_table([first], results, page)


def test_what_cannot_be_measured_here_leaves_what_another_machine_measured(tmp_path):
    file = tmp_path / "results.json"
    measured = report.row(bar(), Measurement(2.0), 1.0)
    for later, kept in (("no GPU", 2.0), (f"{report.FAILED}it broke", None), ("no GPU", None)):
        if later == "no GPU" and kept is not None:
            report.keep("speed", measured, file)
        assert report.keep("speed", report.row(bar(), later, 1.0), file)["speed"]["value"] == kept
    assert report.keep("speed", measured, file)["speed"]["value"] == 2.0


def test_each_row_names_its_machine_and_is_held_to_the_bar_of_now():
    here = report.row(bar(), Measurement(2.0, True, "processor"), 1.0)
    other = {**here, "processor": "a Zen 9", "date": "2026-01-02T00:00:00+00:00", "value": 1.7}
    bars = [replace(bar(), name=name) for name in ("one", "two", "three")]
    rows = report.table(bars, {"one": here, "two": other, "three": report.row(bar(), "no GPU", 0.0)}).splitlines()
    letters = [row.split(" | ")[6] for row in rows[2:5]]
    assert sorted(letters[:2]) == ["A", "B"] and letters[2] == ""
    machines = {line[0]: line for line in rows if line[1:3] == ": "}
    assert "a Zen 9" in machines[letters[1]] and "2026-01-02" in machines[letters[1]]
    assert "a Zen 9" not in machines[letters[0]]
    later = report.table([replace(bars[0], at_least=2.5, aim=3.0)], {"one": here})
    assert "| short, quiet |" in later and "Short of their bar: `one`." in later


def test_lines_say_how_it_went():
    noisy = report.line("speed", report.row(bar(), Measurement(1.2, False, "processor"), 0))
    assert "1.2" in noisy and "≥ 1.6" in noisy and "short" in noisy and "NOISY" in noisy
    assert "pass, aim met, quiet" in report.line("speed", report.row(bar(), Measurement(2.3, True, "processor"), 0))
    assert report.line("speed", report.row(bar(), "no GPU", 0)).endswith("not measured: no GPU")


def test_times_are_minima_of_interleaved_runs():
    now, calls = [0.0], []

    def runs(name, costs):
        rest = iter(costs)

        def call():
            calls.append(name)
            now[0] += next(rest)

        return call

    times = compare(
        runs("A", [9, 5, 3, 4, 6]),
        runs("B", [9, 2, 1, 7, 8]),
        pairs=2,
        clock=lambda: now[0],
        quiet_probe=lambda clock: 1.0,
    )
    assert "".join(calls) == "AB" + "ABBAABBA" and (times.first, times.second, times.quiet) == (3, 1, True)


def test_processes_tell_their_own_times():
    told = iter([9.0, 9.0, 4.0, 2.0, 3.0, 5.0])
    times = compare(lambda: next(told), lambda: next(told), pairs=1, own_clocks=True, quiet_probe=lambda clock: 1.0)
    assert (times.first, times.second) == (4.0, 2.0)


def test_a_probe_that_moves_makes_the_times_noisy():
    for moved, quiet in ((1.09, True), (1.11, False), (0.89, False)):
        probes = iter((1.0, moved))
        assert (
            compare(lambda: None, lambda: None, pairs=1, quiet_probe=lambda clock, probes=probes: next(probes)).quiet
            is quiet
        )


def test_the_probe_takes_time():
    torch.set_num_threads(1)
    assert 0 < probe(time.perf_counter) < 1
