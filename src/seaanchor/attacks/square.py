"""Square attack (Andriushchenko et al. 2020) by `pyautoattack`: no gradients, so a model that merely hides its
gradients falls to it.

Legend: B batch, C channels or classes, H W pixels.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

import torch
from torch import Tensor

from seaanchor.attacks.ball import Ball
from seaanchor.attacks.classification import AttackResult, Logits
from seaanchor.errors import SeaAnchorError
from seaanchor.types import Batch
from seaanchor.utils.stages import tick

NORMS = {"linf": "Linf", "l2": "L2"}


def square_attack(
    logits: Logits, batch: Batch, ball: Ball, num_queries: int = 5000, seed: int = 0, *, rescale: bool = True
) -> AttackResult:
    """Attack a classifier by at most `num_queries` looks at each image's logits.

    Every image sees the same random squares, those it would see if it were attacked alone with this seed: the package
    draws some of them per batch and some per image, so that the outcome of an image would depend on its neighbours.

    Args:
        logits: pixels → (B, C) in fp32.
        batch: labelled images in [0, 1].
        ball: norm and radius.
        num_queries: forwards of each image after the first.
        seed: of the squares.
        rescale: fit the schedule of the squares' size to `num_queries`; AutoAttack's standard version does not.

    Raises:
        SeaAnchorError: the extra `attacks` is missing, or an image came back outside its ball or [0, 1].
    """
    ball.check_fits(batch.pixels_BCHW.shape[1:])

    def counted(pixels_BCHW: Tensor) -> Tensor:
        tick("queries")
        if len(pixels_BCHW) == 0:  # the package asks on where nobody is left, and not every tower takes no image
            return logits(batch.pixels_BCHW[:1])[:0]
        return logits(pixels_BCHW)

    attack = pyautoattack().square.SquareAttack(
        counted,
        norm=NORMS[ball.norm],
        n_queries=num_queries,
        eps=ball.epsilon,
        seed=seed,
        resc_schedule=rescale,
        device=batch.pixels_BCHW.device,
    )

    def random_choice(shape: Sequence[int]) -> Tensor:
        """Signs as the package draws them; where it asks for some of each image (four dimensions), all get the same."""
        one = (1, *shape[1:]) if len(shape) == 4 else tuple(shape)
        return (2 * torch.rand(one) - 1).sign().to(batch.pixels_BCHW.device).expand(*shape)

    attack.random_choice = random_choice
    with kept_random_state(batch.pixels_BCHW.device), torch.no_grad():
        return judged(logits, attack.perturb(batch.pixels_BCHW, labels(batch)), batch, ball, "Square")


def pyautoattack() -> ModuleType:
    """The package.

    Raises:
        SeaAnchorError: it is not installed.
    """
    try:
        import pyautoattack
        import pyautoattack.fab_pt
        import pyautoattack.square
    except ImportError as error:
        raise SeaAnchorError(
            "pyautoattack is not installed", "the extra `attacks`", "pip install 'seaanchor[attacks]'"
        ) from error
    return pyautoattack


@torch.no_grad()
def judged(logits: Logits, pixels_BCHW: Tensor, batch: Batch, ball: Ball, name: str) -> AttackResult:
    """The attacked images, and which of them are misclassified.

    Raises:
        SeaAnchorError: one lies outside its ball or outside [0, 1]: it would count against a model what is no attack.
    """
    farthest = ball.distance(pixels_BCHW, batch.pixels_BCHW).max().item() if len(pixels_BCHW) else 0.0
    if not farthest <= ball.epsilon * (1 + 1e-4) + 1e-6 or pixels_BCHW.min() < 0 or pixels_BCHW.max() > 1:
        raise SeaAnchorError(
            f"{name} returned an image {farthest:.6g} from its clean copy, with pixels of "
            f"{pixels_BCHW.min():.4g} to {pixels_BCHW.max():.4g}",
            f"at most {ball.epsilon:.6g}, and pixels in [0, 1]",
            "do not use its result; try another version of pyautoattack",
        )
    return AttackResult(pixels_BCHW, logits(pixels_BCHW).argmax(-1) != labels(batch))


def labels(batch: Batch) -> Tensor:
    """The batch's labels.

    Raises:
        SeaAnchorError: it has none.
    """
    if batch.label_B is None:
        raise SeaAnchorError(
            "images without labels", "labelled images: one folder a class", "sort the images into class folders"
        )
    return batch.label_B


@contextmanager
def kept_random_state(device: torch.device) -> Iterator[None]:
    """The package seeds torch's global generators; they go on afterwards as if it had not."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
