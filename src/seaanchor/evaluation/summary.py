"""From a table with one row an image to the numbers of a result."""

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.evaluation.calibration import calibration_of
from seaanchor.evaluation.results import Check, EvaluationResult, RobustAccuracies, RobustAccuracy
from seaanchor.evaluation.statistics import Share, share_of
from seaanchor.evaluation.suite_results import Suites, TypographicSettings
from seaanchor.evaluation.zeroshot import Outcomes

T = TypeVar("T")
DIGITS = 6  # significant; what follows is rounding of fp32, which depends on the size of a batch
EXACT = frozenset({"epsilon", "rho"})  # what was asked for, and not found
TEXT, IMAGE = "text_retrieval_", "image_retrieval_"  # CLIP_benchmark's names: by what is retrieved


def summarise(
    model: LoadedModel,
    dataset: str,
    outcomes: Outcomes,
    with_words: bool = False,
    suites: Suites = Suites(),  # noqa: B008 # frozen
    checks: dict[str, Check] | None = None,
    notes: tuple[str, ...] = (),
    skipped: str = "",
) -> EvaluationResult:
    """Accuracies with n and a 95 % interval, and what a constant predictor would get on the same images.

    Args:
        model, dataset: what was evaluated on what.
        outcomes: which images were classified correctly.
        with_words: every image carries a word already, so that the accuracy on the images as they are is
            `typographic_images`, and `clean` is None.
        suites, checks, notes, skipped: what else was found.
    """
    label_N = outcomes.label_N.cpu()
    count_C = label_N.bincount()
    recall_C = label_N.bincount(weights=outcomes.clean_N.cpu().double())[count_C > 0] / count_C[count_C > 0]
    plain = share_of(outcomes.clean_N)
    metrics = {
        "acc1": plain.accuracy,
        "acc5": outcomes.top5_N.double().mean().item(),
        "mean_per_class_recall": recall_C.mean().item(),
        "ece": rounded(calibration_of(outcomes.confidence_N, outcomes.clean_N).ece),
    }
    return EvaluationResult(
        dataset=dataset,
        model=model.name,
        pretrained=fingerprint(model.encoder),
        metrics=metrics,
        clean=None if with_words else plain,
        typographic_images=plain if with_words else None,
        constant_predictor=count_C.max().item() / len(label_N),
        robust=_robust(outcomes),
        suites=suites,
        checks=checks or {},
        notes=notes,
        skipped=skipped,
    )


def _robust(outcomes: Outcomes) -> RobustAccuracies:
    return RobustAccuracies(
        tuple(
            RobustAccuracy(plan.name, epsilon, plan.norm, plan.num_steps, plan.precision, share_of(correct_N))
            for (plan, epsilon), correct_N in outcomes.attacked.items()
        )
    )


def summarise_captioned(
    model: LoadedModel,
    dataset: str,
    suites: Suites,
    checks: dict[str, Check],
    notes: tuple[str, ...] = (),
    skipped: str = "",
) -> EvaluationResult:
    """The same for images with captions instead of classes, whose metrics are those of retrieval."""
    found = suites.retrieval
    ways = () if found is None else ((TEXT, found.image_to_text), (IMAGE, found.text_to_image))
    return EvaluationResult(
        dataset=dataset,
        model=model.name,
        pretrained=fingerprint(model.encoder),
        task="zeroshot_retrieval",
        metrics={prefix + key: share.accuracy for prefix, recalls in ways for key, share in recalls.items()},
        suites=suites,
        checks=checks,
        notes=notes,
        skipped=skipped,
    )


def rounded(found: T) -> T:
    """Real numbers of a record to six significant digits; counted shares and settings stay as they are.

    >>> rounded({"mean": 0.123456789, "n": 3, "linear": Share(1 / 3, n=3)})
    {'mean': 0.123457, 'n': 3, 'linear': Share(accuracy=0.3333333333333333, low=None, high=None, n=3, right=None)}
    """
    return _rounded(found)


def _rounded(found: Any) -> Any:
    if isinstance(found, Share | TypographicSettings):
        return found
    if is_dataclass(found) and not isinstance(found, type):
        names = [field.name for field in fields(found) if field.name not in EXACT]
        return replace(found, **{name: _rounded(getattr(found, name)) for name in names})
    if isinstance(found, dict):
        return {key: _rounded(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return type(found)(_rounded(value) for value in found)
    return float(f"{found:.{DIGITS}g}") if isinstance(found, float) else found
