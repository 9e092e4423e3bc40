"""The formats of exports by name, and which of them a model goes to.

A format writes a folder and says what its own library makes of it; how both are compared is the same for all.
"""

from seaanchor.encoders.encoder import LoadedModel
from seaanchor.errors import SeaAnchorError
from seaanchor.export.huggingface import reload_hf, write_hf
from seaanchor.export.onnx import reload_onnx, write_onnx
from seaanchor.export.openclip import reload_open_clip, write_open_clip
from seaanchor.export.own_module import reload_module, write_module
from seaanchor.export.reloaded import Format
from seaanchor.export.timm import reload_timm, write_timm
from seaanchor.export.vision_model import reload_vision_model, write_vision_model

FORMATS = {
    "open-clip": Format("OpenCLIP", write_open_clip, reload_open_clip, ("open_clip",)),
    "timm": Format("timm", write_timm, reload_timm, ("timm",)),
    "hf": Format("transformers", write_hf, reload_hf, ("hf",)),
    "hf-vision": Format(
        "transformers, the image tower alone",
        write_vision_model,
        reload_vision_model,
        ("open_clip", "hf"),
    ),
    "onnx": Format(
        "ONNX, the image tower alone",
        write_onnx,
        reload_onnx,
        ("open_clip", "timm", "hf", "module"),
        tolerance=1e-4,
        photos=True,
    ),
    "module": Format("your own module", write_module, reload_module, ("module",)),
}
"""Formats by the names of `--format`; `module` is that of encoders of one's own, which have no other."""

OWN = {"open_clip": "open-clip", "timm": "timm", "hf": "hf", "module": "module"}
"""The format of each library's models."""
LIBRARIES = {"open_clip": "OpenCLIP", "timm": "timm", "hf": "transformers", "module": "a module of your own"}


def format_of(model: LoadedModel, asked: str | None) -> str:
    """The format that is asked for, or the model's own.

    Raises:
        SeaAnchorError: there is no such format, or it has no place for models of this library.
    """
    if asked is None:
        return OWN[model.family]
    known = [name for name in FORMATS if name != "module"]
    if asked not in FORMATS:
        raise SeaAnchorError(f"the format {asked!r}", f"one of {', '.join(known)}", "correct --format")
    if model.family not in FORMATS[asked].families:
        possible = [name for name, one in FORMATS.items() if model.family in one.families]
        raise SeaAnchorError(
            f"{model.name} is a model of {LIBRARIES[model.family]}, and the format {asked} has no place for it",
            f"one of {', '.join(possible)}",
            "name one of them, or leave --format out for its own",
        )
    return asked
