"""What could not be exported after training, found before it."""

from typing import Any

import torch

from seaanchor.encoders.encoder import LoadedModel
from seaanchor.errors import SeaAnchorError


def check_exportable(model: LoadedModel) -> None:
    """Whether the format of the model's library has a place for it.

    Raises:
        SeaAnchorError: a timm transformer in an OpenCLIP model at another image size than its own: OpenCLIP builds it
            at its own size before it loads the weights, and position weights then have another shape.
    """
    trunk: Any = getattr(getattr(model.module, "visual", None), "trunk", None)
    if model.family != "open_clip" or trunk is None:
        return
    import timm

    vision, side = model.export_config["model_cfg"]["vision_cfg"], model.encoder.image_size
    with torch.device("meta"):
        fresh = timm.create_model(vision["timm_model_name"])
    own = {key: value.shape for key, value in fresh.state_dict().items()}
    moved = [key for key, value in trunk.state_dict().items() if key in own and own[key] != value.shape]
    positions = [key for key in moved if not key.startswith(("head", "classifier", "fc"))]
    if positions:
        raise SeaAnchorError(
            f"{model.name} at {side} pixels has {positions[0]} of another shape than at its own size, and OpenCLIP's "
            "format has no place for that: the trained model could not be exported",
            f"its own size, {fresh.pretrained_cfg['input_size'][-1]} pixels",
            "leave --image-size out, or name the OpenCLIP model of the other size",
        )
