"""Text sides of models of transformers: tokens as the model's own processor makes them, pooling as its own forward.

Legend: N texts, L tokens, D embedding dimension.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seaanchor.encoders.text import TextLimit, in_lots
from seaanchor.errors import SeaAnchorError

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
VOCABULARIES = frozenset(TOKENIZER_FILES) - {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}
PROBES = ("a photo of a cat.", "a photo of a dog.")
NO_END = 2
"""The end token's number in old CLIP configurations, which stands for the largest number in the text."""


def load_tokenizer(name: str, folder: Path, model: Any, padded: bool) -> Any:
    """The tokenizer beside a model's weights, which tells texts apart.

    Args:
        name: of the model, for the message.
        folder: where its files are.
        model: with a `text_model`.
        padded: whether the model reads the padding too.

    Raises:
        SeaAnchorError: there is none, it is another model's, or it makes one text of two.
    """
    from transformers import AutoTokenizer

    change = "copy the tokenizer's files from the model that the weights were trained from"
    if not any((folder / file).is_file() for file in VOCABULARIES):
        raise SeaAnchorError(f"{name} has no tokenizer", f"one of {', '.join(sorted(VOCABULARIES))}", change)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
        ids = [tokenizer(text)["input_ids"] for text in (*PROBES, "cat " * 2 * _longest(model))]
    except Exception as error:  # every tokenizer fails in its own way
        reason = " ".join(str(error).split())[:300]
        raise SeaAnchorError(f"the tokenizer of {name} does not load: {reason}", "a tokenizer", change) from error
    if ids[0] == ids[1]:
        raise SeaAnchorError(
            f"the tokenizer of {name} makes the same tokens of {PROBES[0]!r} and {PROBES[1]!r}",
            "one that tells texts apart",
            change,
        )
    size = model.text_model.config.vocab_size
    if len(tokenizer) > size:
        raise SeaAnchorError(
            f"the tokenizer of {name} has {len(tokenizer)} tokens", f"at most the model's {size}", change
        )
    if not padded:
        _check_end(name, tokenizer, model, change)
    return tokenizer


def _longest(model: Any) -> int:
    return int(model.text_model.config.max_position_embeddings)


def _check_end(name: str, tokenizer: Any, model: Any, change: str) -> None:
    """CLIP pools at the first end token: where there is none, at the start, and all texts are one."""
    end, longest = model.text_model.config.eos_token_id, _longest(model)
    for text in (PROBES[0], "cat " * 2 * longest):
        read = tokenizer(text, truncation=True, max_length=longest)["input_ids"]
        found = max(read) if end == NO_END else end
        if read.count(found) == 0 or read.index(found) != len(read) - 1:
            raise SeaAnchorError(
                f"texts of {name} are pooled at token {found}, which the tokenizer does not put at their ends",
                "eos_token_id of text_config to be the tokenizer's last token",
                change,
            )
    if tokenizer.padding_side != "right":
        raise SeaAnchorError(
            f"the tokenizer of {name} pads on the {tokenizer.padding_side}, which moves the texts of a batch",
            "padding_side right",
            "correct tokenizer_config.json",
        )


def text_encoder(model: Any, tokenizer: Any, padded: bool) -> Callable[[Sequence[str]], Tensor]:
    """List of N texts → raw text embeddings (N, D).

    Args:
        model: with a `text_model`, and a `text_projection` if it has one.
        tokenizer: of the model.
        padded: whether the model reads the padding too; else each lot is computed up to its longest text, exact under
            a causal mask.
    """
    longest = _longest(model)
    projection = getattr(model, "text_projection", None)

    @torch.no_grad()
    def encode_texts(texts: Sequence[str]) -> Tensor:
        padding = "max_length" if padded else True
        tokens = tokenizer(list(texts), padding=padding, truncation=True, max_length=longest, return_tensors="pt").to(
            model.device
        )
        ids_NL, mask_NL = tokens["input_ids"], tokens.get("attention_mask")

        def encode(lot: Tensor) -> Tensor:
            used = int(used_N[lot].max())
            mask = None if mask_NL is None else mask_NL[lot, :used]
            pooled_ND = model.text_model(input_ids=ids_NL[lot, :used], attention_mask=mask).pooler_output
            return pooled_ND if projection is None else projection(pooled_ND)

        if padded or mask_NL is None:
            used_N = torch.full_like(ids_NL[:, 0], ids_NL.shape[1])
        else:
            used_N = mask_NL.shape[1] - mask_NL.flip(1).argmax(1)  # up to the last token that is no padding
        return in_lots(used_N, encode)

    return encode_texts


def text_limit(model: Any, tokenizer: Any) -> TextLimit:
    """How long texts may be."""
    longest = _longest(model)
    return TextLimit(
        longest,
        lambda text: len(tokenizer(text, truncation=False, verbose=False)["input_ids"]),
        lambda texts: tokenizer(list(texts), truncation=True, max_length=longest)["input_ids"],
    )
