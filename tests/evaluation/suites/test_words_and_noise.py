"""The attacker with two means is never weaker than either alone, and what it needs is asked for first."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from seaanchor.data.loader import ImageDataset, SkipLog, batches, subset
from seaanchor.data.sources import open_images
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.attacks import AttackPlan, attack_all
from seaanchor.evaluation.run import Protocol, evaluate
from seaanchor.evaluation.suites.typographic import TypographicPlan, typographic_hits
from seaanchor.evaluation.suites.words_and_noise import words_and_noise
from seaanchor.evaluation.zeroshot import classifier

MODELS = Path(__file__).parents[3] / "models"

LETTERS = TypographicPlan("odd", "unseen", (0.14, 0.25))
PLAN = AttackPlan("apgd-ce", "linf", (0.5 / 255, 2 / 255), 3)


@pytest.fixture(scope="module")
def seen():
    model, images = load_model(str(MODELS / "seaanchor-tiny-lore")), subset(open_images("photos-mini/test"), 40, 0)
    (batch,) = batches(ImageDataset(images, 64), 40, workers=0, order=None, skip_log=SkipLog(images))
    logits = classifier(model, build_head(model, images.class_names, ("a photo of a {}.",)), torch.device("cpu"))
    return logits, batch, images.class_names


def test_each_mean_takes_more_images(seen):
    logits, batch, names = seen
    found = words_and_noise(logits, batch, names, LETTERS, (PLAN,))
    one_word_B = typographic_hits(logits, batch, names, LETTERS)["attacked"]
    alone = attack_all(logits, batch, logits(batch.pixels_BCHW).argmax(-1) == batch.label_B, (PLAN,))
    word_B, small_B, large_B = found["word"], found["apgd-ce 0.5/255"], found["apgd-ce 2/255"]
    assert not (word_B & ~one_word_B).any(), "the drawing of the plain suite is among those tried"
    assert not (small_B & ~word_B).any() and not (large_B & ~small_B).any()
    assert 0 < word_B.sum() < one_word_B.sum(), "the worst of three words beats the first one"
    assert large_B.sum() < alone[PLAN, 2 / 255].correct_B.sum(), "on this model noise alone leaves more"
    assert found["apgd-ce 2/255 sound"].all()


def test_noise_is_searched_around_the_lettered_image(seen):
    """The worst of three drawings put together by hand, then attacked; the same noise around the clean image would
    leave others standing."""
    logits, batch, names = seen
    found, attack = words_and_noise(logits, batch, names, LETTERS, (PLAN,)), LETTERS.attack(names)
    lettered = batch.pixels_BCHW.clone()
    for row, (index, label) in enumerate(zip(batch.index_B.tolist(), batch.label_B.tolist(), strict=True)):
        pictures = [
            attack.overlay(batch.pixels_BCHW[row : row + 1], [attack.draw(index, label, v, 64)[1]]) for v in range(3)
        ]
        scores = [logits(picture)[0].tolist() for picture in pictures]
        margins = [s[label] - max(s[:label] + s[label + 1 :]) for s in scores]
        lettered[row] = pictures[margins.index(min(margins))][0]
    around_words, around_clean = (
        attack_all(logits, replace(batch, pixels_BCHW=pixels), found["word"], (PLAN,))[PLAN, 2 / 255].correct_B
        for pixels in (lettered, batch.pixels_BCHW)
    )
    assert torch.equal(found["apgd-ce 2/255"], around_words) and not torch.equal(around_words, around_clean)


def test_the_suite_writes_shares(tmp_path):
    (result,) = evaluate(
        "seaanchor-tiny",
        ["photos-mini"],
        Protocol((PLAN,), samples=20, suites=("words-and-noise",), typographic=LETTERS),
        tmp_path,
    )
    found = result.suites.words_and_noise
    assert set(found.attacked) == {"apgd-ce 0.5/255", "apgd-ce 2/255"}
    assert found.word.n == 20 and found.plan.words_tried == 3


def test_an_attack_is_asked_for(tmp_path):
    with pytest.raises(SeaAnchorError, match="apgd-ce"):
        evaluate("seaanchor-tiny", ["photos-mini"], Protocol((), samples=4, suites=("words-and-noise",)), tmp_path)
