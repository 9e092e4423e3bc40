"""The Hub where it cannot be reached, or must not be: what is on this disk loads at once, and what is not fails in
seconds."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies

from seaanchor.encoders.embedded import embedded_models
from seaanchor.encoders.model_paths import folder_of
from seaanchor.encoders.pretrained import is_weights_file, split_pretrained

SECONDS = 3.0  # for a connection, which takes a fraction of one where there is a network
NOT_FETCHED = "what a folder names is not fetched for it: `hf download` does that once, if you want it"
_unreachable: list[str] = []
"""Why, while the Hub is not asked."""


def may_ask_the_hub(name: str, pretrained: str | None) -> bool:
    """Whether files of a model may have to be downloaded: it is not embedded, no folder and no architecture alone."""
    base = split_pretrained(pretrained).base
    return not (name in embedded_models() or base == "none" or is_weights_file(base) or folder_of(name))


@contextmanager
def quick_to_fail(name: str, pretrained: str | None) -> Iterator[None]:
    """Inside, the Hub is not asked where it cannot be reached: its library retries for a minute and more. A folder may
    not have it asked at all.

    Args:
        name: of the model that is loaded inside.
        pretrained: of it.
    """
    if _unreachable:
        reason: str | None = _unreachable[-1]
    elif folder_of(name) is not None:
        reason = NOT_FETCHED
    else:
        reason = why_unreachable() if may_ask_the_hub(name, pretrained) else None
    if reason is None:
        yield
        return
    with without_hub(reason):
        yield


@contextmanager
def without_hub(reason: str) -> Iterator[None]:
    """Inside, the Hub is asked for nothing: neither for models nor for data sets.

    Args:
        reason: why, for messages.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, _datasets_offline()
    _set_offline(True, True)
    _unreachable.append(reason)
    try:
        yield
    finally:
        _set_offline(*before)
        _unreachable.pop()


def _datasets_offline() -> bool:
    """Whether the library of data sets asks for nothing; before it is imported, as its variable says."""
    config = sys.modules.get("datasets.config")
    if config is None:
        return os.environ.get("HF_DATASETS_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    return bool(vars(config)["HF_HUB_OFFLINE"])


def _set_offline(hub: bool, datasets: bool) -> None:
    """In both libraries; that of data sets copies the setting when it is imported, which may be meanwhile."""
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = hub
    if (config := sys.modules.get("datasets.config")) is not None:
        vars(config)["HF_HUB_OFFLINE"] = hub or datasets


def why_unreachable() -> str | None:
    """Why there is no connection to the Hub; None where there is one, or where it is not to be asked anyway."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return None
    url = urlsplit(constants.ENDPOINT)
    proxies = getproxies()
    proxy = urlsplit(proxies.get(url.scheme) or proxies.get("all") or "")
    asked = proxy if proxy.hostname else url
    port = asked.port or {"http": 80}.get(asked.scheme, 443)
    try:
        with socket.create_connection((str(asked.hostname), port), timeout=SECONDS):
            return None
    except OSError as error:
        return f"{asked.hostname}: {error.strerror or error}"


def unreachable() -> str | None:
    """Why the Hub is not asked, inside `quick_to_fail` and `without_hub`."""
    return _unreachable[-1] if _unreachable else None
