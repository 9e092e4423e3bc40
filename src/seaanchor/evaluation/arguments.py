"""What an evaluation is asked for from Python, where no command line has looked at it."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.attack_records import plans_of
from seaanchor.evaluation.protocol import Protocol
from seaanchor.evaluation.suites.registry import SUITES
from seaanchor.evaluation.typographic_plan import TypographicPlan


def protocol_of(
    attacks: Sequence[Any],
    suites: Sequence[str],
    templates: Sequence[str],
    typographic: TypographicPlan | None,
    settings: dict[str, Any],
) -> Protocol:
    """What is to be measured; paths among the settings become text.

    Args:
        attacks: records from `seaanchor.attacks`.
        suites: names out of `SUITES`.
        templates: prompts with `{}`.
        typographic: asks for the suite of that name.
        settings: other fields of `Protocol`.

    Raises:
        SeaAnchorError: no list where one is due, what is no attack, no suite or no plan of words.
    """
    plans, embedding = plans_of(_listed("attacks", attacks))
    chosen = list(_listed("suites", suites))
    if unknown := [name for name in chosen if name not in SUITES]:
        near = get_close_matches(str(unknown[0]), SUITES, n=1, cutoff=0.4)
        change = f"did you mean {near[0]}?" if near else "correct suites"
        raise SeaAnchorError(f"unknown suite {', '.join(map(str, unknown))}", f"any of {', '.join(SUITES)}", change)
    if embedding is not None and not {"embedding", "segmentation"} & set(chosen):
        chosen.append("embedding")
    texts: dict[str, Any] = {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}
    if typographic is not None:
        if not isinstance(typographic, TypographicPlan):
            change = 'write typographic=seaanchor.TypographicPlan("odd", "unseen")'
            raise SeaAnchorError(f"typographic is {typographic!r}", "a plan of words", change)
        chosen, texts = [*chosen, "typographic"], texts | {"typographic": typographic}
    names = tuple(dict.fromkeys(chosen))
    return Protocol(plans, _listed("templates", templates), suites=names, embedding=embedding, **texts)


def _listed(name: str, given: Any) -> tuple[Any, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise SeaAnchorError(f"{name} is {given!r}", "a list, which may be empty", f"write {name}=[...]")
    return tuple(given)
