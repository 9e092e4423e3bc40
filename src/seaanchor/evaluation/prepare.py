"""A model put in front of its images, and everything that decides its numbers."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch

from seaanchor import __version__
from seaanchor.attacks.ball import Ball
from seaanchor.attacks.classification import Logits, Precision
from seaanchor.data.class_matching import match_answers, relabelled
from seaanchor.data.types import Images, LabelledImages, templates_of, texts_of
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.encoders.heads import DEFAULT_TEMPLATES, build_head, embed_texts
from seaanchor.encoders.kernels import computes_in_bf16
from seaanchor.encoders.preprocess_option import input_settings
from seaanchor.errors import note
from seaanchor.evaluation.captions import Captions
from seaanchor.evaluation.context import ChosenHead, EvaluationContext
from seaanchor.evaluation.dense import mean_token, no_head
from seaanchor.evaluation.heads import for_reference, head_record
from seaanchor.evaluation.images import aligned, listing, training_images, training_source
from seaanchor.evaluation.model_pair import ModelPair, identity
from seaanchor.evaluation.protocol import Protocol, settings_of
from seaanchor.evaluation.results import FORMAT, ProtocolRecord
from seaanchor.evaluation.suites.registry import SUITES
from seaanchor.evaluation.zeroshot import classifier
from seaanchor.types import Head

OF = {"classifier": "the model's classifier", "probe": "the probe", "file": "the head"}
"""Whose classes a head's are, in messages."""
TEXTS = ChosenHead()


@dataclass(frozen=True)
class DataSet:
    """Images to evaluate on.

    Attributes:
        name: as the user gave it.
        images, captions: the images, with their texts where they have no classes.
        class_names: file that names their classes, and those of training images.
    """

    name: str
    images: Images
    captions: Captions | None = None
    class_names: Path | None = None


def prepare(
    pair: ModelPair, data: DataSet, protocol: Protocol, device: torch.device, chosen: ChosenHead = TEXTS
) -> EvaluationContext:
    """Build the classifier, find training images where a suite needs them, and let every suite check what it is given.

    Args:
        pair: the model and its reference.
        data: the images.
        protocol: what to measure.
        device: where the model runs.
        chosen: which head answers; by default texts.

    Raises:
        SeaAnchorError: a class list that is too short or repeats itself, a model without a text tower, a radius above
            all distances of the model's images, or a suite that model, head or images do not suit.
    """
    _check_radii(protocol, pair.model.encoder.image_size)
    protocol = runnable(protocol, device)
    wants_training = any("training" in SUITES[name].embeddings for name in protocol.suites)
    images, training = among_answers(data, chosen, _training(data, protocol) if wants_training else None)
    given = protocol.templates or templates_of(images) or DEFAULT_TEMPLATES
    templates: tuple[str, ...] = tuple(given) if chosen.named is None and chosen.kind == "text" else ()
    head = _head(pair.model, images, data.captions, templates, chosen).to(device)
    context = EvaluationContext(
        model=pair.model,
        reference=pair.reference,
        protocol=protocol,
        dataset=data.name,
        images=images,
        captions=data.captions,
        training=training,
        templates=templates,
        head=head,
        chosen=chosen,
        logits=_logits(pair.model, head, protocol, device),
        rho=pair.rho,
        device=device,
    )
    return _checked(context)


def reference_context(context: EvaluationContext, reference: LoadedModel) -> EvaluationContext:
    """The reference in front of the same images; errors as for `prepare`."""
    chosen = for_reference(context.chosen)
    head = _head(reference, context.images, context.captions, context.templates, chosen).to(context.device)
    logits = _logits(reference, head, context.protocol, context.device)
    return _checked(
        replace(context, model=reference, reference=None, rho=None, head=head, chosen=chosen, logits=logits)
    )


def _checked(context: EvaluationContext) -> EvaluationContext:
    for name in context.protocol.suites:
        SUITES[name].check(context)
    return context


