"""The numbers of a result file, each with its interval and beside the reference: what tables, figures and CSV files are
made of."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

Better = Literal["higher", "lower", ""]

ATTACKS = {"autoattack": "AutoAttack", "apgd": "APGD", "apgd-ce": "APGD-CE", "pgd": "PGD", "square": "Square"}
"""Attacks from the strongest to the weakest, as they are written."""
TYPOGRAPHIC = {
    "attacked": ("wrong word drawn (T)", "higher"),
    "attack_word": ("drawn word wins", "lower"),
    "two_way": ("object above drawn word", "higher"),
    "unreadable": ("unreadable cover", "higher"),
}
PLAIN = {"clean": "Clean images", "lettered": "Lettered images, as they are"}
"""Accuracy on images as they are: `lettered` where each carries a word already."""


@dataclass(frozen=True)
class Value:
    """A number, with its 95 % interval and the count it rests on where they are known."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class Measure:
    """One number of a model on one data set.

    Attributes:
        suite: which part of the evaluation it comes from.
        group: heading it stands under, with what it depends on; rows of two models are compared where group and label
            agree.
        label: what it is.
        value: of the model.
        reference: of the untouched model, or None.
        better: which direction is a gain; empty if neither.
        percent: whether it is a share in [0, 1].
        attack, epsilon: of robust accuracies.
        fold: a detail, shown in a foldable part.
    """

    suite: str
    group: str
    label: str
    value: Value
    reference: Value | None = None
    better: Better = "higher"
    percent: bool = True
    attack: str = ""
    epsilon: float = 0.0
    fold: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """What two models' measures must share to be compared."""
        return self.suite, self.group, self.label

    @property
    def change(self) -> Value | None:
        """Against the reference; with an interval where both are proportions."""
        return difference(self.value, self.reference) if self.reference else None

    @property
    def verdict(self) -> Literal["gain", "loss", "unclear", ""]:
        """`gain` or `loss` where the interval of the change leaves out 0, `unclear` where it does not, empty where
        there is nothing to judge."""
        change = self.change
        if change is None or change.low is None or change.high is None or not self.better:
            return ""
        if change.low <= 0 <= change.high:
            return "unclear"
        return "gain" if (change.value > 0) == (self.better == "higher") else "loss"


def difference(here: Value, there: Value) -> Value:
    """here − there with a 95 % interval from the two Wilson intervals. It treats the two samples as independent: on the
    same images, where outcomes go together, it is wider than it need be.

    Source: Newcombe 1998, Statistics in Medicine 17, method 10.
    """
    change = here.value - there.value
    if here.low is None or here.high is None or there.low is None or there.high is None:
        return Value(change)
    below = math.hypot(here.value - here.low, there.high - there.value)
    above = math.hypot(here.high - here.value, there.value - there.low)
    return Value(change, change - below, change + above, here.n)


def radius(epsilon: float) -> str:
    """`2/255` where it is one, else the number."""
    parts = Fraction(epsilon * 255).limit_denominator(100)
    return f"{parts.numerator}/255" if parts.denominator == 1 else f"{epsilon:.4g}"


def measures(result: dict[str, Any]) -> list[Measure]:
    """Every number of a result, beside the reference's of the same key."""
    reference = result.get("reference")
    beside = {m.key: m.value for m in _numbers(reference)} if reference else {}
    return [replace(m, reference=beside.get(m.key)) for m in _numbers(result)]


def count(result: dict[str, Any]) -> int | None:
    """How many images the accuracy on images as they are rests on; None without one."""
    return next((found.get("n") for suite in PLAIN if (found := result.get(suite))), None)


def proportion(data: dict[str, Any]) -> Value:
    """A proportion as result files write it."""
    return Value(data["accuracy"], data.get("low"), data.get("high"), data.get("n"))


