"""OpenCLIP models: built-in names, folders, the Hub, and the embedded ones."""

import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path

import torch
from torch import Tensor, nn

from seaanchor.encoders.encoder import Encoder, LoadedModel
from seaanchor.encoders.load import state_dict_of, weights_error
from seaanchor.encoders.text import encode_text
from seaanchor.errors import SeaAnchorError


def load_open_clip(name: str, source: str, pretrained: str | None, image_size: int | None) -> LoadedModel:
    """Load `source` (an OpenCLIP name, `local-dir:` or `hf-hub:`); errors as in `load_model`."""
    import open_clip

    folder = Path(source.removeprefix("local-dir:")) if source.startswith("local-dir:") else None
    if folder is None and not source.startswith("hf-hub:"):
        _check_name(source, pretrained)
    model = _create(name, source, folder, pretrained, image_size)
    model.eval().requires_grad_(False)
    preprocess = dict(open_clip.get_model_preprocess_cfg(model))
    size = preprocess["size"]
    side = max(size) if isinstance(size, tuple | list) else size
    model_cfg = _model_cfg(source, folder, model, side)
    tokenizer = _tokenizer(source, folder, model_cfg)
    dim = model.text_projection.shape[-1] if isinstance(getattr(model, "text_projection", None), Tensor) else model_cfg["embed_dim"]

    @torch.no_grad()
    def encode_texts(texts: Sequence[str]) -> Tensor:
        return encode_text(model, tokenizer(list(texts)).to(next(model.parameters()).device))

    encoder = Encoder(model.visual, side, dim, preprocess["mean"], preprocess["std"]).eval()
    config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess, "tokenizer_folder": str(folder) if folder else None}
    return LoadedModel(name, "open_clip", encoder, model, model.logit_scale.exp().item(), encode_texts, config)


def _check_name(name: str, pretrained: str | None) -> None:
    import open_clip

    models = open_clip.list_models()
    if name not in models:
        embedded = [p.name for p in sorted((Path(__file__).parents[1] / "zoo" / "models").iterdir()) if p.is_dir()]
        near = get_close_matches(name, models + embedded, n=3, cutoff=0.4)
        raise SeaAnchorError(
            f"no model is called {name!r}",
            "an OpenCLIP name, an embedded model, or one of local-dir: hf-hub: timm: hf:",
            f"nearest names: {', '.join(near) or ', '.join(embedded)}",
        )
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained is None or (pretrained != "none" and pretrained not in tags and not Path(pretrained).is_file()):
        near = get_close_matches(pretrained or "", tags, n=3, cutoff=0.3) or tags[:6]
        raise SeaAnchorError(
            f"{name} was asked for with pretrained={pretrained!r}, which is neither a tag nor a file",
            f"one of its tags ({', '.join(near) or 'it has none'}), a weights file, or 'none' for random weights",
            "set --pretrained",
        )


def _create(name: str, source: str, folder: Path | None, pretrained: str | None, image_size: int | None) -> nn.Module:
    import open_clip

    if folder is not None:
        return _create_from_folder(name, folder)
    tag = None if pretrained == "none" else pretrained
    quick_gelu = bool(tag and open_clip.get_pretrained_cfg(source, tag).get("quick_gelu"))
    logging.getLogger().setLevel(max(logging.getLogger().level, logging.ERROR))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return open_clip.create_model(
                source, pretrained=tag, force_quick_gelu=quick_gelu, force_image_size=image_size, require_pretrained=source.startswith("hf-hub:")
            )
    except (RuntimeError, OSError, ValueError) as error:
        if "state_dict" in str(error) or "size mismatch" in str(error):
            raise weights_error(name, pretrained or source, error) from error
        raise SeaAnchorError(
            f"{name} ({pretrained}) could not be loaded: {str(error)[:300]}",
            "weights that can be downloaded, or are on this disk",
            "check the name and the connection to the Hub, or give --pretrained a weights file",
        ) from error


