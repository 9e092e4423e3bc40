"""The site builds from the documents, strictly, and asks nothing of the network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FETCHED = re.compile(r"""<(?:script|img|iframe|source)[^>]+src=["']?(https?:)?//|<link[^>]+href=["']?(https?:)?//""")


@pytest.mark.slow
def test_it_builds_strictly_and_fetches_nothing(tmp_path):
    command = [Path(sys.executable).with_name("mkdocs"), "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    pages = {str(file.relative_to(tmp_path)): file.read_text() for file in tmp_path.rglob("*.html")}
    assert {"index.html", "which-method.html", "guide/encoders.html", "api/seaanchor.html"} <= set(pages)
    assert "doc doc-heading" in pages["api/seaanchor.attacks.html"]
    assert not [name for name, text in pages.items() if FETCHED.search(text)]
