"""Where the page is served, and what is said before it is."""

import builtins
import socket
import subprocess
import sys
from importlib.util import find_spec

import pytest

from seaanchor.app.server import HOST, free_port, serve
from seaanchor.errors import SeaAnchorError


def test_a_port_in_use_is_said_before_anything_is_loaded(run):
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        code, _, err = run("app", "--port", other.getsockname()[1])
    assert code == 2 and "is not free: Address already in use" in err and "--port 0" in err and "Traceback" not in err


def test_port_0_is_any_that_is_free():
    assert free_port(0) > 0
    with pytest.raises(SeaAnchorError, match="port 70000"):
        free_port(70000)


def test_without_gradio_the_extra_is_named(monkeypatch):
    found = builtins.__import__

    def without(name, *rest, **more):
        if name == "gradio":
            raise ImportError(name)
        return found(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SeaAnchorError, match="gradio is not installed") as error:
        serve(port=0)
    assert "seaanchor[app]" in error.value.change


@pytest.mark.skipif(find_spec("gradio") is None, reason="the extra `app` is not installed")
def test_a_run_that_is_not_there_ends_with_one_message(run, tmp_path):
    code, _, err = run("app", tmp_path / "none", "--port", 0)
    assert code == 2 and "does not exist" in err and "Traceback" not in err


@pytest.mark.skipif(find_spec("gradio") is None, reason="the extra `app` is not installed")
def test_the_page_is_built_before_torch_is_there():
    """Neither torch nor gradio's stubs for editors: each would cost seconds until the page is there."""
    code = (
        "import sys, threading; from seaanchor.app.gradio_import import WRITER, import_gradio; import_gradio();"
        "from seaanchor.app.page import build_page; build_page('', None, False, threading.Event());"
        "print('torch' in sys.modules, sys.modules[WRITER].create_or_modify_pyi.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "seaanchor.app.gradio_import"]
