"""OpenCLIP models: built-in names, folders, the Hub, and the embedded ones."""

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seaanchor.encoders.embedded import embedded_models
from seaanchor.encoders.encoder import Encoder, LoadedModel
from seaanchor.encoders.fingerprint import text_side
from seaanchor.encoders.remote_code import check_tokenizer_settings, remote_code_refused
from seaanchor.encoders.text import TextLimit, encode_text
from seaanchor.encoders.weights import hub_error, load_strictly, read_weights, weights_error
from seaanchor.errors import SeaAnchorError

WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")


def load_open_clip(name: str, source: str, pretrained: str | None, image_size: int | None) -> LoadedModel:
    """Load `source` (an OpenCLIP name, `local-dir:` or `hf-hub:`); errors as in `load_model`."""
    import open_clip

    folder = Path(source.removeprefix("local-dir:")) if source.startswith("local-dir:") else None
    if folder is not None:
        model = _create_from_folder(name, folder, image_size)
    else:
        if not source.startswith("hf-hub:"):
            _check_name(source, pretrained)
        model = _create(name, source, pretrained, image_size)
    model.eval().requires_grad_(False)
    preprocess = dict(open_clip.get_model_preprocess_cfg(model))
    side = _side(name, preprocess["size"])
    model_cfg = _model_cfg(source, model, side)
    bpe = _bpe_file(folder, model_cfg["text_cfg"])
    tokenizer = _tokenizer(name, source, model_cfg["text_cfg"], bpe)

    @torch.no_grad()
    def encode_texts(texts: Sequence[str]) -> Tensor:
        return encode_text(model, tokenizer(list(texts)).to(model.logit_scale.device))

    encoder = Encoder(_image_tower(model), side, model_cfg["embed_dim"], preprocess["mean"], preprocess["std"]).eval()
    export = {"model_cfg": model_cfg, "preprocess_cfg": preprocess, "tokenizer": tokenizer, "bpe_file": bpe}
    return LoadedModel(
        name,
        "open_clip",
        encoder,
        model,
        model.logit_scale.exp().item(),
        encode_texts,
        export,
        _text_limit(tokenizer),
        lambda: text_side(model, encoder.tower, tokenizer, model_cfg["text_cfg"]),
    )


def _text_limit(tokenizer: Any) -> TextLimit:
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


class _Pooled(nn.Module):
    """The pooled output of a tower that also returns its tokens (CoCa's)."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        return self.tower(pixels_BCHW)[0]


def _image_tower(model: Any) -> nn.Module:
    return _Pooled(model.visual) if getattr(model.visual, "output_tokens", False) else model.visual


def _side(name: str, size: int | Sequence[int]) -> int:
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise SeaAnchorError(
            f"{name} takes images of {' x '.join(map(str, sorted(sides)))} pixels", "a square input", "set --image-size"
        )
    return sides.pop()


def _check_name(name: str, pretrained: str | None) -> None:
    import open_clip

    models = open_clip.list_models()
    if name not in models:
        near = get_close_matches(name, models + embedded_models(), n=3, cutoff=0.4)
        prefix = "timm:local-dir" if "architecture" in _peek(Path(name)) else "hf"
        raise SeaAnchorError(
            f"no model is called {name!r}",
            "an OpenCLIP name, an embedded model, or one of local-dir: hf-hub: timm: hf:",
            f"for this folder write {prefix}:{name}"
            if _peek(Path(name))
            else f"nearest names: {', '.join(near or embedded_models() or models[:3])}",
        )
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained is None or (pretrained != "none" and pretrained not in tags and not Path(pretrained).is_file()):
        near = get_close_matches(pretrained or "", tags, n=3, cutoff=0.3) or tags[:6]
        raise SeaAnchorError(
            f"{name} was asked for with pretrained={pretrained!r}, which is neither a tag nor a file",
            f"one of its tags ({', '.join(near) or 'it has none'}), a weights file, or 'none' for random weights",
            "set --pretrained",
        )


def _peek(folder: Path) -> dict[str, Any]:
    """The folder's config.json, as timm and transformers write it; empty if there is none."""
    try:
        return json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return {}


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip narrates its loading through the root logger; what matters is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), remote_code_refused():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _create(name: str, source: str, pretrained: str | None, image_size: int | None) -> Any:
    import open_clip

    tag = None if pretrained == "none" else pretrained
    quick_gelu = bool(tag and open_clip.get_pretrained_cfg(source, tag).get("quick_gelu"))
    on_hub = source.startswith("hf-hub:")
    try:
        with _quiet():
            return open_clip.create_model(
                source,
                pretrained=tag,
                force_quick_gelu=quick_gelu,
                force_image_size=image_size,
                require_pretrained=on_hub,
            )
    except Exception as error:  # the Hub, the configuration and the weights each fail in their own way
        if Path(pretrained or "").is_file() or "state_dict" in str(error):
            raise weights_error(name, pretrained or source, error) from error
        raise hub_error(
            f"{name} ({pretrained})" if pretrained else name, error, "give --pretrained a weights file"
        ) from error


