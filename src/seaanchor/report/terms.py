"""Short forms that stand on a page, each explained where it stands."""

import re
from collections.abc import Iterable, Sequence

from seaanchor.report.tables import Group

TERMS = {
    "AutoAttack": "a fixed set of four attacks, the strictest here",
    "APGD-CE": "PGD that chooses its own step sizes and raises the cross-entropy loss",
    "APGD": "PGD that chooses its own step sizes, first on the cross-entropy loss, then towards other classes",
    "PGD": "projected gradient descent, an attack that changes pixels in small steps until the answer is wrong",
    "Square": "an attack that changes squares at random and only looks at the answers",
    "ℓ∞": "no value of a pixel changes by more than ε",
    "ℓ2": "the length of the whole change is at most ε",
    "ε": "how far an attack may change pixels, whose values go from 0 to 1",
    "T": "accuracy on images with a wrong class word drawn on",
    "top-1": "the likeliest answer is right",
    "top-5": "the right answer is among the five likeliest",
    "ECE": "expected calibration error, how far confidence and accuracy lie apart",
    "IoU": "intersection over union, how far the predicted and the true area of a class overlap",
    "recall": "share of queries whose match is among the first so many found",
    "NDKL": "normalised discounted Kullback-Leibler divergence, how far a ranking is from the wanted shares",
    "MaxSkew": "the most that a group is over-represented among the first found, as a logarithm",
    "σ": "standard deviation of the noise",
    "ρ": "how far the embedding of a clean image may move from the reference's",
    "λ": "the weight that training gives to that bound",
    "KL": "Kullback-Leibler divergence, how far two distributions lie apart",
    "n": "number of images",
}
"""In the order in which they are explained."""


def explained(texts: Iterable[str]) -> list[tuple[str, str]]:
    """The short forms that are in the texts, with what they mean.

    >>> explained(["APGD-CE, 10 steps", "top-1"])[0][0], len(explained(["APGD-CE, 10 steps", "top-1"]))
    ('APGD-CE', 2)
    """
    whole = " ".join(texts)
    return [(term, meaning) for term, meaning in TERMS.items() if re.search(_alone(term), whole)]


def _alone(term: str) -> str:
    """A pattern for the term where it is no part of a longer one."""
    return rf"(?<![\w-]){re.escape(term)}(?![\w-])"


def terms_of(groups: Sequence[Group]) -> list[tuple[str, str]]:
    """The short forms in the headings and labels of a table."""
    return explained([text for group in groups for text in (group.name, *(row.label for row in group.rows))])