def _numbers(result: dict[str, Any]) -> Iterator[Measure]:
    metrics, suites = result.get("metrics") or {}, result.get("suites") or {}
    for suite, group in PLAIN.items():
        if found := result.get(suite):
            yield Measure(suite, group, "top-1", proportion(found))
            if "acc5" in metrics and len((result.get("protocol") or {}).get("class_names") or range(6)) > 5:
                yield Measure(suite, group, "top-5", Value(metrics["acc5"], n=found.get("n")))
            if metrics.get("ece") is not None:
                yield Measure(
                    suite, group, "calibration error (ECE)", Value(metrics["ece"], n=found.get("n")), better="lower"
                )
    yield from _robust(result)
    readers: dict[str, Callable[[Any], Iterator[Measure]]] = {
        "embedding": _embedding,
        "typographic": _typographic,
        "words-and-noise": _words_and_noise,
        "reading": _reading,
        "noise": _noise,
        "corruptions": _corruptions,
        "retrieval": _retrieval,
        "probe": _probe,
        "interpretability": _interpretability,
        "bias": _bias,
        "drift": _drift,
    }
    for name, read in readers.items():
        if suites.get(name):
            yield from read(suites[name])


def ball_text(norm: str | None) -> str:
    """`ℓ∞` or `ℓ2`."""
    return "ℓ2" if norm == "l2" else "ℓ∞"


def _robust(result: dict[str, Any]) -> Iterator[Measure]:
    plans = {plan["name"]: plan for plan in (result.get("protocol") or {}).get("plans") or ()}
    for row in result.get("robust") or ():
        plan = plans.get(row["attack"], {}) | row  # the first format has norm and steps in the plan alone
        unit = "queries" if row["attack"] == "square" else "steps"
        steps = f", {plan['num_steps']} {unit}" if plan.get("num_steps") is not None else ""
        low = "" if plan.get("precision", "fp32") == "fp32" else f", gradients in {plan['precision']}"
        group = f"{ATTACKS.get(row['attack'], row['attack'])}{steps}{low}, {ball_text(plan.get('norm'))}"
        yield Measure(
            "robust",
            group,
            f"ε = {radius(row['epsilon'])}",
            proportion(row),
            attack=row["attack"],
            epsilon=row["epsilon"],
        )


def _embedding(found: list[dict[str, Any]]) -> Iterator[Measure]:
    for row in found:
        group = f"Attack on the embedding, {row['num_steps']} steps, {ball_text(row.get('norm'))}"
        at = {"percent": False, "attack": "embedding", "epsilon": row["epsilon"]}
        n, text = row.get("n"), f"ε = {radius(row['epsilon'])}"
        yield Measure(
            "embedding", group, f"{text}, distance moved", Value(row["distance"]["mean"], n=n), better="lower", **at
        )
        yield Measure("embedding", group, f"{text}, cosine", Value(row["cosine"], n=n), **at)


def drawing_text(plan: dict[str, Any] | None) -> str:
    """How words are drawn, in words."""
    if not plan:
        return ""
    low, high = (100 * size for size in plan.get("sizes", (0, 0)))
    words, fonts = (
        plan.get("words", plan.get("half", "all")),
        plan.get("fonts", plan.get("split", "unseen")),
    )  # the first format's names
    return f", {words} words, {fonts} fonts, {low:.0f} to {high:.0f} % of the side"


def _typographic(found: dict[str, Any]) -> Iterator[Measure]:
    group = f"Drawn words{drawing_text(found.get('plan'))}"
    for key, (label, better) in TYPOGRAPHIC.items():
        if key in found:
            yield Measure("typographic", group, label, proportion(found[key]), better=better)  # type: ignore[arg-type]


def _words_and_noise(found: dict[str, Any]) -> Iterator[Measure]:
    group = f"Word and noise together{drawing_text(found.get('plan'))}"
    for key, row in found.items():
        if key != "plan":
            label = (
                "worst of three words"
                if key == "word"
                else f"then {ATTACKS.get(key.split(' ')[0], key.split(' ')[0])}, ε = {key.split(' ')[1]}"
            )
            yield Measure("words-and-noise", group, label, proportion(row))


