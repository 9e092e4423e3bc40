"""Parts of a data set, such as train and test: recognised by their names however they are spelt, or by holding the
same classes."""

import re
from collections.abc import Sequence

KINDS = {
    "train": "train training trn trainset",
    "val": "val valid validation dev devel eval evaluation valset",
    "test": "test testing tst testset",
    "trainval": "trainval",
}  # kind → spellings
_KIND_OF = {word: kind for kind, words in KINDS.items() for word in words.split()}
_WORDS_BESIDE = "set sets data dataset split splits part image images img imgs photos pictures full mini small"
_FILLERS = frozenset(_WORDS_BESIDE.split())
SHARED = 0.5  # of the subfolders of some folders, if those are splits of the same classes


def split_kind(name: str) -> str | None:
    """Which split a folder of this name is, `train`, `val`, `test` or `trainval`; None if it is another thing.

    >>> [split_kind(name) for name in ("Training", "val2017", "test_images", "Test-Set", "testudo", "train station")]
    ['train', 'val', 'test', 'test', None, None]
    """
    words = re.findall(r"[^\W\d_]+", name.lower())
    kinds = {_KIND_OF[word] for word in words if word in _KIND_OF}
    return kinds.pop() if len(kinds) == 1 and all(word in _KIND_OF or word in _FILLERS for word in words) else None


def kind_within(name: str) -> str | None:
    """Which split a longer name speaks of, as those of shards do.

    >>> [kind_within(name) for name in ("imagenet1k-validation-00.tar", "cc3m-train-0001.tar", "00000.tar")]
    ['val', 'train', None]
    """
    kinds = {_KIND_OF[word] for word in re.findall(r"[^\W\d_]+", name.lower()) if word in _KIND_OF}
    return kinds.pop() if len(kinds) == 1 else None


def are_splits(names: Sequence[str]) -> bool:
    """Whether folders of these names beside each other are splits: all of them are called so, or two of different
    kinds are, whatever lies beside them."""
    kinds = [split_kind(name) for name in names]
    return bool(names) and (None not in kinds or len(set(kinds) - {None}) >= 2)


def shared_subfolders(subfolders: Sequence[frozenset[str]]) -> frozenset[str]:
    """The names that several folders have in common, if those are so many that they must be the classes, and the
    folders splits; else none.

    Args:
        subfolders: the names in each of the folders.
    """
    if len(subfolders) < 2:
        return frozenset()
    shared, together = frozenset.intersection(*subfolders), frozenset.union(*subfolders)
    return shared if len(shared) >= 2 and len(shared) >= SHARED * len(together) else frozenset()
