"""Exports whose model card tells of the run: its settings, its steps, and the numbers of its evaluations."""

from pathlib import Path

from seaanchor.config.run_settings import read_settings
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.head_file import NAME as HEAD
from seaanchor.encoders.head_file import head_digest
from seaanchor.encoders.input_settings import in_words
from seaanchor.encoders.model_paths import path_of
from seaanchor.errors import SeaAnchorError, note
from seaanchor.evaluation.result_files import decode, is_result, read_json
from seaanchor.evaluation.results import EvaluationResult, HeadRecord
from seaanchor.export.folder import export_model as write_export
from seaanchor.export.heads import called
from seaanchor.export.origin import Number, Numbers, Origin
from seaanchor.report.checks import checks_text, named_checks
from seaanchor.report.measures import Measure, Value
from seaanchor.report.readers import measures
from seaanchor.report.text import change_text, interval_text, value_text
from seaanchor.training.divergence import divergence_text
from seaanchor.training.run_folder import RunFolder, steps_and_images
from seaanchor.types import NamedHead
from seaanchor.utils.text import plural

SHOWN = 3  # prompts


def export_model(
    model: LoadedModel,
    folder: Path,
    *,
    half: bool = False,
    format: str | None = None,
    run: Path | None = None,
) -> Path:
    """Write a model as a folder that another library loads, with a model card, and verify it before it takes its place.

    Args:
        model: from `load_model` or `Run.model`; its encoder's weights are those of its module.
        folder: where to write; of a folder that is there, files of the same names are replaced.
        half: store fp16 weights (the check then allows for their rounding).
        format: `open-clip`, `timm`, `hf`, `hf-vision` (the image tower as the `CLIPVisionModel` of vision-language
            models) or `onnx` (the image tower); by default that of the model's own library.
        run: the run that trained it, of which the card tells; by default the one in whose folder the model lies.

    Returns:
        The folder.

    Raises:
        SeaAnchorError: a format that has no place for the model, the disk is full or the folder cannot be written, or
            the reloaded model gives other embeddings.
    """
    origin = origin_of(model.name if run is None else str(run / "export"), model.stored_head)
    return write_export(model, folder, half=half, format=format, origin=origin)


def origin_of(name: str, kept: NamedHead | None = None) -> Origin:
    """The run that a model is the export of, with the numbers of all its evaluations; empty for other models.

    Args:
        name: of the model, as it was loaded.
        kept: the linear head that goes with it into its export.

    Raises:
        SeaAnchorError: the run's settings cannot be read.
    """
    folder = path_of(name)
    run = RunFolder(folder.parent)
    if not folder.is_dir() or not run.config.is_file():
        return Origin()
    rows, numbers = run.rows(), _evaluations(run.root / "evaluation", kept)
    steps, seen = steps_and_images(rows)
    return Origin(read_settings(run.config), steps, numbers, diverged=divergence_text(rows), images_seen=seen)


def _evaluations(folder: Path, kept: NamedHead | None) -> tuple[Numbers, ...]:
    """The results in a folder; one that cannot be read is left out, which is said."""
    found = []
    for file in sorted(folder.glob("*.json")):
        try:
            data = read_json(file)
            if is_result(data):
                found.append(numbers_of(decode(data, str(file)), kept))
        except SeaAnchorError as error:
            note(f"{error.found}: its numbers are not in the model card")
    return tuple(found)


def numbers_of(result: EvaluationResult, kept: NamedHead | None = None) -> Numbers:
    """A result as a model card shows it.

    Args:
        result: of an evaluation.
        kept: the linear head that goes with the model into its export.
    """
    rows = tuple(_number(measure) for measure in measures(result) if not measure.fold)
    name = result.dataset if not Path(result.dataset).is_absolute() else Path(result.dataset).name
    checks = named_checks(result)
    failed = tuple(f"{name} ({check.detail})" for name, check in checks if not check.passed)
    return Numbers(name, result.pretrained, _protocol(result, kept), rows, failed)


def _number(measure: Measure) -> Number:
    value, reference = (_with_interval(v, measure) for v in (measure.value, measure.reference))
    change = measure.change
    shown = change_text(change, measure.percent)
    if change is not None and change.low is not None:
        shown += f" ({interval_text(change, measure.percent, signed=True)})"
    n = "" if measure.value.n is None else f"{measure.value.n:,}"
    return Number(f"{measure.group}: {measure.label}".replace("|", "\\|"), value, reference, shown, n)


def _with_interval(value: Value | None, measure: Measure) -> str:
    if value is None:
        return ""
    interval = interval_text(value, measure.percent)
    return value_text(value, measure.percent) + (f" ({interval})" if interval else "")


def _protocol(result: EvaluationResult, kept: NamedHead | None) -> str:
    """How the numbers were found, in sentences."""
    protocol, plain = result.protocol, result.plain
    images = "" if plain is None or plain.n is None else plural(plain.n, "image")
    count = len(protocol.class_names)
    classes = f" of {plural(count, 'class', 'classes')}" if count else ""
    said = [f"Protocol: {images}{classes}, seed {protocol.seed or 0}"]
    if protocol.head.kind == "text" and protocol.templates:
        more = len(protocol.templates) - SHOWN
        prompts = ", ".join(f'"{text}"' for text in protocol.templates[:SHOWN]) + (
            f" and {more} more" if more > 0 else ""
        )
        said.append(f"prompts {prompts}")
    else:
        said.append(f"answers by {_answered_by(protocol.head, kept)}")
    said.append(f"self-checks: {checks_text(result)}")
    said.append(f"Sea Anchor {protocol.seaanchor or 'of an unknown version'}")
    return f"{', '.join(said)}. Pictures: {in_words(protocol.pixels) if protocol.pixels else 'not known'}."


def _answered_by(head: HeadRecord, kept: NamedHead | None) -> str:
    """What turned embeddings into answers, with its file if it lies in the export."""
    if head.kind == "text":
        return "the class texts"
    if head.kind == "classifier":
        return "the model's own classifier"
    if head.digest is None:
        return head.kind
    if kept is not None and head_digest(kept) == head.digest:
        return f"{called(head.kind)}, {HEAD}"
    of = f" ({Path(head.source).name})" if head.source else ""
    return f"{called(head.kind)}{of} that is not in this folder"
