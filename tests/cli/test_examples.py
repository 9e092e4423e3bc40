"""The examples below the help of each command."""

import shlex
from collections.abc import Iterator
from functools import reduce

import pytest
from cyclopts import App

from seaanchor.cli.app import app
from seaanchor.cli.examples import EXAMPLES

LINES = sorted({line for lines in EXAMPLES.values() for line in lines})


def commands(above: App, names: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """All commands and groups of commands below one, that one included."""
    yield names
    for name in above:
        if not name.startswith("-"):
            yield from commands(above[name], (*names, name))


def test_every_command_has_two_examples_that_the_terminal_shows_on_one_line_each(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert set(commands(app)) == set(EXAMPLES)
    for names, lines in EXAMPLES.items():
        assert len(lines) >= 2, names
        shown = run(*names, "--help")[1].partition("Examples:")[2].splitlines()
        assert [line.strip() for line in shown if line.strip()] == list(lines), names


@pytest.mark.parametrize("line", LINES)
def test_an_example_is_a_command(line):
    words = shlex.split(line.partition(" > ")[0].partition("seaanchor ")[2])
    command, *_ = app.parse_args(words, exit_on_error=False, print_error=False)
    chain = [word for number, word in enumerate(words) if tuple(words[: number + 1]) in EXAMPLES]
    assert command is reduce(lambda above, name: above[name], chain, app).default_command


def test_recipes_and_models_of_the_examples_ship():
    from seaanchor.config.recipes import RECIPES
    from seaanchor.encoders.embedded import embedded_models

    named = {words[2] for line in LINES if (words := shlex.split(line))[1] in ("train", "sweep") and words[2][0] != "-"}
    assert named - {"mine.yaml"} <= set(RECIPES)
    models = {word for line in LINES for word in shlex.split(line) if word.startswith("seaanchor-")}
    assert models and models <= set(embedded_models())
