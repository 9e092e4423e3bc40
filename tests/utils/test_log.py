"""Records go where the program sends them, and look as what a command prints."""

import logging
import subprocess
import sys

import pytest

from seaanchor.errors import note
from seaanchor.utils.log import log, log_to_terminal, progress, warn_once

SPEAK = """
from seaanchor.errors import note
from seaanchor.utils.log import log, log_to_terminal, progress, warn_once
{}
log.info("an info")
progress("1/2", last=False)
note("a note"), note("a note")
warn_once("a warning"), warn_once("a warning")
log.error("an error")
"""


def speak(first: str, **variables: str) -> tuple[list[str], list[str]]:
    """Lines on stdout and stderr of a program that says one thing of each kind."""
    done = subprocess.run(
        [sys.executable, "-c", SPEAK.format(first)], capture_output=True, text=True, check=True, env=variables
    )
    return done.stdout.splitlines(), done.stderr.splitlines()


@pytest.fixture
def environment() -> dict[str, str]:
    """As this process, without what makes a terminal of a pipe."""
    import os

    return {k: v for k, v in os.environ.items() if k not in ("RANK", "FORCE_COLOR", "TTY_COMPATIBLE")}


def test_a_program_that_configures_nothing_sees_warnings_alone(environment):
    assert speak("", **environment) == ([], ["a note", "a warning", "an error"])


def test_a_command_sees_all_with_the_kind_before_what_is_urgent(environment):
    out, err = speak("log_to_terminal(), log_to_terminal()", **environment)
    assert out == ["an info", "1/2"]
    assert err == ["note: a note", "warning: a warning", "error: an error"]


def test_the_standard_configuration_shows_the_same_records(environment):
    out, err = speak("import logging; logging.basicConfig(level=logging.INFO)", **environment)
    assert out == [] and err[0] == "INFO:seaanchor:an info" and "WARNING:seaanchor:a note" in err


def test_of_other_ranks_only_errors_are_shown(environment):
    assert speak("log_to_terminal()", **environment, RANK="1") == ([], ["error: an error"])


def test_a_root_logger_that_a_library_configured_prints_nothing_twice(environment):
    out, err = speak("import logging; logging.basicConfig(); log_to_terminal()", **environment)
    assert len(out) == 2 and len(err) == 3


def test_long_lines_are_not_wrapped_and_brackets_are_no_markup(capsys):
    message = "[bold]a list[/bold] :smile: " + "x" * 300
    warn_once(message)
    assert capsys.readouterr().err == f"warning: {message}\n"


def test_on_a_terminal_progress_replaces_its_line(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    progress("1/2", last=False)
    progress("2/2", last=True)
    log.info("done")
    assert capsys.readouterr().out == "\r\033[K1/2\r\033[K2/2\ndone\n"


def test_a_closed_pipe_ends_the_program_as_with_print(monkeypatch):
    def closed(text: str) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(sys.stdout, "write", closed)
    with pytest.raises(BrokenPipeError):
        log.info("to nobody")


def test_a_second_configuration_changes_nothing(capsys):
    log_to_terminal()
    log.info("once")
    note("said once"), note("said once")
    assert log.level == logging.INFO and not log.propagate
    assert capsys.readouterr() == ("once\n", "note: said once\n")
