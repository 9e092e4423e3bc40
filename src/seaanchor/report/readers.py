"""From a result to its measures: a generator for every part of a result."""

from collections.abc import Iterator

from seaanchor.evaluation import suite_results as found
from seaanchor.evaluation.mean_iou import SegmentationScore
from seaanchor.evaluation.results import EvaluationResult
from seaanchor.evaluation.statistics import Share
from seaanchor.report.measures import (
    ATTACKS,
    CLEAN,
    PLAIN,
    TYPOGRAPHIC_IMAGES,
    Better,
    Measure,
    Value,
    ball_text,
    beside,
    radius,
    same_images,
    value_of,
)

TYPOGRAPHIC: dict[str, tuple[str, Better]] = {
    "attacked": ("wrong word drawn (T)", "higher"),
    "attack_word": ("drawn word wins", "lower"),
    "two_way": ("object above drawn word", "higher"),
    "unreadable": ("unreadable cover", "higher"),
}
FEW_CLASSES = 5  # among which the five likeliest say nothing
DESIRED = {"uniform": "equal shares", "dataset": "shares of the data"}


def measures(result: EvaluationResult) -> list[Measure]:
    """Every number of a result, beside the reference's of the same key."""
    numbers = list(_numbers(result))
    if result.reference is None:
        return numbers
    return beside(numbers, list(_numbers(result.reference)), same_images(result, result.reference))


def _numbers(result: EvaluationResult) -> Iterator[Measure]:
    suites = result.suites
    yield from _plain(result)
    yield from _robust(result)
    if suites.embedding:
        yield from _embedding(suites.embedding)
    if suites.segmentation:
        yield from _segmentation(suites.segmentation)
    if suites.typographic:
        yield from _typographic(suites.typographic)
    if suites.words_and_noise:
        yield from _words_and_noise(suites.words_and_noise)
    if suites.reading:
        group = f"Reading{drawing_text(suites.reading.plan)}"
        yield Measure("reading", group, "drawn class word", value_of(suites.reading.reading), better="")
    for level in suites.noise.levels if suites.noise else ():
        yield Measure("noise", "Gaussian noise", f"σ = {level.sigma:g}/255", value_of(level.share))
    if suites.corruptions:
        yield from _corruptions(suites.corruptions)
    if suites.retrieval:
        yield from _retrieval(suites.retrieval)
    if suites.probe:
        yield from _probe(suites.probe)
    if suites.interpretability:
        yield from _interpretability(suites.interpretability)
    if suites.bias:
        yield from _bias(suites.bias)
    if suites.drift:
        yield from _drift(suites.drift)


def _plain(result: EvaluationResult) -> Iterator[Measure]:
    metrics, classes = result.metrics, len(result.protocol.class_names)
    for suite, share in ((CLEAN, result.clean), (TYPOGRAPHIC_IMAGES, result.typographic_images)):
        if share is None:
            continue
        group = PLAIN[suite]
        yield Measure(suite, group, "top-1", value_of(share))
        if "acc5" in metrics and (classes == 0 or classes > FEW_CLASSES):
            yield Measure(suite, group, "top-5", Value(metrics["acc5"], n=share.n))
        if "ece" in metrics:
            error = Value(metrics["ece"], n=share.n)
            yield Measure(suite, group, "calibration error (ECE)", error, better="lower")


def _robust(result: EvaluationResult) -> Iterator[Measure]:
    for row in result.robust.rows:
        of_square, one = row.attack == "square", row.num_steps == 1
        unit = ("query" if one else "queries") if of_square else ("step" if one else "steps")
        steps = f", {row.num_steps} {unit}" if row.num_steps is not None else ""
        low = "" if row.precision == "fp32" else f", gradients in {row.precision}"
        name = ATTACKS.get(row.attack, row.attack)
        group, label = f"{name}{steps}{low}, {ball_text(row.norm)}", f"ε = {radius(row.epsilon)}"
        yield Measure("robust", group, label, value_of(row.share), attack=row.attack, epsilon=row.epsilon)


def _embedding(outcome: found.EmbeddingAttack) -> Iterator[Measure]:
    for row in outcome.radii:
        group = f"Attack on the embedding, {row.num_steps} step{'s' * (row.num_steps != 1)}, {ball_text(row.norm)}"
        text = f"ε = {radius(row.epsilon)}"
        values: tuple[tuple[str, float, Better], ...] = (
            ("distance moved", row.distance.mean, "lower"),
            ("cosine", row.cosine, "higher"),
        )
        for what, number, better in values:
            yield Measure(
                "embedding",
                group,
                f"{text}, {what}",
                Value(number, n=row.n),
                better=better,
                percent=False,
                attack="embedding",
                epsilon=row.epsilon,
            )


def drawing_text(plan: found.TypographicSettings | None) -> str:
    """How words are drawn, in words."""
    if plan is None:
        return ""
    low, high = (100 * size for size in plan.sizes)
    return f", {plan.words} words, {plan.fonts} fonts, {low:.0f} to {high:.0f} % of the side"


