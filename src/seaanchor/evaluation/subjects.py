"""What is evaluated: models with their references, and images with their classes or captions."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch

from seaanchor.attacks.classification import Precision
from seaanchor.config.schema import read_yaml
from seaanchor.data.images import name_below, num_bytes
from seaanchor.data.loader import subset
from seaanchor.data.sources import NAMES as EMBEDDED_SETS
from seaanchor.data.sources import open_images
from seaanchor.data.types import Images, LabelledImages, labels_of, templates_of, texts_of
from seaanchor.encoders.embedded import embedded_folder, embedded_models
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.encoders.heads import DEFAULT_TEMPLATES, build_head, embed_texts
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.protocol import Bench, Protocol
from seaanchor.evaluation.suites.registry import SUITES
from seaanchor.evaluation.suites.retrieval import CAPTION_FILES, Captions, read_captions
from seaanchor.evaluation.zeroshot import classifier, labelled, on_device
from seaanchor.types import Head


@dataclass(frozen=True)
class Subject:
    """A model with its reference, None if it is its own; the ρ it was trained with; and where its results go."""

    model: LoadedModel
    reference: LoadedModel | None
    rho: float | None
    output: Path


def open_subject(
    name: str, pretrained: str | None, reference: str | None, protocol: Protocol, output: Path | None
) -> Subject:
    """Load a model and its reference.

    Raises:
        SeaAnchorError: neither can be loaded, or the drift from a reference is asked for and there is none, or one of
            other dimensions.
    """
    model = load_model(name, pretrained, protocol.image_size)
    untouched, tag = (reference, pretrained) if reference else reference_of(name)
    anchor = load_model(untouched, tag, model.encoder.image_size) if untouched else None
    if "drift" in protocol.suites:
        if anchor is None:
            raise SeaAnchorError(
                f"the reference of {name} is not known",
                "the untouched model, to measure drift from",
                "name it with --reference",
            )
        if anchor.encoder.dim != model.encoder.dim:
            found = f"embeddings of {model.encoder.dim} dimensions"
            raise SeaAnchorError(found, f"the reference's {anchor.encoder.dim}", "name the model it was trained from")
    return Subject(model, anchor, _rho(name), output or output_of(name))


def _bare(name: str) -> Path:
    return Path(name.removeprefix("timm:").removeprefix("hf:").removeprefix("local-dir:"))


def _run_of(name: str) -> Path | None:
    """The run whose export a model is."""
    path = _bare(name)
    return path.parent if path.is_dir() and (path.parent / "config.yaml").is_file() else None


def output_of(name: str) -> Path:
    """Where results of a model go by default: RUN/evaluation for a run's export, else runs/evaluation."""
    run = _run_of(name)
    return Path("runs/evaluation") if run is None else run / "evaluation"


def reference_of(name: str) -> tuple[str | None, str | None]:
    """The untouched model behind a run's export or an embedded variant: (name, pretrained), or (None, None) if it is
    its own."""
    for folder in (_bare(name), embedded_folder(name)):
        file = folder / "open_clip_config.json"
        if file.is_file() and (base := json.loads(file.read_text()).get("seaanchor", {}).get("text_tower_of")):
            return (base if base in embedded_models() else str(folder.parent / base)), None
    if run := _run_of(name):
        settings = read_yaml(run / "config.yaml")
        return settings.get("model"), settings.get("pretrained")
    return None, None


def _rho(name: str) -> float | None:
    """The bound on clean embeddings in a run's settings."""
    run = _run_of(name)
    anchor = read_yaml(run / "config.yaml").get("anchor") if run else None
    return anchor.get("rho") if anchor and anchor.get("space", "embedding") == "embedding" else None


