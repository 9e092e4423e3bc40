"""`seaanchor evaluate`: models and their references on data sets, as typed results and as files with their protocol."""

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from seaanchor.data.types import Images, LabelledImages
from seaanchor.distributed.agreement import check_same
from seaanchor.distributed.launch import open_group
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.attacks import require_extra
from seaanchor.evaluation.captions import Captions
from seaanchor.evaluation.context import EvaluationContext
from seaanchor.evaluation.dense import SegmentationHeads, check_dense_protocol, open_dense, with_segmentation
from seaanchor.evaluation.device import device_named
from seaanchor.evaluation.embeddings import EmbeddingCache
from seaanchor.evaluation.header import header
from seaanchor.evaluation.heads import HeadChooser, write_copy
from seaanchor.evaluation.images import open_source
from seaanchor.evaluation.measure import measure_model
from seaanchor.evaluation.model_pair import ModelPair, check_reference, open_pair, output_of, reference_of
from seaanchor.evaluation.prepare import DataSet, describe, prepare, reference_context
from seaanchor.evaluation.protocol import Protocol, comparable
from seaanchor.evaluation.result_files import decode, encode, with_finite_check
from seaanchor.evaluation.result_folder import is_result_file, result_file, stored_result
from seaanchor.evaluation.results import Environment, EvaluationResult, GivenOptions, ProtocolRecord
from seaanchor.evaluation.table import ExecutionOptions, remove_partial
from seaanchor.profiling.memory_advice import evaluation_advice
from seaanchor.utils.checkpoint import write_atomic
from seaanchor.utils.environment import environment
from seaanchor.utils.json_text import to_json, with_nulls
from seaanchor.utils.locks import locked
from seaanchor.utils.log import log
from seaanchor.utils.paths import portable
from seaanchor.utils.records import from_plain, to_plain


@dataclass(frozen=True)
class _Session:
    """One call: how it is computed, whether a result file that is there is read, and what was found so far, by key."""

    options: ExecutionOptions
    skip_existing: bool
    class_names: Path | None
    done: dict[str, EvaluationResult | None] = field(default_factory=dict)


def evaluate(
    name: str, sources: Sequence[str], protocol: Protocol, output: Path | None, **settings: Any
) -> list[EvaluationResult]:
    """Evaluate a model and its reference on every source; arguments and errors as for `evaluate_all`.

    Returns:
        One result a source, the reference's inside it.

    Raises:
        SeaAnchorError: as well, a result that failed a check (its file is written and says so).
    """
    results = evaluate_all([name], sources, protocol, output, **settings)
    require_sound(results)
    return results


def evaluate_loaded(
    model: LoadedModel,
    images: Images | str,
    protocol: Protocol,
    *,
    reference: LoadedModel | None = None,
    output: Path | None = None,
    dataset: str | None = None,
    rho: float | None = None,
    class_names: Path | None = None,
    batch_size: int = 100,
    workers: int = 0,
    device: str | None = None,
    skip_existing: bool = False,
) -> EvaluationResult:
    """Evaluate a model that is in memory.

    Args:
        model: what is evaluated; its encoder is put on the device, in eval mode.
        images: labelled images, or a source as `evaluate_all` takes it.
        protocol: what to measure.
        reference: the untouched model, evaluated on the same images; None for a model that is its own reference.
        output: folder of the result file; None writes no file.
        dataset: name of the images; by default the folder they are in.
        rho: the bound on clean embeddings that the model was trained with, for the suite `drift`.
        class_names, batch_size, workers, device, skip_existing: as for `evaluate_all`.

    Returns:
        The result, the reference's inside it; the same in every process.

    Raises:
        SeaAnchorError: as for `evaluate_all`, and a result that failed a check.
    """
    require_extra(protocol.plans)
    check_reference(model, reference, protocol)
    check_dense_protocol(model, protocol)
    name = dataset or (images if isinstance(images, str) else str(images.root))
    dense = model.encoder.tokens == "patches"
    opened, captions = _opened(images, class_names, protocol, dense) if isinstance(images, str) else (images, None)
    if captions is None and not dense and not isinstance(opened, LabelledImages):
        raise SeaAnchorError(
            f"{name} has no classes",
            "labelled images: one folder a class, or a Dataset with class names",
            "sort the images into class folders, or call seaanchor.data.from_dataset(dataset, class_names=[...])",
        )
    with open_group() as group:
        options = ExecutionOptions(batch_size, workers, device_named(device, group.rank), group)
        session, cache = _Session(options, skip_existing, class_names), EmbeddingCache()
        pair = ModelPair(model, reference, rho, output)
        data = DataSet(name, opened, captions, class_names)
        log.info("\n".join(header([pair], [data], protocol, options)))
        chosen = HeadChooser(protocol, class_names, options).choose(pair, name, opened, captions)
        context = prepare(pair, data, protocol, options.device, chosen)
        heads = SegmentationHeads(protocol, class_names, options)
        context = with_segmentation(context, heads.choose(pair, name, opened))
        result = group.agree(_with_reference(pair, context, session, cache))
    require_sound([result])
    return result


