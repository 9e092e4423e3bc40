"""Weights between an untouched model and what was trained from it, and their export.

Source: WiSE-FT (Wortsman et al., CVPR 2022, arXiv 2109.01903) and PAINT (Ilharco et al., NeurIPS 2022,
arXiv 2208.05592).
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from seaanchor.config.schema import RunConfig
from seaanchor.encoders.encoder import LoadedModel, copied
from seaanchor.encoders.norm_scales import fold_norm_scales
from seaanchor.encoders.preprocess_option import input_settings
from seaanchor.errors import SeaAnchorError, note
from seaanchor.evaluation.model_pair import open_pair
from seaanchor.evaluation.protocol import Protocol
from seaanchor.export.folder import export_model
from seaanchor.report.model_card import origin_of
from seaanchor.training.finish import load_export

FAR = 0.5  # of its length that training moves no weight vector
ROUNDING = 1e-2  # relative, of statistics that were stored in half precision


def load_ends(
    name: str, reference: str | None = None, *, pretrained: str | None = None, preprocess: str | None = None
) -> tuple[LoadedModel, LoadedModel]:
    """A model and the untouched one that it was trained from.

    Args:
        name: of the model, as `load_model` takes it.
        reference: the untouched model; by default the one that a run or an embedded variant started from.
        pretrained, preprocess: as `load_model`; of `BASE+FILE` BASE is the reference.

    Raises:
        SeaAnchorError: the untouched model is not known, or as `load_model`.
    """
    pair = open_pair(name, pretrained, reference, Protocol((), preprocess=preprocess), None)
    if pair.reference is None:
        found = f"the model that {name} was trained from is not known"
        raise SeaAnchorError(found, "the untouched model, whose weights are to be mixed in", "name it with --reference")
    return pair.model, pair.reference


def load_ends_of(run: Path, config: RunConfig, start: LoadedModel | None = None) -> tuple[LoadedModel, LoadedModel]:
    """The trained model of a run and the untouched one, as `load_ends`.

    Args:
        run: its folder.
        config: its settings.
        start: the model of a module of the user's own, which no library loads; it stays as it is.
    """
    if start is None:
        return load_ends(str(run / "export"))
    return load_export(run / "export", config, start), start


def export_between(
    model: LoadedModel,
    reference: LoadedModel,
    alpha: float,
    folder: Path,
    *,
    half: bool = False,
    format: str | None = None,
    run: Path | None = None,
) -> Path:
    """Export (1 − α)·reference + α·model, weight by weight; the model card says so.

    Args:
        model: loaded for this, as its weights are changed (`interpolate_`).
        reference: the untouched model, which stays as it is.
        alpha: 0 gives the reference, 1 the model.
        folder: where to write; of a folder that is there, files of the same names are replaced.
        half, format, run: as `seaanchor.export_model`.

    Raises:
        SeaAnchorError: as `interpolate_` and `seaanchor.export_model`.
    """
    interpolate_(model, reference, alpha)
    said = f"Each weight is {alpha:g} of the trained one and {1 - alpha:g} of that of `{reference.name}`."
    origin = origin_of(model.name if run is None else str(run / "export"), model.stored_head)
    return export_model(model, folder, half=half, format=format, origin=replace(origin, note=said))


def check_alpha(alpha: float) -> None:
    """Raise a SeaAnchorError unless α is in [0, 1]."""
    if not 0 <= alpha <= 1:
        raise SeaAnchorError(f"alpha {alpha:g}", "a share of the trained weights, 0 to 1", "correct it")


@torch.no_grad()
def interpolate_(model: LoadedModel, reference: LoadedModel, alpha: float) -> None:
    """Put (1 − α)·reference + α·model in place of the model's weights, image and text side.

    Weights mean the same only beside the same statistics and scales of batch normalisation. Where training folded them
    (`fold_norm_scales`), the folded weights of the reference are those that the model came from; the nearer are taken.

    Args:
        model: whose weights are changed; its module alone follows, so export it and load it again.
        reference: the untouched model, of the same architecture.
        alpha: 0 gives the reference, 1 the model.

    Raises:
        SeaAnchorError: an alpha outside [0, 1], or two models with other weights by name or shape, other statistics or
            other input settings. It is noted where the weights lie too far apart for one to be trained from the other.
    """
    check_alpha(alpha)
    theirs = dict(reference.module.named_parameters())
    ours = dict(model.module.named_parameters())
    if different := [name for name in ours | theirs if not _fits(ours.get(name), theirs.get(name))]:
        raise _strangers(model, reference, f"has another weight {different[0]}")
    if input_settings(model.encoder) != input_settings(reference.encoder):
        raise _strangers(model, reference, "sees pictures by other preprocessing")
    start, apart = _nearest_start(model, reference)
    if apart > FAR:
        note(
            f"the weights of {model.name} lie {apart:.1f} times their length from those of {reference.name}: between "
            "models that were trained apart lies none that works, so measure what is written"
        )
    for name, weight in ours.items():
        weight.copy_(torch.lerp(start[name].to(weight), weight, alpha))


def _nearest_start(model: LoadedModel, reference: LoadedModel) -> tuple[dict[str, nn.Parameter], float]:
    """The weights that the model came from: those of the reference, or folded ones; and how far it is from them, as a
    share of their length.

    Raises:
        SeaAnchorError: neither stands beside the model's statistics.
    """
    folded = copied(reference)
    fold_norm_scales(folded.encoder)
    found = []
    for start in (reference, folded):
        weights = dict(start.module.named_parameters())
        if _same_statistics(model, start):
            found.append((_distance(dict(model.module.named_parameters()), weights), weights))
    if not found:
        raise _strangers(model, reference, "normalises by other statistics")
    apart, weights = min(found, key=lambda one: one[0])
    return weights, apart


def _distance(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """Length of the difference over that of theirs."""
    moved = sum((weight - theirs[name]).double().square().sum().item() for name, weight in ours.items())
    return (moved / sum(weight.double().square().sum().item() for weight in theirs.values())) ** 0.5


def _fits(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and one.shape == other.shape


def _same_statistics(model: LoadedModel, reference: LoadedModel) -> bool:
    """Whether batch normalisations have the same ones, up to the rounding of an export in half precision."""
    ours, theirs = (_statistics(side.encoder) for side in (model, reference))
    return all(torch.allclose(one, other, ROUNDING, 1e-6) for one, other in zip(ours, theirs, strict=True))


def _statistics(encoder: nn.Module) -> list[Tensor]:
    norms = [module for module in encoder.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    return [found for norm in norms for found in (norm.running_mean, norm.running_var) if found is not None]


def _strangers(model: LoadedModel, reference: LoadedModel, what: str) -> SeaAnchorError:
    return SeaAnchorError(
        f"{model.name} {what} than {reference.name}",
        "a model and the one that it was trained from",
        "name that one with --reference",
    )
