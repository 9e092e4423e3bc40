"""Text sides that OpenCLIP takes from the Hub, made here: tokenizers of single bytes, and the settings of text towers.

An architecture is what it is whatever its vocabulary says, so that it can be tried where the Hub is out of reach.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "sep_token": "<sep>", "unk_token": "<unk>"}


def text_tower(name: str) -> Any:
    """The transformers configuration of a text tower that an OpenCLIP architecture names."""
    from transformers import M2M100Config, MT5Config, RobertaConfig, XLMRobertaConfig

    roberta = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
    xlm = roberta | {"vocab_size": 250002}
    large = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    mt5 = {"vocab_size": 250112, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
    nllb = {"vocab_size": 256206, "d_model": 1024, "encoder_attention_heads": 16, "decoder_attention_heads": 16}

    def depth(layers: int, width: int) -> dict[str, int]:
        sides = ("encoder", "decoder")
        return {f"{side}_layers": layers for side in sides} | {f"{side}_ffn_dim": width for side in sides}

    return {
        "roberta-base": lambda: RobertaConfig(**roberta),
        "xlm-roberta-base": lambda: XLMRobertaConfig(**xlm),
        "xlm-roberta-large": lambda: XLMRobertaConfig(**xlm, **large),
        "google/mt5-base": lambda: MT5Config(**mt5, d_model=768, d_ff=2048, num_layers=12, num_heads=12),
        "google/mt5-xl": lambda: MT5Config(**mt5, d_model=2048, d_ff=5120, num_layers=24, num_heads=32),
        "facebook/nllb-200-distilled-600M": lambda: M2M100Config(**nllb, **depth(12, 4096), scale_embedding=True),
        "facebook/nllb-200-distilled-1.3B": lambda: M2M100Config(**nllb, **depth(24, 8192), scale_embedding=True),
    }[name]()


@contextmanager
def standing_in(name: str, work: Path) -> Iterator[bool]:
    """While inside, OpenCLIP builds the architecture with a text side from a folder in `work`; gives whether that was
    needed."""
    import open_clip

    config = open_clip.get_model_config(name)
    text = config["text_cfg"]
    if not {"hf_tokenizer_name", "hf_model_name"} & set(text):
        yield False
        return
    folder = work.absolute() / "stand-ins" / name
    folder.mkdir(parents=True, exist_ok=True)
    if "hf_model_name" in text:
        text_tower(text["hf_model_name"]).save_pretrained(folder)
        text["hf_model_name"] = str(folder)
    write_tokenizer(folder)
    text["hf_tokenizer_name"] = str(folder)
    changed = folder / f"{name}.json"
    original = open_clip.factory._MODEL_CONFIGS[name], open_clip.factory._MODEL_CONFIG_PATHS[:]
    changed.write_text(json.dumps(config, indent=1))
    open_clip.add_model_config(changed)
    try:
        yield True
    finally:
        open_clip.factory._MODEL_CONFIG_PATHS[:] = original[1]
        open_clip.factory._rescan_model_configs()


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of single bytes between a start and an end token, as transformers writes one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<sep>", *alphabet])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    around = [("<s>", vocabulary["<s>"]), ("</s>", vocabulary["</s>"])]
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=around)
    PreTrainedTokenizerFast(tokenizer_object=made, **SPECIAL).save_pretrained(folder)
