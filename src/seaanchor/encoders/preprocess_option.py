"""Input settings in place of a model's own, written back into whatever its library reads them from."""

from dataclasses import replace
from difflib import get_close_matches

import torch

from seaanchor.data.preprocessing import Preprocessing
from seaanchor.encoders.encoder import Encoder, LoadedModel
from seaanchor.encoders.input_settings import InputSettings, changed, triple
from seaanchor.errors import SeaAnchorError


def check_preprocess(text: str | None) -> None:
    """Raise a SeaAnchorError where `key=value,...` is not understood, before any weights load."""
    if text is not None and "=" in text:
        changed(InputSettings(Preprocessing(1, colours="rgb"), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), text)


def input_settings(encoder: Encoder) -> InputSettings:
    """What an encoder does to a picture."""
    mean, std = (getattr(encoder, key).flatten().tolist() for key in ("mean", "std"))
    mean, std = (values * 3 if len(values) == 1 else values for values in (mean, std))
    return InputSettings(encoder.preprocessing, triple("it", "mean", mean), triple("it", "std", std))


def with_preprocess(model: LoadedModel, text: str | None) -> LoadedModel:
    """The model with other input settings; its encoder and module are changed in place.

    Args:
        model: as it was loaded.
        text: a tag of its OpenCLIP name, or `key=value,...` as `changed` takes it; None leaves it as it is.

    Raises:
        SeaAnchorError: an unknown tag, key or value, or settings that the model's library cannot express.
    """
    if text is None:
        return model
    before = input_settings(model.encoder)
    return with_settings(model, changed(before, text) if "=" in text else _of_tag(model, text, before))


def with_settings(model: LoadedModel, settings: InputSettings) -> LoadedModel:
    """The model with these input settings, as `with_preprocess`.

    Raises:
        SeaAnchorError: the model's library cannot express them.
    """
    encoder = model.encoder
    if settings == input_settings(encoder):
        return model
    model = _told(model, settings)
    encoder.preprocessing = settings.preprocessing
    for key in ("mean", "std"):
        values = torch.tensor(getattr(settings, key), dtype=torch.float32).view(-1, 1, 1)
        setattr(encoder, key, values.to(encoder.mean.device))
    return model


def _told(model: LoadedModel, settings: InputSettings) -> LoadedModel:
    """The model with the settings where its library, and an export, look for them."""
    if model.family == "open_clip":
        from seaanchor.encoders.openclip_input import set_config, to_open_clip

        config = to_open_clip(model.name, settings)
        set_config(model.module, config)
        return replace(model, export_config=model.export_config | {"preprocess_cfg": config})
    if model.family == "timm":
        from seaanchor.encoders.timm_input import to_timm

        before = model.export_config["pretrained_cfg"]
        config = before | to_timm(model.name, settings, before["crop_pct"])
        return replace(model, export_config=model.export_config | {"pretrained_cfg": config})
    if model.family == "hf":
        raise SeaAnchorError(
            f"--preprocess for {model.name}",
            "the processor in the model's folder",
            "change preprocessor_config.json there",
        )
    return model


def _of_tag(model: LoadedModel, tag: str, before: InputSettings) -> InputSettings:
    import open_clip

    from seaanchor.encoders.openclip_input import from_open_clip, tag_config

    tags = open_clip.list_pretrained_tags_by_model(model.name) if model.family == "open_clip" else []
    if tag not in tags:
        near = get_close_matches(tag, tags, n=3, cutoff=0.3) or tags[:6]
        raise SeaAnchorError(
            f"--preprocess {tag} is no tag of {model.name}",
            f"one of its tags ({', '.join(near) or 'it has none'}), or key=value,...",
            "write for instance resize_mode=squash,interpolation=bilinear",
        )
    return from_open_clip(model.name, tag_config(model.name, tag), before.preprocessing.size)
