"""Every t against the map multiplied out, and against the evaluation of the untouched model."""

import time
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from seaanchor.adapters.linear_map import decompose, scale_spectrum
from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.sources import open_images
from seaanchor.encoders.heads import build_head
from seaanchor.evaluation.suites.bias import evaluate_bias
from seaanchor.evaluation.suites.typographic import TypographicPlan, evaluate_typographic
from seaanchor.steering.embeddings import see_words
from seaanchor.steering.sweep import sweep_bias, sweep_typographic


@pytest.fixture(scope="module")
def words(tiny):
    """100 photos of the embedded set, and what the model sees on them."""
    images, plan = open_images("photos-mini/test"), TypographicPlan(sizes=(0.2, 0.3))
    images = replace(images, paths=images.paths[::8], labels=images.labels[::8])
    return images, plan, see_words(tiny, images, plan)


def test_t_0_is_the_untouched_model_on_the_embedded_photos(tiny, words):
    images, plan, seen = words
    spectrum, head = decompose(some_map()), build_head(tiny, images.class_names)
    image, text = (spectrum.rotate(x) * spectrum.powers(0.0) for x in (seen.attacked_ND, seen.head_CD))
    cosines = F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    assert torch.allclose(cosines, (head(seen.attacked_ND) / head.logit_scale).double(), atol=1e-6)
    (row,) = sweep_typographic(seen, spectrum, (0.0,))
    stream = batches(ImageDataset(images, 64), 100, workers=0, order=None, skip_log=SkipLog(images))
    expected = evaluate_typographic(lambda pixels: head(tiny.encoder(pixels)), stream, images.class_names, plan)
    for key in ("clean", "attacked", "attack_word", "two_way"):
        assert getattr(row, key) == getattr(expected, key), key


def some_map(dim=128):
    generator = torch.Generator().manual_seed(4)
    return torch.eye(dim) + 0.05 * torch.randn(dim, dim, generator=generator)


@pytest.mark.parametrize("t", [-0.5, 1.0, 1.5])
def test_every_t_is_what_w_t_gives(tiny, words, people, t):
    """W_t multiplied out, image by image, where the sweep scales embeddings that were turned once."""
    weight, (_, _, seen) = some_map(), words
    map_DD = scale_spectrum(weight, t).double()
    (row,) = sweep_typographic(seen, decompose(weight), (t,))
    looks = {
        "clean": (seen.clean_ND, seen.label_N),
        "attacked": (seen.attacked_ND, seen.label_N),
        "reading": (seen.written_MD, seen.read_M),
    }
    for key, (images, wanted) in looks.items():
        logits = (
            F.normalize(images.double() @ map_DD.T, dim=-1) @ F.normalize(seen.head_CD.double() @ map_DD.T, dim=-1).T
        )
        assert row.shares[key].accuracy == (logits.argmax(-1) == wanted).double().mean().item(), key
    (row,) = sweep_bias(people, decompose(weight), (t,))
    mapped = (x.double() @ map_DD.T for x in (people.image_ND, people.caption_RGD, people.neutral_RD))
    expected = evaluate_bias(*mapped, people.role_N, people.gender_N)
    assert (row.gender, row.activity, row.predicted_man) == (
        expected.gender,
        expected.activity,
        expected.predicted_man,
    )
    assert row.retrieval["uniform"]["ndkl"] == pytest.approx(expected.retrieval["uniform"]["ndkl"], abs=1e-6)


def test_a_hundred_values_of_t_take_less_than_a_second(words, people):
    spectrum, ts = decompose(some_map()), [0.02 * i - 1 for i in range(100)]
    for sweep, seen in ((sweep_typographic, words[2]), (sweep_bias, people)):
        started = time.process_time()
        assert len(sweep(seen, spectrum, ts)) == 100
        assert time.process_time() - started < 1
