"""The tokenizers of OpenCLIP models."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seaanchor.encoders.distinct_texts import check_reads
from seaanchor.encoders.embedded import base_folder
from seaanchor.encoders.remote_code import check_tokenizer_settings, check_tower, remote_code_refused
from seaanchor.encoders.text import TextLimit
from seaanchor.encoders.weights import hub_error
from seaanchor.errors import SeaAnchorError, note
from seaanchor.utils.plain_files import read_object


@contextmanager
def quiet() -> Iterator[None]:
    """open_clip narrates its loading through the root logger; what matters is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), remote_code_refused():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def text_limit(tokenizer: Any) -> TextLimit:
    """open_clip's own tokenizer cuts what is too long and puts the end token last, transformers' does the same; neither
    says so."""
    inner = getattr(tokenizer, "tokenizer", None)

    def count(text: str) -> int:
        if inner is None:
            return len(tokenizer.encode(text)) + 2  # start and end
        clean = getattr(tokenizer, "clean_fn", str)
        return len(inner(clean(text), truncation=False, verbose=False)["input_ids"]) + (
            getattr(tokenizer, "tokenizer_mode", "") == "clips"
        )

    return TextLimit(tokenizer.context_length, count, lambda texts: tokenizer(list(texts)).tolist())


OPTIONAL = ("preprocess_cfg", "seaanchor")


def wrong_part(config: dict[str, Any], parts: Sequence[str], default: Any = None) -> str | None:
    """The first of these parts of a configuration that is no object; None where all are. With a default, they may be
    missing or null."""
    found = {name: config.get(name) if config.get(name) is not None else default for name in parts}
    return next((name for name, part in found.items() if not isinstance(part, dict)), None)


def read_config(folder: Path) -> dict[str, Any]:
    """open_clip_config.json of a folder.

    Raises:
        SeaAnchorError: it is missing, no OpenCLIP configuration, or sets for the tokenizer what could run code.
    """
    file = folder / "open_clip_config.json"
    expected, change = "model_cfg with vision_cfg, text_cfg and embed_dim", "name the folder of an export"
    config = read_object(file, expected, change)
    model = config.get("model_cfg")
    if not isinstance(model, dict) or wrong_part(model, ("vision_cfg", "text_cfg")) or wrong_part(config, OPTIONAL, {}):
        raise SeaAnchorError(f"{file} is no OpenCLIP configuration", expected, change)
    if type(model.get("embed_dim")) is not int:
        raise SeaAnchorError(f"{file} has embed_dim {model.get('embed_dim')!r}", "a whole number", change)
    check_tokenizer_settings(str(folder), config["model_cfg"]["text_cfg"])
    check_tower(str(folder), config["model_cfg"]["vision_cfg"])
    return config


def bpe_file(folder: Path | None, text_cfg: dict[str, Any]) -> Path | None:
    """The merges of a cut vocabulary, if there is one: beside the weights, wherever the folder has been moved to, or
    beside those whose text tower is borrowed.

    Raises:
        SeaAnchorError: the configuration names such a file, and it is nowhere.
    """
    extra = (read_config(folder).get("seaanchor") or {}) if folder else {}
    name = extra.get("bpe") or (text_cfg.get("tokenizer_kwargs") or {}).get("bpe_path")
    if not name:
        return None
    if not isinstance(name, str):
        raise SeaAnchorError(f"the merges are {name!r}", "the name of a file beside the weights", "correct it")
    around: Sequence[Path] = ()
    if folder:
        around = (folder, base_folder(folder, extra["text_tower_of"])) if "text_tower_of" in extra else (folder,)
    for candidate in (*(place / Path(name).name for place in around), Path(name)):
        if candidate.is_file():
            return candidate
    raise SeaAnchorError(
        f"{name} is missing", "the tokenizer's merges beside the weights", "copy the whole folder of the model"
    )


def open_tokenizer(name: str, source: str, text_cfg: dict[str, Any], bpe: Path | None, *, required: bool = True) -> Any:
    """The tokenizer of a model.

    Args:
        name: of the model, for messages.
        source: as open_clip takes it.
        text_cfg: of its configuration.
        bpe: the merges of a cut vocabulary.
        required: whether missing files are an error; else a note says that the model is loaded without texts.

    Returns:
        open_clip's object; None where its files are missing and not required.

    Raises:
        SeaAnchorError: its files are missing, or it does not distinguish short texts.
    """
    check_tokenizer_settings(name, text_cfg)
    try:
        tokenizer = _tokenizer(name, source, text_cfg, bpe)
        check_reads(name, lambda texts: tokenizer(list(texts)).tolist())
    except SeaAnchorError:
        if required:
            raise
        note(
            f"the tokenizer of {name} is not on this disk and could not be fetched: it is loaded without texts; it "
            "can be trained without them and measured, and not exported"
        )
        return None
    return tokenizer


def _tokenizer(name: str, source: str, text_cfg: dict[str, Any], bpe: Path | None) -> Any:
    import open_clip
    from open_clip.tokenizer import SimpleTokenizer

    try:
        with quiet():
            if bpe is None:
                return open_clip.get_tokenizer(source)
            others = {k: v for k, v in (text_cfg.get("tokenizer_kwargs") or {}).items() if k != "bpe_path"}
            return SimpleTokenizer(bpe_path=str(bpe), context_length=text_cfg.get("context_length", 77), **others)
    except Exception as error:  # transformers is missing, the Hub is, or the file is broken
        raise hub_error(
            f"the tokenizer of {name}", error, "install the extra `hf` if transformers is missing"
        ) from error
