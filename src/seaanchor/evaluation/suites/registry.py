"""The suites besides accuracy under attacks on the classifier, by name.

Legend: N images, M texts, B batch, C classes, R roles, D embedding dimension, H W pixels.
"""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from seaanchor.attacks.ball import Ball
from seaanchor.attacks.embedding import embedding_attack
from seaanchor.data.people import GENDERS, caption
from seaanchor.data.types import Images, TypographicImages, labels_of, texts_of
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.heads import embed_texts
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.attacks import inside
from seaanchor.evaluation.protocol import Bench, Seen, Suite, Tables
from seaanchor.evaluation.rows import Table
from seaanchor.evaluation.sanity_checks import check
from seaanchor.evaluation.statistics import proportion
from seaanchor.evaluation.suites.bias import caveat, evaluate_bias
from seaanchor.evaluation.suites.corruptions import SEVERITIES, SIGMAS, corrupt, gaussian_noise
from seaanchor.evaluation.suites.interpretability import evaluate_interpretability, mean_prompts, openai_templates
from seaanchor.evaluation.suites.probe import evaluate_probe
from seaanchor.evaluation.suites.retrieval import evaluate_retrieval
from seaanchor.evaluation.suites.typographic import evaluate_reading, typographic_hits
from seaanchor.evaluation.suites.words_and_noise import WORDS_TRIED, words_and_noise
from seaanchor.types import Batch

T = TypeVar("T")


def _needed(value: T | None) -> T:
    if value is None:
        raise RuntimeError("the suite is given less than it asked for")
    return value


def spread_of(values_N: Tensor) -> dict[str, float]:
    """Mean, median, ninth decile and largest value."""
    middle, high = values_N.double().quantile(torch.tensor([0.5, 0.9], dtype=torch.float64)).tolist()
    return {"mean": values_N.double().mean().item(), "p50": middle, "p90": high, "max": values_N.max().item()}


def _typographic_rows(bench: Bench, seen: Seen) -> Table:
    return typographic_hits(bench.logits, seen.batch, texts_of(bench.images), bench.typographic)


def _typographic(bench: Bench, tables: Tables) -> dict[str, Any]:
    shares = {name: proportion(hit_N) for name, hit_N in tables.own.items() if name not in ("index", "label")}
    return shares | {"plan": asdict(bench.typographic)}


def _reading(bench: Bench, tables: Tables) -> dict[str, Any]:
    return evaluate_reading(
        lambda p: bench.logits(p.to(bench.device)),
        texts_of(bench.images),
        bench.model.encoder.image_size,
        bench.typographic,
    )


