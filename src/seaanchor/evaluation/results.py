"""What an evaluation finds about one model on one data set, as frozen records.

`evaluation.result_files` writes them as JSON and reads them again. A field that is None was not measured, or is not in
files of an older format.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from seaanchor.evaluation.statistics import Share
from seaanchor.evaluation.suite_results import Suites, TypographicSettings

FORMAT = 4  # of result files
RADIUS_TOLERANCE = 1e-6  # relative; 2/255 written with ten digits is still 2/255


@dataclass(frozen=True)
class RobustAccuracy:
    """Accuracy under one attack at one radius.

    Attributes:
        attack: name, as in `seaanchor.evaluation.attacks`.
        epsilon: radius of the ball; linf in units of the pixel range [0, 1], l2 of the whole image.
        norm: `linf` or `l2`.
        num_steps: gradient steps, or queries of Square.
        precision: of the gradients that the attack follows.
        share: of images classified correctly on every attacked version.
    """

    attack: str
    epsilon: float
    norm: str | None
    num_steps: int | None
    precision: str
    share: Share


@dataclass(frozen=True)
class RobustAccuracies(Mapping[tuple[str, float], Share]):
    """Accuracies by (attack, epsilon), in the order they were measured.

    A radius matches up to rounding: `robust["apgd", 2 / 255]` and `robust["apgd", 0.00784314]` are the same.

    Attributes:
        rows: all of them, with norm, steps and precision.

    Raises:
        KeyError: there is no such accuracy, or several (of other norms or steps); the error names those there are.
    """

    WRITTEN_AS: ClassVar[str] = "rows"
    rows: tuple[RobustAccuracy, ...] = ()

    def __getitem__(self, key: tuple[str, float]) -> Share:
        attack, epsilon = key
        found = [r for r in self.rows if r.attack == attack and same_radius(r.epsilon, epsilon)]
        if len(found) != 1:
            there = ", ".join(f"{r.attack!r} at {r.epsilon:.6g} ({r.norm})" for r in self.rows) or "none"
            raise KeyError(f"{len(found) or 'no'} robust accuracies of {attack!r} at {epsilon:.6g}; there are: {there}")
        return found[0].share

    def __iter__(self) -> Iterator[tuple[str, float]]:
        return iter([(row.attack, row.epsilon) for row in self.rows])

    def __len__(self) -> int:
        return len(self.rows)


def same_radius(one: float, other: float) -> bool:
    """Whether two radii are the same up to rounding."""
    return math.isclose(one, other, rel_tol=RADIUS_TOLERANCE, abs_tol=1e-12)


@dataclass(frozen=True)
class Check:
    """Whether a self-check passed, and what was seen."""

    passed: bool
    detail: str = ""


@dataclass(frozen=True)
class AttackSettings:
    """An attack as it was asked for."""

    name: str
    norm: str | None = None
    epsilons: tuple[float, ...] = ()
    num_steps: int | None = None
    seed: int = 0
    precision: str = "fp32"


@dataclass(frozen=True)
class HeadRecord:
    """What turned embeddings into answers.

    Attributes:
        kind: `text`, `classifier` (the model's own), `probe` or `file`.
        digest: hash of its numbers and class names; None for texts, which templates, class names and network decide.
        source: the file, or the images that a probe was fitted on.
        file: its copy beside the result, None for texts and for a model's own classifier.
    """

    kind: str = "text"
    digest: str | None = None
    source: str | None = None
    file: str | None = None


@dataclass(frozen=True)
class ProtocolRecord:
    """Everything that decides the numbers: what was asked for, and hashes of model and images.

    Attributes:
        plans: attacks on the classifier.
        weights: hash of the image tower.
        network: hash of the whole model, image and text side.
        reference: the same of the reference.
        preprocessing: how pictures became pixels, as `str(Preprocessing)`; files that do not say it are of OpenCLIP's
            default, which was all there was.
        normalisation: mean and std of the image tower's input.
        images: hash of the list of images and their labels; two results with the same one saw the same images.
        head: what turned embeddings into answers; texts in files that do not say it.
        tokens: what of the tower is the embedding; None for its library's own.
        segmentation_head: hash of the head of the suite `segmentation`.
    """

    plans: tuple[AttackSettings, ...] = ()
    templates: tuple[str, ...] = ()
    samples: int | None = None
    seed: int | None = None
    image_size: int | None = None
    preprocessing: str | None = None
    normalisation: str | None = None
    suites: tuple[str, ...] = ()
    typographic: TypographicSettings | None = None
    embedding: AttackSettings | None = None
    corruptions: tuple[str, ...] = ()
    training: str | None = None
    format: int | None = None
    seaanchor: str | None = None
    model: str | None = None
    weights: str | None = None
    network: str | None = None
    reference: str | None = None
    rho: float | None = None
    dataset: str | None = None
    images: str | None = None
    training_images: str | None = None
    class_names: tuple[str, ...] = ()
    head: HeadRecord = field(default_factory=HeadRecord)
    tokens: str | None = None
    segmentation_head: str | None = None

    @property
    def pixels(self) -> str | None:
        """How pictures became pixels, also where the file is older; None where not even their size is known."""
        return self.preprocessing or (None if self.image_size is None else f"size={self.image_size}")


@dataclass(frozen=True)
class Environment:
    """Versions and hardware that the numbers were computed with."""

    python: str | None = None
    system: str | None = None
    machine: str | None = None
    cpus: int | None = None
    versions: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class GivenOptions:
    """What names model and classes on the command line, as the user gave it; None for what was left out.

    Attributes:
        pretrained: tag or weights file of a bare name.
        preprocess: resizing and normalisation in place of the model's own.
        class_names: list of class names.
        segmentation_head: file of that head.
    """

    pretrained: str | None = None
    preprocess: str | None = None
    class_names: str | None = None
    segmentation_head: str | None = None


@dataclass(frozen=True)
class EvaluationResult:
    """One model on one data set.

    Attributes:
        dataset, model, pretrained, task, metrics, language: as CLIP_benchmark's result files have them; `pretrained` is
            the hash of the image tower.
        clean: accuracy on the images as they are; None for captioned images and for images that carry a word already.
        typographic_images: accuracy on the images as they are, where each carries a wrong word already.
        constant_predictor: accuracy of always answering the most frequent class; of segmentation its mean IoU.
        robust: accuracies under attacks, by (attack, epsilon).
        suites: outcomes of the suites.
        checks: self-checks by name; numbers with a failed one must not be believed.
        notes: what a reader must know.
        skipped: in words, which images could not be read; empty if none.
        reference: the untouched model on the same images; None for a model that is its own reference.
        files: hash of the files of weights, where the model is a folder; `report` compares it before it loads them.
        given: options that make the result again and decide nothing beside `protocol`; None in files that do not say.
        format: of the file that this was read from, else of those that are written.
    """

    dataset: str
    model: str
    pretrained: str = ""
    task: str = "zeroshot_classification"
    metrics: dict[str, float] = field(default_factory=dict)
    language: str = "en"
    clean: Share | None = None
    typographic_images: Share | None = None
    constant_predictor: float | None = None
    robust: RobustAccuracies = field(default_factory=RobustAccuracies)
    suites: Suites = field(default_factory=Suites)
    checks: dict[str, Check] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    skipped: str = ""
    protocol: ProtocolRecord = field(default_factory=ProtocolRecord)
    environment: Environment = field(default_factory=Environment)
    reference: "EvaluationResult | None" = None
    files: str | None = None
    given: GivenOptions | None = None
    format: int = FORMAT

    @property
    def plain(self) -> Share | None:
        """Accuracy on the images as they are, with or without a word on them; None for captioned images."""
        return self.clean or self.typographic_images

    @property
    def failed_checks(self) -> tuple[str, ...]:
        """Names of the checks that did not pass, each with what was seen."""
        return tuple(f"{name} ({check.detail})" for name, check in self.checks.items() if not check.passed)


__all__ = [
    "FORMAT",
    "AttackSettings",
    "Check",
    "Environment",
    "EvaluationResult",
    "GivenOptions",
    "HeadRecord",
    "ProtocolRecord",
    "RobustAccuracies",
    "RobustAccuracy",
    "Share",
    "Suites",
    "same_radius",
]
