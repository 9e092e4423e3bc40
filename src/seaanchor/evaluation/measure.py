"""One result: a model measured on the images of one data set.

Legend: B batch, N images, C classes, D embedding dimension.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from seaanchor.attacks.classification import Logits
from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.types import TypographicImages
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.kernels import fast_kernels, num_tokens
from seaanchor.encoders.model_paths import folder_of
from seaanchor.encoders.weight_files import weights_digest
from seaanchor.evaluation.attacks import fallback
from seaanchor.evaluation.context import CleanBatch, EvaluationContext, Tables
from seaanchor.evaluation.dense import summarise_dense
from seaanchor.evaluation.embeddings import EmbeddingCache, cache_key, embed, embeddings_of, reference_embeddings
from seaanchor.evaluation.heads import head_notes
from seaanchor.evaluation.results import Check, EvaluationResult
from seaanchor.evaluation.sanity_checks import CheckInputs, check_model, run_checks, spread_over, square_is_there
from seaanchor.evaluation.suite_results import Suites
from seaanchor.evaluation.suites.registry import SUITES
from seaanchor.evaluation.summary import rounded, summarise, summarise_captioned
from seaanchor.evaluation.table import ExecutionOptions, Table, collect, to_device
from seaanchor.evaluation.zeroshot import accuracy_rows, classifier, outcomes
from seaanchor.functional.gradients import frozen, reaching
from seaanchor.types import Batch

CHECKED = 32  # images without classes that the model's checks run on


def measure_model(
    context: EvaluationContext, options: ExecutionOptions, cache: EmbeddingCache
) -> EvaluationResult | None:
    """Measure, summarise and check; None in all processes but the first.

    Returns:
        The result, without protocol, environment and reference.

    Raises:
        SeaAnchorError: no image could be read, or an attack left the images that are allowed.
    """
    encoder = context.model.encoder
    with frozen(encoder), reaching(encoder), fast_kernels(encoder, torch.float32, num_tokens(encoder)):
        dataset = ImageDataset(context.images, encoder.preprocessing)
        title = f"{context.model.name} on {context.dataset}"
        collected = collect(title, "images", dataset, _batch_measure(context), options)
        needed = _tables_needed(context)
        training = (
            None if context.training is None else embeddings_of("training", context.model, context.training, options)
        )
        reference = reference_embeddings(context, options, cache) if "reference" in needed else None
        if collected is None:
            return None
        table, skipped = collected
        if "clean" in needed:
            clean: Table = {name: table[name] for name in ("index", "label", "embedding") if name in table}
            cache.tables[cache_key(context.model, context.images)] = clean
        shared = Tables({}, table if "clean" in needed else None, reference, training)
        suites, audits = _suites(context, table, shared)
        checks = _checks(context, table) | audits
    folder = folder_of(context.model.name)
    files = None if folder is None else weights_digest(folder)
    return replace(_result(context, table, suites, checks, skipped), files=files)


def _tables_needed(context: EvaluationContext) -> frozenset[str]:
    """Which tables of embeddings are kept; none of patch tokens, which would not fit into memory."""
    if context.dense:
        return frozenset()
    return frozenset(table for name in context.protocol.suites for table in SUITES[name].embeddings)


def _batch_measure(context: EvaluationContext) -> Callable[[Batch], Table]:
    """What a batch leaves in the table: its embeddings and logits are computed once, for all suites."""
    protocol = context.protocol
    with_embeddings = "clean" in _tables_needed(context)

    def measure(batch: Batch) -> Table:
        embedding_BD = embed(context.model, batch)
        clean = CleanBatch(batch, embedding_BD, context.head(embedding_BD))
        rows: Table = {}
        if context.classifies:
            rows = accuracy_rows(context.logits, batch, clean.logits_BC, protocol.plans)
        for name in protocol.suites:
            act = SUITES[name].measure
            if act is not None:
                rows |= {f"{name}/{column}": values for column, values in act(context, clean).items()}
        return rows | ({"embedding": embedding_BD} if with_embeddings else {})

    return measure


def _suites(context: EvaluationContext, table: Table, shared: Tables) -> tuple[Suites, dict[str, Check]]:
    """The outcome of every suite, and what their audits say."""
    found: dict[str, Any] = {}
    audits: dict[str, Check] = {}
    for name in context.protocol.suites:
        tables = Tables(_own(name, table), shared.clean, shared.reference, shared.training)
        found[name.replace("-", "_")] = rounded(SUITES[name].summarise(context, tables))
        audits |= {f"{name}: {what}": value for what, value in SUITES[name].audit(context, tables).items()}
    return Suites(**found), audits


def _own(name: str, table: Table) -> Table:
    """A suite's own columns."""
    prefix = f"{name}/"
    return {
        column.removeprefix(prefix): values
        for column, values in table.items()
        if column.startswith(prefix) or column in ("index", "label")
    }


def _checks(context: EvaluationContext, table: Table) -> dict[str, Check]:
    protocol, encoder = context.protocol, context.model.encoder
    dataset, skip_log = ImageDataset(context.images, encoder.preprocessing), SkipLog(context.images)

    def load(index: list[int]) -> Batch:
        return to_device(next(batches(dataset, len(index), workers=0, order=index, skip_log=skip_log)), context.device)

    if not context.classifies:
        few = load(spread_over(table["index"], torch.ones_like(table["index"], dtype=torch.bool), CHECKED))
        return check_model(context.logits, encoder, few)
    found = outcomes(table, protocol.plans)
    return run_checks(CheckInputs(context.logits, encoder, load, found, protocol.plans, _reference_classifier(context)))


def _reference_classifier(context: EvaluationContext) -> Logits | None:
    """The reference as a classifier, where attacks are to be transferred from it."""
    if context.reference is None or not context.protocol.plans:
        return None
    theirs = context.chosen.of_reference
    head = build_head(context.reference, context.class_names, context.templates) if theirs is None else theirs.head
    return classifier(context.reference, head, context.device)


def _result(
    context: EvaluationContext, table: Table, suites: Suites, checks: dict[str, Check], skipped: str
) -> EvaluationResult:
    notes = _notes(context)
    if context.dense:
        return replace(summarise_dense(context, suites, skipped), checks=checks, notes=notes)
    if context.captions is not None:
        return summarise_captioned(context.model, context.dataset, suites, checks, notes, skipped)
    found = outcomes(table, context.protocol.plans)
    with_words = isinstance(context.images, TypographicImages)
    return summarise(context.model, context.dataset, found, with_words, suites, checks, notes, skipped)


def _notes(context: EvaluationContext) -> tuple[str, ...]:
    plans = context.protocol.plans
    notes = head_notes(context)
    notes += [note for plan in plans if (note := fallback(plan, len(context.class_names)))]
    if plans and not square_is_there():
        notes.append("no black box looked for masked gradients: pyautoattack (extra `attacks`) is not installed")
    return tuple(notes)
