"""How words are drawn in evaluation."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from seaanchor.evaluation.suite_results import TypographicSettings
from seaanchor.perturbations.typographic import Typographic


@dataclass(frozen=True)
class TypographicPlan:
    """What the suite `typographic` draws.

    Attributes:
        words: class names that may be drawn, as in `Typographic`.
        fonts: which shipped fonts; `unseen` are in no training.
        sizes: glyph height as a share of the image's side.
        seed: of word, font, size, position and colours.
    """

    words: str = "all"
    fonts: str = "unseen"
    sizes: tuple[float, float] = (20 / 224, 40 / 224)
    seed: int = 0

    def attack(self, class_names: Sequence[str]) -> Typographic:
        """The perturbation this plan describes, one drawing an image."""
        return Typographic(class_names, self.words, self.fonts, self.sizes, variants=1, seed=self.seed)  # type: ignore[arg-type]

    def settings(self, words_tried: int | None = None) -> TypographicSettings:
        """The plan as a result holds it."""
        return TypographicSettings(**asdict(self), words_tried=words_tried)