def _create_from_folder(name: str, folder: Path, image_size: int | None) -> Any:
    """Build from the folder's own config; a variant without a text tower borrows it from the sibling its config
    names."""
    import open_clip
    from open_clip.model import resize_pos_embed, set_model_preprocess_cfg

    config = _read_config(folder)
    file = _weights_file(folder)
    state = read_weights(file).state
    if base := config.get("seaanchor", {}).get("text_tower_of"):
        towers = read_weights(_weights_file(folder.parent / base)).state
        state = {k: v for k, v in towers.items() if not k.startswith("visual.")} | state
    own_size = image_size is None or "timm_model_name" in config["model_cfg"]["vision_cfg"]
    try:
        with _quiet():
            size = None if own_size else image_size
            model = open_clip.create_model(
                f"local-dir:{folder}", load_weights=False, pretrained_text=False, force_image_size=size
            )
            resize_pos_embed(state, model)
        load_strictly(model, state, name, file)
        if (
            image_size is not None and own_size
        ):  # timm towers load at the size they were saved at and are resized afterwards
            model.visual.set_input_size(image_size)
            set_model_preprocess_cfg(model, dict(open_clip.get_model_preprocess_cfg(model)) | {"size": image_size})
    except SeaAnchorError:
        raise
    except Exception as error:  # an architecture that cannot be built, position embeddings that cannot be resampled
        raise weights_error(name, str(file), error) from error
    return model


def _weights_file(folder: Path) -> Path:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    found = sorted(p.name for p in folder.iterdir())[:5] if folder.is_dir() else []
    raise SeaAnchorError(
        f"{folder} has no {WEIGHTS[0]} (it holds {', '.join(found) or 'nothing'})",
        "an OpenCLIP folder",
        "export it again",
    )


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "open_clip_config.json"
    try:
        config = json.loads(file.read_text())
        config["model_cfg"]["vision_cfg"], config["model_cfg"]["text_cfg"], config["model_cfg"]["embed_dim"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SeaAnchorError(
            f"{file} is missing or no OpenCLIP configuration ({error!r})",
            "model_cfg with vision_cfg and text_cfg",
            "name the folder of an export",
        ) from error
    check_tokenizer_settings(str(folder), config["model_cfg"]["text_cfg"])
    return config


def _model_cfg(source: str, model: nn.Module, side: int) -> dict[str, Any]:
    """The effective configuration: what an export must write for the same numbers to come out."""
    import open_clip

    config = json.loads(json.dumps(open_clip.get_model_config(source)))
    config["vision_cfg"]["image_size"] = side
    if any(type(module).__name__ == "QuickGELU" for module in model.modules()):
        config["quick_gelu"] = True
    if "timm_model_name" in config["vision_cfg"]:
        config["vision_cfg"]["timm_model_pretrained"] = False
    return config


def _bpe_file(folder: Path | None, text_cfg: dict[str, Any]) -> Path | None:
    """The merges of a cut vocabulary, if there is one: beside the weights, wherever the folder has been moved to, or
    beside those whose text tower is borrowed.

    Raises:
        SeaAnchorError: the configuration names such a file, and it is nowhere.
    """
    extra = _read_config(folder).get("seaanchor", {}) if folder else {}
    name = extra.get("bpe") or (text_cfg.get("tokenizer_kwargs") or {}).get("bpe_path")
    if not name:
        return None
    around = (
        [folder, folder.parent / extra["text_tower_of"]]
        if folder and "text_tower_of" in extra
        else [folder]
        if folder
        else []
    )
    for candidate in (*(place / Path(name).name for place in around), Path(name)):
        if candidate.is_file():
            return candidate
    raise SeaAnchorError(
        f"{name} is missing", "the tokenizer's merges beside the weights", "copy the whole folder of the model"
    )


def _tokenizer(name: str, source: str, text_cfg: dict[str, Any], bpe: Path | None) -> Any:
    import open_clip
    from open_clip.tokenizer import SimpleTokenizer

    check_tokenizer_settings(name, text_cfg)
    try:
        with _quiet():
            if bpe is None:
                return open_clip.get_tokenizer(source)
            others = {k: v for k, v in text_cfg.get("tokenizer_kwargs", {}).items() if k != "bpe_path"}
            return SimpleTokenizer(bpe_path=str(bpe), context_length=text_cfg.get("context_length", 77), **others)
    except Exception as error:  # transformers is missing, the Hub is, or the file is broken
        raise hub_error(
            f"the tokenizer of {name}", error, "install the extra `hf` if transformers is missing"
        ) from error