def evaluate_all(
    names: Sequence[str],
    sources: Sequence[str],
    protocol: Protocol,
    output: Path | None,
    *,
    pretrained: str | None = None,
    reference: str | None = None,
    class_names: Path | None = None,
    batch_size: int = 100,
    workers: int = 0,
    device: str | None = None,
    skip_existing: bool = False,
) -> list[EvaluationResult]:
    """Evaluate every model on every source, each beside its reference, which sees images of the model's size.

    Args:
        names: models, as `load_model` takes them.
        sources: labelled images, as `open_images` takes them, or folders of captioned ones.
        protocol: what to measure.
        output: folder of the result files; None: RUN/evaluation for a run's export, else runs/evaluation.
        pretrained: tag or weights file for bare names.
        reference: the untouched model behind all of them, where their folders do not name it; `none` for none.
        class_names: file that names the classes.
        batch_size, workers, device: how; they change no result but for rounding.
        skip_existing: read results that are there.

    Returns:
        Source by source, model by model, the reference's result inside the model's; empty in all processes but the
        first.

    Raises:
        SeaAnchorError: an unknown model, one named twice, a folder without labelled images, a class list that is too
            short, or images or a model that a suite cannot work with.
    """
    _distinct("model", names, names)
    _distinct("data set", sources, [str(Path(source).resolve()) for source in sources])
    require_extra(protocol.plans)
    with open_group() as group:
        options = ExecutionOptions(batch_size, workers, device_named(device, group.rank), group)
        session = _Session(options, skip_existing, class_names)
        check_same(group, {"models": len(names), "data sets": len(sources)} | comparable(protocol))
        pairs = [open_pair(name, pretrained, reference, protocol, output, names) for name in names]
        for pair in pairs:
            check_dense_protocol(pair.model, protocol)
        dense = all(pair.model.encoder.tokens == "patches" for pair in pairs)
        data = [DataSet(source, *_opened(source, class_names, protocol, dense), class_names) for source in sources]
        log.info("\n".join(header(pairs, data, protocol, options)))
        contexts = _contexts(pairs, data, protocol, HeadChooser(protocol, class_names, options))
        results = []
        for row in contexts:
            cache = EmbeddingCache()
            for pair, context in zip(pairs, row, strict=True):
                results.append(_with_reference(pair, context, session, cache))
        return [result for result in results if result is not None]


def _contexts(
    pairs: Sequence[ModelPair], data: Sequence[DataSet], protocol: Protocol, heads: HeadChooser
) -> list[list[EvaluationContext]]:
    """Every model in front of every data set, so that a mistake is found before anything is computed."""
    device = heads.options.device
    contexts = [
        [prepare(pair, one, protocol, device, heads.choose(pair, one.name, one.images, one.captions)) for pair in pairs]
        for one in data
    ]
    dense = SegmentationHeads(protocol, heads.class_names, heads.options)
    return [
        [
            with_segmentation(context, dense.choose(pair, context.dataset, context.images))
            for pair, context in zip(pairs, row, strict=True)
        ]
        for row in contexts
    ]