def _segmentation(result: found.Segmentation) -> Iterator[Measure]:
    yield from _score("Segmentation, clean", result.clean)
    for attack in result.attacked:
        name = {"embedding": "attack on tokens"}.get(attack.attack, "APGD on pixels' cross-entropy")
        group = f"Segmentation, {name}, {ball_text(attack.norm)}, ε = {radius(attack.epsilon)}"
        yield from _score(f"{group}, {attack.num_steps} steps", attack.score)


def _score(group: str, score: SegmentationScore) -> Iterator[Measure]:
    yield Measure(
        "segmentation", group, "mean IoU", Value(score.miou, score.low, score.high, score.n, counts=score.counts)
    )
    if score.pixel_accuracy is not None:
        yield Measure("segmentation", group, "pixel accuracy", Value(score.pixel_accuracy, n=score.n), fold=True)
    for name, iou in (score.iou or {}).items():
        yield Measure("segmentation", group, f"IoU of {name}", Value(iou, n=score.n), fold=True)


def _typographic(outcome: found.Typographic) -> Iterator[Measure]:
    group = f"Drawn words{drawing_text(outcome.plan)}"
    for key, (label, better) in TYPOGRAPHIC.items():
        share: Share | None = getattr(outcome, key)
        if share is not None:
            yield Measure("typographic", group, label, value_of(share), better=better)


def _words_and_noise(outcome: found.WordsAndNoise) -> Iterator[Measure]:
    group = f"Word and noise together{drawing_text(outcome.plan)}"
    yield Measure("words-and-noise", group, "worst of three words", value_of(outcome.word))
    for name, share in outcome.attacked.items():
        attack, epsilon = name.split(" ", 1)
        label = f"then {ATTACKS.get(attack, attack)}, ε = {epsilon}"
        yield Measure("words-and-noise", group, label, value_of(share))


def _corruptions(outcome: found.Corruptions) -> Iterator[Measure]:
    mean = Value(outcome.mean, n=outcome.n)
    yield Measure("corruptions", "Corruptions", "mean over kinds and severities", mean)
    for kind, levels in outcome.kinds.items():
        for level in levels:
            label = f"{kind.replace('_', ' ')}, severity {level.severity}"
            yield Measure("corruptions", "Corruptions", label, value_of(level.share), fold=True)


def _retrieval(outcome: found.Retrieval) -> Iterator[Measure]:
    for way, recalls in (("image to text", outcome.image_to_text), ("text to image", outcome.text_to_image)):
        for key, share in recalls.items():
            yield Measure("retrieval", "Retrieval", f"{way}, {key.replace('@', ' at ')}", value_of(share))


def _probe(outcome: found.Probe) -> Iterator[Measure]:
    neighbours = f"{outcome.k} nearest neighbours" if outcome.k else "nearest neighbours"
    for label, share in (("linear probe", outcome.linear), (neighbours, outcome.knn)):
        yield Measure("probe", "Probes on frozen features", label, value_of(share))


def _interpretability(outcome: found.Interpretability) -> Iterator[Measure]:
    group = "Cosine of image and prompts" + (f", {outcome.templates} templates" if outcome.templates else "")
    rows: tuple[tuple[str, float | None, Better], ...] = (
        ("own class", outcome.own, "higher"),
        ("other classes", outcome.other, "lower"),
        ("own class above the others", outcome.margin, "higher"),
    )
    for label, number, better in rows:
        if number is not None:
            value = Value(number, n=outcome.n)
            yield Measure("interpretability", group, label, value, better=better, percent=False)


def _bias(outcome: found.Bias) -> Iterator[Measure]:
    people = "People in roles"
    yield Measure("bias", people, "gender named rightly", value_of(outcome.gender), better="")
    yield Measure("bias", people, "activity named rightly", value_of(outcome.activity))
    called = Value(outcome.predicted_man, n=outcome.gender.n)
    yield Measure("bias", people, "called a man", called, better="")
    for desired, row in outcome.retrieval.items():
        target = DESIRED.get(desired, desired)
        for key, number in row.items():
            name = "NDKL" if key == "ndkl" else f"MaxSkew at {key.rsplit('_', 1)[-1]}"
            label = f"{name}, against {target}"
            group = "Retrieval by neutral prompts"
            yield Measure("bias", group, label, Value(number), better="lower", percent=False)


def _drift(outcome: found.Drift) -> Iterator[Measure]:
    group, n = "Drift of clean embeddings", outcome.n
    yield Measure("drift", group, "cosine to the reference", Value(outcome.cosine, n=n), percent=False)
    for name, distance in (("mean", outcome.distance.mean), ("90th percentile", outcome.distance.p90)):
        label = f"relative squared distance, {name}"
        yield Measure("drift", group, label, Value(distance, n=n), better="lower", percent=False)
    if outcome.within is not None and outcome.rho is not None:
        yield Measure("drift", group, f"within ρ = {outcome.rho:g}", value_of(outcome.within))
