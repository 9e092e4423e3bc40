"""A folder that OpenCLIP loads: configuration, weights and tokenizer."""

import json
from pathlib import Path

from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.remote_code import check_tokenizer_settings, remote_code_refused
from seaanchor.errors import SeaAnchorError
from seaanchor.export.reloaded import Reloaded, Target, weights_of
from seaanchor.export.tokenizer import write_tokenizer
from seaanchor.utils.checkpoint import write_atomic
from seaanchor.utils.json_text import to_json

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"


def write_open_clip(model: LoadedModel, target: Target) -> None:
    """Write the model as OpenCLIP writes its own.

    Raises:
        SeaAnchorError: it was loaded without its tokenizer.
    """
    from safetensors.torch import save

    export = model.export_config
    if export["tokenizer"] is None:
        raise SeaAnchorError(
            f"{model.name} was loaded without its tokenizer, whose files were not on this disk",
            "a tokenizer, without which open_clip does not load a folder",
            "load the model where the Hub can be reached once, and export it then",
        )
    config = {"model_cfg": json.loads(to_json(export["model_cfg"])), "preprocess_cfg": export["preprocess_cfg"]}
    if ours := write_tokenizer(export["tokenizer"], export["bpe_file"], config["model_cfg"]["text_cfg"], target):
        config["seaanchor"] = ours
    write_atomic(target.folder / WEIGHTS, save(weights_of(model.module, target.half), metadata={"format": "pt"}))
    write_atomic(target.folder / CONFIG, to_json(config, indent=2))


def reload_open_clip(model: LoadedModel, folder: Path) -> Reloaded:
    """The folder as OpenCLIP sees it."""
    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2

    name = f"local-dir:{folder}"
    text_cfg = json.loads((folder / CONFIG).read_text())["model_cfg"]["text_cfg"]
    check_tokenizer_settings(str(folder), text_cfg)
    merges = (text_cfg.get("tokenizer_kwargs") or {}).get("bpe_path")
    here = {} if merges is None else {"bpe_path": str(folder / Path(merges).name)}  # the path holds for its last place
    with remote_code_refused():
        theirs = open_clip.create_model(name).eval()
        preprocess = open_clip.get_model_preprocess_cfg(theirs)
        tokenizer = open_clip.get_tokenizer(name, **here)
    return Reloaded(
        lambda pixels_BCHW: theirs.encode_image(pixels_BCHW, normalize=False),
        preprocess["mean"],
        preprocess["std"],
        lambda texts: theirs.encode_text(tokenizer(list(texts)), normalize=False),
        see=image_transform_v2(PreprocessCfg(**preprocess), is_train=False),
    )
