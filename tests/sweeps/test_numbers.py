"""Names of the numbers of a result, in files of an older format and of this one."""

from seaanchor.evaluation.result_files import decode
from seaanchor.sweeps.numbers import numbers_of

SHARE = {"accuracy": 0.5, "low": 0.4, "high": 0.6, "n": 100}


def old_result(**settings) -> dict:
    """A file of format 3 with some of every kind of number."""
    return {
        "format": 3,
        "dataset": "photos",
        "model": "m",
        "clean": SHARE,
        "robust": [
            {"attack": "apgd", "epsilon": 2 / 255} | SHARE,
            {"attack": "apgd", "epsilon": 0.5 / 255} | SHARE,
        ],
        "suites": {
            "typographic": {"attacked": SHARE, "attack_word": SHARE, "two_way": SHARE, "plan": {"seed": 0}},
            "drift": {"cosine": 0.9, "distance": {"mean": 0.1, "p50": 0.1, "p90": 0.2, "max": 0.3}, "within": None},
            "noise": [{"sigma": 8} | SHARE],
            "words-and-noise": {"word": SHARE, "apgd-ce 1/255": SHARE},
            "corruptions": {"kinds": {"fog": [{"severity": 1} | SHARE]}, "mean": 0.4},
            "embedding": [
                {
                    "epsilon": 0.25,
                    "norm": "linf",
                    "num_steps": 1,
                    "distance": {"mean": 3.0, "p50": 3.0, "p90": 3.0, "max": 3.0},
                    "cosine": 0.9,
                }
            ],
        },
    } | settings


def test_numbers_have_a_name_for_every_share():
    found = numbers_of(decode(old_result()))
    assert set(found) >= {
        "clean",
        "apgd 2/255",
        "apgd 0.5/255",
        "typographic.attacked",
        "drift.cosine",
        "drift.distance.mean",
        "noise.sigma=8",
        "words-and-noise.word",
        "words-and-noise.apgd-ce 1/255",
        "embedding.epsilon=0.25.distance.mean",
        "corruptions.mean",
    }
    assert not [name for name in found if "plan" in name or "within" in name or "levels" in name]
    assert found["drift.cosine"].accuracy == 0.9 and found["drift.cosine"].n is None
    assert found["noise.sigma=8"].n == 100 and found["clean"].low == 0.4


def test_images_that_carry_a_word_have_another_name():
    assert "lettered" in (found := numbers_of(decode(old_result(clean=None, lettered=SHARE)))) and "clean" not in found
