"""Attribute swap: the picture stays, the texts change. A caption against itself with some words swapped.

Legend: B batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from seaanchor.errors import SeaAnchorError
from seaanchor.types import Batch, BindContext, LossOf, Needs, Preference
from seaanchor.utils.text import swap_words, word_pairs


@dataclass(frozen=True)
class AttributeSwap:
    """Gives each image the preference of its caption over its caption's partner, or with `flip` the other way round.

    Args:
        partner: for each candidate text the number of the text it becomes when the words are swapped, −1 where there is
            none; `bind` finds them among the run's texts.
        flip: prefer the swapped caption: a map trained on this learns the attribute's direction.
        swap: the shipped word pairs `gender`, or a file with two words a line.
    """

    partner: Sequence[int] | None = None
    flip: bool = False
    swap: str = "gender"
    needs: ClassVar[Needs] = Needs(labels=True, texts=True, leaves_pixels=True, gives_pairs=True)

    def bind(self, context: BindContext) -> "AttributeSwap":
        """The same swap among the texts of a run, unless it has partners already.

        Raises:
            SeaAnchorError: no such word pairs.
        """
        if self.partner is not None:
            return self
        swapped = [swap_words(text, word_pairs(self.swap)) for text in context.texts]
        return replace(self, partner=partners(context.texts, swapped))

    def __call__(self, batch: Batch, loss: LossOf, rng: torch.Generator) -> Batch:
        """The batch with preferences; pixels are as they were.

        Raises:
            SeaAnchorError: images without captions, or a caption without partner among the texts.
        """
        if batch.label_B is None:
            raise SeaAnchorError(
                "images without captions", "labelled images whose class names are captions", "name another data set"
            )
        if self.partner is None:
            raise ValueError("an attribute swap knows no texts before `bind`")
        partner_B = torch.tensor(self.partner, device=batch.label_B.device)[batch.label_B]
        if bool((partner_B < 0).any()):
            lonely = int(batch.label_B[partner_B < 0][0])
            wanted = "captions in pairs that differ in the swapped words"
            raise SeaAnchorError(
                f"text number {lonely} has no swapped partner", wanted, "add it or give other word pairs"
            )
        pair = (partner_B, batch.label_B) if self.flip else (batch.label_B, partner_B)
        return replace(batch, preference=Preference(*pair))


def partners(texts: Sequence[str], swapped: Sequence[str]) -> tuple[int, ...]:
    """For each text the number of its swapped form among the texts, −1 where that is missing or the same.

    >>> partners(["a man", "a woman", "a tree"], ["a woman", "a man", "a tree"])
    (1, 0, -1)
    """
    number = {text: i for i, text in enumerate(texts)}
    return tuple(number.get(other, -1) if other != text else -1 for text, other in zip(texts, swapped, strict=True))
