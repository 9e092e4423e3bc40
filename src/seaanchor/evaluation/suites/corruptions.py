"""Accuracy under the corruptions of ImageNet-C, each at five severities."""

from seaanchor.evaluation.context import CleanBatch, EvaluationContext, Suite, Tables
from seaanchor.evaluation.corruptions import SEVERITIES, corrupt
from seaanchor.evaluation.statistics import share_of
from seaanchor.evaluation.suite_results import CorruptionLevel, Corruptions
from seaanchor.evaluation.table import Table
from seaanchor.evaluation.zeroshot import correct


def _measure(context: EvaluationContext, clean: CleanBatch) -> Table:
    batch, seed, rows = clean.batch, context.protocol.seed, Table()
    for kind in context.protocol.corruptions:
        for severity in SEVERITIES:
            corrupted_BCHW = corrupt(batch.pixels_BCHW, kind, severity, batch.index_B, seed)
            rows[f"{kind} {severity}"] = correct(context.logits, corrupted_BCHW, batch)
    return rows


def _summarise(context: EvaluationContext, tables: Tables) -> Corruptions:
    kinds = {
        kind: tuple(CorruptionLevel(level, share_of(tables.own[f"{kind} {level}"])) for level in SEVERITIES)
        for kind in context.protocol.corruptions
    }
    accuracies = [level.share.accuracy for levels in kinds.values() for level in levels]
    return Corruptions(kinds, sum(accuracies) / len(accuracies), len(tables.own["index"]))


SUITE = Suite(_summarise, _measure)
