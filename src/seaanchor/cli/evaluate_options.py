"""Options of `seaanchor evaluate`: what is measured, and how."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from seaanchor.cli.option_groups import Groups, as_flags, panels

ATTACKS = ("pgd", "apgd-ce", "apgd", "autoattack", "square")
SUITES = (
    "clean",
    "retrieval",
    *ATTACKS,
    "embedding",
    "typographic",
    "words-and-noise",
    "reading",
    "noise",
    "corruptions",
    "bias",
    "interpretability",
    "drift",
    "probe",
    "segmentation",
)
SUITE_HELP = (
    "Any of clean, retrieval, the attacks pgd, apgd-ce, apgd (APGD-CE, then targeted APGD-DLR), autoattack "
    "and square, embedding (an attack on it), "
    "typographic (a wrong class word drawn on), words-and-noise (the worst of three words, then each attack "
    "named), reading, noise, corruptions, "
    "bias (sets of people in roles), interpretability, drift (distance from the reference), probe, segmentation (mean "
    "IoU by a linear head on --tokens patches, clean and under two attacks); joined by commas."
)
MANY = Parameter(consume_multiple=True, negative=())


@dataclass(frozen=True)
class EvaluationOptions:
    """What is measured, as flags: everything here decides the numbers."""

    suite: Annotated[str, Parameter(help=SUITE_HELP)] = "clean,pgd,apgd-ce,apgd"
    epsilon: str = "1/255,2/255,4/255"
    """Radii, joined by commas, such as 1/255,2/255."""
    words: Literal["all", "even", "odd"] = "all"
    """Class names that may be drawn: all, or those of even or odd number."""
    fonts: Literal["train", "unseen"] = "unseen"
    """Fonts of drawn words."""
    sizes: tuple[float, float] = (20 / 224, 40 / 224)
    """Smallest and largest glyph height of drawn words, as shares of the image's side."""
    norm: Literal["linf", "l2"] = "linf"
    """Norm of the ball."""
    num_steps: int = 10
    """Gradient steps of each attack; autoattack always takes 100."""
    attack_precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the gradients of pgd, apgd-ce and apgd; bf16 is faster. Whether an image is fooled is decided in
    fp32."""
    num_queries: int = 1000
    """Queries of the Square attack."""
    corruptions: Literal["core", "all"] = "core"
    """The 8 kinds that need no extra, or all 15 of ImageNet-C."""
    samples: int | None = None
    """At most this many images of each set, balanced over the classes."""
    templates: Annotated[tuple[str, ...], MANY] = ()
    """Prompts with `{}`, files of them, or openai-imagenet; by default those that a data set brings, or "a photo of a
    {}."."""
    head: str | None = None
    """What turns embeddings into answers: text; classifier, the model's own; probe, fitted once on the clean embeddings
    of --train-data by the reference; or a file with a linear head. By default the head that a run was trained with,
    else text, else classifier."""
    train_data: str | None = None
    """Training images for the suite and the head called probe, or images with masks for segmentation; the train split
    beside each set by default."""
    preprocess: str | None = None
    """Resizing and normalisation in place of the models' own, and of their references': a tag of an OpenCLIP name, or
    settings such as resize_mode=squash,interpolation=bilinear,mean=0.5,std=0.5."""
    tokens: Literal["class", "mean", "patches"] | None = None
    """What of the towers is the embedding; by default what a run was trained with, else the library's own."""
    segmentation_head: Path | None = None
    """File of a segmentation head; by default one is fitted on the reference."""
    seed: int = 0
    """Random seed of subsets and starting points."""


@dataclass(frozen=True)
class RuntimeOptions:
    """Of which models and classes, where results go, and how they are computed, as flags."""

    pretrained: str | None = None
    """Tag or weights file for bare names; BASE+FILE for an image tower's file over the text side of BASE, which is then
    the reference."""
    reference: str | None = None
    """The model before training; a run's export and the embedded variants know theirs; none for none."""
    class_names: Path | None = None
    """File that names the classes."""
    output: Path | None = None
    """Folder of the result files, or a .json file for one result; by default RUN/evaluation for a run's export, else
    runs/evaluation."""
    batch_size: int = 100
    """Images in a batch; changes no result."""
    workers: int = 0
    """Data-loading processes; 0 reads ahead in threads."""
    device: str | None = None
    """cpu, cuda, ..."""
    skip_existing: bool = False
    """Read results that are already there instead of computing them again."""


GROUPS: Groups = {
    "Model": ("model", "reference", "pretrained", "head", "tokens", "preprocess"),
    "Data": ("data", "samples", "class_names", "templates", "train_data", "segmentation_head", "workers"),
    "Measures": ("suite", "corruptions", "seed"),
    "Attack": (
        "epsilon",
        "norm",
        "num_steps",
        "attack_precision",
        "num_queries",
        "words",
        "fonts",
        "sizes",
    ),
    "Run": ("output", "device", "batch_size", "skip_existing"),
}
PANELS = panels(GROUPS)
if TYPE_CHECKING:
    EvaluationFlags = EvaluationOptions
    RuntimeFlags = RuntimeOptions
else:
    EvaluationFlags = Annotated[as_flags(EvaluationOptions, PANELS), Parameter(name="*")]
    RuntimeFlags = Annotated[as_flags(RuntimeOptions, PANELS), Parameter(name="*")]
