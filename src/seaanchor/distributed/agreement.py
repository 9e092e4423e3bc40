"""Processes of one run do the same, or stop: each says what it prepared, and where one differs all end with one error.

What differs would not be noticed otherwise: another seed or rate on one process trains a silently different model, and
other data leaves the processes waiting for each other.
"""

from collections.abc import Mapping
from typing import Any

from seaanchor.distributed.process_group import ProcessGroup
from seaanchor.errors import SeaAnchorError

SHOWN, LONGEST = 6, 60  # differences, and characters of a value


def check_same(group: ProcessGroup, facts: Mapping[str, Any]) -> None:
    """See that what this process found is what the others found; all of them must ask.

    Args:
        group: the processes.
        facts: what must be the same, by name, as plain data.

    Raises:
        SeaAnchorError: in all processes, something differs; it names what, and on which rank.
    """
    if group.world == 1:
        return
    everyones = group.exchange({name: str(value) for name, value in flat(facts).items()})
    names = dict.fromkeys(name for theirs in everyones for name in theirs)
    found = [(name, _ranks_by_value(name, everyones)) for name in names]
    differing = [(name, by_value) for name, by_value in found if len(by_value) > 1]
    if not differing:
        return
    more = f", and {len(differing) - SHOWN} more" if len(differing) > SHOWN else ""
    raise SeaAnchorError(
        f"the processes do not do the same: {'; '.join(_shown(*one) for one in differing[:SHOWN])}{more}",
        f"the same settings, weights, images and versions in all {group.world} processes",
        "give all of them the same command, the same files and the same installation",
    )


def flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested facts on one level.

    >>> flat({"lr": 0.1, "anchor": {"rho": 0.2}})
    {'lr': 0.1, 'anchor.rho': 0.2}
    """
    found: dict[str, Any] = {}
    for name, value in facts.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def _ranks_by_value(name: str, everyones: list[dict[str, str]]) -> dict[str, list[int]]:
    ranks: dict[str, list[int]] = {}
    for rank, theirs in enumerate(everyones):
        ranks.setdefault(theirs.get(name, "missing"), []).append(rank)
    return ranks


def _shown(name: str, by_value: dict[str, list[int]]) -> str:
    """`lr is 0.1 on rank 0 and 0.2 on rank 1, 2`."""
    parts = [f"{value[:LONGEST]} on rank {', '.join(map(str, ranks))}" for value, ranks in by_value.items()]
    return f"{name} is {' and '.join(parts)}"
