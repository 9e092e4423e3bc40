"""A folder that timm loads: `config.json` and weights, with the model's own classifier in its place.

Legend: B batch, C classes, D embedding dimension.
"""

from pathlib import Path

from torch import Tensor

from seaanchor.encoders.encoder import LoadedModel
from seaanchor.export.reloaded import Reloaded, Target, weights_of
from seaanchor.utils.checkpoint import write_atomic
from seaanchor.utils.json_text import to_json


def write_timm(model: LoadedModel, target: Target) -> None:
    """Write the model as timm writes its own."""
    from safetensors.torch import save

    export = {key: value for key, value in model.export_config.items() if key != "classifier"}
    half, weights, named = target.half, weights_of(model.module, target.half), model.classifier
    config = export | {"num_classes": 0, "num_features": model.encoder.dim}
    if named is not None:
        layer, shape = (model.export_config["classifier"][key] for key in ("layer", "shape"))
        weight, bias = named.head.weight_CD.view(shape), named.head.bias_C
        placed = {f"{layer}.weight": weight} | ({} if bias is None else {f"{layer}.bias": bias})
        weights |= {key: (t.half() if half else t).detach().cpu().contiguous().clone() for key, t in placed.items()}
        count = len(named.head.weight_CD)
        config |= {"num_classes": count}
        config["pretrained_cfg"] = config["pretrained_cfg"] | {"num_classes": count, "classifier": layer}
        config |= {} if named.class_names is None else {"label_names": list(named.class_names)}
    write_atomic(target.folder / "model.safetensors", save(weights, metadata={"format": "pt"}))
    write_atomic(target.folder / "config.json", to_json(config, indent=2))


def reload_timm(model: LoadedModel, folder: Path) -> Reloaded:
    """The folder as timm sees it."""
    import timm

    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    config = timm.data.resolve_data_config(model=theirs)
    see = timm.data.create_transform(**config)
    if not theirs.num_classes:
        return Reloaded(theirs, config["mean"], config["std"], see=see)

    def embed(normalised_BCHW: Tensor) -> Tensor:
        embedding: Tensor = theirs.forward_head(theirs.forward_features(normalised_BCHW), pre_logits=True)
        return embedding.flatten(1)

    return Reloaded(embed, config["mean"], config["std"], classify=theirs, see=see, named=model.classifier)
