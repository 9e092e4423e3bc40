"""Configuration: frozen dataclasses, and the checks that need more than one field.

Nothing here imports torch, so that a mistake in a recipe is found before anything slow happens.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from seaanchor.errors import SeaAnchorError
from seaanchor.settings import from_dict, read_yaml, to_dict


@dataclass(frozen=True)
class ObjectiveConfig:
    """What should become better."""

    kind: Literal["embedding_distance", "tecoa", "cross_entropy", "dpo", "ipo", "kto"] = "embedding_distance"
    """embedding_distance needs no labels; tecoa and cross_entropy do; dpo, ipo and kto need preferences."""
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


@dataclass(frozen=True)
class AnchorConfig:
    """How the encoder is kept near its frozen reference."""

    kind: Literal["none", "penalty", "kl", "lagrangian"] = "none"
    """none, a fixed weight on the distance, a fixed weight on the KL of class distributions, or a per-sample constraint with learned multipliers."""
    on: Literal["embedding", "distribution"] = "embedding"
    """What penalty and lagrangian hold: raw embeddings, or class distributions (KL; needs class names)."""
    margin: Literal["adaptive", "fixed"] = "adaptive"
    """Whether the allowed distance follows each sample's own norm (or entropy)."""
    rho: float = 0.1
    """Allowed distance of a clean image, as a share of its margin; for other anchors, what violations are reported against."""
    weight: float = 1.0
    """Weight of penalty and kl."""
    dual: Literal["network", "linear", "scalar"] = "network"
    """What the multiplier is a function of."""
    dual_lr: float = 5e-4
    """Learning rate of the multiplier; 0 freezes it."""
    dual_hidden: int = 512
    """Hidden width of the multiplier network."""
    initial_multiplier: float = 1.0
    """Multiplier every sample starts from."""
    max_multiplier: float | None = None
    """Upper limit of the multiplier; none by default."""
    violators_only: bool = False
    """Pull only images above their bound, instead of all."""
    augmented: float = 0.0
    """Weight of the squared violation beside the multiplier (augmented Lagrangian); none by default."""
    reference: Literal["frozen", "beta", "ema"] = "frozen"
    """What lagrangian and penalty hold clean images to: the frozen reference, or a moving average of the policy itself."""
    reference_decay: float = 0.99
    """Decay of the exponential average."""
    exact_dual: bool = False
    """Recompute clean distances for the dual step instead of taking those of the last primal step (one update old)."""


@dataclass(frozen=True)
class PerturbationConfig:
    """On which hard inputs."""

    kind: Literal["none", "pgd", "apgd", "typographic", "typographic+pgd", "typographic+apgd", "attribute"] = "pgd"
    """What training images go through: nothing, a gradient attack, a wrong class word drawn on, a word and then an attack on what came out, or
    swapped words in their captions."""
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


@dataclass(frozen=True)
class AdapterConfig:
    """Which parameters move."""

    kind: Literal["full", "linear", "lora"] = "full"
    """The whole image tower, one linear map on both embeddings, or low-rank updates of the tower."""
    orthogonality: float = 1.0
    """linear: weight of the penalty that keeps the map near an orthogonal one."""
    rank: int = 8
    """lora: rank of the updates."""
    alpha: int = 16
    """lora: scale of the updates."""


@dataclass(frozen=True)
class RunConfig:
    """Everything a training run depends on."""

    model: str = "seaanchor-tiny"
    """Embedded model, OpenCLIP name, local-dir:, hf-hub:, timm: or hf: (see the README)."""
    pretrained: str | None = None
    """Tag or weights file for bare OpenCLIP and timm names."""
    image_size: int | None = None
    """Input side in pixels, where the architecture allows another than its own."""
    train_data: str = "photos-mini"
    """Folder of images or of class folders, or an embedded set: photos-mini, emoji."""
    train_samples: int | None = None
    """At most this many training images, as many of each class as it allows; drawn with the seed."""
    val_data: tuple[str, ...] = ()
    """Labelled folders (or embedded sets) to evaluate on."""
    class_names: Path | None = None
    """File that names the training classes; folder names by default."""
    templates: tuple[str, ...] = ("a photo of a {}.",)
    """Prompt templates of the zero-shot head."""
    output: Path = Path("runs/run")
    """Run folder."""
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
    """How often each process takes batch_size images for one batch: attack, primal and dual steps see all of them, as if there were room for it."""
    lr: float = 1e-5
    """Peak learning rate of the encoder."""
    wd: float = 1e-4
    """Weight decay."""
    warmup: int = 0
    """Batches of linear warm-up, before the cosine."""
    optimizer: Literal["adamw", "adamax"] = "adamw"
    """Optimizer of the encoder."""
    average: Literal["none", "beta", "ema"] = "none"
    """Average of the weights over training, exported beside the last ones."""
    ema_decay: float = 0.99
    """Decay of the exponential average."""
    grad_clip: float | None = None
    """Largest gradient norm; free by default."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the training passes."""
    attack_precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the towers that training attacks; pixels and their perturbation stay in fp32."""
    checkpoint_activations: bool = False
    """Compute activations again in the backward instead of keeping them: a fraction of the memory for one more forward."""
    shard: bool = False
    """Split the encoder, its gradient and its optimizer's state among the processes, for towers that do not fit into one GPU."""
    workers: int = 0
    """Data-loading processes."""
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