def open_source(source: str, class_names: Path | None, protocol: Protocol) -> tuple[Images, Captions | None]:
    """The images of a source, at most `protocol.samples` of them, with labels; or with captions, where there is a file
    of them.

    Raises:
        SeaAnchorError: neither classes nor captions, or classes are asked for and there are captions only.
    """
    if not any((Path(source) / name).is_file() for name in CAPTION_FILES):
        return labelled(source, class_names, protocol.samples, protocol.seed), None
    captions = read_captions(Path(source))
    wanting = [plan.name for plan in protocol.plans] + [name for name in protocol.suites if SUITES[name].classes]
    if wanting or not protocol.suites:
        able = ", ".join(name for name, suite in SUITES.items() if not suite.classes)
        raise SeaAnchorError(
            f"{source} has captions and no classes, which {', '.join(wanting) or 'clean'} needs",
            able,
            "correct --suite",
        )
    if protocol.samples is None or protocol.samples >= len(captions.images.paths):
        return captions.images, captions
    few = subset(captions.images, protocol.samples, protocol.seed)
    place, paths = {path: i for i, path in enumerate(few.paths)}, captions.images.paths
    kept = [
        (text, place[paths[i]])
        for text, i in zip(captions.texts, captions.image_of_text, strict=True)
        if paths[i] in place
    ]
    return few, Captions(few, tuple(text for text, _ in kept), tuple(i for _, i in kept))


def make_bench(
    subject: Subject,
    source: str,
    images: Images,
    captions: Captions | None,
    protocol: Protocol,
    device: torch.device,
) -> Bench:
    """A model in front of a source's images.

    Raises:
        SeaAnchorError: a class list that is too short or repeats itself, a model without a text tower, or a suite that
            model or images do not suit.
    """
    templates = protocol.templates or templates_of(images) or DEFAULT_TEMPLATES
    if captions is None:
        head = build_head(subject.model, texts_of(images), templates)
    else:
        head = Head(embed_texts(subject.model, captions.texts), subject.model.logit_scale)
    head = on_device(head, device)
    precision: Precision = "bf16" if any(plan.precision == "bf16" for plan in protocol.plans) else "fp32"
    wants = any("training" in SUITES[name].embeddings for name in protocol.suites)
    bench = Bench(
        subject.model,
        subject.reference,
        head,
        classifier(subject.model, head, device, precision),
        images,
        captions,
        _training(source, protocol, images) if wants else None,
        templates,
        protocol.typographic,
        protocol.embedding,
        protocol.corruptions,
        subject.rho,
        protocol.seed,
        device,
        protocol.plans,
    )
    for name in protocol.suites:
        SUITES[name].check(bench)
    return bench


def _training(source: str, protocol: Protocol, images: Images) -> LabelledImages:
    """The training images beside a data set, with the same classes.

    Raises:
        SeaAnchorError: there are none, or other classes.
    """
    name, _, part = source.partition("/")
    embedded = name in EMBEDDED_SETS and not Path(source).exists()
    chosen = protocol.training or (
        f"{name}/train" if embedded and part != "train" else str(Path(source).parent / "train")
    )
    if (
        protocol.training is None
        and not embedded
        and (not Path(chosen).is_dir() or Path(chosen).resolve() == Path(source).resolve())
    ):
        raise SeaAnchorError(
            f"{source} has no train split beside it",
            "training images of the same classes, for the probe",
            "name them with --train-data",
        )
    found = open_images(chosen, None, split="train")
    if not isinstance(found, LabelledImages) or len(found.class_names) != len(texts_of(images)):
        raise SeaAnchorError(
            f"{chosen} has other classes than {source}", "class folders of the same names", "correct --train-data"
        )
    return found


def identity(model: LoadedModel) -> str:
    """A short hash of a whole network: all weights, image and text side, and how its layers are put together."""
    return hashlib.blake2b(
        f"{fingerprint(model.module)} {fingerprint(model.encoder)} {model.module!r}".encode(), digest_size=8
    ).hexdigest()


def listing(images: Images, captions: Captions | None = None) -> str:
    """A short hash of which images these are, and of their labels or captions."""
    digest = hashlib.sha256()
    for item, label in zip(images.paths, labels_of(images) or [None] * len(images.paths), strict=True):
        size = num_bytes(item)
        digest.update(f"{name_below(item, images.root)} {'missing' if size is None else size} {label}\n".encode())
    if captions is not None:
        digest.update(json.dumps([captions.texts, captions.image_of_text]).encode())
    return digest.hexdigest()[:16]
