"""The page's server: on this machine alone, and with nothing that is fetched from elsewhere."""

import os
import socket
from pathlib import Path

from seaanchor.errors import SeaAnchorError
from seaanchor.utils.log import log

HOST, PORT = "127.0.0.1", 7860
STYLE = Path(__file__).with_name("style.css")


def serve(run: str = "", port: int = PORT, device: str | None = None, *, browser: bool = False) -> None:
    """Show the page until it is interrupted.

    Args:
        run: what stands beside the untouched model at first, as for `cast_of`.
        port: of this machine; 0 for any that is free.
        device: cpu, cuda, ...; the accelerator if there is one.
        browser: whether to open it in the browser.

    Raises:
        SeaAnchorError: the extra `app` is missing, the port is in use, or the models cannot be loaded.
    """
    port = free_port(port)  # before anything is loaded
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read on import, and by every component
    try:
        import gradio as gr
    except ImportError:
        raise SeaAnchorError("gradio is not installed", "the extra `app`", "pip install 'seaanchor[app]'") from None
    from seaanchor.app.models import cast_of
    from seaanchor.app.page import build_page
    from seaanchor.app.pictures import MOST_BYTES

    page = build_page(run, device)
    plain = ["system-ui", "sans-serif"]
    theme = gr.themes.Default(primary_hue="sky", font=plain, font_mono=["ui-monospace", "monospace"])
    page.queue(default_concurrency_limit=2)
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
    log.info(f"open http://{HOST}:{port} in a browser; Ctrl-C ends it")
    cast_of(run, device)  # once the page is there, so that it need not wait for the embedded models
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
            raise SeaAnchorError(
                f"port {port} is not free: {os.strerror(error.errno or 0)}",
                "a port that nobody listens on",
                "choose another --port, or --port 0 for any that is free",
            ) from None
        return probe.getsockname()[1]