def parse_epsilon(text: str | float, norm: str = "linf") -> float:
    """`4/255` or a number, in pixel units.

    Raises:
        SeaAnchorError: no number, negative, or an l-inf radius above 1, which is most likely meant in 255ths.
    """
    try:
        top, _, bottom = str(text).partition("/")
        value = float(top) / float(bottom or 1)
    except (ValueError, ZeroDivisionError):
        raise SeaAnchorError(f"epsilon {text!r}", "a number in [0, 1] or a fraction such as 4/255", "write it so") from None
    if not 0 <= value < float("inf"):
        raise SeaAnchorError(f"epsilon {text}", "a finite radius of at least 0", "give another value")
    if norm == "linf" and value > 1:
        raise SeaAnchorError(f"epsilon {text}", "an l-inf radius in [0, 1], pixels being in [0, 1]", f"did you mean {value:g}/255?")
    return value


def check(config: RunConfig) -> RunConfig:
    """The configuration itself, if its parts go together.

    Raises:
        SeaAnchorError: names the first thing that does not, before any weights load.
    """
    perturbation, anchor = config.perturbation, config.anchor
    parse_epsilon(perturbation.epsilon, perturbation.norm)
    if perturbation.step_size is not None:
        parse_epsilon(perturbation.step_size, perturbation.norm)
    for name, value, low in (
        ("batch_size", config.batch_size, 1), ("grad_accumulation", config.grad_accumulation, 1), ("epochs", config.epochs, 1),
        ("primal_steps", config.primal_steps, 1),
        ("lr", config.lr, 0), ("wd", config.wd, 0), ("anchor.rho", anchor.rho, 0), ("anchor.weight", anchor.weight, 0),
        ("anchor.augmented", anchor.augmented, 0),
        ("anchor.dual_lr", anchor.dual_lr, 0), ("anchor.dual_hidden", anchor.dual_hidden, 1), ("perturbation.num_steps", perturbation.num_steps, 0),
        ("perturbation.momentum", perturbation.momentum, 0), ("perturbation.variants", perturbation.variants, 0), ("adapter.rank", config.adapter.rank, 1),
        ("adapter.orthogonality", config.adapter.orthogonality, 0), ("adapter.alpha", config.adapter.alpha, 1),
        ("objective.desirable_weight", config.objective.desirable_weight, 0), ("objective.undesirable_weight", config.objective.undesirable_weight, 0),
        ("save_every", config.save_every, 1), ("log_every", config.log_every, 1),
        ("warmup", config.warmup, 0), ("workers", config.workers, 0), ("max_steps", config.max_steps, 1), ("image_size", config.image_size, 1),
        ("eval_every", config.eval_every, 1), ("train_samples", config.train_samples, 1), ("eval_samples", config.eval_samples, 1),
    ):  # fmt: skip
        if value is not None and not low <= value < float("inf"):
            raise SeaAnchorError(f"{name} is {value}", f"a finite number of at least {low}", "correct it")
    positive = {"anchor.initial_multiplier": anchor.initial_multiplier, "anchor.max_multiplier": anchor.max_multiplier, "grad_clip": config.grad_clip}
    for name, value in positive.items():
        if value is not None and not 0 < value < float("inf"):
            raise SeaAnchorError(f"{name} is {value}", "a positive finite number", "try 1.0")
    if bool(config.eval_every) != bool(config.val_data):
        missing = "val_data" if config.eval_every else "eval_every"
        raise SeaAnchorError(f"evaluation while training without {missing}", "eval_every and val_data, or neither", f"set {missing}")
    _check_composition(config)
    for template in config.templates:
        if "{}" not in template:
            raise SeaAnchorError(f"the template {template!r} has no {{}}", "a place for the class name, as in 'a photo of a {}.'", "add {}")
    return config


PREFERENCE = ("dpo", "ipo", "kto")
GRADIENT = ("pgd", "apgd", "typographic+pgd", "typographic+apgd")
DRAWN = ("typographic", "typographic+pgd", "typographic+apgd")


