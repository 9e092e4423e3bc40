"""`app`: the page to play with. Nothing heavy is imported before the command needs it."""


def play(run: str = "", *, port: int = 7860, device: str | None = None, browser: bool = False) -> None:
    """Play with an untouched and a hardened model in the browser: attack a photo, stick a word on it, drag t. The page
    is for this machine alone and works offline.

    Parameters
    ----------
    run
        Folder of a run to show beside the model that it started from; the embedded models by default.
    port
        Port of this machine; 0 for any that is free.
    device
        Where the models compute: cpu, cuda, ...
    browser
        Open the page in the browser.
    """
    from seaanchor.app.server import serve

    serve(run, port, device, browser=browser)
