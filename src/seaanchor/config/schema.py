"""Configuration: frozen dataclasses.

Nothing here imports torch, so that a mistake in a recipe is found before anything slow happens.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from seaanchor.config.io import from_dict, read_yaml, to_dict
from seaanchor.errors import SeaAnchorError
from seaanchor.functional.radii import check_radius


@dataclass(frozen=True)
class ObjectiveConfig:
    """What should become better."""

    part: ClassVar[str] = "objective"
    kind: str = "embedding_distance"
    """embedding_distance needs no labels; tecoa, cross_entropy do; dpo, ipo, kto, ppo need preferences; or your own."""
    beta: float = 1.0
    """Sharpness of dpo, ipo and kto."""
    label_smoothing: float = 0.0
    """dpo: share of pairs thought to be labelled the wrong way round."""
    reference_free: bool = False
    """dpo: take the reference's margin as 0."""
    desirable_weight: float = 1.0
    """kto: weight of desirable rows."""
    undesirable_weight: float = 1.0
    """kto: weight of undesirable rows."""
    relative: bool = False
    """embedding_distance: divide each image's distance by its reference's squared length."""
    clip: float = 0.2
    """ppo: how far the updates of one batch may move a text's probability, as a share of what it was before them."""
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    """Settings of a part of your own that have no name here."""


@dataclass(frozen=True)
class AnchorConfig:
    """How the encoder is kept near its frozen reference."""

    part: ClassVar[str] = "anchor"
    kind: str = "none"
    """none; penalty, a fixed weight on the distance; kl, one on the KL of class distributions; lagrangian, a per-sample
    constraint with learned multipliers; or the name of an anchor from a plugin."""
    space: Literal["embedding", "distribution"] = "embedding"
    """What penalty and lagrangian hold: raw embeddings, or class distributions (KL; needs class names)."""
    margin: Literal["adaptive", "fixed"] = "adaptive"
    """Whether the allowed distance follows each sample's own norm (or entropy)."""
    rho: float = 0.1
    """Allowed distance of a clean image, as a share of its margin; for other anchors, what violations are reported
    against."""
    weight: float = 1.0
    """Weight of penalty and kl."""
    rho_start: float | None = None
    """rho falls from here geometrically, in the first rho_steps steps; constant by default."""
    rho_steps: int = 0
    """Steps in which rho falls from rho_start."""
    relative: bool = False
    """Divide each image's constraint by its margin, so that multipliers and their rates do not depend on the tower."""
    dual: Literal["network", "linear", "scalar", "table"] = "network"
    """What the multiplier is a function of; table, one number for each training image."""
    dual_lr: float = 5e-4
    """Learning rate of the multiplier; 0 freezes it."""
    dual_control: Literal["integral", "pi"] = "integral"
    """How violations move the multiplier: integral, by their sum (Adam, or ascent of a table); pi, also by change."""
    dual_proportional: float = 0.0
    """pi: weight of a violation's change beside the violation; 0 is plain gradient ascent."""
    dual_smoothing: float = 0.0
    """pi: decay of an average that the change is taken of, in [0, 1)."""
    dual_hidden: int = 512
    """Hidden width of the multiplier network."""
    initial_multiplier: float = 1.0
    """Multiplier every sample starts from."""
    max_multiplier: float | None = None
    """Upper limit of the multiplier; none by default."""
    violators_only: bool = False
    """(experimental) Pull only images above their bound, instead of all."""
    augmented: float = 0.0
    """(experimental) Weight of the squared violation beside the multiplier (augmented Lagrangian); none by default."""
    reference: Literal["frozen", "beta", "ema"] = "frozen"
    """What clean images are held to: the frozen reference, or (experimental) a moving average of the policy itself."""
    reference_decay: float = 0.99
    """(experimental) Decay of the exponential average that the reference then is."""
    exact_dual: bool = False
    """Recompute clean distances for the dual step instead of taking those of the last primal step (one update old)."""
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    """Settings of a part of your own that have no name here."""


