"""A model put in front of its images, and everything that decides its numbers."""

import torch

from seaanchor import __version__
from seaanchor.attacks.ball import Ball
from seaanchor.attacks.classification import Precision
from seaanchor.data.types import Images, templates_of, texts_of
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.encoders.heads import DEFAULT_TEMPLATES, build_head, embed_texts
from seaanchor.encoders.preprocess_option import input_settings
from seaanchor.evaluation.captions import Captions
from seaanchor.evaluation.context import EvaluationContext
from seaanchor.evaluation.images import listing, training_images
from seaanchor.evaluation.model_pair import ModelPair, identity
from seaanchor.evaluation.protocol import Protocol, settings_of
from seaanchor.evaluation.results import FORMAT, ProtocolRecord
from seaanchor.evaluation.suites.registry import SUITES
from seaanchor.evaluation.zeroshot import classifier
from seaanchor.types import Head


def prepare(
    pair: ModelPair,
    dataset: str,
    images: Images,
    captions: Captions | None,
    protocol: Protocol,
    device: torch.device,
) -> EvaluationContext:
    """Build the classifier, find training images where a suite needs them, and let every suite check what it is given.

    Args:
        pair: the model and its reference.
        dataset: name of the images.
        images, captions: the images, with their texts where they have no classes.
        protocol: what to measure.
        device: where the model runs.

    Raises:
        SeaAnchorError: a class list that is too short or repeats itself, a model without a text tower, a radius above
            all distances of the model's images, or a suite that model or images do not suit.
    """
    _check_radii(protocol, pair.model.encoder.image_size)
    templates = protocol.templates or templates_of(images) or DEFAULT_TEMPLATES
    if captions is None:
        head = build_head(pair.model, texts_of(images), templates)
    else:
        head = Head(embed_texts(pair.model, captions.texts), pair.model.logit_scale)
    head = head.to(device)
    precision: Precision = "bf16" if any(plan.precision == "bf16" for plan in protocol.plans) else "fp32"
    wants_training = any("training" in SUITES[name].embeddings for name in protocol.suites)
    context = EvaluationContext(
        model=pair.model,
        reference=pair.reference,
        protocol=protocol,
        dataset=dataset,
        images=images,
        captions=captions,
        training=training_images(dataset, protocol, images) if wants_training else None,
        templates=tuple(templates),
        head=head,
        logits=classifier(pair.model, head, device, precision),
        rho=pair.rho,
        device=device,
    )
    for name in protocol.suites:
        SUITES[name].check(context)
    return context


def _check_radii(protocol: Protocol, image_size: int) -> None:
    """Fail where a ball is larger than all images of the model's size."""
    for plan in (*protocol.plans, *([] if protocol.embedding is None else [protocol.embedding])):
        for epsilon in plan.epsilons:
            Ball(plan.norm, epsilon).check_fits((3, image_size, image_size))


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
    )
