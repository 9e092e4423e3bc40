"""The Hub where it cannot be reached, without asking it."""

import socket
import time

import pytest

import seaanchor.encoders.hub as module
from seaanchor.encoders.hub import may_ask_the_hub, unreachable, why_unreachable
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError


@pytest.fixture
def endpoint(monkeypatch):
    """Sets the address of the Hub to a port of this machine."""
    from huggingface_hub import constants

    def at(port: int) -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setattr(module, "getproxies", dict)

    return at


@pytest.fixture
def listening():
    """A server that accepts connections, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize("name", ["hf:nobody/nothing", "hf-hub:nobody/nothing", "timm:resnet10t"])
def test_without_a_connection_a_name_on_the_hub_fails_in_seconds(endpoint, name):
    from huggingface_hub import constants

    endpoint(closed_port())
    started = time.process_time()
    with pytest.raises(SeaAnchorError) as caught:
        load_model(name)
    assert time.process_time() - started < 10
    assert (
        caught.value.found
        == f"{name} is not on this disk, and the Hub cannot be reached (127.0.0.1: Connection refused)"
    )
    assert constants.HF_HUB_OFFLINE is False and unreachable() is None  # as before


def test_a_server_that_listens_is_asked(endpoint, listening):
    endpoint(listening)
    assert why_unreachable() is None


def test_a_proxy_is_asked_in_place_of_the_hub(endpoint, listening, monkeypatch):
    endpoint(closed_port())
    monkeypatch.setattr(module, "getproxies", lambda: {"http": f"http://127.0.0.1:{listening}"})
    assert why_unreachable() is None


@pytest.mark.parametrize(
    ("name", "pretrained", "asks"),
    [
        ("ViT-B-32", "openai", True),
        ("hf:org/name", None, True),
        ("timm:resnet10t", None, True),
        ("timm:resnet10t", "none", False),
        ("seaanchor-tiny", None, False),
        ("FOLDER", None, False),
        ("hf:FOLDER", None, False),
        ("timm:local-dir:FOLDER", None, False),
        ("ViT-B-32", "FOLDER/w.pt", False),
    ],
)
def test_what_is_on_this_disk_asks_for_no_connection(tmp_path, name, pretrained, asks):
    (tmp_path / "w.pt").touch()
    here = [None if text is None else text.replace("FOLDER", str(tmp_path)) for text in (name, pretrained)]
    assert may_ask_the_hub(*here) is asks
