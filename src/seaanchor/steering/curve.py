"""`seaanchor steer`: what a trained linear map does at every t, from embeddings computed once; and its export at one t.

A cosine of W_t·I and W_t·T is one of Sᵗ·Vᵀ·I and Sᵗ·Vᵀ·T, so each t costs a scaling of embeddings that were turned
once.

Legend: N images, M pictures of words, C classes, R roles or singular values, D embedding dimension.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seaanchor.adapters.linear_map import Spectrum, decompose
from seaanchor.config.schema import read_yaml
from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.sources import open_images
from seaanchor.data.types import Images, texts_of
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.embeddings import embed_stream
from seaanchor.evaluation.records import to_plain
from seaanchor.evaluation.statistics import proportion
from seaanchor.evaluation.suites.bias import caveat, evaluate_bias, people_texts
from seaanchor.evaluation.suites.reading import reading_pictures
from seaanchor.evaluation.typographic_plan import TypographicPlan
from seaanchor.export.folder import export_model
from seaanchor.export.trained import folded, read_map
from seaanchor.plotting.slider import steering_picture
from seaanchor.utils.checkpoint import write_atomic
from seaanchor.utils.log import log
from seaanchor.utils.paths import portable

TS = (-2.0, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
BIAS = ("gender", "activity", "predicted_man", "retrieval")
TEMPLATES = ("a photo of a {}.",)


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
    """Embed what `sweep_typographic` looks at.

    Args:
        model: the untouched model.
        images: labelled images.
        plan: how words are drawn.
        templates: prompts.
    """
    names, size = texts_of(images), model.encoder.image_size
    attack = plan.attack(names)
    clean, attacked, label, word = [], [], [], []
    for batch in batches(ImageDataset(images, size), 100, workers=0, order=None, skip_log=SkipLog(images)):
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
    written, read_M = reading_pictures(names, size, plan, 400)
    written_MD = torch.cat([model.encoder(chunk).float() for chunk in written.split(100)])
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
    """Embed what `sweep_bias` looks at: arguments as for `see_words`, of a people set."""
    stream = batches(
        ImageDataset(images, model.encoder.image_size), 100, workers=0, order=None, skip_log=SkipLog(images)
    )
    image_ND, index_N = embed_stream(model.encoder, stream)
    _, role_M, gender_M, caption_RGD, neutral_RD = people_texts(model, images, tuple(templates))
    return SeenPeople(image_ND, caption_RGD, neutral_RD, role_M[index_N], gender_M[index_N])


def sweep_typographic(seen: SeenWords, spectrum: Spectrum, ts: Sequence[float] = TS) -> list[dict[str, Any]]:
    """Object accuracy (clean and with a wrong word drawn), attack-word rate, two-way choice and reading accuracy at
    every t.

    Args:
        seen: embeddings of `see_words`.
        spectrum: the trained map, decomposed.
        ts: exponents of the singular values.

    Raises:
        SeaAnchorError: a t out of range.
    """
    attacked_NR, written_MR, head_CR = map(spectrum.rotate, (seen.attacked_ND, seen.written_MD, seen.head_CD))
    clean_NR = None if seen.clean_ND is None else spectrum.rotate(seen.clean_ND)
    rows = []
    for t in ts:
        powers_R = spectrum.powers(t)
        head_RC = (
            F.normalize(head_CR * powers_R, dim=-1).mul(powers_R).T
        )  # a length of the image's side changes no answer, so only texts are normalised
        attacked_NC = attacked_NR @ head_RC
        answer_N = attacked_NC.argmax(-1)
        wins_N1 = attacked_NC.gather(1, seen.label_N[:, None]) > attacked_NC.gather(1, seen.word_N[:, None])
        clean = {} if clean_NR is None else {"clean": proportion((clean_NR @ head_RC).argmax(-1) == seen.label_N)}
        rows.append(
            {
                "t": t,
                **clean,
                "attacked": proportion(answer_N == seen.label_N),
                "attack_word": proportion(answer_N == seen.word_N),
                "two_way": proportion(wins_N1.squeeze(1)),
                "reading": proportion((written_MR @ head_RC).argmax(-1) == seen.read_M),
            }
        )
    return rows


def sweep_bias(seen: SeenPeople, spectrum: Spectrum, ts: Sequence[float] = TS) -> list[dict[str, Any]]:
    """Gender accuracy, activity accuracy and retrieval skew at every t, of a people set; arguments as for
    `sweep_typographic`."""
    image_NR, caption_RGR, neutral_RR = map(spectrum.rotate, (seen.image_ND, seen.caption_RGD, seen.neutral_RD))
    rows = []
    for t in ts:
        powers_R = spectrum.powers(t)
        found = evaluate_bias(
            image_NR * powers_R, caption_RGR * powers_R, neutral_RR * powers_R, seen.role_N, seen.gender_N
        )
        rows.append({"t": t} | {name: to_plain(getattr(found, name)) for name in BIAS})
    return rows


def base_model(run: Path) -> LoadedModel:
    """The untouched model a run started from.

    Raises:
        SeaAnchorError: the folder holds no run.
    """
    settings = read_yaml(run / "config.yaml")
    return load_model(settings["model"], settings.get("pretrained"), settings.get("image_size"))


def export_at(run: Path, t: float, output: Path) -> Path:
    """Write the model with W_t folded into both projections.

    Raises:
        SeaAnchorError: no linear map in the run, or one of another model; a t out of range or so far out that the map
            loses rank, an output folder in use, or a model whose projections cannot take a map.
    """
    if output.exists() and any(output.iterdir()):
        raise SeaAnchorError(f"{output} is not empty", "a new or empty folder", "name another --output")
    read_map(run)  # before a model is loaded
    model = base_model(run)
    spectrum = decompose(read_map(run, model))
    spectrum.check_rank(t)
    weight_DD = spectrum.without_rotation(t)
    with folded(model, weight_DD) as at_t:
        return export_model(at_t, output)


def steering_curve(
    run: Path,
    data: str,
    ts: Sequence[float] = (),
    words: str = "all",
    sizes: tuple[float, float] = (20 / 224, 40 / 224),
    seed: int = 0,
) -> list[dict]:
    """Evaluate every t, print a table, and write steering.json and steering.png into the run folder.

    Raises:
        SeaAnchorError: no linear map in the run, or one of another model; a t out of range, or data that cannot be
            evaluated.
    """
    read_map(run)  # before a model is loaded
    model, ts = base_model(run), tuple(ts) or TS
    spectrum = decompose(read_map(run, model))
    for t in ts:
        spectrum.powers(t)  # before anything is embedded
    images = open_images(data, split="test")
    people, plan = (images.root / "people.jsonl").is_file(), TypographicPlan(words, "unseen", sizes, seed)
    rows = (
        sweep_bias(see_people(model, images), spectrum, ts)
        if people
        else sweep_typographic(see_words(model, images, plan), spectrum, ts)
    )
    said = caveat(images) if people else ""
    log.info("\n".join([*steering_lines(rows), *filter(None, (said,))]))
    protocol = {
        "model": portable(model.name),
        "data": portable(data),
        "templates": TEMPLATES,
        "plan": None if people else asdict(plan),
        "caveat": said,
    }
    write_atomic(run / "steering.json", json.dumps(protocol | {"rows": rows}, indent=1))
    steering_picture(rows, run / "steering.png", said)
    log.info(f"picture: {run / 'steering.png'}")
    return rows


def steering_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The curve as lines of a terminal: accuracies, and for people the share called a man, MaxSkew@k and NDKL to equal
    shares and to the data's."""
    columns = {
        key: [f"{row[key]['accuracy']:.1%}" for row in rows]
        for key, value in rows[0].items()
        if isinstance(value, dict) and "accuracy" in value
    }
    if "predicted_man" in rows[0]:
        columns["called man"] = [f"{row['predicted_man']:.1%}" for row in rows]
    for desired, found in rows[0].get("retrieval", {}).items():
        for key in found:
            name = "NDKL" if key == "ndkl" else f"MaxSkew@{key.rsplit('_', 1)[-1]}"
            columns[f"{name}, {'equal' if desired == 'uniform' else 'data'}"] = [
                f"{row['retrieval'][desired][key]:.3f}" for row in rows
            ]
    widths = {name: max(len(name), 7) for name in columns}
    lines = ["     t  " + "  ".join(f"{name:>{width}}" for name, width in widths.items())]
    return lines + [
        f"{row['t']:>6g}  " + "  ".join(f"{columns[name][i]:>{width}}" for name, width in widths.items())
        for i, row in enumerate(rows)
    ]
