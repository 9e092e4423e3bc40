"""Attacks on any classifier: settings in a frozen record, called with a model, images and labels.

The classifier is an `nn.Module` or another callable, from pixels (B, C, H, W) in [0, 1] to logits (B, Y). It is
attacked in fp32 and in eval mode; its weights, their `.grad` and the modes of its layers are left as they were. An
image's random start depends on the seed and on its number, so that batch size changes nothing. Legend: B batch, C
channels, H W pixels, Y classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from seaanchor.attacks.apgd_classifier import apgd_ce, apgd_targeted
from seaanchor.attacks.autoattack import FEWEST_TARGETED, autoattack_standard
from seaanchor.attacks.ball import Ball, Norm
from seaanchor.attacks.classification import AttackResult, Logits
from seaanchor.attacks.inputs import Labels
from seaanchor.attacks.on_model import Model, Stage, attack_classifier, check_settings
from seaanchor.attacks.pgd import pgd_attack
from seaanchor.attacks.square import square_attack
from seaanchor.errors import SeaAnchorError
from seaanchor.types import Batch


@dataclass(frozen=True)
class PGD:
    """Projected gradient descent on the cross-entropy (Madry et al. 2018), from a random start.

    Args:
        epsilon: radius in pixel units, such as 4/255.
        norm: `linf` or `l2`.
        num_steps: gradient steps; an image is done as soon as it is misclassified.
        step_size: in pixel units; a quarter of epsilon by default.
        seed: of the random starts.
        batch_size: images at once; all by default.

    Raises:
        SeaAnchorError: settings out of range.

    >>> import torch
    >>> linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    >>> images, labels = torch.rand(2, 3, 2, 2), torch.tensor([0, 1])
    >>> adversarial = PGD(epsilon=4 / 255)(linear, images, labels)
    >>> bool((adversarial - images).abs().max() <= 4 / 255 + 1e-6)
    True
    """

    epsilon: float
    norm: Norm = "linf"
    num_steps: int = 10
    step_size: float | None = None
    seed: int = 0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_settings(self.epsilon, self.norm, self.num_steps, self.batch_size)
        if self.step_size is not None and not self.step_size > 0:
            raise SeaAnchorError(f"a step size of {self.step_size}", "a positive number, or None", "give another one")

    def __call__(self, classifier: Model, images_BCHW: Tensor, labels: Labels, index: Tensor | None = None) -> Tensor:
        """Attacked images (B, C, H, W) in fp32; see `attack`."""
        return self.attack(classifier, images_BCHW, labels, index).pixels_BCHW

    def attack(
        self, classifier: Model, images_BCHW: Tensor, labels: Labels, index: Tensor | None = None
    ) -> AttackResult:
        """Attacked images, and which of them are misclassified (B,).

        Args:
            classifier: pixels in [0, 1] → logits (B, Y).
            images_BCHW: clean images in [0, 1].
            labels: their classes (B,).
            index: each image's number in its data set (B,), which its random start depends on; its place by default.

        Raises:
            SeaAnchorError: bad images, labels or logits.
        """
        stage = _stage(
            partial(pgd_attack, step_size=self.step_size), Ball(self.norm, self.epsilon), self.num_steps, self.seed
        )
        return attack_classifier(lambda num_classes: (stage,), classifier, images_BCHW, labels, index, self.batch_size)


@dataclass(frozen=True)
class APGD:
    """Auto-PGD (Croce & Hein 2020): on the cross-entropy, then towards other classes on the images still right.

    Args:
        epsilon: radius in pixel units, such as 4/255.
        norm: `linf` or `l2`.
        num_steps: gradient steps, of every target anew.
        targeted: whether the targeted difference of logits follows; it needs four classes and is left out for fewer.
        seed: of the random starts.
        batch_size: images at once; all by default.

    Raises:
        SeaAnchorError: settings out of range.
    """

    epsilon: float
    norm: Norm = "linf"
    num_steps: int = 100
    targeted: bool = True
    seed: int = 0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_settings(self.epsilon, self.norm, self.num_steps, self.batch_size)

    def __call__(self, classifier: Model, images_BCHW: Tensor, labels: Labels, index: Tensor | None = None) -> Tensor:
        """Attacked images (B, C, H, W) in fp32; see `attack`."""
        return self.attack(classifier, images_BCHW, labels, index).pixels_BCHW

    def attack(
        self, classifier: Model, images_BCHW: Tensor, labels: Labels, index: Tensor | None = None
    ) -> AttackResult:
        """Attacked images, and which of them are misclassified (B,); arguments and errors as of `PGD.attack`. An image
        that is never misclassified comes back at the highest cross-entropy that was found."""
        ball = Ball(self.norm, self.epsilon)
        ce, targeted = (_stage(a, ball, self.num_steps, self.seed) for a in (apgd_ce, apgd_targeted))

        def stages(num_classes: int) -> tuple[Stage, ...]:
            return (ce, targeted) if self.targeted and num_classes >= FEWEST_TARGETED else (ce,)

        return attack_classifier(stages, classifier, images_BCHW, labels, index, self.batch_size)


@dataclass(frozen=True)
class Square:
    """Square attack (Andriushchenko et al. 2020): random squares, no gradients. Needs the extra `attacks`.

    Args:
        epsilon: radius in pixel units, such as 4/255.
        norm: `linf` or `l2`.
        num_queries: looks at each image's logits after the first.
        seed: of the squares, which are the same for all images.
        batch_size: images at once; all by default.

    Raises:
        SeaAnchorError: settings out of range.
    """

    epsilon: float
    norm: Norm = "linf"
    num_queries: int = 5000
    seed: int = 0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_settings(self.epsilon, self.norm, self.num_queries, self.batch_size)

    def __call__(self, classifier: Model, images_BCHW: Tensor, labels: Labels, index: Tensor | None = None) -> Tensor:
        """Attacked images (B, C, H, W) in fp32; see `attack`."""
        return self.attack(classifier, images_BCHW, labels, index).pixels_BCHW

    def attack(
        self, classifier: Model, images_BCHW: Tensor, labels: Labels, index: Tensor | None = None
    ) -> AttackResult:
        """Attacked images, and which of them are misclassified (B,); arguments and errors as of `PGD.attack`, and if
        the extra is missing."""
        ball = Ball(self.norm, self.epsilon)

        def stage(logits: Logits, pixels_BCHW: Tensor, label_B: Tensor, index_B: Tensor) -> AttackResult:
            return square_attack(logits, Batch(pixels_BCHW, label_B, index_B), ball, self.num_queries, self.seed)

        return attack_classifier(lambda num_classes: (stage,), classifier, images_BCHW, labels, index, self.batch_size)


@dataclass(frozen=True)
class AutoAttack:
    """AutoAttack's standard version (Croce & Hein 2020): APGD on the cross-entropy, targeted APGD, FAB and Square.
    Needs the extra `attacks`.

    Args:
        epsilon: radius in pixel units, such as 4/255.
        norm: `linf` or `l2`.
        num_steps: of APGD and FAB; Square looks 50 times as often. The standard version has 100.
        seed: of random starts and squares.
        batch_size: images at once; all by default.

    Raises:
        SeaAnchorError: settings out of range.
    """

    epsilon: float
    norm: Norm = "linf"
    num_steps: int = 100
    seed: int = 0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_settings(self.epsilon, self.norm, self.num_steps, self.batch_size)

    def __call__(self, classifier: Model, images_BCHW: Tensor, labels: Labels, index: Tensor | None = None) -> Tensor:
        """Attacked images (B, C, H, W) in fp32; see `attack`."""
        return self.attack(classifier, images_BCHW, labels, index).pixels_BCHW

    def attack(
        self, classifier: Model, images_BCHW: Tensor, labels: Labels, index: Tensor | None = None
    ) -> AttackResult:
        """Attacked images, and which of them are misclassified (B,); arguments and errors as of `PGD.attack`, and if
        the extra is missing."""
        ball, queries = Ball(self.norm, self.epsilon), 50 * self.num_steps

        def stage(logits: Logits, pixels_BCHW: Tensor, label_B: Tensor, index_B: Tensor) -> AttackResult:
            batch = Batch(pixels_BCHW, label_B, index_B)
            return autoattack_standard(logits, batch, ball, self.seed, num_steps=self.num_steps, num_queries=queries)

        return attack_classifier(lambda num_classes: (stage,), classifier, images_BCHW, labels, index, self.batch_size)


def _stage(attack: Callable[..., AttackResult], ball: Ball, num_steps: int, seed: int) -> Stage:
    """One of our own attacks with its settings."""

    def stage(logits: Logits, pixels_BCHW: Tensor, label_B: Tensor, index_B: Tensor) -> AttackResult:
        return attack(logits, pixels_BCHW, label_B, ball, num_steps=num_steps, index_B=index_B, seed=seed)

    return stage
