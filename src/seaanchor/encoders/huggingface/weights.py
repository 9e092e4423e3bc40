"""Weights into a class of transformers: all of them and no others."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seaanchor.encoders.weights import COUNTERS
from seaanchor.errors import SeaAnchorError


def load_weights(name: str, folder: Path, architecture: str, state: dict[str, Tensor]) -> Any:
    """A model of that class in fp32 with exactly these weights.

    Raises:
        SeaAnchorError: the configuration does not build one, or weights are missing, left over or of other shapes.
    """
    import transformers

    settings: dict[str, Any] = {}
    if architecture == "ViTModel":  # the pooler, which no embedding passes, is in few checkpoints
        settings["add_pooling_layer"] = any("pooler." in key for key in state)
    try:
        model_class = getattr(transformers, architecture)
        with quiet():
            config = transformers.AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
            model, info = model_class.from_pretrained(
                None,
                config=config,
                state_dict=state,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are listed, and an error below
                **settings,
            )
    except Exception as error:  # an old transformers, a configuration that contradicts itself, sizes that cannot be
        reason = " ".join(str(error).split())[:300]
        raise SeaAnchorError(
            f"{name} does not become a {architecture}: {type(error).__name__}: {reason}",
            f"a config.json and weights of a {architecture}, and a transformers that has it",
            "copy the folder again, or update transformers",
        ) from error
    constants = _constants(model)
    unexpected = [
        key
        for key in sorted(info["unexpected_keys"])
        if not any(_same(state.get(key), own) for own in constants.get(key.rpartition(".")[2], []))
    ]
    problems = {
        "missing": sorted(key for key in info["missing_keys"] if not key.endswith(COUNTERS)),
        "not known to it": unexpected,
        "of another shape": [f"{key} {tuple(has)} for {tuple(wants)}" for key, has, wants in info["mismatched_keys"]],
        "not read": list(info.get("error_msgs", [])),
    }
    if any(problems.values()):
        said = "; ".join(
            f"{len(keys)} {kind} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
            for kind, keys in problems.items()
            if keys
        )
        raise SeaAnchorError(
            f"the weights of {name} are not those of its {architecture}: {said}",
            "every weight of the model and no other",
            "name the folder that these weights were saved in, or correct `architectures` in config.json",
        )
    return model


def _constants(model: Any) -> dict[str, list[Tensor]]:
    """What a model computes itself and does not save, by the last part of its name: other versions did save it."""
    saved, found = set(model.state_dict()), dict[str, list[Tensor]]()
    for key, value in model.named_buffers():
        if key not in saved:
            found.setdefault(key.rpartition(".")[2], []).append(value)
    return found


def _same(given: Tensor | None, own: Tensor) -> bool:
    return given is not None and given.numel() == own.numel() and torch.equal(given.flatten(), own.flatten().to(given))


@contextmanager
def quiet() -> Iterator[None]:
    """transformers draws bars and tables of weights while it loads; what matters is raised."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
