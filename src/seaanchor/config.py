"""Configuration: frozen dataclasses, YAML in and out, and the checks that need more than one field.

Nothing here imports torch, so that a mistake in a recipe is found before anything slow happens.
"""

import types
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from seaanchor.errors import SeaAnchorError

T = TypeVar("T")


@dataclass(frozen=True)
class ObjectiveConfig:
    """What should become better."""

    kind: Literal["embedding_distance", "tecoa", "cross_entropy"] = "embedding_distance"
    """embedding_distance needs no labels; tecoa and cross_entropy do."""


@dataclass(frozen=True)
class AnchorConfig:
    """How the encoder is kept near its frozen reference."""

    kind: Literal["none", "penalty", "lagrangian"] = "none"
    """none, a fixed penalty weight, or a per-sample constraint with learned multipliers."""
    on: Literal["embedding", "distribution"] = "embedding"
    """What is held: raw embeddings, or class distributions (KL; needs class names)."""
    margin: Literal["adaptive", "fixed"] = "adaptive"
    """Whether the allowed distance follows each sample's own norm (or entropy)."""
    rho: float = 0.1
    """Allowed distance of a clean image, as a share of its margin; for other anchors, what violations are reported against."""
    weight: float = 1.0
    """Weight of the penalty."""
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
    exact_dual: bool = False
    """Recompute clean distances for the dual step instead of taking those of the last primal step (one update old)."""


@dataclass(frozen=True)
class PerturbationConfig:
    """On which hard inputs."""

    kind: Literal["none", "pgd", "apgd"] = "pgd"
    """The attack training images go through."""
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


@dataclass(frozen=True)
class AdapterConfig:
    """Which parameters move."""

    kind: Literal["full"] = "full"
    """The whole image tower."""


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
    primal_steps: int = 1
    """Updates of the encoder per batch (K), all on the same perturbed images."""
    epochs: int = 1
    """Passes over the training images."""
    max_steps: int | None = None
    """Stop after this many batches, whatever the epochs say."""
    batch_size: int = 128
    """Images per batch and process."""
    lr: float = 1e-5
    """Peak learning rate of the encoder."""
    wd: float = 1e-4
    """Weight decay."""
    warmup: int = 0
    """Batches of linear warm-up, before the cosine."""
    grad_clip: float | None = None
    """Largest gradient norm; free by default."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the training passes; attacks always run in fp32."""
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


def from_dict(cls: type[T], data: dict[str, Any], where: str = "") -> T:
    """Build a configuration dataclass from plain data; unknown keys and wrong types are errors.

    Raises:
        SeaAnchorError: names the key, the nearest legal one, and the expected type.
    """
    hints = get_type_hints(cls)
    values = {}
    for key, value in data.items():
        if key not in hints:
            near = _near(cls, str(key), where)
            raise SeaAnchorError(f"unknown setting {where}{key}", f"one of {', '.join(sorted(hints))}", f"did you mean {near}?" if near else "remove it")
        values[key] = _cast(hints[key], value, f"{where}{key}")
    return cls(**values)


def _near(cls: type, key: str, where: str) -> str | None:
    """The setting most likely meant: one of this name in a section of `cls`, or of a similar name in `cls` itself."""
    hints = get_type_hints(cls)
    sections = [name for name, hint in hints.items() if is_dataclass(hint) and key in get_type_hints(hint)]
    near = get_close_matches(key, hints, n=1, cutoff=0.5)
    return f"{where}{sections[0]}.{key}" if sections else f"{where}{near[0]}" if near else None


def _cast(hint: Any, value: Any, name: str) -> Any:
    if is_dataclass(hint):
        if not isinstance(value, dict):
            raise SeaAnchorError(f"{name} is {value!r}", "a section with settings of its own", f"write {name}: on one line and its settings indented below")
        return from_dict(hint, value, f"{name}.")  # type: ignore[arg-type]
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return None if value is None else _cast(next(a for a in args if a is not type(None)), value, name)
    if origin is Literal:
        if value not in args:
            near = get_close_matches(str(value), [str(a) for a in args], n=1, cutoff=0.4)
            raise SeaAnchorError(f"{name} is {value!r}", f"one of {', '.join(map(str, args))}", f"did you mean {near[0]}?" if near else "choose one of them")
        return value
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_cast(args[0], item, name) for item in items)
    return _cast_plain(hint, value, name)


