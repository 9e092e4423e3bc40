"""A server without the libraries that OpenCV wants is told the name of their package."""

import sys

import pytest
import torch

from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.corruptions import corrupt


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("libGL.so.1: cannot open shared object file: No such file or directory", "package libgl1"),
        ("libgthread-2.0.so.0: cannot open shared object file: No such file or directory", "package libglib2.0-0"),
        ("No module named 'imagecorruptions'", r"pip install 'seaanchor\[corruptions\]'"),
    ],
)
def test_what_is_missing_is_named(tmp_path, monkeypatch, reason, change):
    (tmp_path / "imagecorruptions.py").write_text(f"raise ImportError({reason!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "imagecorruptions", raising=False)
    with pytest.raises(SeaAnchorError, match=change):
        corrupt(torch.rand(1, 3, 32, 32), "motion_blur", 1, torch.tensor([0]), 0)
