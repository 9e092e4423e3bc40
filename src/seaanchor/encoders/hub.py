"""The Hub where it cannot be reached: what is on this disk loads at once, and what is not fails in seconds."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from seaanchor.encoders.embedded import embedded_models
from seaanchor.encoders.pretrained import is_weights_file, split_pretrained

SECONDS = 3.0  # for a connection, which takes a fraction of one where there is a network
_unreachable: list[str] = []
"""Why, while `quick_to_fail` is open and there is no connection."""


def may_ask_the_hub(name: str, pretrained: str | None) -> bool:
    """Whether files of a model may have to be downloaded: it is not embedded, no folder and no architecture alone."""
    base = split_pretrained(pretrained).base
    folder = name.rpartition(":")[2] if name.startswith(("hf:", "local-dir:", "timm:local-dir:")) else name
    return not (name in embedded_models() or base == "none" or is_weights_file(base) or Path(folder).is_dir())


@contextmanager
def quick_to_fail(name: str, pretrained: str | None) -> Iterator[None]:
    """Inside, the Hub is not asked where it cannot be reached: its library retries for a minute and more.

    Args:
        name: of the model that is loaded inside.
        pretrained: of it.
    """
    reason = why_unreachable() if may_ask_the_hub(name, pretrained) else None
    if reason is None:
        yield
        return
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    _unreachable.append(reason)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        _unreachable.pop()


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
    """Why the Hub cannot be reached, inside `quick_to_fail`."""
    return _unreachable[-1] if _unreachable else None
