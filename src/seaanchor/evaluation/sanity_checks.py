"""Whether the numbers can be believed: what must hold whatever the model, checked with every evaluation.

Every check is a name, whether it passed, and what was seen; together they are the `checks` of a result file.

Legend: B batch, N images, C classes, H W pixels, D embedding dimension.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from seaanchor.attacks.apgd_classifier import apgd_ce
from seaanchor.attacks.ball import Ball
from seaanchor.attacks.classification import Classifier, Logits, not_finite
from seaanchor.attacks.pgd import cross_entropy_of, pgd_attack
from seaanchor.attacks.square import pyautoattack, square_attack
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.attacks import GRADIENT, AttackPlan, attack_survivors
from seaanchor.evaluation.results import Check
from seaanchor.evaluation.zeroshot import Outcomes, correct
from seaanchor.functional.gradients import input_grad
from seaanchor.types import Batch

CHECKED = 32  # images that are attacked again
BORDERLINE = 2 / 1000  # share of images that may fall on the other side by rounding; of few images, one
MASKED = 0.05  # share of the white box's survivors that a black box may fool; of few images, two
TRANSFER_STEPS = 20  # at most
FEW_STEPS, FEW_QUERIES = 5, 50
SQUARE_QUERIES = 200


def check(passed: bool, detail: str) -> Check:
    """One entry of the table."""
    return Check(bool(passed), detail)


@dataclass(frozen=True)
class CheckInputs:
    """What the checks may use.

    Attributes:
        logits: of the model.
        encoder: the model's image tower.
        load: numbers of images → labelled batch of them.
        found: the evaluation's outcomes.
        plans: its attacks.
        reference: logits of the untouched model, None without one.
    """

    logits: Logits
    encoder: nn.Module
    load: Callable[[list[int]], Batch]
    found: Outcomes
    plans: Sequence[AttackPlan]
    reference: Logits | None = None


def run_checks(inputs: CheckInputs) -> dict[str, Check]:
    """All checks."""
    found = inputs.found
    batch = inputs.load(spread_over(found.index_N, found.clean_N, CHECKED))
    checks = check_model(inputs.logits, inputs.encoder, batch) | check_gradients(inputs.logits, batch, inputs.plans)
    for plan in inputs.plans:
        checks |= {f"{plan.name}: {name}": value for name, value in check_attack(inputs.logits, batch, plan).items()}
        checks |= {f"{plan.name}: {name}": value for name, value in check_outcomes(found, plan).items()}
    return checks | check_masking(inputs)


def spread_over(index_N: Tensor, wanted_N: Tensor, count: int) -> list[int]:
    """At most `count` of the wanted images, evenly over the list; of all images where none is wanted."""
    candidates = index_N[wanted_N] if bool(wanted_N.any()) else index_N
    places = torch.linspace(0, len(candidates) - 1, min(count, len(candidates)), dtype=torch.float64).round().long()
    return candidates[places].tolist()


@torch.no_grad()
def check_model(logits: Logits, encoder: nn.Module, batch: Batch) -> dict[str, Check]:
    """Eval mode, the same answer twice, an answer that does not depend on the batch, and embeddings that are finite and
    not all one."""
    training = [name or type(module).__name__ for name, module in encoder.named_modules() if module.training]
    once_BC, again_BC = logits(batch.pixels_BCHW), logits(batch.pixels_BCHW)
    embedding_BD = encoder(batch.pixels_BCHW).float()
    finite = bool(embedding_BD.isfinite().all())
    differing = (
        0.0
        if not finite
        else (embedding_BD - embedding_BD[:1]).abs().max().item() / max(embedding_BD.abs().max().item(), 1e-12)
    )
    apart_B = torch.cat([logits(part.pixels_BCHW).argmax(-1) for part in _halves(batch)])
    moved = int((apart_B != once_BC.argmax(-1)).sum())
    same = torch.equal(once_BC, again_BC) or bool(
        (once_BC - again_BC).abs().max() <= 1e-4 * once_BC.abs().max()
    )  # some GPU kernels add in any order
    return {
        "model: eval mode": check(
            not training, f"{len(training)} modules in train mode{': ' if training else ''}{', '.join(training[:3])}"
        ),
        "model: two passes agree": check(same, f"largest difference {(once_BC - again_BC).abs().max().item():.1e}"),
        "model: batch size changes nothing": check(
            moved <= slack(len(batch.index_B)), f"{moved} of {len(batch.index_B)} answers differ"
        ),
        "model: embeddings are finite": check(finite, f"of {len(embedding_BD)} images"),
        "model: embeddings differ": check(
            differing > 1e-6 or len(embedding_BD) == 1, f"by {differing:.1e} of the largest value"
        ),
    }


def check_gradients(logits: Logits, batch: Batch, plans: Sequence[AttackPlan]) -> dict[str, Check]:
    """Whether gradients of the attacks' loss reach the pixels. An image whose gradient is exactly 0, or NaN, whose sign
    is 0, stands still under a gradient attack and counts as robust."""
    if batch.label_B is None or not any(plan.name in GRADIENT for plan in plans):
        return {}
    low = logits.low if isinstance(logits, Classifier) and any(plan.precision != "fp32" for plan in plans) else None
    zero, odd, count = 0, 0, len(batch.index_B)
    for followed in (logits, *([] if low is None else [low])):
        _, grad_BCHW, _ = input_grad(cross_entropy_of(followed, batch.label_B), batch.pixels_BCHW)
        zero += int((grad_BCHW == 0).flatten(1).all(1).sum())
        odd += int(not_finite(grad_BCHW).sum())
    return {
        "model: gradients reach the pixels": check(
            zero <= slack(count) and odd == 0 and zero < count,
            f"of {count} images, {zero} ({zero / count:.0%}) have a gradient of exactly 0, {odd} one that is NaN or "
            "infinite",
        )
    }


def slack(count: int) -> int:
    """How many of `count` images may differ by rounding."""
    return max(1, int(BORDERLINE * count))


def check_attack(logits: Logits, batch: Batch, plan: AttackPlan) -> dict[str, Check]:
    """Radius 0 changes nothing, an image's outcome does not depend on its batch, and more steps are not weaker; a few
    steps show it."""
    count, allowed = len(batch.index_B), slack(len(batch.index_B))
    clean_B, least = correct(logits, batch.pixels_BCHW, batch), min(plan.epsilons)
    short = replace(plan, num_steps=min(plan.num_steps, FEW_QUERIES if plan.name == "square" else FEW_STEPS))
    single = replace(plan, num_steps=min(1, plan.num_steps))
    at_zero_B = attack_survivors(logits, batch, clean_B, single, 0.0).correct_B
    whole_B = attack_survivors(logits, batch, clean_B, short, least).correct_B
    apart_B = torch.cat(
        [
            attack_survivors(logits, part, correct(logits, part.pixels_BCHW, part), short, least).correct_B
            for part in _halves(batch)
        ]
    )
    single_B = attack_survivors(logits, batch, clean_B, single, least).correct_B
    changed, moved, few, many = (
        int(x) for x in ((at_zero_B != clean_B).sum(), (apart_B != whole_B).sum(), single_B.sum(), whole_B.sum())
    )
    return {
        "epsilon 0 equals clean": check(changed == 0, f"{changed} of {count} images differ"),
        "batch size changes nothing": check(moved <= allowed, f"{moved} of {count} outcomes differ"),
        "more steps are not weaker": check(
            many - few <= allowed,
            f"{few} of {count} are right after {single.num_steps}, {many} after {short.num_steps}",
        ),
    }


def check_outcomes(found: Outcomes, plan: AttackPlan) -> dict[str, Check]:
    """Over all images: attacked images stayed legal, and none that is fooled at a smaller radius is right at a larger
    one."""
    count = len(found.index_N)
    illegal = sum(int((~found.sound[plan, epsilon]).sum()) for epsilon in plan.epsilons)
    chain = [found.clean_N, *(found.attacked[plan, epsilon] for epsilon in sorted(plan.epsilons))]
    risen = sum(int((larger & ~smaller).sum()) for smaller, larger in itertools.pairwise(chain))
    return {
        "images stay in the ball and in [0, 1]": check(
            illegal == 0,
            f"{illegal} of {count * len(plan.epsilons)} attacked images do not, are not finite, or had a gradient that "
            "is not",
        ),
        "accuracy never rises with epsilon": check(risen == 0, f"{risen} of {count} images"),
    }


def check_masking(inputs: CheckInputs) -> dict[str, Check]:
    """Whether attacks without the model's gradient fool what the gradient could not: then the gradient is masked, and
    the robust accuracy is none (Athalye, Carlini & Wagner 2018; Carlini et al. 2019, section 3). Checked on
    survivors of the largest radius."""
    checks = {}
    for settings in dict.fromkeys(
        (plan.norm, max(plan.epsilons), plan.seed) for plan in inputs.plans if plan.name in GRADIENT
    ):
        plans = [
            plan
            for plan in inputs.plans
            if plan.name in GRADIENT and (plan.norm, max(plan.epsilons), plan.seed) == settings
        ]
        norm, epsilon, seed = settings
        robust = [inputs.found.attacked[plan, epsilon] for plan in plans]
        any_N = torch.stack(robust).any(0)
        if epsilon == 0 or not bool(any_N.any()):
            continue
        ball, batch = Ball(norm, epsilon), inputs.load(spread_over(inputs.found.index_N, any_N, CHECKED))
        square_M = (
            square_attack(inputs.logits, batch, ball, SQUARE_QUERIES, seed).fooled_B.cpu()
            if square_is_there()
            else None
        )
        rows = torch.searchsorted(inputs.found.index_N, batch.index_B.cpu())
        for plan, robust_N in zip(plans, robust, strict=True):
            boxes = {"Square": square_M, "transfer from the reference": _transferred(inputs, batch, ball, plan)}
            for box, fooled_M in boxes.items():
                if fooled_M is not None:
                    checks[f"{plan.name}: {box} is not stronger"] = _stronger(
                        fooled_M, robust_N[rows].cpu(), f"{plan.name} did not fool at {epsilon:.4g}"
                    )
    return checks


def _stronger(fooled_M: Tensor, survivors_M: Tensor, which: str) -> Check:
    newly, looked_at = int((fooled_M & survivors_M).sum()), int(survivors_M.sum())
    return check(newly <= max(2, MASKED * looked_at), f"it fools {newly} of {looked_at} images that {which}")


def _transferred(inputs: CheckInputs, batch: Batch, ball: Ball, plan: AttackPlan) -> Tensor | None:
    """Which images (B,) an attack on the reference makes the model misjudge: with no more steps than the plan had, or
    it would show only that those were too few."""
    if inputs.reference is None or batch.label_B is None:
        return None
    attack = pgd_attack if plan.name == "pgd" else partial(apgd_ce, retire=False)
    steps = min(TRANSFER_STEPS, plan.num_steps)
    moved = attack(
        inputs.reference,
        batch.pixels_BCHW,
        batch.label_B,
        ball,
        num_steps=steps,
        index_B=batch.index_B,
        seed=plan.seed,
    )
    with torch.no_grad():
        return (inputs.logits(moved.pixels_BCHW).argmax(-1) != batch.label_B).cpu()


def square_is_there() -> bool:
    """Whether the package with the black box is installed."""
    try:
        pyautoattack()
    except SeaAnchorError:
        return False
    return True


def failed(checks: dict[str, Check]) -> list[str]:
    """Names of the checks that did not pass, each with what was seen."""
    return [f"{name} ({value.detail})" for name, value in checks.items() if not value.passed]


def _halves(batch: Batch) -> list[Batch]:
    middle = len(batch.index_B) // 2
    label_B = batch.label_B
    parts = [slice(0, middle), slice(middle, None)]
    cut = [
        Batch(batch.pixels_BCHW[part], None if label_B is None else label_B[part], batch.index_B[part])
        for part in parts
    ]
    return [part for part in cut if len(part.index_B)]


__all__ = [
    "CheckInputs",
    "check",
    "check_attack",
    "check_gradients",
    "check_masking",
    "check_model",
    "check_outcomes",
    "failed",
    "run_checks",
    "slack",
    "spread_over",
    "square_is_there",
]
