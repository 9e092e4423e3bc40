"""`report`: runs and results as one page. Nothing heavy is imported before the command needs it."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

report_app = App(
    name="report", help="Write one or several runs as one HTML page that works offline, and the same numbers as CSV."
)


@report_app.default
def report(
    *runs: Path,
    output: Path | None = None,
    gallery: int = 6,
    device: str | None = None,
    title: str | None = None,
    allow: Annotated[tuple[str, ...], Parameter(negative=())] = (),
) -> None:
    """Write what training gained and what it cost as one HTML page that works offline, and the same numbers as CSV.

    Parameters
    ----------
    runs
        Run folders, evaluation folders and result files; several are compared on one page.
    output
        An .html file, or a folder for report.html; RUN/report.html by default for one run.
    gallery
        Number of images to show under attack; with 0 no model is loaded.
    device
        Where the gallery is computed: cpu, cuda, ...
    title
        Heading of the page; the models' names by default.
    allow
        A model's folder, a folder with several such as that of a sweep, or a weights file, outside the runs, that may
        be loaded for the gallery; may be given several times.
    """
    from seaanchor.report.page import write_report

    print(f"written: {write_report(runs, output, gallery=gallery, device=device, title=title, allow=allow)}")
