"""Weights from a file into a module, and the errors that every way of loading a model shares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from seaanchor.encoders.hub import NOT_FETCHED, unreachable
from seaanchor.encoders.pretrained import split_entry
from seaanchor.encoders.weight_entries import AVERAGED, choose, strip, tensors_of
from seaanchor.encoders.weight_files import open_weights
from seaanchor.errors import SeaAnchorError, note, said_by
from seaanchor.utils.log import log

COUNTERS = ("num_batches_tracked", "position_ids")  # no output depends on them, and not every version saves them


@dataclass(frozen=True)
class Weights:
    """What a file gave.

    Attributes:
        state: names → tensors on the CPU, floats in fp32.
        said: what was taken from where; empty for a plain file.
        entry: names of the entries on the way to it, from the outermost.
    """

    state: dict[str, Tensor]
    said: str = ""
    entry: tuple[str, ...] = ()


def read_weights(path: str | Path) -> Weights:
    """Weights of a file, whatever they are wrapped in; what was taken is logged. Pickled code is never run.

    Containers such as `state_dict`, `model` or `vision_encoder_state_dict` are opened, and the prefixes `module.`,
    `_orig_mod.` and `model.` removed. Of averaged and raw weights the averaged ones are taken, as timm does.

    Args:
        path: .safetensors or .pt, or `FILE#ENTRY` to choose an entry.

    Raises:
        SeaAnchorError: the file is missing, broken, a training checkpoint of our own, a TorchScript archive, a pickled
            object, quantised, or holds no weights.
    """
    file, asked = split_entry(path)
    held, way, left = choose(open_weights(file), file, asked)
    state, stripped = strip({str(key): value for key, value in held.items()})
    tensors, others = tensors_of(state, file)
    parts = [f"took {' > '.join(way)}"] if way else []
    parts += [f"removed the prefix {''.join(stripped)}"] if stripped else []
    parts += [f"left out {', '.join(others[:3])}, no tensors"] if others else []
    raw = f", which {file}#{left[0]} gives" if left and way[0] in AVERAGED else ""
    parts += [f"not {', '.join(left)}{raw}"] if left else []
    said = f"{file}: {', '.join(parts)}" if parts else ""
    if left or others:
        note(said)
    elif said:
        log.info(said)
    return Weights(tensors, said, tuple(way))


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], name: str, source: str | Path = "given") -> None:
    """Load weights that must be exactly those of a module: nothing is left as it was, and nothing left over.

    Args:
        module: gets the weights.
        state: names → tensors.
        name: of the model, for the message.
        source: where the weights are from, for the message.

    Raises:
        SeaAnchorError: lists the keys that are missing, left over, or of another shape.
    """
    own = module.state_dict(keep_vars=True)
    buffers = dict(module.named_buffers())
    given = {id(own[key]) for key in own if key in state}  # tied weights are saved once
    missing = [key for key in own if key not in state and id(own[key]) not in given and not key.endswith(COUNTERS)]
    unexpected = [key for key, value in state.items() if key not in own and not _is_constant(key, value, buffers)]
    shapes = [
        f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}"
        for key in own
        if key in state and own[key].shape != state[key].shape
    ]
    if missing or unexpected or shapes:
        wrong = [
            _listed("missing", missing, len(own)),
            _listed("that the model has not", unexpected, len(state)),
            _listed("of another shape", shapes, len(own)),
        ]
        raise weights_error(name, str(source), "; ".join(filter(None, wrong)))
    module.load_state_dict({key: value for key, value in state.items() if key in own}, strict=False)


def _is_constant(key: str, value: Tensor, buffers: Mapping[str, Tensor]) -> bool:
    """Whether a key is a counter, or a constant that the module computes itself, such as an attention mask."""
    own = buffers.get(key)
    return key.endswith(COUNTERS) or (
        own is not None and own.shape == value.shape and torch.equal(own.to(value.dtype), value)
    )


def _listed(what: str, keys: Sequence[str], total: int) -> str:
    more = ", ..." if len(keys) > 3 else ""
    return f"{len(keys)} of {total} keys {what} ({', '.join(keys[:3])}{more})" if keys else ""


def weights_error(name: str, weights: str, error: Exception | str) -> SeaAnchorError:
    """The one message for weights that do not fit an architecture."""
    first = error if isinstance(error, str) else said_by("; ".join(str(error).splitlines()[:4]))
    return SeaAnchorError(
        found=f"the weights {weights} do not fit {name}: {first}",
        expected="a checkpoint of exactly this architecture",
        change="name the architecture the checkpoint was trained with",
    )


def hub_error(name: str, error: Exception, instead: str) -> SeaAnchorError:
    """The one message for a model that could not be fetched."""
    first = said_by(error)
    if (reason := unreachable()) == NOT_FETCHED:
        return SeaAnchorError(
            found=f"{name} could not be loaded: {first}",
            expected="files in the folder, or on this disk already",
            change=f"{NOT_FETCHED}; or {instead}",
        )
    if reason:
        return SeaAnchorError(
            found=f"{name} is not on this disk, and the Hub cannot be reached ({reason})",
            expected="files that can be downloaded, or are on this disk",
            change=f"check the connection, or {instead}",
        )
    return SeaAnchorError(
        found=f"{name} could not be loaded; the Hub may be unreachable: {first}",
        expected="files that can be downloaded, or are on this disk",
        change=f"check the name and the connection to the Hub, or {instead}",
    )
