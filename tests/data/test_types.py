"""The kinds of data sets: what each has, and that parts of one keep together what belongs together."""

from pathlib import Path

import pytest

from seaanchor.data.types import (
    ClassifiedImages,
    PreferenceImages,
    TypographicImages,
    UnlabelledImages,
    labels_of,
    pairs_of,
    take,
    templates_of,
    texts_of,
)

ROOT, PATHS = Path("x"), (Path("x/0.png"), Path("x/1.png"), Path("x/2.png"))
UNLABELLED = UnlabelledImages(ROOT, PATHS)
CLASSIFIED = ClassifiedImages(ROOT, PATHS, (0, 1, 0), ("a", "b"), ("the {}.",))
PREFERENCES = PreferenceImages(ROOT, PATHS, ("a", "b"), ((0, 1), (1, -1), (-1, 0)))
TYPOGRAPHIC = TypographicImages(ROOT, PATHS, (0, 1, 2), (1, 2, 0), ("a", "b", "c"))


@pytest.mark.parametrize(
    ("images", "labels", "pairs", "texts", "templates"),
    [
        (UNLABELLED, None, None, (), None),
        (CLASSIFIED, (0, 1, 0), None, ("a", "b"), ("the {}.",)),
        (PREFERENCES, None, ((0, 1), (1, -1), (-1, 0)), ("a", "b"), None),
        (TYPOGRAPHIC, (0, 1, 2), ((0, 1), (1, 2), (2, 0)), ("a", "b", "c"), None),
    ],
)
def test_what_each_kind_has(images, labels, pairs, texts, templates):
    assert labels_of(images) == labels
    assert pairs_of(images) == pairs
    assert texts_of(images) == texts
    assert templates_of(images) == templates


@pytest.mark.parametrize("images", [UNLABELLED, CLASSIFIED, PREFERENCES, TYPOGRAPHIC])
def test_some_images_of_each_kind_in_another_order(images):
    some = take(images, [2, 0])
    assert type(some) is type(images)
    assert some.paths == (PATHS[2], PATHS[0])
    assert (texts_of(some), templates_of(some)) == (texts_of(images), templates_of(images))
    for column in (labels_of, pairs_of):
        whole = column(images)
        assert column(some) == (None if whole is None else (whole[2], whole[0]))
