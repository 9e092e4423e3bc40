"""Where results lie: the names of result files, and those that are there already."""

from pathlib import Path

from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.context import EvaluationContext
from seaanchor.evaluation.result_files import decode, read_json
from seaanchor.evaluation.results import FORMAT, EvaluationResult
from seaanchor.utils.log import log
from seaanchor.utils.paths import portable


def is_result_file(output: Path | None) -> bool:
    """Whether an output is the result file itself, and not a folder of them."""
    return output is not None and output.suffix == ".json" and not output.is_dir()


def result_file(folder: Path, context: EvaluationContext, key: str) -> Path:
    """The file of a key, which is the hash of everything that decides the numbers: the one that is there, whatever else
    is in its name, or the one to write; the output itself where it is a file."""
    if is_result_file(folder):
        return folder
    return next(iter(folder.glob(f"*--{key}.json")), folder / f"{_stem(context)}--{key}.json")


def stored_result(file: Path | None, context: EvaluationContext) -> EvaluationResult | None:
    """A result that is there already; one of another format is not used, which is said, and is computed again."""
    if file is None:
        return None
    for other in sorted({*file.parent.glob(f"{_stem(context)}--*.json"), *([file] if file.exists() else [])}):
        try:
            data = read_json(other)
            version = data["format"]
        except (SeaAnchorError, KeyError, TypeError):
            data, version = None, "unreadable"
        if version == FORMAT and other == file:
            return decode(data, str(file))
        if version != FORMAT:
            log.info(f"{other} is of format {version}, results are now of format {FORMAT}: computed again")
    return None


def _stem(context: EvaluationContext) -> str:
    return f"{_slug(portable(context.model.name))}--{_slug(portable(context.dataset))}"


def _slug(name: str) -> str:
    """A name as part of a file's, which no leading dot hides."""
    return "".join(c if c.isalnum() or c in "-." else "_" for c in name.strip("/"))[-60:].lstrip("._") or "_"