def _cast_plain(hint: type, value: Any, name: str) -> Any:
    try:
        if hint is bool and not isinstance(value, bool):
            raise ValueError
        if hint is int and float(value) != int(value):
            raise ValueError
        if hint is not bool and (value is None or isinstance(value, bool | dict | list)):
            raise ValueError
        return hint(value)
    except (TypeError, ValueError, OverflowError):
        raise SeaAnchorError(f"{name} is {value!r}", f"a value of type {hint.__name__}", "correct it") from None


def to_dict(config: Any) -> dict[str, Any]:
    """Plain data that YAML and JSON can hold; `from_dict` gives the same configuration back."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, tuple | list):
            return [plain(v) for v in value]
        return str(value) if isinstance(value, Path) else value

    return plain(asdict(config))


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings of a recipe file.

    Raises:
        SeaAnchorError: the file is missing or is no YAML mapping.
    """
    import yaml

    try:
        data = _strings_for_keys(yaml.safe_load(path.read_text()))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SeaAnchorError(f"{path} could not be read as a recipe ({error})", "a YAML file of settings", "see `seaanchor recipes ls` and `cp`") from error
    if not isinstance(data, dict):
        raise SeaAnchorError(f"{path} holds {type(data).__name__}", "a YAML mapping of settings", "start from `seaanchor recipes cp lore`")
    return data


def _strings_for_keys(node: Any) -> Any:
    """YAML 1.1 reads a bare `on` as true, also where it is an anchor's setting."""
    return {"on" if key is True else key: _strings_for_keys(value) for key, value in node.items()} if isinstance(node, dict) else node


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
        ("batch_size", config.batch_size, 1), ("epochs", config.epochs, 1), ("primal_steps", config.primal_steps, 1),
        ("lr", config.lr, 0), ("wd", config.wd, 0), ("anchor.rho", anchor.rho, 0), ("anchor.weight", anchor.weight, 0),
        ("anchor.dual_lr", anchor.dual_lr, 0), ("anchor.dual_hidden", anchor.dual_hidden, 1), ("perturbation.num_steps", perturbation.num_steps, 0),
        ("perturbation.momentum", perturbation.momentum, 0), ("save_every", config.save_every, 1), ("log_every", config.log_every, 1),
        ("warmup", config.warmup, 0), ("workers", config.workers, 0), ("max_steps", config.max_steps, 1), ("image_size", config.image_size, 1),
        ("eval_every", config.eval_every, 1), ("eval_samples", config.eval_samples, 1),
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
    if config.objective.kind == "embedding_distance" and perturbation.kind == "none":
        raise SeaAnchorError(
            "objective embedding_distance with perturbation none is 0 from the start: the policy already is the reference",
            "embedding_distance with pgd or apgd; tecoa or cross_entropy with any perturbation",
            "choose a perturbation",
        )
    for template in config.templates:
        if "{}" not in template:
            raise SeaAnchorError(f"the template {template!r} has no {{}}", "a place for the class name, as in 'a photo of a {}.'", "add {}")
    return config


def needs_classes(config: RunConfig) -> bool:
    """Whether training needs class names and a text tower."""
    return config.objective.kind != "embedding_distance" or (config.anchor.kind != "none" and config.anchor.on == "distribution")


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Settings that differ, as `name: old → new`; what may change between a run and its resumption is left out."""
    free = {"resume", "output", "device", "workers", "save_every", "log_every", "report_to", "eval_every", "eval_samples", "val_data"}
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
    "check", "differences", "from_dict", "needs_classes", "parse_epsilon", "read_yaml", "replace", "to_dict",
]  # fmt: skip