def _reading(found: dict[str, Any]) -> Iterator[Measure]:
    yield Measure(
        "reading",
        f"Reading{drawing_text(found.get('plan'))}",
        "drawn class word",
        proportion(found["reading"]),
        better="",
    )


def _noise(found: list[dict[str, Any]]) -> Iterator[Measure]:
    for row in found:
        yield Measure("noise", "Gaussian noise", f"σ = {row['sigma']:g}/255", proportion(row))


def _corruptions(found: dict[str, Any]) -> Iterator[Measure]:
    yield Measure(
        "corruptions", "Corruptions", "mean over kinds and severities", Value(found["mean"], n=found.get("n"))
    )
    for kind, rows in (found.get("kinds") or {}).items():
        for row in rows:
            yield Measure(
                "corruptions",
                "Corruptions",
                f"{kind.replace('_', ' ')}, severity {row['severity']}",
                proportion(row),
                fold=True,
            )


def _retrieval(found: dict[str, Any]) -> Iterator[Measure]:
    for direction, row in found.items():
        for key, value in row.items() if isinstance(row, dict) else ():
            if isinstance(value, dict) and "accuracy" in value:
                yield Measure(
                    "retrieval",
                    "Retrieval",
                    f"{direction.replace('_', ' ')}, {key.replace('@', ' at ')}",
                    proportion(value),
                )


def _probe(found: dict[str, Any]) -> Iterator[Measure]:
    neighbours = f"{found['k']} nearest neighbours" if found.get("k") else "nearest neighbours"
    for key, label in (("linear", "linear probe"), ("knn", neighbours)):
        if found.get(key):
            yield Measure("probe", "Probes on frozen features", label, proportion(found[key]))


def _interpretability(found: dict[str, Any]) -> Iterator[Measure]:
    group = (
        f"Cosine of image and prompts, {found['templates']} templates"
        if found.get("templates")
        else "Cosine of image and prompts"
    )
    yield Measure("interpretability", group, "own class", Value(found["own"], n=found.get("n")), percent=False)
    yield Measure(
        "interpretability",
        group,
        "other classes",
        Value(found["other"], n=found.get("n")),
        better="lower",
        percent=False,
    )
    if "margin" in found:
        yield Measure(
            "interpretability",
            group,
            "own class above the others",
            Value(found["margin"], n=found.get("n")),
            percent=False,
        )


def _bias(found: dict[str, Any]) -> Iterator[Measure]:
    yield Measure("bias", "People in roles", "gender named rightly", proportion(found["gender"]), better="")
    yield Measure("bias", "People in roles", "activity named rightly", proportion(found["activity"]))
    yield Measure(
        "bias", "People in roles", "called a man", Value(found["predicted_man"], n=found["gender"].get("n")), better=""
    )
    for desired, row in (found.get("retrieval") or {}).items():
        target = {"uniform": "equal shares", "dataset": "shares of the data"}.get(desired, desired)
        for key, value in row.items():
            name = "NDKL" if key == "ndkl" else f"MaxSkew at {key.rsplit('_', 1)[-1]}"
            yield Measure(
                "bias",
                "Retrieval by neutral prompts",
                f"{name}, against {target}",
                Value(value),
                better="lower",
                percent=False,
            )


def _drift(found: dict[str, Any]) -> Iterator[Measure]:
    group, n = "Drift of clean embeddings", found.get("n")
    yield Measure("drift", group, "cosine to the reference", Value(found["cosine"], n=n), percent=False)
    for key, label in (
        ("mean", "relative squared distance, mean"),
        ("p90", "relative squared distance, 90th percentile"),
    ):
        yield Measure("drift", group, label, Value(found["distance"][key], n=n), better="lower", percent=False)
    if found.get("within") and found.get("rho") is not None:
        yield Measure("drift", group, f"within ρ = {found['rho']:g}", proportion(found["within"]))
