"""From a table with one row an image to the numbers of a result file."""

from typing import Any

from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.evaluation.calibration import calibration_of
from seaanchor.evaluation.statistics import proportion
from seaanchor.evaluation.zeroshot import Outcomes

DIGITS = 6  # significant; what follows is rounding of fp32, which depends on the size of a batch
EXACT = frozenset({"epsilon", "rho", "plan"})  # what was asked for, and not found


def summarise(model: LoadedModel, source: str, outcomes: Outcomes, lettered: bool = False) -> dict[str, Any]:
    """Accuracies with n and a 95 % interval, and what a constant predictor would get on the same images; the first keys
    are those of CLIP_benchmark's result files.

    Args:
        lettered: a word stands on every image, so that the accuracy on the images as they are is called `lettered`, and
            `clean` is None.
    """
    label_N = outcomes.label_N.cpu()
    count_C = label_N.bincount()
    recall_C = label_N.bincount(weights=outcomes.clean_N.cpu().double())[count_C > 0] / count_C[count_C > 0]
    plain = proportion(outcomes.clean_N)
    ece = calibration_of(outcomes.confidence_N, outcomes.clean_N)["ece"]
    metrics = {
        "acc1": plain["accuracy"],
        "acc5": outcomes.top5_N.double().mean().item(),
        "mean_per_class_recall": recall_C.mean().item(),
        "ece": rounded(ece),
    }
    return {
        "dataset": source,
        "model": model.name,
        "pretrained": fingerprint(model.encoder),
        "task": "zeroshot_classification",
        "metrics": metrics,
        "language": "en",
        "clean": None if lettered else plain,
        **({"lettered": plain} if lettered else {}),
        "constant_predictor": count_C.max().item() / len(label_N),
        "robust": [
            {
                "attack": plan.name,
                "epsilon": epsilon,
                "norm": plan.norm,
                "num_steps": plan.num_steps,
                "precision": plan.precision,
            }
            | proportion(correct_N)
            for (plan, epsilon), correct_N in outcomes.attacked.items()
        ],
    }


def summarise_captioned(model: LoadedModel, source: str, retrieval: dict[str, Any] | None) -> dict[str, Any]:
    """The same head of a result for images with captions instead of classes, whose metrics are those of retrieval."""
    ways = {"image_to_text": "text_retrieval_", "text_to_image": "image_retrieval_"}
    metrics = {
        prefix + key: share["accuracy"]
        for way, prefix in ways.items()
        for key, share in (retrieval or {way: {}})[way].items()
    }
    return {
        "dataset": source,
        "model": model.name,
        "pretrained": fingerprint(model.encoder),
        "task": "zeroshot_retrieval",
        "metrics": metrics,
        "language": "en",
        "clean": None,
        "constant_predictor": None,
        "robust": [],
    }


def rounded(found: Any) -> Any:
    """Real numbers to six significant digits; counted shares and settings stay as they are.

    >>> rounded({"mean": 0.123456789, "n": 3, "linear": {"accuracy": 1 / 3, "n": 3}})
    {'mean': 0.123457, 'n': 3, 'linear': {'accuracy': 0.3333333333333333, 'n': 3}}
    """
    if isinstance(found, dict):
        kept = EXACT | ({"accuracy", "low", "high", "n"} if "accuracy" in found else set())
        return {key: value if key in kept else rounded(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [rounded(value) for value in found]
    return float(f"{found:.{DIGITS}g}") if isinstance(found, float) else found