def _opened(source: str, class_names: Path | None, protocol: Protocol, dense: bool) -> tuple[Images, Captions | None]:
    """The images of a source, for models of patch tokens with masks or without anything."""
    if dense:
        return open_dense(source, class_names, protocol), None
    return open_source(source, class_names, protocol)


def require_sound(results: Sequence[EvaluationResult]) -> None:
    """Raise a SeaAnchorError if a result, or that of a reference, failed a check."""
    everything = [*results, *(result.reference for result in results if result.reference)]
    bad = [f"{result.model} on {result.dataset}: {name}" for result in everything for name in result.failed_checks]
    if bad:
        raise SeaAnchorError(
            f"self-check failed: {'; '.join(dict.fromkeys(bad))}",
            "a deterministic model in eval mode, and attacks that find what is there",
            "do not trust these result files, which say so too",
        )


def _distinct(what: str, given: Sequence[str], meant: Sequence[str]) -> None:
    if twice := sorted({name for name, same in zip(given, meant, strict=True) if list(meant).count(same) > 1}):
        raise SeaAnchorError(f"the {what} {', '.join(twice)} is named twice", f"every {what} once", "leave one out")


def _with_reference(
    pair: ModelPair, context: EvaluationContext, session: _Session, cache: EmbeddingCache
) -> EvaluationResult | None:
    """The result of a model, that of its reference inside it; None in all processes but the first."""
    beside = None
    if pair.reference is not None:
        untouched = ModelPair(pair.reference, None, None, None if is_result_file(pair.output) else pair.output)
        beside = _one(untouched, reference_context(context, pair.reference), session, cache, None)
    return _one(pair, context, session, cache, beside)


def _one(
    pair: ModelPair,
    context: EvaluationContext,
    session: _Session,
    cache: EmbeddingCache,
    reference: EvaluationResult | None,
) -> EvaluationResult | None:
    """The result of one model on one data set, written to its file with the reference's inside it; None in all
    processes but the first."""
    protocol = describe(context)
    key = hashlib.sha256(to_json(to_plain(protocol), sort_keys=True).encode()).hexdigest()[:12]
    file = None if pair.output is None else result_file(pair.output, context, key)
    partial = None if file is None else file.with_name(f".{file.stem}.partial")
    group = session.options.group
    check_same(group, comparable(protocol) | {"the batch size": session.options.batch_size})
    with _turn(partial if group.first and key not in session.done else None) as waited:
        if key not in session.done:
            found = stored_result(file, context) if (session.skip_existing or waited) and group.first else None
            result = group.agree(found)
            if result is None:
                result = _computed(context, protocol, replace(session.options, partial=partial), cache)
            session.done[key] = result
        result = session.done[key]
        if not group.first or result is None:
            return None
        result = replace(result, reference=reference, given=_given(context, session.class_names))
        if file is not None:
            write_copy(context.chosen, file.parent)
            write_atomic(file, to_json(with_nulls(encode(result)), indent=1))
        if partial is not None:
            remove_partial(partial)
    return result


def _given(context: EvaluationContext, class_names: Path | None) -> GivenOptions:
    asked = context.protocol
    names = None if class_names is None else str(class_names)
    found = (context.model.pretrained, asked.preprocess, names, asked.segmentation_head)
    return GivenOptions(*portable(found))


def _turn(partial: Path | None) -> AbstractContextManager[bool]:
    """Alone with these partial results; whether another process was at them. A reference is that of many models."""
    return nullcontext(False) if partial is None else locked(partial, wait=True)


def _computed(
    context: EvaluationContext, protocol: ProtocolRecord, options: ExecutionOptions, cache: EmbeddingCache
) -> EvaluationResult | None:
    classes = len(context.class_names) or 1
    with evaluation_advice(context.model.encoder, classes, options.batch_size, options.device):
        found = measure_model(context, options, cache)
    if found is None:
        return None
    whole = replace(found, protocol=protocol, environment=from_plain(Environment, environment()))
    return with_finite_check(decode(portable(encode(whole))))


__all__ = ["Protocol", "describe", "evaluate", "evaluate_all", "evaluate_loaded"]
__all__ += ["output_of", "reference_of", "require_sound"]
