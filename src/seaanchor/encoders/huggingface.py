"""Hugging Face `CLIPModel` (extra `hf`): vision model and projection as the tower."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from seaanchor.encoders.encoder import Encoder, LoadedModel
from seaanchor.errors import SeaAnchorError

OPENAI_MEAN, OPENAI_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class _VisionTower(nn.Module):
    """Pooled output of the vision model through the projection: the raw image embedding."""

    def __init__(self, vision_model: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.vision_model, self.projection = vision_model, projection

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        return self.projection(self.vision_model(pixel_values=pixels_BCHW).pooler_output)


def load_hf(name: str) -> LoadedModel:
    """Load `hf:NAME_OR_PATH`; errors as in `load_model`."""
    try:
        from transformers import AutoTokenizer, CLIPModel
    except ImportError as error:
        raise SeaAnchorError("transformers is not installed", "the extra `hf`", "pip install 'seaanchor[hf]'") from error
    source = name.removeprefix("hf:")
    try:
        model = CLIPModel.from_pretrained(source)
        tokenizer = AutoTokenizer.from_pretrained(source)
    except Exception as error:
        raise SeaAnchorError(
            f"{name} could not be loaded: {str(error)[:300]}",
            "a folder or Hub repository with a CLIPModel and its tokenizer",
            "check the name and the connection to the Hub",
        ) from error
    model.eval().requires_grad_(False)
    mean, std = _normalisation(source)

    @torch.no_grad()
    def encode_texts(texts: Sequence[str]) -> Tensor:
        tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=model.config.text_config.max_position_embeddings, return_tensors="pt")
        pooled = model.text_model(**tokens.to(model.device)).pooler_output
        return model.text_projection(pooled)

    vision = model.config.vision_config
    encoder = Encoder(_VisionTower(model.vision_model, model.visual_projection), vision.image_size, model.config.projection_dim, mean, std).eval()
    return LoadedModel(name, "hf", encoder, model, model.logit_scale.exp().item(), encode_texts, {"tokenizer": tokenizer, "mean": mean, "std": std})


def _normalisation(source: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of the folder's own preprocessor, OpenAI's where it has none."""
    file = Path(source) / "preprocessor_config.json"
    if not file.is_file():
        return OPENAI_MEAN, OPENAI_STD
    config = json.loads(file.read_text())
    return tuple(config.get("image_mean", OPENAI_MEAN)), tuple(config.get("image_std", OPENAI_STD))
