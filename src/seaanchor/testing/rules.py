"""What the checks share: small inputs, and rules that name themselves when they are broken.

Legend: B batch, C channels, H W pixels, D embedding dimension, Y texts.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seaanchor.types import Batch, Embeddings, Head, Needs, Preference, Targets, needs_of

B, D, SIZE = 6, 8, 32
TEXTS = ("apple", "zebra", "lamp", "key", "boat")


def rule(holds: bool, text: str) -> None:
    """Fail with the rule's text unless it holds."""
    if not holds:
        raise AssertionError(f"broken rule: {text}")


@contextmanager
def declared(text: str) -> Iterator[None]:
    """Whatever is raised inside breaks the rule: the part used what it had not declared."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"broken rule: {text} ({type(error).__name__}: {error})") from error


def declared_needs(part: Any) -> Needs:
    """What the part declares, which it must."""
    rule(
        isinstance(getattr(part, "needs", None), Needs), "`needs` is a Needs, which says what the step computes for it"
    )
    return needs_of(part)


def inputs(needs: Needs) -> tuple[Embeddings, Targets]:
    """What is declared and nothing else; the policy's embeddings ask for gradients."""
    chosen_B, rejected_B = torch.tensor([0, 1, 2, 3, 4, 0]), torch.tensor([1, 2, 3, 4, 0, 2])
    clean_BD = draw(B, D, seed=2).requires_grad_() if needs.clean else None
    head = Head(F.normalize(draw(len(TEXTS), D, seed=3), dim=-1), 10.0) if needs.head else None
    if needs.unpaired:
        rejected_B[0] = -1
    pairs = Preference(chosen_B, rejected_B) if needs.pairs else None
    seen_BD = draw(B, D, seed=4) if needs.reference_perturbed else None
    perturbed_BD = draw(B, D, seed=5)
    old_BY = head(perturbed_BD + 0.01 * draw(B, D, seed=6)) if needs.old_policy and head else None  # a little earlier
    label_B, index_B = (chosen_B if needs.labels else None), (torch.arange(B) if needs.index else None)
    targets = Targets(draw(B, D, seed=1), label_B, head, pairs, seen_BD, index_B=index_B, old_logits_BC=old_BY)
    return Embeddings(perturbed_BD.requires_grad_(), clean_BD), targets


def check_own_gradient(lost_B: Tensor, embedding_BD: Tensor, name: str) -> None:
    """Each sample's loss moves its own embedding and no other."""
    for i in range(B):
        (grad_BD,) = torch.autograd.grad(lost_B[i], embedding_BD, retain_graph=True, allow_unused=True)
        own = grad_BD is not None and bool(grad_BD.isfinite().all()) and bool((grad_BD[i] != 0).any())
        rule(own, f"the gradient of {name} reaches each sample's embedding, and is finite")
        others = torch.cat([grad_BD[:i], grad_BD[i + 1 :]])
        rule(bool((others == 0).all()), f"the gradient of {name} of one sample reaches no other sample")


def check_composition(
    loss: Callable[[Embeddings, Targets], Tensor],
    embeddings: Embeddings,
    targets: Targets,
    whole_B: Tensor,
    name: str,
    *,
    subset: bool,
) -> None:
    """A sample's loss is the same in twice the batch and, with `subset`, in a part of it."""
    twice = loss(change_rows(embeddings, double), change_rows(targets, double))
    rule(close(twice, double(whole_B)), f"{name} does not depend on the batch size: twice the same batch")
    if subset:
        rows = torch.tensor([4, 1, 2])
        part = loss(change_rows(embeddings, lambda t: t[rows]), change_rows(targets, lambda t: t[rows]))
        rule(close(part, whole_B[rows]), f"{name} of a sample does not depend on what else is in the batch")


def change_rows(record: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A record with every tensor over the batch changed; the head is the same for all."""
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    changed = {
        name: change(value) if isinstance(value, Tensor) else change_rows(value, change)
        for name, value in values.items()
        if isinstance(value, Tensor | Preference)
    }
    return replace(record, **changed)


def tensors(*records: Any) -> list[Tensor]:
    """Every tensor of the records, those of records inside them too."""
    found: list[Tensor] = []
    for record in records:
        for value in (getattr(record, f.name) for f in fields(record)):
            found += [value] if isinstance(value, Tensor) else tensors(value) if is_dataclass(value) else []
    return found


def double(tensor_B: Tensor) -> Tensor:
    """Twice the same rows."""
    return torch.cat([tensor_B, tensor_B])


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers, the same every time."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def different_images(size: int, seed: int = 0) -> Tensor:
    """Two pictures (2, 3, size, size) in [0, 1] with other colours and shapes, and noise: pure noise looks the same to
    a tower that takes means over places."""
    rng = torch.Generator().manual_seed(seed)
    coarse_BCHW = torch.rand(2, 3, 3, 3, generator=rng) * torch.tensor([0.5, 1.0]).view(2, 1, 1, 1)
    smooth_BCHW = F.interpolate(coarse_BCHW, (size, size), mode="bilinear")
    return (smooth_BCHW + 0.1 * torch.randn(2, 3, size, size, generator=rng)).clamp(0, 1)


def some_images(labels: bool = True) -> Batch:
    """Six images, with labels or without."""
    pixels_BCHW = torch.rand(B, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    return Batch(pixels_BCHW, torch.tensor([0, 1, 2, 3, 4, 0]) if labels else None, 10 + torch.arange(B))


def small_encoder() -> nn.Module:
    """A small convolutional tower with the same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.GELU(), nn.Flatten(), nn.Linear(64, D))


def is_per_sample(value: Any) -> bool:
    """Whether it is one finite float for each sample."""
    return (
        isinstance(value, Tensor) and value.shape == (B,) and value.is_floating_point() and bool(value.isfinite().all())
    )


def same(a: Tensor, b: Tensor) -> bool:
    """Equal to the last bit."""
    return a.shape == b.shape and torch.equal(a, b)


def close(a: Tensor, b: Tensor) -> bool:
    """Equal but for rounding."""
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5)


def same_rows(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    """Equal but for rounding: the distance of each row's two values is at most a share of its length."""
    if a.shape != b.shape:
        return False
    a, b = a.double().flatten(1), b.double().flatten(1)
    return bool(((a - b).norm(dim=-1) <= tolerance * b.norm(dim=-1)).all())


def shown(value: Any) -> str:
    """A value in an error."""
    return f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
