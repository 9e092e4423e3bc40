"""The tokenizer of an exported OpenCLIP folder.

open_clip opens the merges of a cut vocabulary by the path in the configuration, which it takes against the working
directory: no relative path survives a move of the folder. It does look inside the folder for a Hugging Face tokenizer.
So where transformers is installed the merges are also written as one, which gives the same tokens and moves with the
folder; elsewhere the configuration holds the absolute path, and a moved folder needs
`open_clip.get_tokenizer("local-dir:PATH", bpe_path="PATH/bpe_2000.txt.gz")`.
"""

import gzip
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from seaanchor.export.reloaded import Target
from seaanchor.utils.checkpoint import write_atomic
from seaanchor.utils.json_text import to_json

START, END, PADDING = "<start_of_text>", "<end_of_text>", "<pad>"
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # open_clip's SimpleTokenizer


def write_tokenizer(tokenizer: Any, bpe_file: Path | None, text_cfg: dict[str, Any], target: Target) -> dict[str, Any]:
    """Write what the tokenizer needs into the folder, and point `text_cfg` at it.

    Args:
        tokenizer: open_clip's tokenizer object.
        bpe_file: merges of a cut vocabulary, if it has one.
        text_cfg: of the export; changed in place.
        target: where the export goes.

    Returns:
        What our own loader has to know beside open_clip's configuration.
    """
    if bpe_file is None:
        if hasattr(tokenizer, "save_pretrained"):
            tokenizer.save_pretrained(target.folder)
        return {}
    copy = target.folder / bpe_file.name
    write_atomic(copy, bpe_file.read_bytes())
    others = {key: value for key, value in (text_cfg.get("tokenizer_kwargs") or {}).items() if key != "bpe_path"}
    text_cfg.pop("hf_tokenizer_name", None)
    if set(others) <= {"clean"} and find_spec("transformers"):
        write_as_hugging_face(tokenizer, copy, target.folder)
        text_cfg |= {"hf_tokenizer_name": ".", "tokenizer_kwargs": {"clean": others.get("clean", "lower")}}
    else:
        text_cfg["tokenizer_kwargs"] = others | {"bpe_path": str(target.home.absolute() / bpe_file.name)}
    return {"bpe": bpe_file.name}


def write_as_hugging_face(tokenizer: Any, bpe_file: Path, folder: Path) -> None:
    """An open_clip SimpleTokenizer as `tokenizer.json` and `tokenizer_config.json`: same words, same merges, same
    numbers.

    Padding is 0 as in open_clip, which is also the exclamation mark's number: `<pad>` is a second name for it, since a
    padding token that can occur in a text would be cut out of words.
    """
    with gzip.open(bpe_file, "rt", encoding="utf-8") as file:
        merges = [line for line in file.read().split("\n")[1:] if line]
    numbers = {START: tokenizer.sot_token_id, END: tokenizer.eot_token_id, PADDING: 0}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    model = {
        "type": "BPE",
        "unk_token": END,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "</w>",
        "fuse_unk": False,
    }
    around = [
        {"SpecialToken": {"id": START, "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": END, "type_id": 0}},
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    words = {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Removed", "invert": True}
    description = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": token, **special}
            for token, number in sorted(numbers.items(), key=lambda item: item[1])
        ],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [words, byte_level]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": around,
            "pair": [*around, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {
                token: {"id": token, "ids": [numbers[token]], "tokens": [token]} for token in (START, END)
            },
        },
        "decoder": byte_level,
        "model": model | {"vocab": tokenizer.encoder | {PADDING: 0}, "merges": merges},
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": START,
        "eos_token": END,
        "pad_token": PADDING,
        "padding_side": "right",
    }
    write_atomic(folder / "tokenizer.json", to_json(description))
    write_atomic(folder / "tokenizer_config.json", to_json(settings, indent=2))
