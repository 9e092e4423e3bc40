"""The commands of a page, read back by the command line itself."""

import json
import shlex
from pathlib import Path

import pytest

from seaanchor.cli.app import app
from seaanchor.evaluation.protocol import Protocol, settings_of
from seaanchor.report.reproduce import evaluate_commands, report_command
from seaanchor.report.sources import read_sources
from seaanchor.utils.records import to_plain

PLAIN = "--model seaanchor-tiny --data photos-mini"


def parsed(command: str) -> dict:
    """What `seaanchor` would hand to the function behind a command."""
    words = shlex.split(command)
    assert words[0] == "seaanchor"
    _, bound, _ = app.parse_args(words[1:], exit_on_error=False, print_error=False)
    return bound.arguments


def protocol(command: str) -> Protocol:
    from seaanchor.cli.evaluate import EvaluationOptions, protocol_of

    return protocol_of(parsed(command).get("asked", EvaluationOptions()))


def written(folder: Path, command: str, **more) -> list[str]:
    """The commands of a page on the result that a command would write."""
    asked = protocol(command)
    record = {
        "plans": [to_plain(settings_of(plan)) for plan in asked.plans],
        "templates": list(asked.templates) or ["a photo of a {}."],
        "samples": asked.samples,
        "seed": asked.seed,
        "suites": list(asked.suites),
        "typographic": to_plain(asked.typographic.settings()),
        "embedding": asked.embedding and to_plain(settings_of(asked.embedding)),
        "corruptions": list(asked.corruptions),
        "training": asked.training,
        "tokens": asked.tokens,
        "head": {"kind": asked.head or "text"},
    }
    data = {
        "format": 4,
        "dataset": "photos-mini",
        "model": "seaanchor-tiny",
        "pretrained": "x",
        "suites": {},
        "protocol": record,
    }
    (folder / "a.json").write_text(json.dumps(data | more))
    return evaluate_commands(read_sources([folder]).entries)


@pytest.mark.parametrize(
    "options",
    [
        "--suite clean,pgd,typographic --epsilon 1/255 --num-steps 3 --samples 200",
        "--suite clean,square,apgd --epsilon 1/255,2/255 --num-queries 77 --num-steps 5 --seed 4",
        "--suite pgd --norm l2 --epsilon 0.25,0.123456789 --attack-precision bf16",
        "--suite clean,reading,words-and-noise,apgd-ce --words odd --fonts train --sizes 0.1 0.2",
        "--suite corruptions --corruptions all --templates 'a {}.' 'the {}, drawn'",
        "--suite probe --head probe --train-data 'my photos/train' --tokens mean",
        "--suite embedding --epsilon 4/255 --num-steps 9",
        "--suite clean,autoattack",
    ],
)
def test_the_command_asks_for_what_was_asked_for(options, tmp_path):
    before = f"seaanchor evaluate {PLAIN} {options}"
    (command,) = written(tmp_path, before)
    assert protocol(command) == protocol(before)
    found = parsed(command)
    assert found["model"] == ["seaanchor-tiny"] and found["data"] == ["photos-mini"]
    assert found["manner"].output == tmp_path and found["manner"].reference is None


def test_the_reference_is_named_where_the_model_does_not_name_it(tmp_path):
    reference = {"dataset": "photos-mini", "model": "other model", "pretrained": "y", "suites": {}, "format": 4}
    (command,) = written(tmp_path, f"seaanchor evaluate {PLAIN}", reference=reference)
    assert parsed(command)["manner"].reference == "other model"


def test_results_on_several_sets_need_one_command(made, tmp_path):
    for dataset in ("photos", "my drawings"):
        data = made.everything(dataset=dataset, model="m", pretrained="x")
        (tmp_path / f"{dataset}.json").write_text(json.dumps(data))
    (command,) = evaluate_commands(read_sources([tmp_path]).entries)
    assert parsed(command)["data"] == ["my drawings", "photos"]


def test_the_report_s_own_command():
    command = report_command([Path("runs/a b"), Path("x.json")], Path("out.html"), 4, "It's one")
    found = parsed(command)
    assert found["runs"] == (Path("runs/a b"), Path("x.json")) and found["output"] == Path("out.html")
    assert (found["gallery"], found["title"]) == (4, "It's one")
    assert "title" not in parsed(report_command([Path("a")], Path("b"), 0, None))
