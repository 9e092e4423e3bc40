"""Accuracy under Gaussian noise of several strengths."""

from seaanchor.evaluation.context import CleanBatch, EvaluationContext, Suite, Tables
from seaanchor.evaluation.corruptions import SIGMAS, gaussian_noise
from seaanchor.evaluation.statistics import share_of
from seaanchor.evaluation.suite_results import Noise, NoiseLevel
from seaanchor.evaluation.table import Table
from seaanchor.evaluation.zeroshot import correct


def _measure(context: EvaluationContext, clean: CleanBatch) -> Table:
    batch, seed = clean.batch, context.protocol.seed
    return {
        f"{sigma!r}": correct(context.logits, gaussian_noise(batch.pixels_BCHW, sigma, batch.index_B, seed), batch)
        for sigma in SIGMAS
    }


def _summarise(context: EvaluationContext, tables: Tables) -> Noise:
    return Noise(tuple(NoiseLevel(round(255 * sigma, 6), share_of(tables.own[f"{sigma!r}"])) for sigma in SIGMAS))


SUITE = Suite(_summarise, _measure)
