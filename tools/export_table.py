"""Every format of exports from five kinds of models, compared on embedded photos: the table of docs/guide/exports.md.

    python tools/export_table.py

All but the embedded model are small and have random weights. A format that has no place for a model is left out.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.load import load_model
from seaanchor.export.folder import export_model
from seaanchor.export.formats import FORMATS
from seaanchor.export.photos import Agreement, agreement
from tests.encoders.huggingface.models import write_model

VISION = {"image_size": 64, "layers": 3, "width": 64, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
HEADER = "| model | format | largest difference | same top-1 |\n| --- | --- | --- | --- |"
ASKED = {"texts": "class texts", "classes": "own classes", "photos": "nearest other photo"}


@dataclass(frozen=True)
class Row:
    """One export: of what, to which format, and how near it is."""

    model: str
    format: str
    found: Agreement

    def __str__(self) -> str:
        found = self.found
        share = f"{found.same} of {found.n} ({ASKED[found.answers]})"
        difference = f"{found.difference:.1e}" if found.difference else "0"
        return f"| {self.model} | `{self.format}` | {difference} | {share} |"


def models(work: Path) -> Iterator[tuple[str, LoadedModel]]:
    """The embedded model, a ViT, a ConvNeXt, a DINOv2-like tower and a SigLIP-like model."""
    import json

    import open_clip

    (work / "small-vit.json").write_text(json.dumps({"embed_dim": 32, "vision_cfg": VISION, "text_cfg": TEXT}))
    open_clip.add_model_config(work / "small-vit.json")
    torch.manual_seed(0)
    yield "`seaanchor-tiny` (OpenCLIP, ResNet tower)", load_model("seaanchor-tiny")
    yield "ViT, 3 layers (OpenCLIP)", load_model("small-vit", "none")
    yield "ConvNeXt (timm `test_convnext`)", load_model("timm:test_convnext", "none")
    yield "DINOv2-like (`Dinov2Model`)", load_model(f"hf:{write_model('Dinov2Model', work / 'dinov2')}")
    yield "SigLIP-like (`SiglipModel`)", load_model(f"hf:{write_model('SiglipModel', work / 'siglip')}")


def rows(title: str, model: LoadedModel, work: Path) -> Iterator[Row]:
    """The model in every format that has a place for it; each is reloaded by its own library."""
    from seaanchor.errors import SeaAnchorError

    for name, form in FORMATS.items():
        if model.family not in form.families:
            continue
        try:
            folder = export_model(model, work / f"{len(list(work.iterdir()))}-{name}", format=name)
        except SeaAnchorError as error:
            if "CLIPVisionModel has not" not in error.found:
                raise
            continue
        yield Row(title, name, agreement(model, form.reload(model, folder.absolute())))


def main() -> None:
    """Print the table."""
    print(HEADER)
    with tempfile.TemporaryDirectory() as folder:
        for title, model in models(Path(folder)):
            for row in rows(title, model, Path(folder)):
                print(row, flush=True)


if __name__ == "__main__":
    main()
