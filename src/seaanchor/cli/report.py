"""`report`: runs and results as one page. Nothing heavy is imported before the command needs it."""

from pathlib import Path

from cyclopts import App

report_app = App(name="report", help="One or several runs to one offline HTML page, and the same numbers as CSV.")


@report_app.default
def report(*runs: Path, output: Path | None = None, gallery: int = 6, device: str | None = None) -> None:
    """Write what was gained and what it cost to one offline HTML page, and the same numbers as CSV beside it.

    Parameters
    ----------
    runs
        Run folders, evaluation folders and result files, in any mixture; several are compared on one page.
    output
        An .html file, or a folder for report.html; RUN/report.html by default for one run.
    gallery
        Attacked images to show of each model; 0 leaves them out and loads no model.
    device
        Where the gallery is computed: cpu, cuda, ...
    """
    from seaanchor.report.page import write_report

    print(f"written: {write_report(runs, output, gallery=gallery, device=device)}")
