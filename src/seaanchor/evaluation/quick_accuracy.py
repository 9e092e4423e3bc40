"""Accuracy on a few images while training goes on."""

from collections.abc import Iterable
from typing import cast

from seaanchor.attacks.classification import Logits
from seaanchor.config.schema import RunConfig, parse_epsilon
from seaanchor.data.class_matching import as_answers
from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.types import LabelledImages, TypographicImages
from seaanchor.encoders.classifiers import STORED, kind_of, own_classifier
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.heads import build_head
from seaanchor.evaluation.attacks import AttackPlan
from seaanchor.evaluation.suites.typographic import evaluate_typographic
from seaanchor.evaluation.table import to_device
from seaanchor.evaluation.typographic_plan import TypographicPlan
from seaanchor.evaluation.zeroshot import classifier, evaluate_stream, labelled
from seaanchor.functional.gradients import frozen
from seaanchor.types import Batch, Head


def quick_accuracy(model: LoadedModel, config: RunConfig) -> dict[str, dict[str, float]]:
    """Accuracy on a few images of each validation set, while training goes on: clean, and against what the run trains
    against. With drawn words that is `attacked` and `attack_word`, how often the drawn word wins; else `pgd`, under PGD
    with 10 steps at the training radius."""
    device, was_training = model.encoder.mean.device, model.encoder.training
    look = _quick_typographic if config.perturbation.kind == "typographic" else _quick_pgd
    report = {}
    for source in config.val_data:
        images = labelled(source, None, config.eval_samples, config.seed)
        images, head = _answers(model, config, images, source)
        logits = classifier(model, head, device)
        stream = batches(
            ImageDataset(images, model.encoder.preprocessing),
            config.batch_size,
            workers=0,
            order=None,
            skip_log=SkipLog(images),
        )
        with frozen(model.encoder):
            report[source] = look(logits, (to_device(batch, device) for batch in stream), images, config)
    model.encoder.train(was_training)
    return report


def _answers(model: LoadedModel, config: RunConfig, images: LabelledImages, source: str) -> tuple[LabelledImages, Head]:
    """The head of the run, and the images with its class numbers."""
    asked = config.head if config.head in ("text", "classifier") else None  # any other lies with the model
    kind = kind_of(model, asked)
    if kind == "text":
        return images, build_head(model, images.class_names, config.templates)
    named = model.stored_head if kind == STORED and model.stored_head is not None else own_classifier(model)
    count, of = len(named.head.weight_CD), f"the head ({named.head.kind})"
    return cast(LabelledImages, as_answers(images, named.class_names, count, source, of)), named.head


def _quick_pgd(logits: Logits, stream: Iterable[Batch], images: LabelledImages, config: RunConfig) -> dict[str, float]:
    epsilon = parse_epsilon(config.perturbation.epsilon, config.perturbation.norm)
    plan = AttackPlan("pgd", config.perturbation.norm, (epsilon,), 10, config.seed)
    found = evaluate_stream(logits, stream, (plan,))
    robust_N = found.attacked[plan, epsilon]
    plain = "lettered" if isinstance(images, TypographicImages) else "clean"  # images that carry a word already
    return {plain: found.clean_N.float().mean().item(), "pgd": robust_N.float().mean().item(), "n": len(robust_N)}


def _quick_typographic(
    logits: Logits, stream: Iterable[Batch], images: LabelledImages, config: RunConfig
) -> dict[str, float]:
    settings = config.perturbation
    plan = TypographicPlan(settings.words, settings.fonts, (settings.sizes[0], settings.sizes[1]), config.seed)
    found = evaluate_typographic(logits, stream, images.class_names, plan)
    shares = {"clean": found.clean, "attacked": found.attacked, "attack_word": found.attack_word}
    accuracies = {name: share.accuracy for name, share in shares.items() if share is not None}
    return accuracies | {"n": found.attacked.n or 0}
