"""An export and what was exported on embedded photos: embeddings, and the answers that follow from them.

Legend: B batch, C classes, D embedding dimension.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from seaanchor.data.images import read_image
from seaanchor.data.loader import subset
from seaanchor.data.sources import open_images
from seaanchor.data.types import texts_of
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.export.reloaded import Reloaded
from seaanchor.types import NamedHead

SOURCE, COUNT = "photos-mini/test", 40


@dataclass(frozen=True)
class Agreement:
    """How near two models are on photos.

    Attributes:
        difference: largest distance of an image's two embeddings, as a share of its length.
        same: images with the same top-1 answer.
        n: images.
        answers: what is answered: `texts` (class names), `classes` of a linear head, or `photos` (the
            nearest other one).
    """

    difference: float
    same: int
    n: int
    answers: str


@torch.no_grad()
def agreement(model: LoadedModel, theirs: Reloaded, count: int = COUNT) -> Agreement:
    """Embeddings and top-1 answers of a model and of its export, for embedded photos of all classes.

    Args:
        model: what was exported.
        theirs: the export as its library sees it.
        count: at most this many photos.
    """
    images = subset(open_images(SOURCE), count, 0)
    pixels_BCHW = torch.stack([read_image(item, model.encoder.preprocessing) for item in images.paths]).float() / 255
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (theirs.mean, theirs.std))
    ours_BD = copy.deepcopy(model.encoder).cpu().eval()(pixels_BCHW).float()  # where the reload is
    rest = theirs.encode_image((pixels_BCHW[1:] - mean) / std)  # one image, and many: a fixed batch would fail
    theirs_BD = torch.cat([theirs.encode_image((pixels_BCHW[:1] - mean) / std), rest]).float()
    answers, answer = _answers(model, texts_of(images), theirs.named)
    same_B = answer(ours_BD) == answer(theirs_BD)
    return Agreement(relative_difference(ours_BD, theirs_BD), int(same_B.sum()), len(same_B), answers)


def relative_difference(ours_BD: Tensor, theirs_BD: Tensor) -> float:
    """Largest distance of a row's two embeddings, as a share of its length; 0 where both are 0, as those of a collapsed
    encoder are, and infinite where that is no number."""
    apart_B = (ours_BD - theirs_BD).norm(dim=-1)
    share_B = torch.where(apart_B == 0, 0.0, apart_B / ours_BD.norm(dim=-1))
    return float(share_B.nan_to_num(nan=torch.inf).max())


def _answers(
    model: LoadedModel, class_names: tuple[str, ...], named: NamedHead | None
) -> tuple[str, Callable[[Tensor], Tensor]]:
    """What is asked, and embeddings (B, D) → answers (B,)."""
    if named is not None:
        head = named.head.to("cpu")
        return "classes", lambda embedding_BD: head(embedding_BD).argmax(-1)
    if model.encode_texts is not None:
        text_CD = F.normalize(model.encode_texts([f"a photo of a {name}." for name in class_names]).cpu(), dim=-1)
        return "texts", lambda embedding_BD: (F.normalize(embedding_BD, dim=-1) @ text_CD.T).argmax(-1)
    return "photos", _nearest


def _nearest(embedding_BD: Tensor) -> Tensor:
    """The most similar other image of each."""
    unit_BD = F.normalize(embedding_BD, dim=-1)
    return (unit_BD @ unit_BD.T - 2 * torch.eye(len(unit_BD))).argmax(-1)
