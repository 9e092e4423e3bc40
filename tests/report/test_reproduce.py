"""The commands of a page, read back by the command line itself."""

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from seaanchor.cli.app import app
from seaanchor.encoders.head_file import LIBRARY, NAME, write_head
from seaanchor.encoders.load import load_model
from seaanchor.evaluation.protocol import Protocol, settings_of
from seaanchor.evaluation.result_files import read_result
from seaanchor.evaluation.results import EvaluationResult
from seaanchor.report.reproduce import evaluate_commands, report_command, says_all
from seaanchor.report.sources import read_sources
from seaanchor.types import Head, NamedHead
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
        "head": {"kind": asked.head or "text", "source": asked.training if asked.head == "probe" else None},
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
        "--head classifier",
        "--templates openai-imagenet",
    ],
)
def test_the_command_asks_for_what_was_asked_for(options, tmp_path):
    before = f"seaanchor evaluate {PLAIN} {options}"
    (command,) = written(tmp_path, before)
    assert protocol(command) == protocol(before)
    found = parsed(command)
    assert found["model"] == ["seaanchor-tiny"] and found["data"] == ["photos-mini"]
    assert found["manner"].output == tmp_path and found["manner"].reference is None


def test_weights_classes_and_preprocessing_are_those_that_were_given(tmp_path):
    given = {"pretrained": "openai+~/my fare.pt", "class_names": "cat,dog", "preprocess": "resize_mode=squash"}
    (command,) = written(tmp_path, f"seaanchor evaluate {PLAIN}", given=given | {"segmentation_head": None})
    found = shlex.split(command)
    assert [found[found.index(f"--{name.replace('_', '-')}") + 1] for name in given] == [
        "openai+$HOME/my fare.pt",
        "cat,dog",
        "resize_mode=squash",
    ]
    assert "--segmentation-head" not in found and says_all(read_sources([tmp_path]).entries)
    assert "--pretrained" not in written(tmp_path, f"seaanchor evaluate {PLAIN}")[0]
    assert not says_all(read_sources([tmp_path]).entries)  # a file of an older version


def test_the_reference_is_named_where_the_model_does_not_name_it(tmp_path):
    reference = {"dataset": "photos-mini", "model": "other model", "pretrained": "y", "suites": {}, "format": 4}
    (command,) = written(tmp_path, f"seaanchor evaluate {PLAIN}", reference=reference)
    assert parsed(command)["manner"].reference == "other model"


@pytest.mark.parametrize(
    "start, reference, tag, words",
    [
        ("", "ViT-B-32", "openai", ["--reference", "ViT-B-32", "--pretrained", "openai"]),
        ("", "seaanchor-tiny", None, ["--reference", "seaanchor-tiny"]),
        ("model: ViT-B-32\npretrained: openai", "ViT-B-32", "openai", []),
        (
            "model: ViT-B-32\npretrained: openai",
            "ViT-B-32",
            "none",
            ["--reference", "ViT-B-32", "--pretrained", "none"],
        ),
        ("model: seaanchor-tiny", "ViT-B-32", "openai", ["--reference", "ViT-B-32", "--pretrained", "openai"]),
    ],
)
def test_the_tag_of_a_reference_is_named_with_it(tmp_path, start, reference, tag, words):
    """`--pretrained` beside a model that has its weights is the reference's."""
    (export := tmp_path / "run" / "export").mkdir(parents=True)
    if start:
        (tmp_path / "run" / "config.yaml").write_text(start)
    beside = {"dataset": "photos-mini", "model": reference, "pretrained": "y", "suites": {}, "format": 4}
    (command,) = written(
        tmp_path,
        f"seaanchor evaluate {PLAIN}",
        model=str(export),
        given={"pretrained": None},
        reference=beside | {"given": {"pretrained": tag}},
    )
    found = shlex.split(command)
    named = [i for i, word in enumerate(found) if word in ("--reference", "--pretrained")]
    assert [word for i in named for word in found[i : i + 2]] == words


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


def evaluated(run, output, *options) -> tuple[EvaluationResult, str]:
    """A result, and the command of a page on it."""
    code, _, err = run("evaluate", *options, "--output", output)
    assert code == 0, err
    (file,) = [file for file in output.glob("*.json") if json.loads(file.read_text())["reference"] is not None]
    (command,) = evaluate_commands(read_sources([file]).entries)
    return read_result(file), command


@pytest.fixture
def with_head(tmp_path) -> Path:
    """A model with texts, and a head beside it."""
    folder = tmp_path / "run" / "export"
    shutil.copytree(Path(__file__).parents[2] / "models" / "seaanchor-tiny-fare", folder)
    torch.manual_seed(0)
    head = Head(torch.randn(3, load_model(str(folder)).encoder.dim), unit=False, kind="probe")
    write_head(NamedHead(head, ("apple", "red fox", "zebra"), LIBRARY), folder / NAME)
    return folder


@pytest.mark.parametrize(
    "head",
    [
        "stored",
        "text",
        "file",
        "probe",
        *(pytest.param(head, marks=pytest.mark.exhaustive) for head in ("patches", "gone")),
    ],
)
def test_the_command_runs_with_the_head_that_answered(run, with_head, image_folder, tmp_path, head):
    options = ["--model", with_head, "--data", image_folder, "--suite", "clean"]
    if head == "text":
        options += ["--head", "text", "--class-names", "apple,red fox,zebra", "--preprocess", "resize_mode=squash"]
    elif head == "file":
        options += ["--head", shutil.copy(with_head / NAME, tmp_path / "another head.safetensors")]
    elif head == "probe":
        options += ["--head", "probe", "--train-data", image_folder]
    elif head == "patches":
        options = [*options[:-1], "embedding", "--tokens", "patches", "--num-steps", 1, "--epsilon", "1/255"]
    before, command = evaluated(run, tmp_path / "before", *options)
    if head == "gone":
        (with_head / NAME).unlink()
        (command,) = evaluate_commands(read_sources([tmp_path / "before"]).entries)
    words = shlex.split(command)[2:]
    after, _ = evaluated(run, tmp_path / "after", *words[: words.index("--output")])
    assert after.protocol.head.digest == before.protocol.head.digest
    assert after.clean == before.clean and after.suites == before.suites
    assert ("--head" in words) == (head not in ("stored", "patches"))
    assert after.given == before.given and (head != "text" or before.given.class_names == "apple,red fox,zebra")
    assert after.protocol.preprocessing == before.protocol.preprocessing


def test_a_home_folder_stays_open_for_the_shell(made, tmp_path):
    data = made.everything(dataset="~/my photos", model="local-dir:~/a model", pretrained="x")
    (tmp_path / "a.json").write_text(json.dumps(data))
    (command,) = evaluate_commands(read_sources([tmp_path]).entries)
    words = command.replace("seaanchor", "printf '%s\\n'", 1)
    said = subprocess.run(["bash", "-c", words], capture_output=True, text=True, env={"HOME": "/home/me"}, check=True)
    assert "/home/me/my photos" in said.stdout.splitlines() and "local-dir:/home/me/a model" in said.stdout.splitlines()
