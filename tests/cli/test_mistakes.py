"""Mistakes of the command line say what was found, what was expected and what to change."""

import pytest

from seaanchor.config.recipes import recipe_named
from seaanchor.errors import SeaAnchorError

MODEL_AND_DATA = ["--model", "x", "--data", "x"]


@pytest.mark.parametrize(
    ("arguments", "found", "expected", "change"),
    [
        (
            ["train"],
            "`seaanchor train` without RECIPE",
            "RECIPE: A shipped recipe",
            "such as `seaanchor train lore-lite",
        ),
        (
            ["evaluate"],
            "without --model and --data",
            "--model: One or several: a run's `export`",
            "--data photos/test`",
        ),
        (["evaluate", "--data", "x"], "`seaanchor evaluate` without --model", "--model: One", "such as"),
        (["export", "--output=x"], "`seaanchor export` without --model", "--model: Anything `train` takes", "such as"),
        (["recipes", "cat"], "`seaanchor recipes cat` without NAME", "NAME: A shipped recipe", "recipes cat lore`"),
        (["train", "lore", "--lr"], "--lr without a value", "a value behind it", "`seaanchor train --help`"),
        (["train", "lore", "--sizes", "1"], "--sizes with 1 of 2 values", "2 values behind it", "train --help`"),
        (["train", "lore", "--lr", "x"], "--lr is 'x'", "a value of type float", "correct it"),
        (["train", "lore", "--precision", "fp23"], "--precision is 'fp23'", "one of fp32, bf16", "did you mean fp32?"),
        (["train", "lore", "fare"], "fare belongs to no option", "what `seaanchor train` takes", "train --help`"),
        (["train", "lore", "--data", "x"], "`seaanchor train` has no option --data", "train --help`", "--train-data?"),
        (["train", "lore", "--steps", "9"], "no option --steps", "train --help`", "did you mean --max-steps?"),
        (["train", "lore", "--eps", "9"], "no option --eps", "train --help`", "did you mean --epsilon?"),
        (["evaluate", *MODEL_AND_DATA, "--steps", "9"], "no option --steps", "evaluate --help`", "mean --num-steps?"),
        (["evaluate", *MODEL_AND_DATA, "--val-data", "x"], "no option --val-data", "evaluate --help`", "mean --data?"),
        (
            ["evaluate", "--models", "x", "--data", "x"],
            "no option --models",
            "evaluate --help`",
            "did you mean --model?",
        ),
        (
            ["train", "lore", "--kind", "x"],
            "--kind may be any of --objective.kind, --anchor.kind",
            "one of them",
            "section",
        ),
        (["train", "lore", "--relative"], "any of --objective.relative, --anchor.relative", "one of them", "section"),
        (["recipes", "lss"], "`seaanchor recipes` has no command 'lss'", "one of ls, cat, cp, validate", "mean ls?"),
        (["zzzz"], "`seaanchor` has no command 'zzzz'", "one of train, ", "see `seaanchor --help`"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_in_three_lines(run, arguments, found, expected, change):
    code, out, errors = run(*arguments)
    assert (code, out) == (2, "")
    lines = errors.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("error: ") and found in lines[0]
    assert lines[1].startswith("  expected: ") and expected in lines[1]
    assert lines[2].startswith("  change:   ") and change in lines[2]


@pytest.mark.parametrize("command", [["export", "--model", "x", "--output", "x"], ["env"]], ids=["export", "env"])
def test_nothing_is_suggested_where_nothing_is_near(run, command):
    code, _, errors = run(*command, "--epsilon", "1")
    assert code == 2 and "no option --epsilon" in errors and "did you mean" not in errors


def test_epsilon_never_leads_to_precision():
    from seaanchor.cli.mistakes import unknown_option

    assert "precision" not in str(unknown_option("--epsilon", ["--precision", "--lr"], "seaanchor train"))
    assert "did you mean --lr?" in unknown_option("--lrr", ["--precision", "--lr"], "seaanchor train").change


def test_names_that_are_too_long_for_a_disk(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ("evaluate", "--data", "photos-mini", "--model", "a" * 300),
        ("evaluate", "--model", "seaanchor-tiny", "--data", "a/" * 3000),
        ("recipes", "cp", "lore", "a" * 300),
        ("report", "a" * 300),
    ):
        code, _, errors = run(*arguments)
        assert code == 2 and errors.startswith("error: ") and errors.count("expected:") == 1, errors[:300]


def test_what_the_system_refuses_is_one_error(run, monkeypatch, tmp_path):
    """Root may do everything, so the system's answer is put in its place."""
    import os

    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", "runs/a")

    monkeypatch.setattr(os, "stat", refuse)
    code, _, errors = run("report", "runs/a")
    assert code == 2 and "error: runs/a: permission denied" in errors


def test_what_is_wrong_in_a_recipe_file_names_the_file_and_what_a_flag_says_does_not(run, tmp_path):
    file = tmp_path / "mine.yaml"
    for text, found in (
        ("perturbation: {epsilon: 4}", "perturbation.epsilon 4"),
        ("lr: -1", "lr is -1"),
        ("lr: fast", "lr is 'fast'"),
        ("objectiv: {}", "unknown setting objectiv"),
    ):
        file.write_text(text)
        for command in (["train", file, "--train-data", "photos-mini"], ["recipes", "validate", file]):
            code, _, errors = run(*command)
            assert code == 2 and errors.startswith(f"error: {file}: {found}"), errors
    with pytest.raises(SeaAnchorError, match=rf"^{file}: unknown setting objectiv"):
        recipe_named(str(file))
    file.write_text("lr: -1")  # which a flag mends
    code, _, errors = run("train", file, "--train-data", "photos-mini", "--lr", "0.1", "--epsilon", "4")
    assert code == 2 and errors.startswith("error: perturbation.epsilon 4")
    file.write_text("lr: 0.1")
    code, _, errors = run("train", file, "--train-data", "photos-mini", "--lr", "-1")
    assert code == 2 and errors.startswith("error: lr is -1")
    code, _, errors = run("train", "fare", "--train-data", "photos-mini", "--epsilon", "4")
    assert code == 2 and errors.startswith("error: perturbation.epsilon 4")
