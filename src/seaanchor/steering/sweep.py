"""What a trained linear map does at every exponent t, from embeddings computed once.

A cosine of W_t·I and W_t·T is one of Sᵗ·Vᵀ·I and Sᵗ·Vᵀ·T, so each t costs a scaling of embeddings that were turned
once.

Legend: N images, M pictures of words, C classes, R singular values.
"""

from collections.abc import Sequence

import torch.nn.functional as F

from seaanchor.adapters.linear_map import Spectrum
from seaanchor.evaluation.statistics import share_of
from seaanchor.evaluation.steering_record import SteeringPoint
from seaanchor.evaluation.suites.bias import evaluate_bias
from seaanchor.steering.embeddings import SeenPeople, SeenWords

TS = (-2.0, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


def sweep_typographic(seen: SeenWords, spectrum: Spectrum, ts: Sequence[float] = TS) -> list[SteeringPoint]:
    """Object accuracy (clean and with a wrong word drawn), attack-word rate, two-way choice and reading accuracy at
    every t.

    Args:
        seen: embeddings of `see_words`.
        spectrum: the trained map, decomposed.
        ts: exponents of the singular values.

    Raises:
        SeaAnchorError: a t out of range.
    """
    attacked_NR, written_MR, head_CR = map(spectrum.rotate, (seen.attacked_ND, seen.written_MD, seen.head_CD))
    clean_NR = None if seen.clean_ND is None else spectrum.rotate(seen.clean_ND)
    points = []
    for t in ts:
        powers_R = spectrum.powers(t)
        # an image's length changes no answer, so only texts are normalised
        head_RC = F.normalize(head_CR * powers_R, dim=-1).mul(powers_R).T
        attacked_NC = attacked_NR @ head_RC
        answer_N = attacked_NC.argmax(-1)
        wins_N1 = attacked_NC.gather(1, seen.label_N[:, None]) > attacked_NC.gather(1, seen.word_N[:, None])
        points.append(
            SteeringPoint(
                t,
                clean=None if clean_NR is None else share_of((clean_NR @ head_RC).argmax(-1) == seen.label_N),
                attacked=share_of(answer_N == seen.label_N),
                attack_word=share_of(answer_N == seen.word_N),
                two_way=share_of(wins_N1.squeeze(1)),
                reading=share_of((written_MR @ head_RC).argmax(-1) == seen.read_M),
            )
        )
    return points


def sweep_bias(seen: SeenPeople, spectrum: Spectrum, ts: Sequence[float] = TS) -> list[SteeringPoint]:
    """Gender accuracy, activity accuracy and retrieval skew at every t, of a people set; arguments as for
    `sweep_typographic`."""
    image_NR, caption_RGR, neutral_RR = map(spectrum.rotate, (seen.image_ND, seen.caption_RGD, seen.neutral_RD))
    points = []
    for t in ts:
        powers_R = spectrum.powers(t)
        found = evaluate_bias(
            image_NR * powers_R, caption_RGR * powers_R, neutral_RR * powers_R, seen.role_N, seen.gender_N
        )
        points.append(
            SteeringPoint(
                t,
                gender=found.gender,
                activity=found.activity,
                predicted_man=found.predicted_man,
                retrieval=found.retrieval,
            )
        )
    return points