def _check_radii(protocol: Protocol, image_size: int) -> None:
    """Fail where a ball is larger than all images of the model's size."""
    for plan in (*protocol.plans, *([] if protocol.embedding is None else [protocol.embedding])):
        for epsilon in plan.epsilons:
            Ball(plan.norm, epsilon).check_fits((3, image_size, image_size))


def _logits(model: LoadedModel, head: Head, protocol: Protocol, device: torch.device) -> Logits:
    """Pixels → logits; of patch tokens, which no head makes classes of, each image's mean token."""
    if model.encoder.tokens == "patches":
        return mean_token(model, device)
    return classifier(model, head, device, _precision(protocol))


def runnable(protocol: Protocol, device: torch.device) -> Protocol:
    """The protocol as a device runs it: gradients in fp32 in place of bf16 where it would only imitate that."""
    if _precision(protocol) == "fp32" or computes_in_bf16(device.type):
        return protocol
    note(f"{device.type} has no fast arithmetic in bf16 here: attacks follow gradients in fp32, which is faster")
    return replace(protocol, plans=tuple(replace(plan, precision="fp32") for plan in protocol.plans))


def _precision(protocol: Protocol) -> Precision:
    """Of the logits that attacks may follow besides fp32."""
    return "bf16" if any(plan.precision == "bf16" for plan in protocol.plans) else "fp32"


def _training(data: DataSet, protocol: Protocol) -> LabelledImages:
    """The training images of a probe, with the class numbers of the data."""
    training = training_images(data.name, protocol, data.class_names)
    return aligned(training, data.images, training_source(data.name, protocol), data.name)


def among_answers(
    data: DataSet, chosen: ChosenHead, training: LabelledImages | None
) -> tuple[Images, LabelledImages | None]:
    """Images with the class numbers of a head whose classes are its own; of texts, those of the data."""
    if chosen.named is None:
        return data.images, training
    answers, count = chosen.named.class_names, len(chosen.named.head.weight_CD)
    names = texts_of(data.images)
    number = match_answers(names, answers, count, data.name, OF[chosen.kind])
    answers = answers or names
    images = relabelled(data.images, number, answers)
    if training is not None:
        extra = training.class_names[len(names) :]
        number = [*number, *range(count, count + len(extra))]
        training = cast(LabelledImages, relabelled(training, number, (*answers, *extra)))
    return images, training


def _head(
    model: LoadedModel, images: Images, captions: Captions | None, templates: tuple[str, ...], chosen: ChosenHead
) -> Head:
    if model.encoder.tokens == "patches":
        return no_head(model)
    if chosen.named is not None:
        return chosen.named.head
    if captions is not None:
        return Head(embed_texts(model, captions.texts), model.logit_scale)
    return build_head(model, texts_of(images), templates)


def describe(context: EvaluationContext) -> ProtocolRecord:
    """Everything that decides the numbers; two results may only be compared where this agrees but for the model."""
    protocol, settings = context.protocol, input_settings(context.model.encoder)
    return ProtocolRecord(
        plans=tuple(settings_of(plan) for plan in protocol.plans),
        templates=context.templates,
        samples=protocol.samples,
        seed=protocol.seed,
        image_size=context.model.encoder.image_size,
        preprocessing=str(settings.preprocessing),
        normalisation=settings.normalisation,
        suites=protocol.suites,
        typographic=protocol.typographic.settings(),
        embedding=None if protocol.embedding is None else settings_of(protocol.embedding),
        corruptions=protocol.corruptions,
        training=protocol.training,
        format=FORMAT,
        seaanchor=__version__,
        model=context.model.name,
        weights=fingerprint(context.model.encoder),
        network=identity(context.model),
        reference=None if context.reference is None else identity(context.reference),
        rho=context.rho,
        dataset=context.dataset,
        images=listing(context.images, context.captions),
        training_images=None if context.training is None else listing(context.training),
        class_names=context.class_names,
        head=head_record(context.chosen),
        tokens=context.model.encoder.tokens,
        segmentation_head=None if context.segmentation is None else context.segmentation.digest,
    )
