"""One result: a model measured on the images of one source.

Legend: B batch, N images, C classes, D embedding dimension.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from seaanchor.attacks.classification import Logits
from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.types import Images, TypographicImages, labels_of, texts_of
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.image_tables import clean_rows
from seaanchor.encoders.kernels import fast_kernels, num_tokens
from seaanchor.evaluation.attacks import fallback
from seaanchor.evaluation.protocol import Bench, Protocol, Seen, Tables
from seaanchor.evaluation.rows import Table, Work, collect, to_device
from seaanchor.evaluation.sanity_checks import Witness, check_model, run_checks, spread, square_is_there
from seaanchor.evaluation.subjects import listing
from seaanchor.evaluation.suites.registry import SUITES
from seaanchor.evaluation.summary import rounded, summarise, summarise_captioned
from seaanchor.evaluation.zeroshot import accuracy_rows, classifier, outcomes
from seaanchor.functional.gradients import frozen
from seaanchor.types import Batch

Result = dict[str, Any]
CHECKED = 32  # captioned images that the model's checks look at


@dataclass(frozen=True)
class Shelf:
    """Clean embeddings of the source at hand, by model, so that none is computed twice."""

    tables: dict[str, Table | None] = field(default_factory=dict)


def compute(bench: Bench, source: str, protocol: Protocol, work: Work, shelf: Shelf) -> Result | None:
    """Measure, summarise and check; None in all processes but the first.

    Raises:
        SeaAnchorError: no image could be read, or an attack went astray.
    """
    wanted = frozenset(table for name in protocol.suites for table in SUITES[name].embeddings)
    encoder = bench.model.encoder
    with frozen(encoder), fast_kernels(encoder, torch.float32, num_tokens(encoder)):
        dataset = ImageDataset(bench.images, encoder.image_size)
        collected = collect(f"{bench.model.name} on {source}", "images", dataset, _measure(bench, protocol), work)
        training = _embeddings("training", bench.model, bench.training, work) if bench.training is not None else None
        reference = (
            _reference_embeddings(bench, work, shelf) if "reference" in wanted and bench.reference is not None else None
        )
        if collected is None:
            return None
        table, skipped = collected
        if "clean" in wanted:
            shelf.tables[_key(bench.model, bench.images)] = {
                name: table[name] for name in ("index", "label", "embedding") if name in table
            }
        tables = {
            name: Tables(_own(name, table), table if "clean" in wanted else None, reference, training)
            for name in protocol.suites
        }
        suites = {name: rounded(SUITES[name].summarise(bench, tables[name])) for name in protocol.suites}
        checks = _checks(bench, protocol, table)
        for name in protocol.suites:
            checks |= {f"{name}: {what}": value for what, value in SUITES[name].audit(bench, tables[name]).items()}
    if bench.captions is not None:
        head = summarise_captioned(bench.model, source, suites.get("retrieval"))
    else:
        head = summarise(
            bench.model, source, outcomes(table, protocol.plans), lettered=isinstance(bench.images, TypographicImages)
        )
    return {
        "format": protocol.format,
        **head,
        "suites": suites,
        "notes": _notes(bench, protocol),
        "checks": checks,
        "skipped": skipped,
    }


def _measure(bench: Bench, protocol: Protocol) -> Callable[[Batch], Table]:
    """What is kept of a batch: its embeddings and logits are computed once, for all suites."""
    keep = any("clean" in SUITES[name].embeddings for name in protocol.suites)

    def measure(batch: Batch) -> Table:
        embedding_BD = embed(bench.model, batch)
        seen = Seen(batch, embedding_BD, bench.head(embedding_BD))
        rows = {} if bench.captions is not None else accuracy_rows(bench.logits, batch, seen.logits_BC, protocol.plans)
        for name in protocol.suites:
            act = SUITES[name].measure
            if act is not None:
                rows |= {f"{name}/{column}": values for column, values in act(bench, seen).items()}
        return rows | ({"embedding": embedding_BD} if keep else {})

    return measure


@torch.no_grad()
def embed(model: LoadedModel, batch: Batch) -> Tensor:
    """Raw embeddings (B, D) in fp32."""
    return model.encoder(batch.pixels_BCHW).float()


def _own(name: str, table: Table) -> Table:
    """A suite's own columns."""
    prefix = f"{name}/"
    return {
        column.removeprefix(prefix): values
        for column, values in table.items()
        if column.startswith(prefix) or column in ("index", "label")
    }


def _embeddings(name: str, model: LoadedModel, images: Images, work: Work) -> Table | None:
    """Clean embeddings of a list of images, from the cache where it has them; in the first process only."""
    dataset = ImageDataset(images, model.encoder.image_size)

    def measure(batch: Batch) -> Table:
        return {"embedding": embed(model, batch)}

    def compute() -> Table | None:
        with fast_kernels(
            model.encoder, torch.float32, num_tokens(model.encoder)
        ):  # the arithmetic that the model beside it has, to the last bit
            collected = collect(f"{name} images of {model.name}", name, dataset, measure, work)
        return None if collected is None else collected[0]

    table = clean_rows(model, dataset, compute, work.group.first, work.group.agree)
    labels = labels_of(images)
    if table is None or labels is None:
        return table
    return table | {"label": torch.tensor(labels)[table["index"]]}


def _reference_embeddings(bench: Bench, work: Work, shelf: Shelf) -> Table | None:
    if bench.reference is None:
        return None
    key = _key(bench.reference, bench.images)
    if not work.group.agree(key in shelf.tables):
        bench.reference.encoder.to(bench.device).eval()
        shelf.tables[key] = _embeddings("reference", bench.reference, bench.images, work)
    return shelf.tables.get(key)


def _key(model: LoadedModel, images: Images) -> str:
    return f"{fingerprint(model.encoder)} {model.encoder.image_size} {listing(images)}"


def _checks(bench: Bench, protocol: Protocol, table: Table) -> dict[str, Any]:
    dataset, skip_log = ImageDataset(bench.images, bench.model.encoder.image_size), SkipLog(bench.images)

    def load(index: list[int]) -> Batch:
        return to_device(next(batches(dataset, len(index), workers=0, order=index, skip_log=skip_log)), bench.device)

    if bench.captions is not None:
        few = load(spread(table["index"], torch.ones_like(table["index"], dtype=torch.bool), CHECKED))
        return check_model(bench.logits, bench.model.encoder, few)
    return run_checks(
        Witness(
            bench.logits,
            bench.model.encoder,
            load,
            outcomes(table, protocol.plans),
            protocol.plans,
            _untouched(bench, protocol),
        )
    )


def _untouched(bench: Bench, protocol: Protocol) -> Logits | None:
    """The reference as a classifier, where attacks are to be transferred from it."""
    if bench.reference is None or not protocol.plans:
        return None
    return classifier(
        bench.reference, build_head(bench.reference, texts_of(bench.images), bench.templates), bench.device
    )


def _notes(bench: Bench, protocol: Protocol) -> list[str]:
    notes = [note for plan in protocol.plans if (note := fallback(plan, len(texts_of(bench.images))))]
    if protocol.plans and not square_is_there():
        notes.append("no black box looked for masked gradients: pyautoattack (extra `attacks`) is not installed")
    return notes
