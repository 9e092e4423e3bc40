"""The contract of a perturbation.

Legend: B batch, C channels, H W pixels.
"""

import torch
from torch import Tensor, nn

from seaanchor.attacks.ball import Ball
from seaanchor.testing.rules import SIZE, TEXTS, D, declared, rule, same, shown, small_encoder, some_images
from seaanchor.types import AttackLoss, Batch, BindContext, Needs, Perturbation, bind, needs_of


def check_perturbation(
    perturbation: Perturbation, *, ball: Ball | None = None, encoder: nn.Module | None = None
) -> None:
    """Check a perturbation.

    Args:
        perturbation: the part.
        ball: what the perturbed images must stay in; the part's own `ball` where it has one.
        encoder: the model that is attacked, images of 32 pixels → embeddings (B, 8); a small one by default.

    Raises:
        AssertionError: names the rule that it breaks.
    """
    perturbation = bind(perturbation, BindContext(D, TEXTS, image_size=SIZE))
    needs, policy = needs_of(perturbation), encoder or small_encoder()
    policy.train()
    batch = some_images(labels=needs.labels)
    with declared("it works with what it declares in `needs` alone"):
        found = _perturb(perturbation, policy, batch, needs)
    rule(isinstance(found, Batch), f"it returns a Batch: {type(found).__name__}")
    rule(same(batch.pixels_BCHW, some_images().pixels_BCHW), "the batch it is given is left as it is")
    pixels_BCHW = found.pixels_BCHW
    kept = pixels_BCHW.shape == batch.pixels_BCHW.shape and pixels_BCHW.dtype == batch.pixels_BCHW.dtype
    rule(kept and not pixels_BCHW.requires_grad, f"pixels keep shape and type, and have no graph: {shown(pixels_BCHW)}")
    legal = bool(pixels_BCHW.isfinite().all()) and pixels_BCHW.min() >= 0 and pixels_BCHW.max() <= 1
    rule(bool(legal), "pixels stay in [0, 1]")
    ball = ball or getattr(perturbation, "ball", None)
    if ball is not None:
        farthest = ball.distance(pixels_BCHW, batch.pixels_BCHW).max().item()
        rule(farthest <= ball.epsilon + 1e-5, f"pixels stay in the ball: {farthest:.4g}, at most {ball.epsilon:.4g}")
    rule(all(p.grad is None for p in policy.parameters()), "the weights' .grad is left alone: use input_grad")
    rule(policy.training, "the model's mode is left as it is")
    same_rows = found.index_B is batch.index_B or torch.equal(found.index_B, batch.index_B)
    rule(same_rows and (found.label_B is batch.label_B), "labels and image numbers are left as they are")
    _check_pairs(found, needs)
    _check_same_images(perturbation, policy, batch, needs, pixels_BCHW)


def _check_pairs(found: Batch, needs: Needs) -> None:
    rule((found.preference is not None) == needs.gives_pairs, "it brings preferences if and only if it declares so")
    if found.preference is not None:
        chosen_B, rejected_B = found.preference.chosen_B, found.preference.rejected_B
        inside = all(bool((text_B < len(TEXTS)).all()) for text_B in (chosen_B, rejected_B))
        rule(inside and bool((chosen_B != rejected_B).all()), "each pair names two different texts of the run")


def _check_same_images(
    perturbation: Perturbation, policy: nn.Module, batch: Batch, needs: Needs, pixels_BCHW: Tensor
) -> None:
    again = _perturb(perturbation, policy, batch, needs).pixels_BCHW
    rule(same(again, pixels_BCHW), "the same seed gives the same pixels: draw from the generator that is handed in")
    rows = torch.tensor([4, 1])
    part = Batch(*(None if x is None else x[rows] for x in (batch.pixels_BCHW, batch.label_B, batch.index_B)))  # type: ignore[arg-type]
    alone = _perturb(perturbation, policy, part, needs).pixels_BCHW
    differ = (alone - pixels_BCHW[rows]).abs() > 1e-5
    rule(bool(differ.float().mean() < 0.01), "an image's pixels do not depend on what else is in the batch")
    if needs.leaves_pixels:
        rule(same(pixels_BCHW, batch.pixels_BCHW), "it leaves the pixels as it declares")


def _perturb(perturbation: Perturbation, policy: nn.Module, batch: Batch, needs: Needs) -> Batch:
    """One call, without a gradient to follow unless it is declared."""

    def loss_of(attacked: Batch) -> AttackLoss:
        def loss(pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
            with torch.set_grad_enabled(needs.pixel_gradient and torch.is_grad_enabled()):
                embedding_BD = policy(pixels_BCHW)
                return (embedding_BD - 1).square().sum(-1), embedding_BD

        return loss

    return perturbation(batch, loss_of, torch.Generator().manual_seed(3))
