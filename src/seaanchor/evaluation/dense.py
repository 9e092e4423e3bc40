"""What an evaluation of patch tokens needs besides that of one embedding an image: masks, and a segmentation head."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from seaanchor.attacks.classification import Logits
from seaanchor.data.loader import subset
from seaanchor.data.masks import open_segmented
from seaanchor.data.sources import open_images
from seaanchor.data.types import Images, SegmentedImages
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.encoders.segmentation_head import (
    FILE,
    SegmentationHead,
    check_dense,
    check_fits,
    fit_segmentation_head,
    read_segmentation_head,
    write_segmentation_head,
)
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.context import EvaluationContext
from seaanchor.evaluation.images import listing
from seaanchor.evaluation.mean_iou import constant_miou
from seaanchor.evaluation.model_pair import ModelPair
from seaanchor.evaluation.protocol import Protocol
from seaanchor.evaluation.results import EvaluationResult
from seaanchor.evaluation.suite_results import Suites
from seaanchor.evaluation.table import ExecutionOptions
from seaanchor.types import Head
from seaanchor.utils.log import log

SUITES = ("segmentation", "embedding", "drift")
"""What patch tokens are measured by."""
NO_HEAD = "none"


def check_dense_protocol(model: LoadedModel, protocol: Protocol) -> None:
    """Raise a SeaAnchorError if patch tokens are asked for what needs one embedding an image, or one embedding for what
    needs tokens."""
    wanting = [plan.name for plan in protocol.plans] + [name for name in protocol.suites if name not in SUITES]
    if model.encoder.tokens != "patches":
        if "segmentation" in protocol.suites:
            check_dense(model)
        return
    if wanting or not protocol.suites:
        raise SeaAnchorError(
            f"{', '.join(wanting) or 'clean accuracy'} of patch tokens, which give no image a class",
            f"--suite {', '.join(SUITES)}",
            "correct --suite, or leave --tokens out",
        )


def open_masks(source: str, class_names: Path | None, protocol: Protocol) -> SegmentedImages:
    """The images and masks of a source: its validation or test split, at most `protocol.samples` of them.

    Raises:
        SeaAnchorError: as `open_segmented`.
    """
    found: SegmentedImages | None = None
    for split in ("val", "test"):
        try:
            found = open_segmented(source, class_names, split)
            break
        except SeaAnchorError as error:
            if split == "test" or "split" not in error.found:
                raise
    if found is None:
        raise RuntimeError("one of the splits is there, or an error was raised")
    return found if protocol.samples is None else subset(found, protocol.samples, protocol.seed)


def training_masks(source: str, class_names: Path | None, protocol: Protocol, images: Images) -> SegmentedImages:
    """The images that a head is fitted on: those named, or the train split beside a data set.

    Raises:
        SeaAnchorError: there are none, they are those to be tested on, or they have other classes.
    """
    chosen = protocol.training or source
    advice = "name images with masks with --train-data, or a head with --segmentation-head"
    try:
        training = open_segmented(chosen, class_names, "train")
    except SeaAnchorError as error:
        if protocol.training is not None:
            raise
        raise SeaAnchorError(f"{source} has no train split ({error.found})", error.expected, advice) from error
    if set(map(str, training.paths)) & set(map(str, images.paths)):
        raise SeaAnchorError(
            f"{chosen} holds the images that are tested on",
            "other images to fit the segmentation head on",
            advice,
        )
    theirs = getattr(images, "class_names", ())
    if training.class_names != theirs:
        raise SeaAnchorError(
            f"{chosen} has other classes than {source} ({len(training.class_names)} and {len(theirs)})",
            "the same classes in the same order",
            "correct --train-data, or name the classes with --class-names",
        )
    return training


@dataclass(frozen=True)
class SegmentationHeads:
    """The head of each data set: read from a file, or fitted once on the untouched tower.

    Attributes:
        protocol: what is asked for.
        class_names: file that names the classes.
        options: how tokens are computed.
        fitted: those that were fitted.
    """

    protocol: Protocol
    class_names: Path | None
    options: ExecutionOptions
    fitted: dict[str, SegmentationHead] = field(default_factory=dict)

    def choose(self, pair: ModelPair, dataset: str, images: Images) -> SegmentationHead | None:
        """The head for a model and its reference on a data set; None where no suite needs one.

        Raises:
            SeaAnchorError: a file that holds none or does not fit, or no images to fit one on.
        """
        if "segmentation" not in self.protocol.suites or not isinstance(images, SegmentedImages):
            return None
        if self.protocol.segmentation_head is not None:
            file = Path(self.protocol.segmentation_head)
            head = read_segmentation_head(file)
            check_fits(head, pair.model, images.class_names, f"in {file}")
            return head
        untouched = pair.reference or pair.model
        training = training_masks(dataset, self.class_names, self.protocol, images)
        encoder, seed = untouched.encoder, self.protocol.seed
        key = f"{fingerprint(encoder)} {encoder.preprocessing} {listing(training)} {seed}"
        if key not in self.fitted:
            self.fitted[key] = self.options.group.agree(self._fit(untouched, training))
        head = self.fitted[key]
        check_fits(head, pair.model, images.class_names, f"of {untouched.name}")
        if pair.output is not None and self.options.group.first:
            _write(head, pair.output)
        return head

    def _fit(self, model: LoadedModel, training: SegmentedImages) -> SegmentationHead | None:
        options = self.options
        if not options.group.first:
            return None
        log.info(f"fitting a segmentation head on {len(training.paths):,} images of {training.root}")
        sizes = {"batch_size": options.batch_size, "workers": options.workers}
        head = fit_segmentation_head(model, training, **sizes, device=options.device, seed=self.protocol.seed)
        return head.to("cpu")


def _write(head: SegmentationHead, output: Path) -> None:
    """Beside the results; under a name with its hash where another head has the plain one."""
    file = output / FILE
    if file.is_file() and read_segmentation_head(file).digest != head.digest:
        file = output / f"{file.stem}-{head.digest}{file.suffix}"
    if not file.is_file():
        write_segmentation_head(head, file)


def with_segmentation(context: EvaluationContext, head: SegmentationHead | None) -> EvaluationContext:
    """The same model and images with the head on the device."""
    return context if head is None else replace(context, segmentation=head.to(context.device))


def no_head(model: LoadedModel) -> Head:
    """The head of patch tokens, which answer nothing: it returns them as they are."""
    return Head(torch.eye(model.encoder.dim), unit=False, kind=NO_HEAD)


def mean_token(model: LoadedModel, device: torch.device) -> Logits:
    """Pixels → the mean token (B, D) of each image, which the checks of a model compare in place of logits."""
    encoder = model.encoder.to(device).eval()
    return lambda pixels_BCHW: encoder(pixels_BCHW).float().mean(1)


def open_dense(source: str, class_names: Path | None, protocol: Protocol) -> Images:
    """The images of a source for patch tokens: with masks where the suite `segmentation` needs them, else any.

    Raises:
        SeaAnchorError: as `open_masks` and `open_images`.
    """
    if "segmentation" in protocol.suites:
        return open_masks(source, class_names, protocol)
    images = open_images(source, class_names, split="test")
    return images if protocol.samples is None else subset(images, protocol.samples, protocol.seed)


def summarise_dense(context: EvaluationContext, suites: Suites, skipped: str) -> EvaluationResult:
    """The result of patch tokens, without checks and notes: metrics are those of segmentation."""
    found = suites.segmentation
    counts = None if found is None else found.clean.counts_N3C
    metrics = {} if found is None else {"miou": found.clean.miou, "pixel_accuracy": found.clean.pixel_accuracy or 0.0}
    return EvaluationResult(
        dataset=context.dataset,
        model=context.model.name,
        pretrained=fingerprint(context.model.encoder),
        task="embedding" if found is None else "segmentation",
        metrics=metrics,
        constant_predictor=None if counts is None else constant_miou(counts),
        suites=suites,
        skipped=skipped,
    )
