"""Typographic attack: a wrong class word drawn on the image (Goh et al. 2021; recipe of Azuma & Matsui 2023,
Defense-Prefix).

Legend: B batch, C channels, H W pixels.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from seaanchor.attacks.drawing import Drawing, check_drawable, draw_on, random_drawing, scramble
from seaanchor.attacks.fonts import fonts_with
from seaanchor.attacks.noise import bits, next_key
from seaanchor.errors import SeaAnchorError
from seaanchor.types import Batch, BindContext, LossOf, Needs, Preference
from seaanchor.utils.text import check_distinct

Words = Literal["all", "even", "odd"]


@dataclass(frozen=True)
class Typographic:
    """Draws a wrong class's name on each image: the drawn word is the rejected text, the true class the chosen one.

    Args:
        class_names: the C classes, in the order of the labels; by default, `bind` takes those of the run.
        words: which class names may be drawn: all, or those of even or odd number, so that training and test can share
            none.
        fonts: which shipped fonts, `train` or `unseen`.
        sizes: smallest and largest glyph height as a share of the image's side (Defense-Prefix: 20 to 40 px at 224).
        variants: how many different drawings an image can get; 0: a new one each time.
        seed: with the image's number and the variant, decides word, font, size, place and colours; `bind` takes the
            run's.

    Raises:
        SeaAnchorError: words of another name, fewer than two of them to draw, a class name given twice, or one that no
            font has the characters of; sizes or variants out of range.
    """

    class_names: Sequence[str] | None = None
    words: Words = "all"
    fonts: str = "train"
    sizes: tuple[float, float] = (20 / 224, 40 / 224)
    variants: int = 0
    seed: int = 0
    needs: ClassVar[Needs] = Needs(labels=True, texts=True, gives_pairs=True, draws_words=True)

    def __post_init__(self) -> None:
        if self.words not in get_args(Words):
            raise SeaAnchorError(f"words {self.words!r}", f"one of {', '.join(get_args(Words))}", "correct the words")
        if self.class_names is not None:
            self._check_words(self.class_names)
        smallest, largest = self.sizes
        if not 0 < smallest <= largest <= 1:  # also where one is no number
            expected = "shares of the image's side in (0, 1], the smaller first"
            raise SeaAnchorError(
                f"glyph sizes of {smallest:g} to {largest:g}", expected, "correct the sizes, such as 0.09 0.18"
            )
        if self.variants < 0:
            raise SeaAnchorError(f"{self.variants} variants of a drawing", "at least 0", "correct the variants")

    def _check_words(self, class_names: Sequence[str]) -> None:
        if len(self.drawable) < 2:
            raise SeaAnchorError(
                f"{len(self.drawable)} class name(s) to draw",
                "at least two, so that every image has a wrong one",
                "give more classes or words 'all'",
            )
        check_distinct(class_names)
        for word in self.drawable:
            fonts_with(class_names[word], self.fonts)

    def bind(self, context: BindContext) -> "Typographic":
        """The same perturbation over the texts of a run and with its seed, unless it has class names already.

        Raises:
            SeaAnchorError: as the class; or a word does not fit an image of this size.
        """
        names = context.texts if self.class_names is None else self.class_names
        bound = replace(self, class_names=names, seed=context.seed if self.class_names is None else self.seed)
        if context.image_size is not None:
            bound.check_size(context.image_size)
        return bound

    @property
    def texts(self) -> Sequence[str]:
        """The class names, which are there after `bind`."""
        if self.class_names is None:
            raise ValueError("a typographic perturbation knows no class names before `bind`")
        return self.class_names

    def check_size(self, image_size: int) -> None:
        """Fail before the first image if a word does not fit one of `image_size` pixels.

        Raises:
            SeaAnchorError: it does not, however it is broken into lines.
        """
        check_drawable([self.texts[word] for word in self.drawable], self.fonts, image_size)

    @property
    def drawable(self) -> tuple[int, ...]:
        """Numbers of the classes whose names may be drawn."""
        every = range(len(self.texts))
        return tuple({"all": every, "even": every[::2], "odd": every[1::2]}[self.words])

    def __call__(self, batch: Batch, loss: LossOf, rng: torch.Generator) -> Batch:
        """The batch with words drawn on, and the preference of the true class over the drawn word.

        Raises:
            SeaAnchorError: the images have no labels.
        """
        if batch.label_B is None:
            raise SeaAnchorError(
                "images without labels",
                "class folders, so that it is known which word is wrong",
                "sort the images into class folders",
            )
        draws_B = bits(next_key(rng), batch.index_B)[:, 0]
        draws_B = draws_B % self.variants if self.variants else draws_B
        # words are drawn on the host: one look at the numbers, one at the images, once a step
        numbers = torch.stack([batch.index_B, batch.label_B, draws_B]).tolist()
        drawn = [self.draw(i, y, d, batch.pixels_BCHW.shape[-1]) for i, y, d in zip(*numbers, strict=True)]
        pixels_BCHW = self.overlay(batch.pixels_BCHW, [drawing for _, drawing in drawn])
        rejected_B = torch.tensor([word for word, _ in drawn], device=batch.label_B.device)
        return replace(batch, pixels_BCHW=pixels_BCHW, preference=Preference(batch.label_B, rejected_B))

    def draw(self, index: int, label: int, variant: int, image_size: int) -> tuple[int, Drawing]:
        """Number of the drawn class and the drawing, a function of (seed, index, variant) alone."""
        rng = random.Random(f"{self.seed} {index} {variant}")
        word = rng.choice([w for w in self.drawable if w != label])
        return word, random_drawing(self.texts[word], image_size, rng, fonts=self.fonts, sizes=self.sizes)

    def unreadable(self, index: int, variant: int, drawing: Drawing) -> Drawing:
        """The same drawing with glyphs nobody can read: what the cover alone costs."""
        return scramble(drawing, random.Random(f"{self.seed} {index} {variant} scrambled"))

    @staticmethod
    def overlay(pixels_BCHW: Tensor, drawings: Sequence[Drawing]) -> Tensor:
        """Put one drawing on each image; pixels in [0, 1], rounded to 8 bits as a saved picture would be."""
        images_BHWC = (pixels_BCHW.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu().numpy()
        drawn = np.stack([draw_on(image, drawing) for image, drawing in zip(images_BHWC, drawings, strict=True)])
        return torch.from_numpy(drawn).permute(0, 3, 1, 2).to(pixels_BCHW) / 255
