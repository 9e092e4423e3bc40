"""What libraries say is passed on without their advice to switch a protection off."""

import pickle

import pytest
import torch

from seaanchor.encoders.weight_files import unreadable
from seaanchor.encoders.weights import hub_error, weights_error
from seaanchor.errors import PROTECTIONS, said_by

ADVICE = (
    "The repository contains custom code which must be executed. Please pass the argument `trust_remote_code=True`.",
    "Weights only load failed.\n\t(1) Re-running `torch.load` with `weights_only` set to `False` will likely succeed\n"
    "\t(2) use `torch.serialization.add_safe_globals([Mark])` to allowlist it",
    "Object arrays cannot be loaded when allow_pickle=False",
)


@pytest.mark.parametrize("words", ADVICE)
def test_no_advice_of_a_library_becomes_ours(words, tmp_path):
    error = RuntimeError(words)
    for shown in (hub_error("a", error, "b"), weights_error("a", "b", error), unreadable(tmp_path / "a.pt", error)):
        assert not PROTECTIONS.search(str(shown))


def test_the_rest_of_it_is_passed_on():
    assert said_by(RuntimeError(ADVICE[0])) == "The repository contains custom code which must be executed."
    assert said_by(RuntimeError(ADVICE[2])) == "RuntimeError"
    assert said_by("shapes (3, 4)\n  and (4, 3) differ: see above") == "shapes (3, 4) and (4, 3) differ: see above"


def test_what_torch_says_today(tmp_path):
    torch.save({"a": Mark()}, tmp_path / "a.pt")
    with pytest.raises(pickle.UnpicklingError) as caught:
        torch.load(tmp_path / "a.pt", weights_only=True)
    assert PROTECTIONS.search(str(caught.value)) and not PROTECTIONS.search(said_by(caught.value))


class Mark:
    """An object that a file of weights has no business to hold."""
