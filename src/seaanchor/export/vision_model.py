"""The image tower alone as a vision model of transformers, which vision-language models load: a `CLIPVisionModel` of an
OpenCLIP transformer, or the vision class of a model of transformers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seaanchor.data.preprocessing import Preprocessing
from seaanchor.encoders.encoder import Encoder, LoadedModel
from seaanchor.encoders.huggingface.families import FAMILIES
from seaanchor.encoders.huggingface.processors import FILES, FILTERS
from seaanchor.encoders.huggingface.weights import quiet
from seaanchor.errors import SeaAnchorError
from seaanchor.export.huggingface import reload_hf
from seaanchor.export.reloaded import Reloaded, Target, weights_of
from seaanchor.utils.checkpoint import write_atomic

VISION = {
    "CLIPModel": "CLIPVisionModelWithProjection",
    "SiglipModel": "SiglipVisionModel",
    "Siglip2Model": "Siglip2VisionModel",
}
"""Classes of image and text, and the class of their image side."""
ACTIVATIONS = {"QuickGELU": "quick_gelu", "GELU": "gelu"}


def write_vision_model(model: LoadedModel, target: Target) -> None:
    """Configuration, weights and the image processor's file.

    Raises:
        SeaAnchorError: transformers has no class that computes the same, or it is not installed.
    """
    try:
        import transformers  # noqa: F401 # it loads its parts when they are asked for
    except ImportError as error:
        raise SeaAnchorError(
            "transformers is not installed", "the extra `hf`", "pip install 'seaanchor[hf]'"
        ) from error
    of_transformers = model.family == "hf"
    with quiet(), torch.random.fork_rng(devices=[]):
        vision = _part_of(model) if of_transformers else clip_vision_model(model)
        vision.save_pretrained(target.folder, state_dict=weights_of(vision, target.half))
        if of_transformers:
            _write_own_processor(model, target.folder)
        else:
            clip_processor(model.name, model.encoder).save_pretrained(target.folder)


def reload_vision_model(model: LoadedModel, folder: Path) -> Reloaded:
    """The folder as transformers sees it."""
    theirs = reload_hf(model, folder)
    return theirs if model.family == "hf" else replace(theirs, rounds=True)


def _refused(name: str, reason: str, instead: str) -> SeaAnchorError:
    return SeaAnchorError(
        f"{name} has {reason}, which transformers' CLIPVisionModel has not",
        "an OpenCLIP vision transformer like CLIP's own: class token, norms before and after its blocks, GELU or "
        "QuickGELU",
        instead,
    )


def _part_of(model: LoadedModel) -> Any:
    """The image side of a model of transformers, in its own class."""
    import transformers

    module: Any = model.module
    architecture = type(module).__name__
    if FAMILIES[architecture].classifies:
        raise SeaAnchorError(
            f"{model.name} is a {architecture}, an image classifier",
            "a model with an image tower of its own class",
            "export it with --format hf, which keeps its classes",
        )
    if architecture not in VISION:
        return module
    config = module.config.vision_config
    if architecture == "CLIPModel":
        config.projection_dim = module.config.projection_dim
    vision = getattr(transformers, VISION[architecture])(config).eval()
    inside = any(key.startswith("vision_model.") for key in vision.state_dict())
    weights = module.vision_model.state_dict(prefix="vision_model." if inside else "")
    if architecture == "CLIPModel":
        weights["visual_projection.weight"] = module.visual_projection.weight
    vision.load_state_dict(weights)
    return vision


def _write_own_processor(model: LoadedModel, folder: Path) -> None:
    """The processor as it came, in the file where vision-language models look for it."""
    from transformers import AutoImageProcessor

    for file in FILES:
        if file in model.export_config["files"]:
            write_atomic(folder / file, model.export_config["files"][file])
    if not (folder / FILES[0]).is_file():
        AutoImageProcessor.from_pretrained(folder, trust_remote_code=False).save_pretrained(folder)
    (folder / FILES[1]).unlink(missing_ok=True)  # it names a tokenizer, too, and there is none


def clip_vision_model(model: LoadedModel) -> Any:
    """An OpenCLIP transformer's image tower as `CLIPVisionModelWithProjection`, whose weights `CLIPVisionModel` loads
    too; as `CLIPVisionModel` where there is no projection.

    Raises:
        SeaAnchorError: its architecture or its activation is another.
    """
    import transformers

    visual: Any = getattr(model.module, "visual", None)
    reason = _difference(visual)
    if reason is not None:
        raise _refused(model.name, reason, "export it with --format open-clip or onnx")
    block, width = visual.transformer.resblocks[0], visual.conv1.out_channels
    config = transformers.CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=block.mlp.c_fc.out_features,
        projection_dim=model.encoder.dim,
        num_hidden_layers=len(visual.transformer.resblocks),
        num_attention_heads=block.attn.num_heads,
        image_size=visual.image_size[0],
        patch_size=visual.patch_size[0],
        hidden_act=_activation(block),
        layer_norm_eps=visual.ln_post.eps,
    )
    projected = visual.proj is not None
    kind = transformers.CLIPVisionModelWithProjection if projected else transformers.CLIPVisionModel
    vision = kind(config).eval()
    weights = clip_weights(visual)
    if not any(key.startswith("vision_model.") for key in vision.state_dict()):
        weights = {key.removeprefix("vision_model."): value for key, value in weights.items()}
    vision.load_state_dict(weights)
    return vision


def _activation(block: Any) -> str | None:
    gelu = block.mlp.gelu
    if type(gelu).__name__ == "GELU" and getattr(gelu, "approximate", "none") == "tanh":
        return "gelu_pytorch_tanh"
    return ACTIVATIONS.get(type(gelu).__name__)


def _difference(visual: Any) -> str | None:
    """What an image tower has that CLIP's own has not; None if nothing."""
    if type(visual).__name__ != "VisionTransformer":
        trunk = getattr(visual, "trunk", None)
        return f"the image tower {type(visual if trunk is None else trunk).__name__}"
    blocks = list(visual.transformer.resblocks)
    norms = [visual.ln_pre, visual.ln_post, *(norm for block in blocks for norm in (block.ln_1, block.ln_2))]
    if visual.attn_pool is not None:
        return "attention pooling"
    if visual.pool_type != "tok" or visual.final_ln_after_pool:
        return f"pooling {visual.pool_type!r}" if visual.pool_type != "tok" else "its last norm after the pooling"
    if not all(isinstance(norm, nn.LayerNorm) for norm in norms):
        return "a block without LayerNorm before it" if isinstance(visual.ln_pre, nn.Identity) else "other norms"
    if len({norm.eps for norm in norms}) > 1:
        return "norms of several epsilons"
    if not all(isinstance(block.ls_1, nn.Identity) and isinstance(block.ls_2, nn.Identity) for block in blocks):
        return "layer scale"
    if not all(isinstance(block.attn, nn.MultiheadAttention) for block in blocks):
        return f"the attention {type(blocks[0].attn).__name__}"
    names = {type(block.mlp.gelu).__name__ for block in blocks}
    if len(names) > 1 or _activation(blocks[0]) is None:
        return f"the activation {', '.join(sorted(names))}"
    return "patches that are no squares" if len(set(visual.patch_size)) > 1 else None


