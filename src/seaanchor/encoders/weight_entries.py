"""Which of a file's entries the weights are, and what their keys are without what a wrapper put before them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seaanchor.errors import SeaAnchorError

AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema")
IMAGE_TOWER = "vision_encoder_state_dict"
PLAIN = ("state_dict", "model_state_dict", "model", "module", "weights", "net")
PREFIXES = ("module.", "_orig_mod.", "model.")
QUANTISED = {
    "bitsandbytes": (".SCB", ".absmax", ".quant_map", ".weight_format", ".bitsandbytes__nf4", ".bitsandbytes__fp4"),
    "GPTQ or AWQ": (".qweight", ".qzeros", ".g_idx"),
    "torch's quantisation": ("._packed_params", "._packed_params._packed_params", ".zero_point"),
    "8-bit or 4-bit quantisation": (".weight_scale", ".weight_packed", ".weight_scale_inv"),
}


def choose(held: Any, path: Path, entry: str | None) -> tuple[Mapping[str, Any], list[str], list[str]]:
    """The entry that holds the weights, however deep.

    Args:
        held: what is in the file.
        path: of the file, for messages.
        entry: which one the user asked for.

    Returns:
        The entry, the names on the way to it, and names of the other weights on the way.

    Raises:
        SeaAnchorError: no entry, or one of several and none is known to be what is wanted.
    """
    way: list[str] = []
    left: list[str] = []
    while True:
        if not isinstance(held, Mapping):
            raise SeaAnchorError(
                f"{path} holds {'a tensor' if isinstance(held, Tensor) else type(held).__name__}",
                "a dictionary of tensors",
                "save the model's state_dict",
            )
        inside = {str(key): value for key, value in held.items() if isinstance(value, Mapping)}
        weights = {key: value for key, value in inside.items() if holds_weights(value)}
        asked = entry if not way else None
        if asked is not None or (weights and not _is_flat(held)):
            chosen = _pick(path, weights, asked)
            left += [key for key in weights if key != chosen]
            way.append(chosen)
            held = weights[chosen]
        else:
            return held, way, left


def _is_flat(held: Mapping[Any, Any]) -> bool:
    """Whether the tensors lie here: a tensor with a dot in its key is a weight, and no counter."""
    return any(isinstance(value, Tensor) and "." in str(key) for key, value in held.items())


def holds_weights(node: Any, depth: int = 4) -> bool:
    """Whether a value is a dictionary of tensors, or of such dictionaries, and no optimizer's state."""
    if not isinstance(node, Mapping) or not node or {"state", "param_groups"} <= set(node):
        return False
    if any(isinstance(value, Tensor) and value.numel() for value in node.values()):  # a prompt of no tokens is none
        return True
    return depth > 0 and any(holds_weights(value, depth - 1) for value in node.values())


def _pick(path: Path, weights: Mapping[str, Any], entry: str | None) -> str:
    if entry is not None:
        if entry in weights:
            return entry
        expected = f"one of {', '.join(weights) or 'none: it holds plain weights'}"
        raise SeaAnchorError(f"{path} has no weights {entry!r}", expected, "correct what stands behind the #")
    for known in (*AVERAGED, IMAGE_TOWER, *PLAIN):
        if known in weights:
            return known
    if len(weights) == 1:
        return next(iter(weights))
    raise SeaAnchorError(
        f"{path} holds several sets of weights: {', '.join(weights)}",
        "the name of one of them behind the file's",
        f"write {path}#{next(iter(weights))}",
    )


def strip(state: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Keys without the prefixes of data-parallel, compiled and averaged wrappers, and which ones those were."""
    state, stripped = dict(state), []
    if "n_averaged" in state and all(key.startswith("module.") for key in state if key != "n_averaged"):
        del state["n_averaged"]  # torch's AveragedModel counts in it
    while prefix := next((p for p in PREFIXES if state and all(key.startswith(p) for key in state)), None):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
        stripped.append(prefix)
    if any("._orig_mod." in key for key in state):  # a part was compiled
        state = {key.replace("._orig_mod.", "."): value for key, value in state.items()}
        stripped.append("_orig_mod.")
    return state, stripped


def tensors_of(state: Mapping[str, Any], path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors in fp32, and the names of what is none.

    Raises:
        SeaAnchorError: there are none, they are quantised or an adapter's, or one of them is not a number.
    """
    tensors = {key: value.detach() for key, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise SeaAnchorError(f"{path} holds no weights", "a dictionary of tensors", "save the model's state_dict")
    _check_quantised(tensors, list(state), path)
    if adapter := next((key for key in tensors if ".lora_A" in key or ".lora_B" in key), None):
        change = "merge it into the model first, with peft's merge_and_unload(), and save that model"
        raise SeaAnchorError(f"{path} is a LoRA adapter ({adapter})", "the weights of a model", change)
    tensors = {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}
    if broken := next((key for key, value in tensors.items() if bool(value.isnan().any())), None):
        raise SeaAnchorError(f"{broken} in {path} is not a number", "finite weights", "take an earlier checkpoint")
    return tensors, [key for key in state if key not in tensors]


def _check_quantised(tensors: Mapping[str, Tensor], keys: list[str], path: Path) -> None:
    kind = next((kind for kind, ends in QUANTISED.items() for key in keys if key.endswith(ends)), None)
    first = next((key for key, value in tensors.items() if _is_quantised(key, value)), None)
    if kind is None and first is None:
        return
    kind = kind or f"{str(tensors[str(first)].dtype).removeprefix('torch.')}"
    found = f"the weights in {path} are quantised ({kind}{f': {first}' if first else ''})"
    change = "take the checkpoint that they were made from: quantised weights give other embeddings and no gradient"
    raise SeaAnchorError(found, "weights in fp32, fp16 or bf16", change)


def _is_quantised(key: str, value: Tensor) -> bool:
    whole = not value.is_floating_point() and not value.is_complex() and value.dtype is not torch.bool
    small = value.is_floating_point() and value.element_size() == 1
    return value.is_quantized or small or (whole and value.dim() > 1 and key.endswith(("weight", "in_proj_weight")))
