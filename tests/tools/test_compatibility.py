"""The tool behind docs/compatibility.md: what it does with a model's end, and what its table says."""

import json
import os
import signal
import sys

import pytest

from tools.compatibility.__main__ import merged, results, run_apart
from tools.compatibility.names import FAMILIES, OTHERS, reduced_side, slow
from tools.compatibility.table import outcome, write_table

VERSIONS = {"commit": "abc1234", "torch": "2.14.1"}


def record(name: str, **errors: str) -> dict:
    checks = {check: {"error": "", "seconds": 1.0} for check in ("load", "tower", "images", "pixels", "step", "export")}
    checks |= {check: {"error": error, "seconds": 1.0} for check, error in errors.items()}
    return {
        "name": name,
        "checks": checks,
        "versions": VERSIONS,
        "seconds": 60.0,
        "parameters": 2_500_000,
        "side": 224,
        "dim": 64,
        "absent": ["texts", "classes"],
    }


def test_the_table_counts_what_passed_was_refused_and_failed(tmp_path):
    rows = [
        record("timm:good"),
        record("timm:two", load="SeaAnchorError: timm:two takes two inputs expected: one change: another"),
        record("timm:dead", step="killed by SIGSEGV"),
        record("open_clip:good") | {"stand_in": True, "reduced": True},
    ]
    names = [*(row["name"] for row in rows), "timm:later"]
    tags = {"tags": 3, "settings": 2, "different": ["A b"]}
    write_table(tmp_path / "page.md", names, {row["name"]: row for row in rows}, tags)
    text = (tmp_path / "page.md").read_text()
    assert "| timm | 4 | 3 | 1 | 1 | 1 |" in text and "| all | 5 | 4 | 2 | 1 | 1 |" in text
    assert "| two |  |  |  | refused: timm:two takes two inputs |" in text
    assert "| good | 2.5 | 224 | 64 | ✓ | – | – | ✓ | ✓ | ✓ |  | abc1234 | 60 |" in text
    assert "**killed by SIGSEGV**" in text and "| good* | 2.5 | (224) |" in text
    assert "Not tried: later." in text and "different for A b" in text and "4 minutes" in text


def test_an_error_of_ours_after_loading_is_a_failure():
    assert outcome(record("timm:x", load="SeaAnchorError: no")) == "refused"
    assert outcome(record("timm:x", load="TypeError: no")) == "failed"
    assert outcome(record("timm:x", export="SeaAnchorError: it differs")) == "failed"


@pytest.mark.skipif(sys.platform == "win32", reason="fork")
@pytest.mark.parametrize(
    ("run", "end"),
    [
        (lambda: print("{}"), ""),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "killed by SIGKILL"),
        (lambda: sys.exit(3), "exit code 1: .*SystemExit: 3"),
        (lambda: signal.pause(), "no end after 1 s"),
    ],
)
def test_each_model_ends_alone(tmp_path, run, end):
    import re

    assert re.fullmatch(end, run_apart(run, tmp_path / "one.model", 1.0).strip(), re.DOTALL)


def test_the_last_result_of_a_name_counts_and_some_checks_can_be_made_again(tmp_path):
    first, second = record("timm:x", step="killed"), record("timm:x")
    lines = [first, merged(first, second | {"checks": {"step": {"error": "", "seconds": 2.0}}})]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = results(tmp_path)["timm:x"]
    assert outcome(found) == "passed" and set(found["checks"]) == set(first["checks"])


def test_names_are_given_once_and_large_transformers_are_reduced():
    assert len({*FAMILIES, *OTHERS}) == len(FAMILIES) + len(OTHERS) >= 150
    sides = {name: reduced_side(name) for name in ("ViT-B-32", "ViT-L-14", "RN50x16", "ViT-B-16-SigLIP-512")}
    assert sides == {"ViT-B-32": 0, "ViT-L-14": 112, "RN50x16": 128, "ViT-B-16-SigLIP-512": 0}
    assert slow("ViT-B-16-SigLIP-512") and not slow("ViT-L-14")