def clip_weights(visual: Any) -> dict[str, Tensor]:
    """Weights of an OpenCLIP vision transformer by transformers' names; queries, keys and values are apart there."""
    inside = "vision_model."
    weights = {
        f"{inside}embeddings.class_embedding": visual.class_embedding,
        f"{inside}embeddings.patch_embedding.weight": visual.conv1.weight,
        f"{inside}embeddings.position_embedding.weight": visual.positional_embedding,
    }
    pairs = {"pre_layrnorm": visual.ln_pre, "post_layernorm": visual.ln_post}  # the first is spelt so
    for number, block in enumerate(visual.transformer.resblocks):
        layer = f"encoder.layers.{number}"
        pairs |= {f"{layer}.layer_norm1": block.ln_1, f"{layer}.layer_norm2": block.ln_2}
        pairs |= {f"{layer}.mlp.fc1": block.mlp.c_fc, f"{layer}.mlp.fc2": block.mlp.c_proj}
        pairs |= {f"{layer}.self_attn.out_proj": block.attn.out_proj}
        for kind, of in (("weight", block.attn.in_proj_weight), ("bias", block.attn.in_proj_bias)):
            for name, third in zip(("q_proj", "k_proj", "v_proj"), of.chunk(3), strict=True):
                weights[f"{inside}{layer}.self_attn.{name}.{kind}"] = third
    for name, module in pairs.items():
        weights |= {f"{inside}{name}.weight": module.weight, f"{inside}{name}.bias": module.bias}
    return weights if visual.proj is None else weights | {"visual_projection.weight": visual.proj.T}


def clip_processor(name: str, encoder: Encoder) -> Any:
    """transformers' `CLIPImageProcessor` that prepares pictures as an encoder does, but for rounding.

    Raises:
        SeaAnchorError: it cannot.
    """
    from transformers import CLIPImageProcessor

    how = encoder.preprocessing
    side = how.resize_size or how.size
    square = {"height": side, "width": side}
    filters = {word: number for number, word in FILTERS.items()}
    same = Preprocessing(how.size, how.resize_mode, how.interpolation, how.resize_size, how.fill, how.crop, how.colours)
    if how.resize_mode not in ("shortest", "squash") or replace(how, backend="pillow") != same:
        raise SeaAnchorError(
            f"{name} with the preprocessing {how}",
            "what CLIPImageProcessor can do: resize_mode shortest or squash, and a centre crop",
            "set another --preprocess, or take --format open-clip",
        )
    return CLIPImageProcessor(
        size={"shortest_edge": side} if how.resize_mode == "shortest" else square,
        do_center_crop=how.resize_mode == "shortest" or side != how.size,
        crop_size={"height": how.size, "width": how.size},
        resample=filters[how.interpolation],
        image_mean=encoder.mean.flatten().tolist(),
        image_std=encoder.std.flatten().tolist(),
    )
