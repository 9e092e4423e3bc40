"""What the bars of evaluation run on: an embedded model as a classifier, and test photos that it gets right.

Legend: B batch, C channels or classes, H W pixels.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from seaanchor.attacks.classification import Classifier, Logits
from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.types import texts_of
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.load import load_model
from seaanchor.evaluation.zeroshot import classifier, labelled
from seaanchor.types import Head

CPU = torch.device("cpu")
SET = "photos-mini/test"


@dataclass(frozen=True)
class Attacked:
    """Correctly classified images with labels and numbers; `plain` is the model as it is, which the peers attack,
    `ours` what our evaluation builds of it."""

    plain: Logits
    ours: Classifier
    pixels_BCHW: Tensor
    label_B: Tensor
    index_B: Tensor

    def first(self, count: int) -> "Attacked":
        """The same with fewer images."""
        return replace(
            self, pixels_BCHW=self.pixels_BCHW[:count], label_B=self.label_B[:count], index_B=self.index_B[:count]
        )


def attacked(name: str, count: int, *, double: bool = False) -> Attacked:
    """An embedded model before at most `count` photos that it gets right, out of as many classes as there are."""
    model, images = load_model(name), labelled(SET, None, 2 * count, 0)
    head = build_head(model, texts_of(images))
    if double:
        model, head = _doubled(model), Head(head.weight_CD.double(), head.logit_scale)
    (batch,) = batches(
        ImageDataset(images, model.encoder.preprocessing),
        len(images.paths),
        workers=0,
        order=None,
        skip_log=SkipLog(images),
    )
    pixels_BCHW = batch.pixels_BCHW.double() if double else batch.pixels_BCHW
    encoder = model.encoder.eval().requires_grad_(False)

    def plain(pixels_BCHW: Tensor) -> Tensor:
        return head(encoder(pixels_BCHW))

    assert batch.label_B is not None, "class folders"
    with torch.no_grad():
        answer_B = torch.cat([plain(some).argmax(-1) for some in pixels_BCHW.split(64)])
    rows = (answer_B == batch.label_B).nonzero().squeeze(1)[:count]
    ours = Classifier(plain) if double else classifier(model, head, CPU, "bf16")
    return Attacked(plain, ours, pixels_BCHW[rows], batch.label_B[rows], batch.index_B[rows])


def _doubled(model: LoadedModel) -> LoadedModel:
    model.encoder.double()
    return model
