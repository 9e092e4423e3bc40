"""The pictures of a page: the same images for every model and for the untouched one, under the same attack."""

from collections.abc import Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch

from seaanchor.data.class_matching import as_answers
from seaanchor.data.loader import subset
from seaanchor.data.sources import open_images
from seaanchor.data.types import LabelledImages, texts_of
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.results import EvaluationResult
from seaanchor.functional.gradients import frozen
from seaanchor.report.allowed import Allowed, OutsideError, exports_of
from seaanchor.report.attacked import drawn_words, gradient_attack
from seaanchor.report.gallery_models import UNTOUCHED, Member, model_member, reference_member
from seaanchor.report.gallery_pictures import Picture, choose_pictures
from seaanchor.report.measures import count
from seaanchor.report.sources import Entry, ResultFile
from seaanchor.types import NamedHead
from seaanchor.utils.paths import expanded, portable


@dataclass(frozen=True)
class Gallery:
    """Images under one attack, as several models see them.

    Attributes:
        dataset: where the images are from.
        attack: what is done to them, in words; empty where there are no pictures.
        difference: how a difference is shown, in words.
        side: of the models' input, in pixels.
        models: (number, label) of each model, untouched ones with None and first.
        judge: label of the model whose answers decided which images are shown.
        pictures: one for each image.
        notes: which models or images are missing, and why.
        has_reference: whether there is an untouched model, shown or not.
    """

    dataset: str
    attack: str
    difference: str
    side: int
    models: tuple[tuple[int | None, str], ...]
    judge: str
    pictures: tuple[Picture, ...]
    notes: tuple[str, ...] = ()
    has_reference: bool = False


@dataclass(frozen=True)
class Shown:
    """A model to show: its place on the page, the result to illustrate, and whether by drawn words."""

    number: int
    entry: Entry
    file: ResultFile
    drawn: bool

    @property
    def images(self) -> Hashable:
        """What two models must share to be shown on the same images under the same attack."""
        result, protocol = self.file.result, self.file.result.protocol
        which = protocol.images or (protocol.seed, protocol.samples)
        return result.dataset, which, protocol.class_names, self.drawn


def galleries(
    entries: Sequence[Entry], count: int, device: str | None = None, allowed: Allowed = frozenset()
) -> list[Gallery]:
    """A gallery for every set of images that models were attacked on: under the attack that the first of them was
    trained against, else one that it was evaluated under.

    Args:
        entries: the models, with their results and runs.
        count: images to show.
        device: cpu, cuda, ...; the accelerator if there is one.
        allowed: what may be loaded besides embedded models and what lies in the entries' runs.
    """
    allowed |= exports_of([entry.run for entry in entries if entry.run is not None])
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    groups: dict[Hashable, list[Shown]] = {}
    for number, entry in enumerate(entries):
        if (chosen := _choose(entry)) is not None:
            shown = Shown(number, entry, *chosen)
            groups.setdefault(shown.images, []).append(shown)
    return [_gallery(group, count, place, allowed) for group in groups.values()]


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


def _gallery(group: Sequence[Shown], count: int, device: torch.device, allowed: Allowed) -> Gallery:
    lead = group[0]
    result, names = lead.file.result, lead.file.result.protocol.class_names
    members, notes = _members(group, device, allowed)
    nothing = Gallery(result.dataset, "", "", 0, (), "", (), tuple(notes))
    judge = next((member for member in members if member.number is not None), None)
    if judge is None:
        return nothing
    try:
        images = _images(result, judge.answers)
        attack = drawn_words(names, result) if lead.drawn else gradient_attack(lead.entry, result, len(names))
        with ExitStack() as stack:
            for member in members:
                stack.enter_context(frozen(member.encoder))
            pictures = choose_pictures(attack, members, images, names, count, device)
    except (SeaAnchorError, OSError) as error:
        return Gallery(result.dataset, "", "", 0, (), "", (), (*notes, _note("", error)))
    if not pictures:
        notes.append("None of the images tried is classified rightly to begin with.")
    models = tuple((member.number, member.label) for member in members)
    return Gallery(
        result.dataset,
        attack.name,
        attack.difference,
        judge.side,
        models,
        judge.label,
        pictures,
        tuple(notes),
        any(shown.file.result.reference is not None for shown in group),
    )


def _members(group: Sequence[Shown], device: torch.device, allowed: Allowed) -> tuple[list[Member], list[str]]:
    """The models of a gallery, each untouched one once and first, and notes on those that are missing."""
    references: dict[str, Member] = {}
    models, notes = [], []
    for shown in group:
        try:
            models.append(model_member(shown.entry, shown.number, shown.file, device, allowed))
        except (SeaAnchorError, OSError) as error:
            notes.append(_note(shown.entry.label, error))
            continue
        reference = shown.file.result.reference
        if reference is None or reference.pretrained in references:
            continue
        try:
            if found := reference_member(shown.entry, shown.file, device, allowed):
                references[reference.pretrained] = found
        except (SeaAnchorError, OSError) as error:
            notes.append(_note(f"the {UNTOUCHED} model", error))
    return [*references.values(), *models], notes


def _note(label: str, error: SeaAnchorError | OSError) -> str:
    found = error.found if isinstance(error, SeaAnchorError) else str(error)
    cure = f"; {error.change}" if isinstance(error, OutsideError) else ""
    return f"No images{f' of {label}' if label else ''}: {portable(found)}{cure}."


def _images(result: EvaluationResult, answers: NamedHead | None) -> LabelledImages:
    """The images of a result, with the class numbers of its head.

    Raises:
        SeaAnchorError: they are gone, or have other classes by now.
    """
    protocol = result.protocol
    images = open_images(expanded(result.dataset), split="test")
    if protocol.samples is not None:
        images = subset(images, protocol.samples, protocol.seed or 0)
    if answers is not None:
        images = as_answers(images, answers.class_names, len(answers.head.weight_CD), result.dataset, "the head")
    classes, expected = len(texts_of(images)), len(protocol.class_names)
    if not isinstance(images, LabelledImages) or classes != expected:
        found = f"{result.dataset} is not what was evaluated: {classes} classes instead of {expected}"
        raise SeaAnchorError(found, "", "")
    return images
