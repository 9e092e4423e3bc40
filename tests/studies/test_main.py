"""`python -m studies`."""

import pytest

from seaanchor.errors import SeaAnchorError
from studies.__main__ import app


def test_an_unknown_experiment_gets_the_nearest_name():
    with pytest.raises(SeaAnchorError, match=r"did you mean typographic\?"):
        app(["typografic"], exit_on_error=False, print_error=False)


def test_without_a_name_all_are_listed(capsys):
    app([], exit_on_error=False, print_error=False, result_action="return_value")
    assert "lore-front" in capsys.readouterr().out