def _check_composition(config: RunConfig) -> None:
    """Objective, anchor, perturbation and adapter against each other, before any weights load."""
    objective, anchor, perturbation, adapter = (part.kind for part in (config.objective, config.anchor, config.perturbation, config.adapter))
    illegal = {
        "objective embedding_distance with perturbation none is 0 from the start: the policy already is the reference": (
            objective == "embedding_distance" and perturbation == "none", "a perturbation that changes the image: pgd, apgd, typographic"
        ),
        "perturbation attribute changes texts, which only preferences look at": (
            perturbation == "attribute" and objective not in PREFERENCE, "objective dpo, ipo or kto"
        ),
        f"adapter linear with perturbation {perturbation} would attack pixels, but it trains on embeddings computed once": (
            adapter == "linear" and perturbation in GRADIENT, "perturbation typographic, attribute or none"
        ),
        f"adapter linear with objective {objective}: a map of both sides has no reference embedding to return to": (
            adapter == "linear" and objective == "embedding_distance", "objective dpo, ipo, kto, cross_entropy or tecoa"
        ),
        f"adapter linear with anchor {anchor} on embeddings, which a map of both sides may turn freely": (
            adapter == "linear" and anchor in ("penalty", "lagrangian") and config.anchor.on == "embedding", "anchor.on distribution, or anchor kl"
        ),
        "adapter linear draws words anew at every step, but it trains on embeddings computed once": (
            adapter == "linear" and perturbation == "typographic" and config.perturbation.variants == 0, "perturbation.variants of at least 1"
        ),
        f"anchor.reference {config.anchor.reference} with anchor none, which holds nothing": (
            anchor == "none" and config.anchor.reference != "frozen", "anchor penalty, kl or lagrangian"
        ),
        "adapter linear with unit_embeddings, which a map would not leave at length 1": (adapter == "linear" and config.unit_embeddings, "raw embeddings"),
        "anchor.augmented with anchor.rho 0, by which a violation is divided": (
            anchor == "lagrangian" and config.anchor.augmented > 0 and config.anchor.rho == 0, "a positive rho"
        ),
        "adapter linear with evaluation while training, which looks at the tower": (adapter == "linear" and bool(config.eval_every), "no eval_every"),
        "adapter linear with checkpoint_activations, which are those of the tower": (
            adapter == "linear" and config.checkpoint_activations, "adapter full or lora"
        ),
        f"shard with adapter {adapter}, which trains too few numbers to split": (config.shard and adapter != "full", "adapter full"),
        f"attack_precision bf16 with perturbation {perturbation}, which takes no gradient": (
            config.attack_precision == "bf16" and perturbation not in GRADIENT, "a gradient attack, such as pgd"
        ),
    }  # fmt: skip
    for found, (applies, legal) in illegal.items():
        if applies:
            raise SeaAnchorError(found, legal, "change one of the two")
    if objective in PREFERENCE and not 0 < config.objective.beta < float("inf"):
        raise SeaAnchorError(f"objective.beta is {config.objective.beta}", "a positive number", "try 1.0")
    if not 0 <= config.objective.label_smoothing < 0.5:
        raise SeaAnchorError(f"objective.label_smoothing is {config.objective.label_smoothing}", "a share in [0, 0.5)", "correct it")
    for name, decay in (("ema_decay", config.ema_decay), ("anchor.reference_decay", config.anchor.reference_decay)):
        if not 0 < decay < 1:
            raise SeaAnchorError(f"{name} is {decay}", "a number between 0 and 1, such as 0.99", "correct it")
    sizes = config.perturbation.sizes
    if len(sizes) != 2 or not 0 < sizes[0] <= sizes[1] <= 1:
        raise SeaAnchorError(f"perturbation.sizes is {sizes}", "smallest and largest share of the image's side, such as 0.09 0.18", "correct it")


def needs_head(config: RunConfig) -> bool:
    """Whether training needs a zero-shot head, hence a text tower."""
    distribution = config.anchor.kind == "kl" or (config.anchor.kind != "none" and config.anchor.on == "distribution")
    return config.objective.kind != "embedding_distance" or distribution


def needs_classes(config: RunConfig) -> bool:
    """Whether training needs class names or candidate texts: for a head, or to draw or swap words."""
    return needs_head(config) or config.perturbation.kind in (*DRAWN, "attribute")


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Settings that differ, as `name: old → new`; what may change between a run and its resumption is left out."""
    free = {"resume", "output", "device", "workers", "save_every", "log_every", "report_to", "eval_every", "eval_samples", "val_data"}
    free |= {"checkpoint_activations", "shard"}
    free |= {"batch_size", "grad_accumulation"}  # these times the number of processes must stay: the run folder checks it
    changed = []
    for key in sorted(set(old) | set(new)):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            changed += differences(before, after, f"{prefix}{key}.")
        elif before != after and prefix + key not in free:
            changed.append(f"{prefix}{key}: {before} → {after}")
    return changed


__all__ = [
    "AdapterConfig", "AnchorConfig", "ObjectiveConfig", "PerturbationConfig", "RunConfig",
    "check", "differences", "from_dict", "needs_classes", "needs_head", "parse_epsilon", "read_yaml", "replace", "to_dict",
]  # fmt: skip
