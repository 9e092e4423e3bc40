"""The shapes of the Hugging Face text towers that OpenCLIP's architectures name, for weights that need nothing from the
Hub: random ones, and those of a file."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seaanchor.errors import SeaAnchorError
from seaanchor.utils.json_text import to_json

ROBERTA = {"model_type": "xlm-roberta", "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
ROBERTA |= {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
WIDE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
MT5 = {"model_type": "mt5", "vocab_size": 250_112, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
NLLB = {"model_type": "m2m_100", "vocab_size": 256_206, "max_position_embeddings": 1024, "d_model": 1024}
NLLB |= {"encoder_attention_heads": 16, "decoder_attention_heads": 16, "scale_embedding": True}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "roberta-base": ROBERTA | {"model_type": "roberta", "vocab_size": 50_265},
    "xlm-roberta-base": ROBERTA | {"vocab_size": 250_002},
    "xlm-roberta-large": ROBERTA | WIDE | {"vocab_size": 250_002},
    "google/mt5-base": MT5 | {"d_model": 768, "d_kv": 64, "d_ff": 2048, "num_layers": 12, "num_heads": 12},
    "google/mt5-xl": MT5 | {"d_model": 2048, "d_kv": 64, "d_ff": 5120, "num_layers": 24, "num_heads": 32},
    "facebook/nllb-200-distilled-600M": NLLB
    | {"encoder_layers": 12, "decoder_layers": 12, "encoder_ffn_dim": 4096, "decoder_ffn_dim": 4096},
    "facebook/nllb-200-distilled-1.3B": NLLB
    | {"encoder_layers": 24, "decoder_layers": 24, "encoder_ffn_dim": 8192, "decoder_ffn_dim": 8192},
}
"""config.json of each, as far as the shapes of the weights and the forward depend on it."""


@contextmanager
def text_settings(name: str, text_cfg: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Arguments of `open_clip.create_model` with which it asks nothing of the Hub for the text tower.

    Args:
        name: of the model, for the message.
        text_cfg: of the architecture.

    Raises:
        SeaAnchorError: a tower of Hugging Face whose configuration is not on this disk and not known here.
    """
    source = text_cfg.get("hf_model_name")
    if not source or _on_disk(source):
        yield {}
        return
    if source not in CONFIGURATIONS:
        raise SeaAnchorError(
            f"the text tower of {name} is {source}, whose config.json is not on this disk",
            f"a folder with it, or one of {', '.join(CONFIGURATIONS)}",
            f"fetch it once where the Hub can be reached (hf download {source}), or choose another model",
        )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(to_json(CONFIGURATIONS[source]))
        yield {"text_cfg": {**text_cfg, "hf_model_name": folder, "hf_model_pretrained": False}}


def _on_disk(source: str) -> bool:
    """Whether transformers finds the configuration without the Hub."""
    try:
        from transformers import AutoConfig
    except ImportError:
        return True  # open_clip says what is missing
    try:
        AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    except Exception:  # not there, or broken
        return False
    return True
