"""Hugging Face `CLIPModel` (extra `hf`): vision model and projection as the tower."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seaanchor.encoders.encoder import Encoder, LoadedModel
from seaanchor.encoders.fingerprint import text_side
from seaanchor.encoders.text import TextLimit, in_lots
from seaanchor.encoders.weights import hub_error
from seaanchor.errors import SeaAnchorError

OPENAI_MEAN, OPENAI_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class _VisionTower(nn.Module):
    """Pooled output of the vision model through the projection: the raw image embedding."""

    def __init__(self, vision_model: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.vision_model, self.projection = vision_model, projection

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        return self.projection(self.vision_model(pixel_values=pixels_BCHW).pooler_output)


def load_hf(name: str, image_size: int | None = None) -> LoadedModel:
    """Load `hf:NAME_OR_PATH`; errors as in `load_model`."""
    source = name.removeprefix("hf:")
    model, tokenizer = _load(name, source)
    model.eval().requires_grad_(False)
    vision = model.config.vision_config
    if image_size not in (None, vision.image_size):
        raise SeaAnchorError(
            f"image size {image_size} for {name}", f"{vision.image_size}, its own", "leave --image-size out"
        )
    mean, std = _normalisation(source)
    longest = model.config.text_config.max_position_embeddings

    @torch.no_grad()
    def encode_texts(texts: Sequence[str]) -> Tensor:
        tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt").to(
            model.device
        )
        ids_NL, mask_NL = tokens["input_ids"], tokens["attention_mask"]

        def encode(lot: Tensor) -> Tensor:
            used = int(used_N[lot].max())
            pooled_ND = model.text_model(input_ids=ids_NL[lot, :used], attention_mask=mask_NL[lot, :used]).pooler_output
            return model.text_projection(pooled_ND)

        used_N = mask_NL.shape[1] - mask_NL.flip(1).argmax(1)  # up to the last token that is no padding
        return in_lots(used_N, encode)

    tower = _VisionTower(model.vision_model, model.visual_projection)
    encoder = Encoder(tower, vision.image_size, model.config.projection_dim, mean, std).eval()
    limit = TextLimit(
        longest,
        lambda text: len(tokenizer(text, truncation=False, verbose=False)["input_ids"]),
        lambda texts: tokenizer(list(texts), truncation=True, max_length=longest)["input_ids"],
    )
    export = {"tokenizer": tokenizer, "mean": mean, "std": std}
    return LoadedModel(
        name,
        "hf",
        encoder,
        model,
        model.logit_scale.exp().item(),
        encode_texts,
        export,
        limit,
        lambda: text_side(model, tower, tokenizer, model.config.text_config.to_dict()),
    )


def _load(name: str, source: str) -> tuple[Any, Any]:
    try:
        from transformers import AutoTokenizer, CLIPModel
    except ImportError as error:
        raise SeaAnchorError(
            "transformers is not installed", "the extra `hf`", "pip install 'seaanchor[hf]'"
        ) from error
    try:
        return CLIPModel.from_pretrained(source, dtype=torch.float32), AutoTokenizer.from_pretrained(
            source, trust_remote_code=False
        )
    except Exception as error:  # the Hub, the configuration and the weights each fail in their own way
        raise hub_error(name, error, "name a folder with a CLIPModel and its tokenizer") from error


def _normalisation(source: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of the model's own preprocessor, OpenAI's where it has none."""
    from transformers import CLIPImageProcessor

    try:
        processor = CLIPImageProcessor.from_pretrained(source)
    except OSError:
        return OPENAI_MEAN, OPENAI_STD
    return tuple(processor.image_mean), tuple(processor.image_std)
