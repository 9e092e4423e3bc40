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
ONNX_LOGITS = """\
logits = session.run(["logits"], {"pixels": pixels})[0]
"""
ONNX_NAMES = """\
class_names = settings["class_names"]
"""
MODULE = """\
from seaanchor.encoders.own_module import load_encoder

encoder = load_encoder("FOLDER", module)  # a module of the class that was trained
"""
OWN_ANSWERS = """

def logits({given}):  # {what}
    return {answers}
"""
OWN_NAMES = {
    "timm": 'model.pretrained_cfg["label_names"]',
    "hf": "[model.config.id2label[i] for i in range(model.config.num_labels)]",
}
HEAD = """\
from safetensors.torch import load_file
from torch.nn.functional import linear

head = load_file("FOLDER/head.safetensors")


def logits({given}):  # {what}
    embedding = {embedding}
    return linear(embedding, head["weight"], head.get("bias"))
"""
HEAD_NAMES = """

with safe_open("FOLDER/head.safetensors", framework="pt") as file:
    class_names = json.loads(file.metadata()["class_names"])
"""
GIVEN = {
    "timm": ("pixels", "a batch of what preprocess gives", "model(pixels)"),
    "open-clip": ("pixels", "a batch of what preprocess gives", "model.encode_image(pixels)"),
    "module": ("pixels", "(B, 3, H, W), RGB in [0, 1]", "encoder(pixels)"),
}
"""What a function of a stored head takes, in words too, and the embedding that the head reads, by format."""
INPUTS = ("inputs", "of the processor")
BEFORE_CLASSIFIER = "model.forward_head(model.forward_features(pixels), pre_logits=True).flatten(1)"
BY_TRANSFORMERS = {
    "CLIPModel": "model.get_image_features(**inputs).pooler_output",
    "SiglipModel": "model.get_image_features(**inputs).pooler_output",
    "Siglip2Model": "model.get_image_features(**inputs).pooler_output",
    "CLIPVisionModelWithProjection": "model(**inputs).image_embeds",
    "ViTModel": "model(**inputs).last_hidden_state[:, 0]",
}
"""That embedding by class of transformers; others pool it themselves."""
BEFORE_HF_CLASSIFIER = """\
import copy

from torch import nn

before = copy.deepcopy(model)
before.classifier = nn.Flatten()  # in place of the model's own classifier
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


def own_head_snippet(format: str, named: bool) -> str:
    """Python that follows `snippet`: answers by the classifier in the model's own library. Empty for other formats.

    Args:
        format: by its name.
        named: whether the classes have names.
    """
    if format == "timm":
        given, what, answers = (*GIVEN["timm"][:2], "model(pixels)")
    elif format in ("hf", "hf-vision"):
        given, what, answers = (*INPUTS, "model(**inputs).logits")
    else:
        return ""
    text = OWN_ANSWERS.format(given=given, what=what, answers=answers)
    return text + (f"\n\nclass_names = {OWN_NAMES['timm' if format == 'timm' else 'hf']}\n" if named else "")


def head_snippet(format: str, architecture: str, classifies: bool, named: bool) -> str:
    """Python that follows `snippet`: answers by the linear head of the export.

    Args:
        format: by its name.
        architecture: class of transformers.
        classifies: whether the model has a classifier of its own, too.
        named: whether the classes have names.
    """
    if format == "onnx":
        return ONNX_LOGITS + (ONNX_NAMES if named else "")
    first = ""
    if format in ("hf", "hf-vision") and architecture.endswith("ForImageClassification"):
        first, of_transformers = f"\n{BEFORE_HF_CLASSIFIER}", "before(**inputs).logits"
    else:
        of_transformers = BY_TRANSFORMERS.get(architecture, "model(**inputs).pooler_output")
    given, what, embedding = GIVEN.get(format) or (*INPUTS, of_transformers)
    embedding = BEFORE_CLASSIFIER if format == "timm" and classifies else embedding
    text = HEAD.format(given=given, what=what, embedding=embedding)
    if not named:
        return f"{first}\n{text}"
    return f"{first}\nimport json\n\nfrom safetensors import safe_open\n{text}{HEAD_NAMES}"
