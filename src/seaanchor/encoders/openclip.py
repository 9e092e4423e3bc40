"""OpenCLIP models: built-in names, folders, the Hub, and the embedded ones."""

import json
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seaanchor.encoders.embedded import embedded_models
from seaanchor.encoders.encoder import Encoder, LoadedModel
from seaanchor.encoders.fingerprint import text_side
from seaanchor.encoders.model_paths import check_path
from seaanchor.encoders.openclip_input import settle, to_open_clip
from seaanchor.encoders.openclip_text import bpe_file, open_tokenizer, text_limit
from seaanchor.encoders.openclip_weights import create, create_from_folder
from seaanchor.encoders.pretrained import Pretrained, is_weights_file, split_pretrained
from seaanchor.encoders.text import encode_text
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.json_text import to_json
from seaanchor.utils.paths import beside


def load_open_clip(name: str, source: str, pretrained: str | None, image_size: int | None) -> LoadedModel:
    """Load `source` (an OpenCLIP name, `local-dir:` or `hf-hub:`); errors as in `load_model`."""
    import open_clip

    folder = Path(source.removeprefix("local-dir:")) if source.startswith("local-dir:") else None
    asked = split_pretrained(pretrained)
    if folder is not None:
        model = create_from_folder(name, folder, asked, image_size)
    else:
        if not source.startswith("hf-hub:"):
            _check_name(source, asked)
        model = create(name, source, asked, image_size)
    model.eval().requires_grad_(False)
    side = _side(name, open_clip.get_model_preprocess_cfg(model)["size"])
    settings = settle(name, source, is_weights_file(asked.base), model, side)
    model_cfg = _model_cfg(source, model, side)
    bpe = bpe_file(folder, model_cfg["text_cfg"])
    tokenizer = open_tokenizer(name, source, model_cfg["text_cfg"], bpe, required=asked.base != "none")

    @torch.no_grad()
    def encode_texts(texts: Sequence[str]) -> Tensor:
        return encode_text(model, tokenizer(list(texts)).to(model.logit_scale.device))

    seen = (settings.mean, settings.std, settings.preprocessing)
    encoder = Encoder(_image_tower(model), side, model_cfg["embed_dim"], *seen).eval()
    export = {
        "model_cfg": model_cfg,
        "preprocess_cfg": to_open_clip(name, settings),
        "tokenizer": tokenizer,
        "bpe_file": bpe,
    }
    return LoadedModel(
        name,
        "open_clip",
        encoder,
        model,
        model.logit_scale.exp().item(),
        None if tokenizer is None else encode_texts,
        export,
        None if tokenizer is None else text_limit(tokenizer),
        None if tokenizer is None else lambda: text_side(model, encoder.tower, tokenizer, model_cfg["text_cfg"]),
    )


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


def _check_name(name: str, asked: Pretrained) -> None:
    import open_clip

    models = open_clip.list_models()
    if name not in models:
        check_path(name)
        folders = [found for found in beside(Path(name)) if Path(found).is_dir()]
        near = get_close_matches(name, folders, n=1) + get_close_matches(name, models + embedded_models(), 3, 0.4)
        raise SeaAnchorError(
            f"no model is called {name!r}, and there is no such path",
            "an OpenCLIP name, an embedded model, a folder, or one of hf-hub: timm: hf:",
            f"nearest names: {', '.join(near or embedded_models() or models[:3])}",
        )
    tags, base = open_clip.list_pretrained_tags_by_model(name), asked.base
    if base is None or (base != "none" and base not in tags and not is_weights_file(base)):
        near = get_close_matches(base or "", tags, n=3, cutoff=0.3) or tags[:6]
        raise SeaAnchorError(
            f"{name} was asked for with pretrained={base!r}, which is neither a tag nor a file",
            f"one of its tags ({', '.join(near) or 'it has none'}), a weights file, or 'none' for random weights",
            "set --pretrained",
        )


def _model_cfg(source: str, model: nn.Module, side: int) -> dict[str, Any]:
    """The effective configuration: what an export must write for the same numbers to come out."""
    import open_clip

    config = json.loads(to_json(open_clip.get_model_config(source)))
    config["vision_cfg"]["image_size"] = side
    if any(type(module).__name__ == "QuickGELU" for module in model.modules()):
        config["quick_gelu"] = True
    if "timm_model_name" in config["vision_cfg"]:
        config["vision_cfg"]["timm_model_pretrained"] = False
    return config
