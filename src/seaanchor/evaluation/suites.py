"""Evaluations besides accuracy under gradient attacks: drawn words, reading, gender, drift from the reference.

Legend: N images, B batch, D embedding dimension, R roles.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seaanchor.data.folder import ImageList
from seaanchor.data.people import GENDERS, caption
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.bias import evaluate_bias
from seaanchor.evaluation.typographic import Logits, TypographicPlan, evaluate_reading, evaluate_typographic
from seaanchor.parts import Batch

NAMES = ("typographic", "reading", "bias", "drift")


@dataclass(frozen=True)
class Bench:
    """What a suite may use: the model and its reference, its classifier, the labelled images, a stream of them, and how words are drawn."""

    model: LoadedModel
    reference: LoadedModel | None
    logits: Logits
    images: ImageList
    stream: Callable[[], Iterable[Batch]]
    plan: TypographicPlan
    templates: tuple[str, ...]
    device: torch.device


def run_suite(name: str, bench: Bench) -> dict[str, Any]:
    """One suite's numbers.

    Raises:
        SeaAnchorError: the data are not of the kind the suite needs.
    """
    return {"typographic": _typographic, "reading": _reading, "bias": _bias, "drift": _drift}[name](bench)


def _typographic(bench: Bench) -> dict[str, Any]:
    return evaluate_typographic(bench.logits, bench.stream(), bench.images.class_names or (), bench.plan)


def _reading(bench: Bench) -> dict[str, Any]:
    return evaluate_reading(lambda p: bench.logits(p.to(bench.device)), bench.images.class_names or (), bench.model.encoder.image_size, bench.plan)


@torch.no_grad()
def embed_stream(encoder: torch.nn.Module, stream: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Embeddings (N, D) of a stream and each image's number (N,)."""
    parts = [(encoder(batch.pixels_BCHW).float(), batch.index_B) for batch in stream if len(batch.index_B)]
    return torch.cat([embedding for embedding, _ in parts]), torch.cat([index for _, index in parts])


def _bias(bench: Bench) -> dict[str, Any]:
    if not (bench.images.root / "people.jsonl").is_file() or bench.model.encode_texts is None:
        raise SeaAnchorError(f"{bench.images.root} is no set of people in roles", "emoji-people, or a folder with people.jsonl", "correct --data")
    image_ND, index_N = embed_stream(bench.model.encoder, bench.stream())
    roles, role_M, gender_M, caption_RGD, neutral_RD = people_texts(bench.model, bench.images, bench.templates)
    return evaluate_bias(image_ND.cpu(), caption_RGD, neutral_RD, role_M[index_N.cpu()], gender_M[index_N.cpu()]) | {"roles": len(roles)}


def people_texts(model: LoadedModel, images: ImageList, templates: tuple[str, ...]) -> tuple[list[str], Tensor, Tensor, Tensor, Tensor]:
    """Roles, each image's role and gender, and embeddings of the gendered (R, 2, D) and neutral (R, D) captions."""
    if model.encode_texts is None:
        raise SeaAnchorError(f"{model.name} has no text tower", "a CLIP model", "choose another model")
    names = images.class_names or ()
    roles = [name.split(" ", 1)[1] for name in names[:: len(GENDERS)]]
    label_N = torch.tensor(images.labels)

    def encode(texts: list[str]) -> Tensor:
        prompts = [template.format(text) for text in texts for template in templates]
        unit = F.normalize(model.encode_texts(prompts).float().cpu(), dim=-1)  # type: ignore[misc] # checked above
        return unit.view(len(texts), len(templates), -1).mean(1)

    caption_RGD = encode([caption(gender, role) for role in roles for gender in GENDERS]).view(len(roles), len(GENDERS), -1)
    return roles, label_N // len(GENDERS), label_N % len(GENDERS), caption_RGD, encode([caption("person", role) for role in roles])


def _drift(bench: Bench) -> dict[str, Any]:
    if bench.reference is None:
        return {"cosine": 1.0, "distance": {"mean": 0.0, "p50": 0.0, "p90": 0.0, "max": 0.0}}
    policy_ND, _ = embed_stream(bench.model.encoder, bench.stream())
    reference_ND, _ = embed_stream(bench.reference.encoder.to(bench.device).eval(), bench.stream())
    if policy_ND.shape != reference_ND.shape:
        raise SeaAnchorError(f"embeddings of {policy_ND.shape[1]} dimensions", f"the reference's {reference_ND.shape[1]}", "name the model it was trained from")
    relative_N = (policy_ND - reference_ND).square().sum(-1) / reference_ND.square().sum(-1)
    middle, high = relative_N.quantile(torch.tensor([0.5, 0.9], device=relative_N.device)).tolist()
    cosine = F.cosine_similarity(policy_ND, reference_ND).mean().item()
    return {"cosine": cosine, "distance": {"mean": relative_N.mean().item(), "p50": middle, "p90": high, "max": relative_N.max().item()}}
