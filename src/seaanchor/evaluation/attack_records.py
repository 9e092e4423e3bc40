"""The attacks of an evaluation from the records of `seaanchor.attacks`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from seaanchor.attacks.classifiers import APGD, PGD, AutoAttack, Square
from seaanchor.attacks.embedding import EmbeddingAttack
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.attacks import AttackPlan


def plans_of(attacks: Sequence[Any]) -> tuple[tuple[AttackPlan, ...], AttackPlan | None]:
    """Attacks on classifiers, and the one on embeddings if there is one; radii of one attack are put together.

    Raises:
        SeaAnchorError: something else than such a record, or one with settings that an evaluation has not.
    """
    plans: dict[AttackPlan, list[float]] = {}
    for attack in attacks:
        plans.setdefault(_plan(attack), []).append(attack.epsilon)
    merged = [replace(plan, epsilons=tuple(sorted(set(radii)))) for plan, radii in plans.items()]
    embedding = [plan for plan in merged if plan.name == "embedding"]
    if len(embedding) > 1:
        raise SeaAnchorError(
            f"{len(embedding)} attacks on embeddings", "one, at one or several radii", "leave the others out"
        )
    return tuple(plan for plan in merged if plan.name != "embedding"), embedding[0] if embedding else None


def _plan(attack: Any) -> AttackPlan:
    """The plan of one attack, without its radius."""
    match attack:
        case PGD(step_size=None):
            name, steps = "pgd", attack.num_steps
        case APGD():
            name, steps = "apgd" if attack.targeted else "apgd-ce", attack.num_steps
        case Square():
            name, steps = "square", attack.num_queries
        case AutoAttack(num_steps=100):
            name, steps = "autoattack", attack.num_steps
        case EmbeddingAttack():
            name, steps = "embedding", attack.num_steps
        case _:
            raise SeaAnchorError(
                f"{attack!r} is no attack of an evaluation",
                "PGD with its own step size, APGD, Square, AutoAttack of 100 steps or EmbeddingAttack of "
                "seaanchor.attacks",
                "choose one of them, or call the attack on a classifier yourself",
            )
    return AttackPlan(name, attack.norm, (), steps, attack.seed)  # type: ignore[arg-type] # a name of the list above
