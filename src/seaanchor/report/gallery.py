"""The gallery of a model: which result it illustrates, and the model and images it is made with."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from seaanchor.data.class_matching import as_answers
from seaanchor.data.loader import subset
from seaanchor.data.sources import open_images
from seaanchor.data.types import Images, LabelledImages, texts_of
from seaanchor.encoders.classifiers import own_classifier
from seaanchor.encoders.embedded import embedded_models
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.encoders.head_file import head_digest, read_head
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.load import load_model
from seaanchor.encoders.preprocess_option import input_settings, with_preprocess
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.results import EvaluationResult
from seaanchor.functional.gradients import frozen
from seaanchor.report.attacked import drawn_words, gradient_attack
from seaanchor.report.gallery_pictures import Picture, choose_pictures
from seaanchor.report.measures import count
from seaanchor.report.sources import Entry, ResultFile
from seaanchor.types import NamedHead
from seaanchor.utils.paths import expanded, portable


@dataclass(frozen=True)
class Gallery:
    """Images of one model, or a note that says why there are none."""

    label: str
    attack: str
    dataset: str
    difference: str
    side: int
    pictures: tuple[Picture, ...]
    note: str = ""


def gallery(entry: Entry, count: int, device: str | None = None) -> Gallery | None:
    """The images of a model under the attack it was trained against, else one it was evaluated under; None where it was
    evaluated under none.

    Args:
        entry: the model, with its results and run.
        count: images to show.
        device: cpu, cuda, ...; the accelerator if there is one.
    """
    chosen = _choose(entry)
    if chosen is None:
        return None
    file, drawn = chosen
    result = file.result
    try:
        return _gallery(entry, file, drawn, count, device)
    except (SeaAnchorError, OSError) as error:
        found = error.found if isinstance(error, SeaAnchorError) else str(error)
        return Gallery(entry.label, "", result.dataset, "", 0, (), f"No images: {portable(found)}.")


def _choose(entry: Entry) -> tuple[ResultFile, bool] | None:
    """A result under the run's own kind of attack, and whether that is drawn words."""
    files = entry.results
    drawn = [f for f in files if f.result.suites.typographic and f.result.suites.typographic.unreadable]
    gradient = [f for f in files if any(row.epsilon > 0 for row in f.result.robust.rows)]
    ways = [(drawn, True), (gradient, False)]
    on_words = entry.run is not None and entry.run.settings.perturbation.kind == "typographic"
    for found, words in ways if on_words else ways[::-1]:
        if found:
            return max(found, key=lambda file: count(file.result) or 0), words
    return None


def _gallery(entry: Entry, file: ResultFile, drawn: bool, count: int, device: str | None) -> Gallery:
    result = file.result
    protocol = result.protocol
    model, images, names = _model(entry, result), _images(result), protocol.class_names
    named = _linear_head(model, file)
    if named is not None:
        images = as_answers(images, named.class_names, len(named.head.weight_CD), result.dataset, "the head")
    if not isinstance(images, LabelledImages) or len(images.class_names) != len(names):
        raise SeaAnchorError(
            f"{result.dataset} is not what was evaluated: {len(texts_of(images))} classes instead of {len(names)}",
            "",
            "",
        )
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    head = build_head(model, names, protocol.templates) if named is None else named.head
    encoder, on_place = model.encoder.to(place).eval(), head.to(place)

    def logits(pixels_BCHW: Tensor) -> Tensor:
        return on_place(encoder(pixels_BCHW).float())

    attack = drawn_words(names, result) if drawn else gradient_attack(entry, result, len(names))
    with frozen(encoder):
        pictures = choose_pictures(attack, logits, images, names, encoder.preprocessing, count, place)
    note = "" if pictures else "None of the images tried is classified rightly to begin with."
    return Gallery(entry.label, attack.name, result.dataset, attack.difference, encoder.image_size, pictures, note)


def _linear_head(model: LoadedModel, file: ResultFile) -> NamedHead | None:
    """The head that a result was found with: the model's own classifier, or the copy beside the result; None for texts.

    Raises:
        SeaAnchorError: it is gone, or is another one by now.
    """
    record = file.result.protocol.head
    if record.kind == "text":
        return None
    named = own_classifier(model) if record.file is None else read_head(file.path.parent / record.file)
    if head_digest(named) != record.digest:
        raise SeaAnchorError(f"the head of {portable(model.name)} has changed since it was evaluated", "", "")
    return named


def _model(entry: Entry, result: EvaluationResult) -> LoadedModel:
    """The model of a result: in its run's folder, which may have moved, or where the result says.

    Raises:
        SeaAnchorError: it is gone, or is another one by now.
    """
    name = result.model
    prefix = next((p for p in ("timm:local-dir:", "timm:", "hf:", "local-dir:") if name.startswith(p)), "")
    place = Path(expanded(name.removeprefix(prefix)))
    if entry.run is not None:
        place = entry.run.folder / place.name
    if not place.is_dir() and name not in embedded_models():
        raise SeaAnchorError(f"the model {portable(str(place))} is gone", "", "")
    protocol = result.protocol
    model = load_model(name if name in embedded_models() else f"{prefix}{place}", None, protocol.image_size)
    evaluated = f"{protocol.preprocessing},{protocol.normalisation}"
    if protocol.preprocessing and evaluated != str(input_settings(model.encoder)):  # by --preprocess
        model = with_preprocess(model, evaluated.partition(",")[2])
    if fingerprint(model.encoder) != protocol.weights:
        raise SeaAnchorError(f"the model in {portable(str(place))} has changed since it was evaluated", "", "")
    return model


def _images(result: EvaluationResult) -> Images:
    protocol = result.protocol
    images = open_images(expanded(result.dataset), split="test")
    return images if protocol.samples is None else subset(images, protocol.samples, protocol.seed or 0)
