"""Examples in docstrings (`>>> ...`) as blocks of code on the documentation site, wherever they stand."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"(?:^[ \t]*>>>.*\n?(?:^[ \t]*\S.*\n?)*)", re.MULTILINE)


class FencedExamples(griffe.Extension):
    """Puts each example of a docstring between fences."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change the docstring of one object."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """A docstring with its examples, up to the next empty line, between fences.

    >>> fenced("Sum.\\n\\n>>> 1 + 1\\n2\\n\\nMore.")
    'Sum.\\n\\n```pycon\\n>>> 1 + 1\\n2\\n```\\n\\nMore.'
    """
    return EXAMPLE.sub(lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", text).rstrip("\n")
