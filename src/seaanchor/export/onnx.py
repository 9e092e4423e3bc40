"""The image tower as one ONNX graph, with a batch of any size: pixels in [0, 1] to embeddings, and to the logits of the
linear head that evaluations take by default, if there is one.

Legend: B batch, C classes, D embedding dimension, S side of the square in pixels.
"""

import contextlib
import copy
import io
import json
import logging
import re
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seaanchor.data.preprocessing import Preprocessing, to_square
from seaanchor.encoders.encoder import Encoder, LoadedModel
from seaanchor.errors import SeaAnchorError
from seaanchor.export.heads import answering
from seaanchor.export.reloaded import Reloaded, Target
from seaanchor.types import Head
from seaanchor.utils.json_text import to_json

FILE, PIXELS, EMBEDDING, LOGITS = "model.onnx", "pixels", "image_embedding", "logits"  # no operator is called so
NEEDED = ("onnx", "onnxscript", "onnxruntime")
LARGEST = 1_900_000_000  # bytes of weights that fit into one file, which ends at 2 GiB


class _Graph(nn.Module):
    """What the file holds: the encoder with its normalisation, and a linear head if there is one."""

    def __init__(self, encoder: Encoder, head: Head | None) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        embedding_BD = self.encoder(pixels)
        return embedding_BD if self.head is None else (embedding_BD, self.head(embedding_BD))


def write_onnx(model: LoadedModel, target: Target) -> None:
    """Trace the encoder and write its graph, with its preprocessing in the metadata.

    Raises:
        SeaAnchorError: the extra `onnx` is missing, fp16 is asked for, or an operator has no place in ONNX.
    """
    if missing := [name for name in NEEDED if not find_spec(name)]:
        raise SeaAnchorError(f"{', '.join(missing)} not installed", "the extra `onnx`", "pip install 'seaanchor[onnx]'")
    if target.half:
        raise SeaAnchorError("--half with the format onnx", "fp32 weights", "leave --half out")
    encoder = copy.deepcopy(model.encoder).cpu().eval()
    named = answering(model)
    graph = _Graph(encoder, None if named is None else named.head.to("cpu")).eval()
    pixels_BCHW = torch.rand(2, 3, encoder.image_size, encoder.image_size)
    outputs = [EMBEDDING] if named is None else [EMBEDDING, LOGITS]
    try:
        with _quiet():
            program: Any = torch.onnx.export(
                graph,
                (pixels_BCHW,),
                dynamo=True,
                input_names=[PIXELS],
                output_names=outputs,
                dynamic_shapes={"pixels": {0: "batch"}},
                verbose=False,
            )
    except Exception as error:  # tracing and translating each fail in their own way
        raise _not_possible(model.name, error) from error
    names = None if named is None else named.class_names
    program.model.metadata_props.update(metadata(encoder) | ({} if names is None else {"class_names": _json(names)}))
    large = sum(weight.numel() * weight.element_size() for weight in encoder.state_dict().values()) > LARGEST
    with _quiet():
        program.save(str(target.folder / FILE), external_data=large)


def metadata(encoder: Encoder) -> dict[str, str]:
    """How a picture becomes the graph's input, as JSON values by name."""
    how = {name: _json(value) for name, value in asdict(encoder.preprocessing).items()}
    normalisation = {name: _json(getattr(encoder, name).flatten().tolist()) for name in ("mean", "std")}
    side = encoder.image_size
    given = f"{PIXELS}: RGB, float32 in [0, 1], (batch, 3, {side}, {side}); the graph itself subtracts mean and divides"
    return how | normalisation | {"input": _json(f"{given} by std")}


def reload_onnx(model: LoadedModel, folder: Path) -> Reloaded:
    """The file as onnxruntime sees it, and pictures as its metadata say."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(folder / FILE), options, providers=["CPUExecutionProvider"])
    said = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    mean, std = (torch.tensor(said[name]).view(-1, 1, 1) for name in ("mean", "std"))
    fill = tuple(said["fill"]) if isinstance(said["fill"], list) else said["fill"]
    names = ("size", "resize_mode", "interpolation", "resize_size", "crop", "colours", "backend")
    how = Preprocessing(**{name: said[name] for name in names}, fill=fill)

    def run(output: str, pixels_BCHW: Tensor) -> Tensor:
        return torch.from_numpy(session.run([output], {PIXELS: pixels_BCHW.numpy()})[0])

    classifies = LOGITS in [output.name for output in session.get_outputs()]
    return Reloaded(
        lambda pixels_BCHW: run(EMBEDDING, pixels_BCHW),
        (0.0, 0.0, 0.0),
        (1.0, 1.0, 1.0),
        classify=(lambda pixels_BCHW: run(LOGITS, pixels_BCHW)) if classifies else None,
        see=lambda picture: (to_square(picture, how) / 255 - mean) / std,
        named=answering(model),
    )


def _not_possible(name: str, error: Exception) -> SeaAnchorError:
    """The operator that ended an export by its name, or else the line that could not be traced."""
    text = re.sub(r"\x1b\[\d+m", "", str(error))
    operator = re.search(r"OpOverload\(op='([\w.:]+)'", text) or re.search(r"target=torch\.ops\.([\w.]+)", text)
    if operator:
        return SeaAnchorError(
            f"{name} has the operator {operator[1]}, which cannot be exported to ONNX",
            "operators that ONNX has",
            "replace it in the module, or leave --format out for the model's own library",
        )
    line = re.search(r"raised this error:\n.*\n\s*(\S.*)", text)
    reason = re.search(r"## Exception summary\s+(?:<class '[\w.]+'>: )?(.+)", text)
    said = " ".join((reason[1] if reason else text).split())[:200]
    return SeaAnchorError(
        f"{name} cannot be traced for ONNX{f', at `{line[1].strip()}`' if line else ''}: {said}",
        "a forward whose steps do not depend on the values of pixels",
        "change it in the module, or leave --format out for the model's own library",
    )


def _json(value: Any) -> str:
    return to_json(value, ensure_ascii=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch prints steps, tables and whole programs while it exports; what matters is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
