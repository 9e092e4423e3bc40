"""Which kernels a tower runs on, by device, number type and shape; its weights and what they compute stay the same.

`fast_kernels` is the one place where they are chosen. Names are imported on first use.
"""

from seaanchor.utils.lazy import lazy_names

_NAMES = {
    "CompiledForward": "compiled",
    "activation_checkpointing": "checkpointing",
    "adam_options": "devices",
    "attention": "self_attention",
    "check_compiler": "compiled",
    "compiling_pays": "choice",
    "computes_in_bf16": "devices",
    "fast_kernels": "choice",
    "num_tokens": "choice",
    "plain_attention": "self_attention",
}

__all__ = sorted(_NAMES)
__getattr__, __dir__ = lazy_names(__name__, _NAMES)
