"""docs/api.md is what the docstrings say, and every public name has one."""

import inspect
from pathlib import Path

import pytest

from tools.api_reference import PAGE, describe, entries, first_words, public_modules, render, signature


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == render(), "run `make reference`"


@pytest.mark.parametrize("module", public_modules(), ids=lambda module: module.__name__)
def test_every_public_name_says_what_it_is(module):
    silent = [
        name
        for name, one in entries(module).items()
        if (inspect.isclass(one) or inspect.isroutine(one))
        and (not first_words(one.__doc__) or one.__doc__.startswith(f"{one.__name__}("))  # what dataclasses get unasked
    ]
    assert not silent


def test_long_signatures_keep_their_marks_and_lose_the_modules():
    def sample(first: Path, /, second: int = 2, *, third_parameter: str = "x" * 60, fourth: float = 0.5) -> Path:
        """Say something.

        More of it.
        """
        return first

    assert signature("sample", sample).splitlines() == [
        "sample(",
        "    first: Path,",
        "    /,",
        "    second: int = 2,",
        "    *,",
        f"    third_parameter: str = '{'x' * 60}',",
        "    fourth: float = 0.5,",
        ") -> Path",
    ]
    assert describe("sample", sample).endswith("```\n\nSay something.")
