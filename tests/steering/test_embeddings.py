"""Embeddings of people against those of the evaluation."""

import torch

from seaanchor.data.sources import open_images
from seaanchor.evaluation.suites.bias import people_texts


def test_the_peoples_embeddings_are_the_evaluations(tiny, people):
    _, role_M, gender_M, caption_RGD, _ = people_texts(tiny, open_images("emoji-people/test"), ("a photo of a {}.",))
    assert (
        torch.equal(people.role_N, role_M)
        and torch.equal(people.gender_N, gender_M)
        and torch.equal(people.caption_RGD, caption_RGD)
    )


def test_other_braces_in_a_prompt_are_letters_like_all_others(tiny):
    captions = people_texts(tiny, open_images("emoji-people/test"), ("a {photo} of a {}.", "{0} {}"))[3]
    assert captions.shape[1] == 2 and bool(captions.isfinite().all())