@torch.no_grad()
def embed_stream(encoder: torch.nn.Module, stream: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Embeddings (N, D) of a stream and each image's number (N,)."""
    parts = [(encoder(batch.pixels_BCHW).float(), batch.index_B) for batch in stream if len(batch.index_B)]
    return torch.cat([embedding for embedding, _ in parts]), torch.cat([index for _, index in parts])


def _bias(bench: Bench, tables: Tables) -> dict[str, Any]:
    clean = _needed(tables.clean)
    roles, role_M, gender_M, caption_RGD, neutral_RD = people_texts(bench.model, bench.images, bench.templates)
    index_N = clean["index"]
    found = evaluate_bias(clean["embedding"], caption_RGD, neutral_RD, role_M[index_N], gender_M[index_N])
    return found | {"roles": len(roles), "caveat": caveat(bench.images)}


def _people(bench: Bench) -> None:
    if not (bench.images.root / "people.jsonl").is_file():
        raise SeaAnchorError(
            f"{bench.images.root} is no set of people in roles",
            "emoji-people, or a folder with people.jsonl",
            "correct --data",
        )


def people_texts(
    model: LoadedModel, images: Images, templates: tuple[str, ...]
) -> tuple[list[str], Tensor, Tensor, Tensor, Tensor]:
    """Roles, each image's role and gender, and embeddings of the gendered (R, 2, D) and neutral (R, D) captions."""
    names = texts_of(images)
    roles = [name.split(" ", 1)[1] for name in names[:: len(GENDERS)]]
    label_N = torch.tensor(labels_of(images))

    def encode(texts: list[str]) -> Tensor:
        prompts = [template.replace("{}", text) for text in texts for template in templates]
        return embed_texts(model, prompts).cpu().view(len(texts), len(templates), -1).mean(1)

    caption_RGD = encode([caption(gender, role) for role in roles for gender in GENDERS]).view(
        len(roles), len(GENDERS), -1
    )
    return (
        roles,
        label_N // len(GENDERS),
        label_N % len(GENDERS),
        caption_RGD,
        encode([caption("person", role) for role in roles]),
    )


def _drift(bench: Bench, tables: Tables) -> dict[str, Any]:
    clean = _needed(tables.clean)
    policy_ND = clean["embedding"].double()
    reference_ND = policy_ND if tables.reference is None else tables.reference["embedding"].double()
    relative_N = (policy_ND - reference_ND).square().sum(-1) / reference_ND.square().sum(-1)
    deciles = relative_N.quantile(torch.linspace(0, 1, 11, dtype=torch.float64)).tolist()
    return {
        "cosine": F.cosine_similarity(policy_ND, reference_ND).mean().item(),
        "distance": spread_of(relative_N),
        "deciles": deciles,
        "rho": bench.rho,
        "within": None if bench.rho is None else proportion(relative_N <= bench.rho),
        "n": len(relative_N),
    }


@torch.no_grad()
def _hit(bench: Bench, pixels_BCHW: Tensor, batch: Batch) -> Tensor:
    return bench.logits(pixels_BCHW).argmax(-1) == _needed(batch.label_B)


def _noise_rows(bench: Bench, seen: Seen) -> Table:
    batch = seen.batch
    return {
        f"{sigma!r}": _hit(bench, gaussian_noise(batch.pixels_BCHW, sigma, batch.index_B, bench.seed), batch)
        for sigma in SIGMAS
    }


def _noise(bench: Bench, tables: Tables) -> list[dict[str, Any]]:
    return [{"sigma": round(255 * sigma, 6)} | proportion(tables.own[f"{sigma!r}"]) for sigma in SIGMAS]


def _corruption_rows(bench: Bench, seen: Seen) -> Table:
    batch, rows = seen.batch, Table()
    for kind in bench.corruptions:
        for severity in SEVERITIES:
            rows[f"{kind} {severity}"] = _hit(
                bench, corrupt(batch.pixels_BCHW, kind, severity, batch.index_B, bench.seed), batch
            )
    return rows


def _corruptions(bench: Bench, tables: Tables) -> dict[str, Any]:
    kinds = {
        kind: [{"severity": severity} | proportion(tables.own[f"{kind} {severity}"]) for severity in SEVERITIES]
        for kind in bench.corruptions
    }
    shares = [row["accuracy"] for rows in kinds.values() for row in rows]
    return {"kinds": kinds, "mean": sum(shares) / len(shares), "n": len(tables.own["index"])}


def _embedding_rows(bench: Bench, seen: Seen) -> Table:
    plan, rows = _needed(bench.embedding), Table()
    for epsilon in plan.epsilons:
        ball = Ball(plan.norm, epsilon)
        found = embedding_attack(bench.model.encoder, seen.batch, ball, num_steps=plan.num_steps, seed=plan.seed)
        rows |= {f"{epsilon!r} distance": found.relative_B, f"{epsilon!r} cosine": found.cosine_B}
        rows[f"{epsilon!r} sound"] = (
            inside(found.pixels_BCHW, seen.batch.pixels_BCHW, ball) & found.relative_B.isfinite()
        )
    return rows


def _embedding(bench: Bench, tables: Tables) -> list[dict[str, Any]]:
    plan, own = _needed(bench.embedding), tables.own
    return [
        {
            "epsilon": epsilon,
            "norm": plan.norm,
            "num_steps": plan.num_steps,
            "distance": spread_of(own[f"{epsilon!r} distance"]),
            "cosine": own[f"{epsilon!r} cosine"].double().mean().item(),
            "n": len(own["index"]),
        }
        for epsilon in sorted(plan.epsilons)
    ]


def _embedding_audit(bench: Bench, tables: Tables) -> dict[str, Any]:
    plan, own = _needed(bench.embedding), tables.own
    illegal = sum(int((~own[f"{epsilon!r} sound"]).sum()) for epsilon in plan.epsilons)
    looked_at = len(own["index"]) * len(plan.epsilons)
    return {
        "images stay in the ball and in [0, 1]": check(
            illegal == 0, f"{illegal} of {looked_at} attacked images do not, or are not finite"
        )
    }


def _words_and_noise_rows(bench: Bench, seen: Seen) -> Table:
    return words_and_noise(bench.logits, seen.batch, texts_of(bench.images), bench.typographic, bench.plans)


def _words_and_noise(bench: Bench, tables: Tables) -> dict[str, Any]:
    own = {
        name: hit_N
        for name, hit_N in tables.own.items()
        if name not in ("index", "label") and not name.endswith(" sound")
    }
    return {name: proportion(hit_N) for name, hit_N in own.items()} | {
        "plan": asdict(bench.typographic) | {"words_tried": WORDS_TRIED}
    }


def _words_and_noise_audit(bench: Bench, tables: Tables) -> dict[str, Any]:
    sound = [hit_N for name, hit_N in tables.own.items() if name.endswith(" sound")]
    illegal = sum(int((~hit_N).sum()) for hit_N in sound)
    return {
        "images stay in the ball and in [0, 1]": check(
            illegal == 0, f"{illegal} attacked images do not, or are not finite"
        )
    }


def _attacked(bench: Bench) -> None:
    if not bench.plans:
        raise SeaAnchorError(
            "words-and-noise without an attack", "an attack for the noise, such as apgd-ce", "add one to --suite"
        )
    if isinstance(bench.images, TypographicImages):
        raise SeaAnchorError(
            f"words-and-noise on {bench.images.root}, whose images carry a word already",
            "images without words",
            "correct --data",
        )


def _interpretability(bench: Bench, tables: Tables) -> dict[str, Any]:
    clean, templates = _needed(tables.clean), openai_templates()
    mean_CD = mean_prompts(bench.model, texts_of(bench.images), templates).cpu()
    return evaluate_interpretability(clean["embedding"], clean["label"], mean_CD) | {"templates": len(templates)}


def _retrieval(bench: Bench, tables: Tables) -> dict[str, Any]:
    """Of captioned images by their captions; of class folders each class prompt is one text, with the images of its
    class."""
    clean, text_MD = _needed(tables.clean), bench.head.weight_CD.cpu()
    if bench.captions is None:
        image_group_N, text_group_M = clean["label"], torch.arange(len(text_MD))
    else:
        image_group_N, text_group_M = clean["index"], torch.tensor(bench.captions.image_of_text)
    found = evaluate_retrieval(F.normalize(clean["embedding"], dim=-1), text_MD, image_group_N, text_group_M)
    ways = {"image_to_text": "text_retrieval_", "text_to_image": "image_retrieval_"}  # named by what is retrieved
    return {
        way: {key.removeprefix(prefix): share for key, share in found.items() if key.startswith(prefix)}
        for way, prefix in ways.items()
    }


def _probe(bench: Bench, tables: Tables) -> dict[str, Any]:
    clean, training = _needed(tables.clean), _needed(tables.training)
    found = evaluate_probe(
        training["embedding"], training["label"], clean["embedding"], clean["label"], seed=bench.seed
    )
    return found | {"k": found["knn"]["k"]}


_CLEAN = frozenset({"clean"})

SUITES: dict[str, Suite] = {
    "retrieval": Suite(_retrieval, embeddings=_CLEAN, classes=False),
    "embedding": Suite(_embedding, _embedding_rows, classes=False, audit=_embedding_audit),
    "typographic": Suite(_typographic, _typographic_rows),
    "words-and-noise": Suite(_words_and_noise, _words_and_noise_rows, check=_attacked, audit=_words_and_noise_audit),
    "reading": Suite(_reading),
    "noise": Suite(_noise, _noise_rows),
    "corruptions": Suite(_corruptions, _corruption_rows),
    "bias": Suite(_bias, embeddings=_CLEAN, check=_people),
    "interpretability": Suite(_interpretability, embeddings=_CLEAN),
    "drift": Suite(_drift, embeddings=_CLEAN | {"reference"}, classes=False),
    "probe": Suite(_probe, embeddings=_CLEAN | {"training"}),
}
"""What `--suite` takes besides clean accuracy and the attacks."""
