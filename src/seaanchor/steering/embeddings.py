"""What a sweep over t needs of the untouched model: embeddings of images and texts, computed once.

Legend: N images, M pictures of words, C classes, R roles, G genders, D embedding dimension.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.types import Images, texts_of
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.heads import build_head
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.embeddings import embed_stream
from seaanchor.evaluation.suites.bias import people_texts
from seaanchor.evaluation.suites.reading import reading_pictures
from seaanchor.evaluation.typographic_plan import TypographicPlan

TEMPLATES = ("a photo of a {}.",)
BATCH, PICTURES = 100, 400  # images embedded at a time; pictures of words to read


@dataclass(frozen=True)
class SeenWords:
    """The untouched model's embeddings of photos, clean (N, D) and with a wrong word drawn (N, D), of pictures of words
    (M, D) and of class texts (C, D); the class of each photo (N,), the word drawn on it (N,) and the word of each
    picture (M,). Photos that came with their word have no clean ones."""

    clean_ND: Tensor | None
    attacked_ND: Tensor
    written_MD: Tensor
    head_CD: Tensor
    label_N: Tensor
    word_N: Tensor
    read_M: Tensor


@dataclass(frozen=True)
class SeenPeople:
    """The untouched model's embeddings of people (N, D), of gendered captions (R, 2, D) and of neutral ones (R, D);
    role and gender of each image (N,)."""

    image_ND: Tensor
    caption_RGD: Tensor
    neutral_RD: Tensor
    role_N: Tensor
    gender_N: Tensor


@torch.no_grad()
def see_words(
    model: LoadedModel, images: Images, plan: TypographicPlan, templates: Sequence[str] = TEMPLATES
) -> SeenWords:
    """Embed what `sweep_typographic` measures.

    Args:
        model: the untouched model.
        images: labelled images.
        plan: how words are drawn.
        templates: prompts.
    """
    names, size = texts_of(images), model.encoder.image_size
    attack = plan.attack(names)
    clean, attacked, label, word = [], [], [], []
    dataset = ImageDataset(images, model.encoder.preprocessing)
    for batch in batches(dataset, BATCH, workers=0, order=None, skip_log=SkipLog(images)):
        if batch.label_B is None or len(batch.index_B) == 0:
            continue
        label.append(batch.label_B)
        if batch.preference is not None:  # its word is on it already
            attacked.append(model.encoder(batch.pixels_BCHW).float())
            word.append(batch.preference.rejected_B)
            continue
        drawn = [
            attack.draw(i, y, 0, size) for i, y in zip(batch.index_B.tolist(), batch.label_B.tolist(), strict=True)
        ]
        clean.append(model.encoder(batch.pixels_BCHW).float())
        attacked.append(model.encoder(attack.overlay(batch.pixels_BCHW, [lettering for _, lettering in drawn])).float())
        word.append(torch.tensor([w for w, _ in drawn]))
    if not label:
        raise SeaAnchorError(
            f"no labelled image in {images.root} could be read",
            "class folders of readable images",
            "name another --data",
        )
    written, read_M = reading_pictures(names, size, plan, PICTURES)
    written_MD = torch.cat([model.encoder(chunk).float() for chunk in written.split(BATCH)])
    head_CD = build_head(model, names, templates).weight_CD
    return SeenWords(
        torch.cat(clean) if clean else None,
        torch.cat(attacked),
        written_MD,
        head_CD,
        torch.cat(label),
        torch.cat(word),
        read_M,
    )


def see_people(model: LoadedModel, images: Images, templates: Sequence[str] = TEMPLATES) -> SeenPeople:
    """Embed what `sweep_bias` measures: arguments as for `see_words`, of a people set."""
    stream = batches(
        ImageDataset(images, model.encoder.preprocessing), BATCH, workers=0, order=None, skip_log=SkipLog(images)
    )
    image_ND, index_N = embed_stream(model.encoder, stream)
    _, role_M, gender_M, caption_RGD, neutral_RD = people_texts(model, images, tuple(templates))
    return SeenPeople(image_ND, caption_RGD, neutral_RD, role_M[index_N], gender_M[index_N])