@dataclass(frozen=True)
class PerturbationConfig:
    """On which hard inputs."""

    part: ClassVar[str] = "perturbation"
    kind: str = "pgd"
    """What training images go through: none; a gradient attack, pgd or apgd; typographic, a wrong class word drawn on;
    typographic+pgd or typographic+apgd, a word and then an attack on what came out; attribute, swapped words in their
    captions; or the name of a perturbation from a plugin."""
    norm: Literal["linf", "l2"] = "linf"
    """The ball's norm."""
    epsilon: str = "2/255"
    """Radius in pixel units, [0, 1] for linf; write 4/255."""
    num_steps: int = 10
    """Gradient steps of the attack."""
    step_size: str | None = None
    """Step in pixel units; a quarter of epsilon by default."""
    random_start: bool = True
    """Start from a random point of the ball."""
    momentum: float = 0.0
    """Momentum of the gradient."""
    words: Literal["all", "even", "odd"] = "all"
    """typographic: class names that may be drawn, by their number."""
    fonts: Literal["train", "unseen"] = "train"
    """typographic: which shipped fonts."""
    sizes: tuple[float, float] = (20 / 224, 40 / 224)
    """typographic: smallest and largest glyph height as a share of the image's side."""
    variants: int = 0
    """typographic: different drawings of each image; 0 draws anew each time."""
    swap: str = "gender"
    """attribute: the shipped word pairs gender, or a file with two words a line."""
    flip: bool = False
    """attribute: prefer the swapped caption."""
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    """Settings of a part of your own that have no name here."""


@dataclass(frozen=True)
class AdapterConfig:
    """Which parameters move."""

    part: ClassVar[str] = "adapter"
    kind: str = "full"
    """full, the whole image tower; last_blocks, its last blocks and what comes after them; linear, one linear map on
    both embeddings; lora, low-rank updates of the tower; or the name of an adapter from a plugin."""
    last_blocks: int | None = None
    """last_blocks: how many blocks at the end of the tower are trained; the number alone gives the kind."""
    orthogonality: float = 1.0
    """linear: weight of the penalty that keeps the map near an orthogonal one."""
    rank: int = 8
    """lora: rank of the updates."""
    alpha: int = 16
    """lora: scale of the updates."""
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    """Settings of a part of your own that have no name here."""

    def __post_init__(self) -> None:
        """The number alone is enough to ask for the last blocks."""
        if self.last_blocks is not None and self.kind == "full":
            object.__setattr__(self, "kind", "last_blocks")


