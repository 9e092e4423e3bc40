"""No file of ours holds NaN or Infinity, which are no JSON: what cannot be written is named."""

import json
import math
import re
from pathlib import Path

import pytest
import torch

import seaanchor
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.checkpoint import save_state
from seaanchor.utils.json_text import to_json, with_nulls


def test_numbers_that_are_not_finite_are_named_or_null():
    value = {"a": [1.0, math.nan], "b": {"c": -math.inf, "d": "NaN", "e": (2, None, True)}}
    with pytest.raises(SeaAnchorError, match=r"a\[1\] is nan, b\.c is -inf cannot be written"):
        to_json(value)
    assert json.loads(to_json(with_nulls(value))) == {
        "a": [1.0, None],
        "b": {"c": None, "d": "NaN", "e": [2, None, True]},
    }


def test_a_state_with_such_a_number_is_not_written(tmp_path):
    with pytest.raises(SeaAnchorError, match="is nan"):
        save_state(tmp_path / "x", {"w": torch.zeros(2), "mass": math.nan})
    assert not list(tmp_path.iterdir())


def test_nothing_else_writes_json():
    root = Path(seaanchor.__file__).parent
    found = [
        str(file.relative_to(root)) for file in root.rglob("*.py") if re.search(r"json\.dumps?\(", file.read_text())
    ]
    assert found == ["utils/json_text.py"]
