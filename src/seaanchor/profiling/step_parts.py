"""The parts of a step as a table: attack, updates on perturbed and clean images, reference, dual and optimizer, forward
and back."""

from collections.abc import Mapping

from seaanchor.profiling.op_counter import Stage
from seaanchor.utils.parts import ATTACK, DUAL, OPTIMIZER, OTHER, REFERENCE, UPDATE

PERTURBED, CLEAN = "perturbed images", "clean images"
Amounts = Mapping[Stage, float]
"""Operations or seconds, by stage."""


def by_part(counted: Amounts, clean: bool) -> dict[str, tuple[float, float]]:
    """What each part takes, forward and back.

    Args:
        counted: by stage of the step.
        clean: whether the method's updates see clean images too. They go through one forward with as many perturbed
            ones, so each kind takes half.
    """
    kinds = (PERTURBED, CLEAN) if clean else (PERTURBED,)
    taken = {name: (counted.get(Stage(name, False), 0), counted.get(Stage(name, True), 0)) for name in _NAMES}
    update = taken[UPDATE]
    halves = dict.fromkeys(kinds, (update[0] / len(kinds), update[1] / len(kinds)))
    rest = {name: taken[name] for name in (REFERENCE, DUAL, OPTIMIZER, OTHER)}
    return {
        ATTACK: taken[ATTACK],
        **halves,
        **{name: both for name, both in rest.items() if name != OTHER or any(both)},
    }


_NAMES = (ATTACK, UPDATE, REFERENCE, DUAL, OPTIMIZER, OTHER)


def table(operations: Amounts, unit: float, clean: bool, seconds: Amounts | None = None) -> list[str]:
    """Rows of text: passes in units of `unit` operations, and shares of the operations and, where given, of the time.

    >>> table({Stage("attack", False): 30, Stage("attack", True): 70}, 10, False)[0]
    'attack            forward     3.00 F   30.0 %   backward    7.00 F   70.0 %'
    """
    all_operations, parts = sum(operations.values()), by_part(operations, clean)
    times = None if seconds is None else by_part(seconds, clean)
    rows = []
    for name, amounts in parts.items():
        ways = (
            f"{way:8} {amount / unit:7.2f} F  {_percent(amount, all_operations)}"
            for way, amount in zip(("forward", "backward"), amounts, strict=True)
        )
        row = f"{name:16}  " + "   ".join(ways)
        if seconds is not None and times is not None:
            row += f"   time {_percent(sum(times.get(name, (0.0, 0.0))), sum(seconds.values()))}"
        rows.append(row)
    return rows


def _percent(amount: float, whole: float) -> str:
    return f"{100 * amount / whole if whole else 0:5.1f} %"
