"""Small models of every class of transformers that is known, and the same in transformers alone.

Legend: B batch, N texts, C channels, H W pixels, D embedding dimension, P patches.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seaanchor.testing.library import Library
from tests.encoders.huggingface.models import CONFIGS, library_model, write_model

FAMILIES = tuple(CONFIGS)


def written(family: str, work: Path) -> Path:
    """A folder with a model of the class."""
    folder = work.absolute() / "hugging-face" / family
    return folder if (folder / "config.json").is_file() else write_model(family, folder)


def library_of(folder: str, model: Any) -> Library:
    """The model as transformers alone uses it. DINOv3's processor resizes in floats, so that 8 bits round it; SigLIP
    2's keeps proportions and gives rows of patches, which are not compared."""
    from transformers import AutoImageProcessor

    theirs = library_model(Path(folder))
    theirs.load_state_dict(model.module.state_dict())
    processor = AutoImageProcessor.from_pretrained(folder)
    packed = "Siglip2" in type(theirs).__name__

    def transform(image: Any) -> Tensor:
        return processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"][0]

    texts = texts_of(theirs, folder) if hasattr(theirs, "get_text_features") and model.encode_texts else None
    level = 1.01 / 255 / min(processor.image_std) if type(theirs).__name__ == "DINOv3ViTModel" else 1e-3
    return Library(images_of(theirs), texts, None if packed else transform, level)


def images_of(theirs: Any) -> Callable[[Tensor], Tensor]:
    """The embeddings by the class's own ways: projected features, a classifier's input, the pooled output or, of
    `ViTModel`, the class token."""
    kind = type(theirs).__name__

    def encode(pixels_BCHW: Tensor) -> Tensor:
        inputs = packed_patches(theirs, pixels_BCHW) if "Siglip2" in kind else {"pixel_values": pixels_BCHW}
        if "Classification" in kind:
            return classifier_input(theirs, inputs)
        if hasattr(theirs, "get_image_features"):
            return theirs.get_image_features(**inputs).pooler_output
        found = theirs(**inputs)
        if kind == "CLIPVisionModelWithProjection":
            return found.image_embeds
        return found.last_hidden_state[:, 0] if kind == "ViTModel" else found.pooler_output

    return encode


def classifier_input(theirs: Any, inputs: dict[str, Tensor]) -> Tensor:
    """What reaches the last layer."""
    seen: list[Tensor] = []
    hook = theirs.classifier.register_forward_pre_hook(lambda layer, given: seen.append(given[0]))
    theirs(**inputs)
    hook.remove()
    return seen[0].flatten(1)


def packed_patches(theirs: Any, pixels_BCHW: Tensor) -> dict[str, Tensor]:
    """Images as a row of patches, as SigLIP 2 takes them."""
    vision = getattr(theirs.config, "vision_config", theirs.config)
    side, rows = vision.patch_size, pixels_BCHW.shape[-1] // vision.patch_size
    patches_BHWP = pixels_BCHW.permute(0, 2, 3, 1).unfold(1, side, side).unfold(2, side, side)
    row_BPD = patches_BHWP.permute(0, 1, 2, 4, 5, 3).reshape(len(pixels_BCHW), rows * rows, -1)
    mask_BP = torch.ones(row_BPD.shape[:2], dtype=torch.long)
    return {
        "pixel_values": row_BPD,
        "pixel_attention_mask": mask_BP,
        "spatial_shapes": torch.tensor([[rows, rows]] * len(pixels_BCHW)),
    }


def texts_of(theirs: Any, folder: str) -> Callable[[Sequence[str]], Tensor]:
    """Texts by the model's own tokenizer."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    longest = theirs.config.text_config.max_position_embeddings
    padding: Any = True if type(theirs).__name__ == "CLIPModel" else "max_length"

    def encode(texts: Sequence[str]) -> Tensor:
        tokens = tokenizer(list(texts), padding=padding, truncation=True, max_length=longest, return_tensors="pt")
        wanted = {key: tokens[key] for key in ("input_ids", "attention_mask") if key in tokens}
        return theirs.get_text_features(**wanted).pooler_output

    return encode
