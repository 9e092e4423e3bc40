"""The page's server: on this machine alone, and with nothing that is fetched from elsewhere."""

import os
import socket
import threading
from importlib.util import find_spec
from pathlib import Path

from seaanchor.app.settings import MOST_BYTES
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.log import log

HOST, PORT = "127.0.0.1", 7860
STYLE = Path(__file__).with_name("style.css")


def serve(run: str = "", port: int = PORT, device: str | None = None, *, browser: bool = False) -> None:
    """Show the page until it is interrupted. It is there before the embedded models are.

    Args:
        run: what stands beside the untouched model at first, as for `cast_of`.
        port: of this machine; 0 for any that is free.
        device: cpu, cuda, ...; the accelerator if there is one.
        browser: whether to open it in the browser.

    Raises:
        SeaAnchorError: the extra `app` is missing, the port is in use, or the models cannot be loaded.
    """
    port = free_port(port)  # before anything is loaded
    if find_spec("gradio") is None:
        raise SeaAnchorError("gradio is not installed", "the extra `app`", "pip install 'seaanchor[app]'")
    steered = bool(run) and _is_steered(run, device)
    from seaanchor.app.gradio_import import import_gradio

    gr = import_gradio()
    from seaanchor.app.page import build_page

    ready = threading.Event()
    page = build_page(run, device, steered, ready)
    plain = ["system-ui", "sans-serif"]
    theme = gr.themes.Default(primary_hue="sky", font=plain, font_mono=["ui-monospace", "monospace"])
    page.queue(default_concurrency_limit=2)
    try:
        page.launch(
            server_name=HOST,
            server_port=port,
            inbrowser=browser,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            max_file_size=MOST_BYTES,
            footer_links=[],
            theme=theme,
            css_paths=STYLE,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
        )
    except OSError as error:  # somebody took it meanwhile
        raise _in_use(port, str(error)) from error
    log.info(f"open http://{HOST}:{port} in a browser; Ctrl-C ends it")
    from seaanchor.app.models import cast_of

    cast_of(run, device)  # once the page is there, so that it need not wait for the embedded models
    ready.set()
    page.block_thread()


def free_port(port: int) -> int:
    """The port, or any that is free for 0.

    Raises:
        SeaAnchorError: it is in use, or no port.
    """
    if not 0 <= port < 65536:
        raise SeaAnchorError(f"port {port}", "a number from 1024 to 65535, or 0 for any", "choose another --port")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise _in_use(port, os.strerror(error.errno or 0)) from None
        return probe.getsockname()[1]


def _in_use(port: int, why: str) -> SeaAnchorError:
    return SeaAnchorError(
        f"port {port} is not free: {why}",
        "a port that nobody listens on",
        "choose another --port, or --port 0 for any that is free",
    )


def _is_steered(run: str, device: str | None) -> bool:
    """Whether the run, which is loaded now, has a linear map."""
    from seaanchor.app.models import cast_of

    return cast_of(run, device).steered is not None