def _create_from_folder(name: str, folder: Path) -> nn.Module:
    """Build from the folder's own config; a variant without a text tower borrows it from the sibling its config names."""
    import open_clip
    from open_clip.factory import PreprocessCfg, merge_preprocess_dict, set_model_preprocess_cfg

    config = _read_config(folder)
    weights = folder / "open_clip_model.safetensors"
    if not weights.is_file():
        found = sorted(p.name for p in folder.iterdir())[:5]
        raise SeaAnchorError(f"{folder} has no open_clip_model.safetensors (it holds {', '.join(found) or 'nothing'})", "an OpenCLIP folder", "export it again")
    state = state_dict_of(weights)
    if base := config.get("seaanchor", {}).get("text_tower_of"):
        towers = state_dict_of(folder.parent / base / "open_clip_model.safetensors")
        state = {k: v for k, v in towers.items() if not k.startswith("visual.")} | state
    model_cfg = json.loads(json.dumps(config["model_cfg"]))
    custom_text = model_cfg.pop("custom_text", False) or "hf_model_name" in model_cfg.get("text_cfg", {})
    if "timm_model_name" in model_cfg["vision_cfg"]:
        model_cfg["vision_cfg"]["timm_model_pretrained"] = False
    model_class = open_clip.CoCa if "multimodal_cfg" in model_cfg else open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    model = model_class(**model_cfg)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise weights_error(name, str(weights), error) from error
    preprocess = merge_preprocess_dict(asdict(PreprocessCfg()), config.get("preprocess_cfg", {}))
    set_model_preprocess_cfg(model, preprocess | {"size": getattr(model.visual, "image_size", preprocess["size"])})
    return model


def _read_config(folder: Path) -> dict:
    file = folder / "open_clip_config.json"
    try:
        config = json.loads(file.read_text())
        config["model_cfg"]["vision_cfg"], config["model_cfg"]["text_cfg"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SeaAnchorError(
            f"{file} is missing or no OpenCLIP configuration ({error!r})", "model_cfg with vision_cfg and text_cfg", "name the folder of an export"
        ) from error
    return config


def _model_cfg(source: str, folder: Path | None, model: nn.Module, side: int) -> dict:
    """The effective configuration: what an export must write for the same numbers to come out."""
    import open_clip

    if folder is not None:
        config = _read_config(folder)["model_cfg"]
    elif source.startswith("hf-hub:"):
        from open_clip.factory import _get_hf_config

        config = _get_hf_config(source.removeprefix("hf-hub:"))["model_cfg"]
    else:
        config = open_clip.get_model_config(source)
    config = json.loads(json.dumps(config))
    config["vision_cfg"]["image_size"] = side
    if any(type(module).__name__ == "QuickGELU" for module in model.modules()):
        config["quick_gelu"] = True
    if "timm_model_name" in config["vision_cfg"]:
        config["vision_cfg"]["timm_model_pretrained"] = False
    return config


def _tokenizer(source: str, folder: Path | None, model_cfg: dict):
    import open_clip

    text_cfg = model_cfg["text_cfg"]
    bpe = text_cfg.get("tokenizer_kwargs", {}).get("bpe_path")
    if folder is not None and bpe:
        from open_clip.tokenizer import SimpleTokenizer

        here = folder / Path(bpe).name  # the copy beside the weights, wherever the folder has been moved to
        if not here.is_file() and (sibling := _read_config(folder).get("seaanchor", {}).get("text_tower_of")):
            here = folder.parent / sibling / Path(bpe).name
        return SimpleTokenizer(bpe_path=str(here if here.is_file() else bpe), context_length=text_cfg["context_length"])
    if folder is not None and not text_cfg.get("hf_tokenizer_name"):
        from open_clip.tokenizer import SimpleTokenizer

        return SimpleTokenizer(context_length=text_cfg.get("context_length", 77))
    return open_clip.get_tokenizer(source)