@dataclass(frozen=True)
class RunConfig:
    """Everything a training run depends on."""

    model: str = "seaanchor-tiny"
    """Embedded model, OpenCLIP name, local-dir:, hf-hub:, timm: or hf: (see the README)."""
    pretrained: str | None = None
    """Tag or weights file for bare OpenCLIP and timm names; BASE+FILE for an image tower's file over the text side of
    BASE."""
    image_size: int | None = None
    """Input side in pixels, where the architecture allows another than its own."""
    tokens: Literal["class", "mean", "patches"] | None = None
    """The embedding: class, the class token; patches, patch tokens; mean, their mean; by default the library's own."""
    preprocess: str | None = None
    """Resizing and normalisation in place of the model's own: a tag of an OpenCLIP name, or settings such as
    resize_mode=squash,interpolation=bilinear,mean=0.5,std=0.5."""
    train_data: str = "photos-mini"
    """Folder of images or of class folders, or an embedded set: photos-mini, emoji."""
    train_samples: int | None = None
    """At most this many training images, as many of each class as it allows; drawn with the seed."""
    val_data: tuple[str, ...] = ()
    """Labelled folders (or embedded sets) to evaluate on."""
    head: str | None = None
    """What turns embeddings into answers, where training or its evaluation needs any: text; classifier, the model's
    own; probe, fitted on the untouched model's embeddings of train_data; or a file with a linear head. By default the
    head that lies with the model, else text, else classifier."""
    class_names: Path | None = None
    """File that names the training classes; folder names by default."""
    templates: tuple[str, ...] = ("a photo of a {}.",)
    """Prompt templates of the zero-shot head."""
    output: Path = Path("runs/run")
    """Run folder."""
    plugins: tuple[str, ...] = ()
    """Python modules or .py files that register parts of your own; imported before anything else."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    anchor: AnchorConfig = field(default_factory=AnchorConfig)
    perturbation: PerturbationConfig = field(default_factory=PerturbationConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    unit_embeddings: bool = False
    """Train on embeddings of length 1: distances and bounds then know directions alone. FARE and LORE take them raw."""
    primal_steps: int = 1
    """Updates of the encoder per batch (K), all on the same perturbed images."""
    epochs: int = 1
    """Passes over the training images."""
    max_steps: int | None = None
    """Stop after this many batches, whatever the epochs say."""
    batch_size: int = 128
    """Images at once in every process."""
    grad_accumulation: int = 1
    """How often each process takes batch_size images for one batch, as if there were room for all of them."""
    slice_size: int | None = None
    """Images of a batch at once in attack and updates: same step, less memory; by default as many as fit."""
    lr: float = 1e-5
    """Peak learning rate of the encoder."""
    wd: float = 1e-4
    """Weight decay."""
    warmup: int = 0
    """Batches of linear warm-up, before the cosine."""
    optimizer: Literal["adamw", "adamax"] = "adamw"
    """Optimizer of the encoder."""
    average: Literal["none", "beta", "ema", "tail"] = "none"
    """Average of the weights over training, exported beside the last ones; tail, the plain mean of the last steps."""
    ema_decay: float = 0.99
    """Decay of the exponential average."""
    tail_share: float = 0.25
    """tail: share of the steps that are averaged, at the end."""
    grad_clip: float | None = None
    """Largest gradient norm; free by default."""
    fold_norms: bool = False
    """Put the scales of batch normalisation into the convolutions before: same answers, higher rates hold."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the training passes."""
    attack_precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the towers that training attacks; pixels and their perturbation stay in fp32."""
    checkpoint_activations: bool = False
    """Compute activations again in the backward: a fraction of their memory for one more forward."""
    compile: bool = False
    """Compile the tower for attacks and updates, which takes a minute or two; see the guide for where it pays."""
    shard: bool = False
    """Split encoder, gradient and optimizer state among the processes, for towers that do not fit into one GPU."""
    workers: int = 0
    """Data-loading processes; 0 reads ahead in threads."""
    seed: int = 0
    """Seed of data order and attacks."""
    device: str | None = None
    """cpu, cuda, ...; the accelerator if there is one."""
    resume: Literal["auto", "never"] = "never"
    """auto goes on from the run folder's last checkpoint."""
    save_every: int = 200
    """Batches between checkpoints."""
    log_every: int = 20
    """Batches between lines of metrics.jsonl."""
    eval_every: int | None = None
    """Batches between evaluations on val_data (clean and PGD); none by default."""
    eval_samples: int = 200
    """Images of each set in those evaluations."""
    report_to: Literal["none", "tensorboard", "wandb", "trackio"] = "none"
    """Where metrics go besides metrics.jsonl."""


def parse_epsilon(text: str | float, norm: str = "linf", image_size: int | None = None, name: str = "epsilon") -> float:
    """`4/255` or a number, in pixel units.

    Args:
        text: as the user wrote it.
        norm: `linf` or `l2`.
        image_size: side of the images in pixels, which limits an l2 radius.
        name: of the setting, for the error.

    Raises:
        SeaAnchorError: no number, negative, or a radius above all distances of images, which is most likely meant in
            255ths.
    """
    try:
        top, _, bottom = str(text).partition("/")
        value = float(top) / float(bottom or 1)
    except (ValueError, ZeroDivisionError):
        expected = "a number in [0, 1] or a fraction such as 4/255"
        raise SeaAnchorError(f"{name} {text!r}", expected, "write it so") from None
    check_radius(value, norm, None if image_size is None else (3, image_size, image_size), text, name)
    return value


def format_epsilon(value: float) -> str:
    """A radius or step as it stands in settings; `parse_epsilon` gives the same number back.

    >>> format_epsilon(2 / 255), format_epsilon(0.1)
    ('2/255', '0.1')
    """
    plain, steps = repr(float(value)), f"{round(value * 255, 6):g}/255"
    return steps if parse_epsilon(steps, "l2") == value and len(steps) < len(plain) else plain


__all__ = [
    "AdapterConfig",
    "AnchorConfig",
    "ObjectiveConfig",
    "PerturbationConfig",
    "RunConfig",
    "format_epsilon",
    "from_dict",
    "parse_epsilon",
    "read_yaml",
    "replace",
    "to_dict",
]
