"""Small random models of every known class of transformers, written as `save_pretrained` writes them."""

import json
from pathlib import Path
from typing import Any

import torch

SIDE, PATCH = 32, 8
WIDTHS = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = WIDTHS | {"image_size": SIDE, "patch_size": PATCH}
LETTERS = [chr(code) for code in range(97, 123)]
CLIP_TOKENS = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), ".</w>", "<|startoftext|>", "<|endoftext|>"]
CLIP_TEXT = WIDTHS | {
    "vocab_size": len(CLIP_TOKENS),
    "max_position_embeddings": 24,
    "bos_token_id": len(CLIP_TOKENS) - 2,
    "eos_token_id": len(CLIP_TOKENS) - 1,
}
SIGLIP_TOKENS = ["<pad>", "</s>", "<unk>", *LETTERS, ".", " "]
SIGLIP2_TOKENS = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", ".", *LETTERS]
SIGLIP_TEXT = WIDTHS | {"vocab_size": 40, "max_position_embeddings": 20, "projection_size": 32}
STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1]}
SWIN = {"image_size": SIDE, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
CLASSES = {"id2label": {0: "cat", 1: "dog", 2: "red fox"}, "label2id": {"cat": 0, "dog": 1, "red fox": 2}}

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "CLIPModel": ("CLIPConfig", {"text_config": CLIP_TEXT, "vision_config": VISION, "projection_dim": 24}),
    "CLIPVisionModel": ("CLIPVisionConfig", VISION),
    "CLIPVisionModelWithProjection": ("CLIPVisionConfig", VISION | {"projection_dim": 24}),
    "SiglipModel": ("SiglipConfig", {"text_config": SIGLIP_TEXT, "vision_config": VISION}),
    "SiglipVisionModel": ("SiglipVisionConfig", VISION),
    "Siglip2Model": (
        "Siglip2Config",
        {"text_config": SIGLIP_TEXT, "vision_config": WIDTHS | {"patch_size": PATCH, "num_patches": 9}},
    ),
    "Siglip2VisionModel": ("Siglip2VisionConfig", WIDTHS | {"patch_size": PATCH, "num_patches": 9}),
    "Dinov2Model": ("Dinov2Config", VISION),
    "Dinov2WithRegistersModel": ("Dinov2WithRegistersConfig", VISION | {"num_register_tokens": 2}),
    "DINOv3ViTModel": ("DINOv3ViTConfig", VISION | {"num_register_tokens": 2}),
    "ViTModel": ("ViTConfig", VISION),
    "ViTForImageClassification": ("ViTConfig", VISION | CLASSES),
    "DeiTForImageClassification": ("DeiTConfig", VISION | CLASSES),
    "Dinov2ForImageClassification": ("Dinov2Config", VISION | CLASSES),
    "Dinov2WithRegistersForImageClassification": (
        "Dinov2WithRegistersConfig",
        VISION | CLASSES | {"num_register_tokens": 2},
    ),
    "CLIPForImageClassification": ("CLIPConfig", {"text_config": CLIP_TEXT, "vision_config": VISION} | CLASSES),
    "SiglipForImageClassification": ("SiglipConfig", {"text_config": SIGLIP_TEXT, "vision_config": VISION} | CLASSES),
    "ConvNextForImageClassification": ("ConvNextConfig", STAGES | CLASSES | {"num_stages": 2, "image_size": SIDE}),
    "ConvNextV2ForImageClassification": ("ConvNextV2Config", STAGES | CLASSES | {"num_stages": 2, "image_size": SIDE}),
    "ResNetForImageClassification": ("ResNetConfig", STAGES | CLASSES | {"embedding_size": 8, "layer_type": "basic"}),
    "SwinForImageClassification": ("SwinConfig", SWIN | CLASSES),
    "Swinv2ForImageClassification": ("Swinv2Config", SWIN | CLASSES),
}
PROCESSORS = {  # of a class that is not named here: ViT's
    "CLIP": ("CLIPImageProcessor", {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}),
    "Siglip2": ("Siglip2ImageProcessor", {"patch_size": PATCH, "max_num_patches": 16}),
    "Siglip": ("SiglipImageProcessor", {"size": {"height": SIDE, "width": SIDE}}),
    "Dinov2": ("BitImageProcessor", {"size": {"shortest_edge": 40}, "crop_size": {"height": SIDE, "width": SIDE}}),
    "DINOv3": ("DINOv3ViTImageProcessor", {"size": {"height": SIDE, "width": SIDE}}),
    "ConvNext": ("ConvNextImageProcessor", {"size": {"shortest_edge": SIDE}, "crop_pct": 0.875}),
    "ResNet": ("ConvNextImageProcessor", {"size": {"shortest_edge": SIDE}, "crop_pct": 0.875}),
    "DeiT": ("DeiTImageProcessor", {"size": {"height": 40, "width": 40}, "crop_size": {"height": SIDE, "width": SIDE}}),
    "": ("ViTImageProcessor", {"size": {"height": SIDE, "width": SIDE}}),
}
NORMALISATION = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25]}


def write_model(architecture: str, folder: Path, **changes: Any) -> Path:
    """The model with its tokenizer and processor; every weight is random, also those that begin as 0 or 1.

    Args:
        changes: of the configuration; a text side's by `text_config`.
    """
    import transformers

    config_class, settings = CONFIGS[architecture]
    torch.manual_seed(0)
    model = getattr(transformers, architecture)(getattr(transformers, config_class)(**settings | changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    if architecture == "CLIPModel":
        write_clip_tokenizer(folder)
    elif architecture == "SiglipModel":
        write_siglip_tokenizer(folder)
    elif architecture == "Siglip2Model":
        write_siglip2_tokenizer(folder)
    write_processor(architecture, folder)
    return folder


def write_processor(architecture: str, folder: Path, **changes: Any) -> None:
    """The class's usual processor, with a normalisation of its own."""
    import transformers

    name, settings = next(value for key, value in PROCESSORS.items() if architecture.startswith(key))
    getattr(transformers, name)(**settings | NORMALISATION | changes).save_pretrained(folder)


def write_clip_tokenizer(folder: Path) -> None:
    """CLIP's tokenizer, with letters as words."""
    from transformers import CLIPTokenizer

    CLIPTokenizer(vocab={token: i for i, token in enumerate(CLIP_TOKENS)}, merges=[]).save_pretrained(folder)


def write_siglip_tokenizer(folder: Path) -> None:
    """Letters as tokens, an end token, and no attention mask, as SigLIP's own."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({token: i for i, token in enumerate(SIGLIP_TOKENS)}, unk_token="<unk>"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="</s>",
        model_input_names=["input_ids"],
        model_max_length=SIGLIP_TEXT["max_position_embeddings"],
    ).save_pretrained(folder)


def write_siglip2_tokenizer(folder: Path) -> None:
    """SigLIP 2's tokenizer, with letters as words; it pads on the left and gives a mask."""
    from transformers import Siglip2Tokenizer

    vocabulary = {token: i for i, token in enumerate(SIGLIP2_TOKENS)}
    Siglip2Tokenizer(vocab=vocabulary, merges=[], model_max_length=20).save_pretrained(folder)


def edit(file: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None takes a key out."""
    settings = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))


def library_model(folder: Path) -> Any:
    """The model as transformers loads it, in its own class."""
    import transformers

    architecture = json.loads((folder / "config.json").read_text())["architectures"][0]
    return getattr(transformers, architecture).from_pretrained(folder, dtype=torch.float32).eval()
