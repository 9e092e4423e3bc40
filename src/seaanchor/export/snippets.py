"""How an export is loaded, by format: what its model card shows. A test runs each of them.

`FOLDER` stands for the folder of the export, as an absolute path."""

OPEN_CLIP = """\
import open_clip

model, _, preprocess = open_clip.create_model_and_transforms("local-dir:FOLDER")
tokenizer = open_clip.get_tokenizer("local-dir:FOLDER")
model.eval()
"""
TIMM = """\
import timm

model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()
preprocess = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
"""
HF = """\
from transformers import AutoImageProcessor, {architecture}

model = {architecture}.from_pretrained("FOLDER").eval()
processor = AutoImageProcessor.from_pretrained("FOLDER")
"""
TOKENIZER = """\
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("FOLDER")
"""
CLIP_VISION = """\
from transformers import CLIPImageProcessor, CLIPVisionModel

tower = CLIPVisionModel.from_pretrained("FOLDER").eval()
processor = CLIPImageProcessor.from_pretrained("FOLDER")
"""
ONNX = """\
import json

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("FOLDER/model.onnx", providers=["CPUExecutionProvider"])
settings = {{key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}}
pixels = np.zeros((1, 3, settings["size"], settings["size"]), dtype=np.float32)  # RGB in [0, 1]
embedding = session.run(["image_embedding"], {{"pixels": pixels}})[0]
"""
MODULE = """\
from seaanchor.encoders.own_module import load_encoder

encoder = load_encoder("FOLDER", module)  # a module of the class that was trained
"""


def snippet(format: str, architecture: str, texts: bool) -> str:
    """Python that loads an export.

    Args:
        format: by its name.
        architecture: class of transformers.
        texts: whether there is a text side.
    """
    if format in ("hf", "hf-vision"):
        text = HF.format(architecture=architecture) + (f"\n{TOKENIZER}" if texts else "")
        return text + (f"\n{CLIP_VISION}" if architecture == "CLIPVisionModelWithProjection" else "")
    return {"open-clip": OPEN_CLIP, "timm": TIMM, "onnx": ONNX.format(), "module": MODULE}[format]
