"""Nothing in a model folder runs: which tokenizer settings pass, and no question on the terminal about code that comes
with a model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from seaanchor.errors import SeaAnchorError

HARMLESS = frozenset({"bpe_path", "clean", "language", "reduction_mask", "strip_sep_token"})
"""Settings of open_clip's tokenizers that its published configurations use and that only change how a text is cut
up."""


def check_tokenizer_settings(name: str, text_cfg: Mapping[str, Any]) -> None:
    """open_clip passes `tokenizer_kwargs` of a folder or of a Hub model on to the tokenizer's constructor, which may
    load and run code.

    Args:
        name: of the model, for the message.
        text_cfg: of its configuration.

    Raises:
        SeaAnchorError: a setting that is not known to be harmless, or of another type than a plain value.
    """
    settings = text_cfg.get("tokenizer_kwargs") or {}
    harmless = ", ".join(sorted(HARMLESS))
    if not isinstance(settings, Mapping):
        raise SeaAnchorError(
            f"tokenizer_kwargs of {name} is {settings!r}", f"a mapping of {harmless}", "correct open_clip_config.json"
        )
    refused = sorted(key for key, value in settings.items() if key not in HARMLESS or not isinstance(value, str | bool))
    if refused:
        found = (
            f"the configuration of {name} sets {', '.join(refused)} for its tokenizer, and such settings "
            "can load code that comes with the model"
        )
        change = "remove them from tokenizer_kwargs in open_clip_config.json, if you trust the rest of the model"
        raise SeaAnchorError(found, f"only {harmless}, with plain values", change)


def check_tower(name: str, vision_cfg: Mapping[str, Any]) -> None:
    """timm takes a place on the Hub or on this disk for a name, and would fetch what lies there.

    Args:
        name: of the model, for the message.
        vision_cfg: of its configuration.

    Raises:
        SeaAnchorError: the image tower is not one of timm's own by name.
    """
    tower = vision_cfg.get("timm_model_name", "")
    if not isinstance(tower, str) or ":" in tower or "/" in tower:
        raise SeaAnchorError(
            f"the configuration of {name} names {tower!r} as its image tower",
            "the name of an architecture of timm",
            "correct timm_model_name in open_clip_config.json",
        )


@contextmanager
def remote_code_refused() -> Iterator[None]:
    """Inside, transformers refuses code that comes with a model, where by itself it asks on the terminal: open_clip
    calls it without an answer."""
    try:
        from transformers import dynamic_module_utils
    except ImportError:
        yield
        return
    before = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0  # seconds to wait for an answer; with none it raises
    try:
        yield
    finally:
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = before
