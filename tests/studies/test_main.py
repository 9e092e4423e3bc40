"""`python -m studies`."""

import pytest

from seaanchor.errors import SeaAnchorError
from studies.__main__ import app, main


def test_an_unknown_experiment_gets_the_nearest_name():
    with pytest.raises(SeaAnchorError, match=r"did you mean typographic\?"):
        app(["typografic"], exit_on_error=False, print_error=False)


def test_without_a_name_all_are_listed(capsys):
    app([], exit_on_error=False, print_error=False, result_action="return_value")
    assert "lore-front" in capsys.readouterr().out


def test_an_error_is_one_message(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["studies", "lore-front", "--extra", "cifar10"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and "error: --extra cifar10" in capsys.readouterr().err


def test_without_scipy_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("studies.__main__.find_spec", lambda name: None)
    with pytest.raises(SeaAnchorError, match="scipy is missing"):
        app([], exit_on_error=False, print_error=False)
