"""Which results are of the same images, so that they may stand in one table."""

from collections import Counter
from collections.abc import Sequence

from seaanchor.evaluation.results import ProtocolRecord
from seaanchor.report.measures import count
from seaanchor.report.sources import ResultFile, distinct
from seaanchor.utils.text import plural


def groups_of(files: Sequence[ResultFile]) -> list[list[ResultFile]]:
    """Results in groups that may stand in one table: of one data set, and not known to be of different images.

    Results whose classes differ stay together, because the list of images has the numbers of the classes in it.
    """
    groups: list[list[ResultFile]] = []
    for file in files:
        group = next((group for group in groups if _may_compare(group[0], file)), None)
        if group is None:
            groups.append([file])
        else:
            group.append(file)
    return groups


def _may_compare(one: ResultFile, other: ResultFile) -> bool:
    if one.result.dataset != other.result.dataset:
        return False
    here, there = one.result.protocol, other.result.protocol
    if here.class_names != there.class_names and here.class_names and there.class_names:
        return True
    if here.images is not None and there.images is not None:
        return here.images == there.images
    known = [_subset(protocol) for protocol in (here, there)]
    return None in known or known[0] == known[1]


def _subset(protocol: ProtocolRecord) -> tuple[int | None, int] | None:
    """How many images were drawn, and by which seed; None where a file does not say it."""
    return None if protocol.seed is None else (protocol.samples, protocol.seed)


def titles_of(groups: Sequence[Sequence[ResultFile]]) -> list[str]:
    """A heading for each group: the data set's name, with what distinguishes the images where several groups have
    it."""
    names = [group[0].result.dataset for group in groups]
    several = Counter(names)
    parts = [_part(group[0]) if several[name] > 1 else "" for name, group in zip(names, groups, strict=True)]
    return distinct(list(zip(names, parts, strict=True)))


def _part(file: ResultFile) -> str:
    n, seed = count(file.result), file.result.protocol.seed
    return ", ".join(filter(None, ("" if n is None else plural(n, "image"), "" if seed is None else f"seed {seed}")))
