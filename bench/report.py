"""What the bench leaves behind: a line for each bar, `bench/results.json`, and the table in `docs/performance.md`."""

import json
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import torch

from bench.frame import Bar, Measurement, verdict
from seaanchor.utils.checkpoint import write_atomic

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results.json"
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- bars: written by make bench -->", "<!-- end of bars -->"
SETS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "asimd",
    "sve",
    "bf16",
)  # of a processor's flags, those that matrix products use

FAILED = "failed: "  # begins the note of a bar whose measurement broke

Row = dict[str, Any]


def machine() -> dict[str, str]:
    """Processor, the instruction sets that matter for matrix products, and torch."""
    facts: dict[str, str] = {}
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    return {
        "processor": facts.get("model name") or platform.processor() or platform.machine(),
        "family": " ".join(
            f"{name} {facts[key]}" for name, key in (("family", "cpu family"), ("model", "model")) if key in facts
        ),
        "instruction_sets": " ".join(name for name in SETS if name in flags) or torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "torch": torch.__version__,
    }


def row(bar: Bar, outcome: Measurement | str, seconds: float) -> Row:
    """What is kept of a bar: its measurement, or the reason why there is none."""
    limit = {"at_least": bar.at_least, "at_most": bar.at_most, "aim": bar.aim, "unit": bar.unit, "what": bar.what}
    when = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": round(seconds, 1), **machine()}
    if isinstance(outcome, str):
        return {"value": None, "verdict": "not measured", "note": outcome, **limit, **when}
    judged: Row = {
        "value": outcome.value,
        "verdict": verdict(bar, outcome.value),
        "aim_met": bar.reaches(outcome.value, bar.aim),
    }
    judged |= {"quiet": outcome.quiet, "clock": outcome.clock}
    return {**judged, "note": outcome.note, "details": outcome.details, **limit, **when}


def line(name: str, result: Row) -> str:
    """One printed line."""
    if result["value"] is None:
        return f"{name:<28} not measured: {result['note']}"
    sign, unit = "≥" if result["at_least"] is not None else "≤", result["unit"]
    held = f"bar {sign} {_limit(result):g}{unit}, aim {result['aim']:g}{unit}"
    return f"{name:<28} {_number(result['value'])}{unit}  {held}  {_judged(result)}  {result['note']}".rstrip()


def read(path: Path = RESULTS) -> dict[str, Row]:
    """Results of earlier runs, by bar."""
    return json.loads(path.read_text()) if path.exists() else {}


def keep(name: str, result: Row, path: Path = RESULTS) -> dict[str, Row]:
    """Add a bar's result to those of earlier runs, and return them all.

    A bar that cannot be measured here keeps what another machine measured; one that fails does not.
    """
    results = read(path)
    before = results.get(name, {"value": None})["value"]
    if result["value"] is not None or before is None or result["note"].startswith(FAILED):
        results[name] = result
    write_atomic(path, json.dumps(dict(sorted(results.items())), indent=2, ensure_ascii=False) + "\n")
    return results


def write_table(bars: Sequence[Bar], results: dict[str, Row], path: Path = PAGE) -> None:
    """Put the table between its two marks; bars without any result are listed as not measured."""
    text = path.read_text()
    before, found, rest = text.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"{path} lacks the marks {BEGIN!r} and {END!r}")
    write_atomic(path, before + BEGIN + "\n" + table(bars, results) + "\n" + END + after)


def table(bars: Sequence[Bar], results: dict[str, Row]) -> str:
    """Markdown: a row for each bar, in the order of the bars, with the letter of its machine; below, the machines."""
    lines = [
        "| what | measured | bar | aim | | clock | on | note |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    places = _places(results[bar.name] for bar in bars if bar.name in results)
    for bar in bars:
        result = _held_to(bar, results.get(bar.name) or row(bar, "not run yet", 0))
        measured = "–" if result["value"] is None else f"{_number(result['value'])}{bar.unit}"
        limit = f"{'≥' if bar.at_least is not None else '≤'} {bar.limit:g}{bar.unit}"
        cells = (
            f"{bar.what} (`{bar.name}`)",
            measured,
            limit,
            f"{bar.aim:g}{bar.unit}",
            _judged(result),
            result.get("clock", ""),
            "" if result["value"] is None else _letter(list(places).index(_place(result))),
            result["note"],
        )
        lines.append("| " + " | ".join(cells) + " |")
    below = [f"`{b.name}`" for b in bars if b.name in results and verdict(b, results[b.name]["value"]) == "short"]
    machines = [
        f"{_letter(number)}: {place}, measured {' to '.join(sorted({min(dates), max(dates)}))}."
        for number, (place, dates) in enumerate(places.items())
    ]
    return "\n".join([*lines, "", f"Short of their bar: {', '.join(below) or 'none'}.", "", *machines])


def _places(results: Iterable[Row]) -> dict[str, list[str]]:
    """The machines behind measurements, with the days on which they measured."""
    found: dict[str, list[str]] = {}
    for result in results:
        if result["value"] is not None:
            found.setdefault(_place(result), []).append(result["date"][:10])
    return dict(sorted(found.items()))


def _place(result: Row) -> str:
    gpu = "" if result["gpu"] == "none" else f", {result['gpu']}"
    return f"{result['processor']} ({result['family']}; {result['instruction_sets']}){gpu}, torch {result['torch']}"


def _letter(number: int) -> str:
    return ascii_uppercase[number] if number < len(ascii_uppercase) else str(number)


def _held_to(bar: Bar, result: Row) -> Row:
    """A result held to the bar as it is now, which may have moved since."""
    value = result["value"]
    return (
        result if value is None else {**result, "verdict": verdict(bar, value), "aim_met": bar.reaches(value, bar.aim)}
    )


def _limit(result: Row) -> float:
    return result["at_least"] if result["at_least"] is not None else result["at_most"]


def _judged(result: Row) -> str:
    """The verdict, and what the probe said."""
    if result["value"] is None:
        return result["verdict"]
    noise = {True: "quiet", False: "NOISY", None: ""}[result["quiet"]]
    return ", ".join(part for part in (result["verdict"], "aim met" if result["aim_met"] else "", noise) if part)


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 0.1 or abs(value) >= 100 else f"{value:.3f}".rstrip("0").rstrip(".")
