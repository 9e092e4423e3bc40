"""The suites besides accuracy under attacks on the classifier, by name."""

from seaanchor.evaluation.context import Suite
from seaanchor.evaluation.suites import (
    bias,
    corruptions,
    drift,
    embedding,
    interpretability,
    noise,
    probe,
    reading,
    retrieval,
    segmentation,
    typographic,
    words_and_noise,
)

SUITES: dict[str, Suite] = {
    "retrieval": retrieval.SUITE,
    "embedding": embedding.SUITE,
    "typographic": typographic.SUITE,
    "words-and-noise": words_and_noise.SUITE,
    "reading": reading.SUITE,
    "noise": noise.SUITE,
    "corruptions": corruptions.SUITE,
    "bias": bias.SUITE,
    "interpretability": interpretability.SUITE,
    "drift": drift.SUITE,
    "probe": probe.SUITE,
    "segmentation": segmentation.SUITE,
}
"""What `--suite` takes besides clean accuracy and the attacks; the outcome of each is the field of `Suites` of the same
name, with underscores."""
