"""How much words drawn on images fool a classifier.

Legend: B batch, C classes, H W pixels.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from seaanchor.evaluation.context import CleanBatch, EvaluationContext, Suite, Tables
from seaanchor.evaluation.statistics import Share, share_of
from seaanchor.evaluation.suite_results import Typographic
from seaanchor.evaluation.table import Table
from seaanchor.evaluation.typographic_plan import TypographicPlan
from seaanchor.perturbations.typographic import Typographic as Drawing
from seaanchor.types import Batch

Logits = Callable[[Tensor], Tensor]


@torch.no_grad()
def evaluate_typographic(
    logits: Logits, stream: Iterable[Batch], class_names: Sequence[str], plan: TypographicPlan
) -> Typographic:
    """Accuracy on clean images (O), with a wrong class word drawn (T), and how often the drawn word wins.

    Images that carry their word already, `label=X_text=Y` files, have neither `clean` nor `unreadable`.
    """
    hits: dict[str, list[bool]] = {}
    for batch in stream:
        if batch.label_B is None or len(batch.index_B) == 0:
            continue
        for name, hit_B in typographic_hits(logits, batch, class_names, plan).items():
            hits.setdefault(name, []).extend(hit_B.tolist())
    return _outcome({name: share_of(hit) for name, hit in hits.items()}, plan)


def _outcome(shares: dict[str, Share], plan: TypographicPlan) -> Typographic:
    return Typographic(**shares, plan=plan.settings())


@torch.no_grad()
def typographic_hits(
    logits: Logits, batch: Batch, class_names: Sequence[str], plan: TypographicPlan
) -> dict[str, Tensor]:
    """What `evaluate_typographic` counts, for each image of a batch (B,)."""
    return (
        _with_their_words(logits, batch)
        if batch.preference is not None
        else _drawn(logits, batch, plan.attack(class_names))
    )


def _drawn(logits: Logits, batch: Batch, attack: Drawing) -> dict[str, Tensor]:
    """Clean images, a wrong word drawn on each, and an unreadable cover of the same box."""
    label_B = _labels(batch)
    drawn = [
        attack.draw(i, y, 0, batch.pixels_BCHW.shape[-1])
        for i, y in zip(batch.index_B.tolist(), label_B.tolist(), strict=True)
    ]
    word_B = torch.tensor([word for word, _ in drawn], device=label_B.device)
    covers = [
        attack.unreadable(i, 0, lettering) for i, (_, lettering) in zip(batch.index_B.tolist(), drawn, strict=True)
    ]
    attacked_BC = logits(attack.overlay(batch.pixels_BCHW, [lettering for _, lettering in drawn]))
    covered_B = logits(attack.overlay(batch.pixels_BCHW, covers)).argmax(-1)
    clean_B = logits(batch.pixels_BCHW).argmax(-1) == label_B
    return {"clean": clean_B} | _against(attacked_BC, label_B, word_B) | {"unreadable": covered_B == label_B}


def _with_their_words(logits: Logits, batch: Batch) -> dict[str, Tensor]:
    """Images that carry their word already, as RTA-100, PAINT and SCAM do: there is no clean copy to look at."""
    if batch.preference is None:
        raise ValueError("images with words come with the pair of label and drawn word")
    return _against(logits(batch.pixels_BCHW), _labels(batch), batch.preference.rejected_B)


def _against(attacked_BC: Tensor, label_B: Tensor, word_B: Tensor) -> dict[str, Tensor]:
    answer_B = attacked_BC.argmax(-1)
    wins_B = (attacked_BC.gather(1, label_B[:, None]) > attacked_BC.gather(1, word_B[:, None])).squeeze(1)
    return {"attacked": answer_B == label_B, "attack_word": answer_B == word_B, "two_way": wins_B}


def _labels(batch: Batch) -> Tensor:
    if batch.label_B is None:
        raise ValueError("typographic evaluation needs labels")
    return batch.label_B


def _measure(context: EvaluationContext, clean: CleanBatch) -> Table:
    return typographic_hits(context.logits, clean.batch, context.class_names, context.protocol.typographic)


def _summarise(context: EvaluationContext, tables: Tables) -> Typographic:
    shares = {name: share_of(hit_N) for name, hit_N in tables.columns.items()}
    return _outcome(shares, context.protocol.typographic)


SUITE = Suite(_summarise, _measure)
