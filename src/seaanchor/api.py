"""What people call: training, evaluation and profiling wired together. No other file does that.

Nothing heavy is imported before a function is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seaanchor.config.schema import RunConfig
from seaanchor.distributed.failing import tells_others
from seaanchor.errors import SeaAnchorError

if TYPE_CHECKING:
    from seaanchor.data.dataset import DataLike
    from seaanchor.data.types import Images
    from seaanchor.encoders.encoder import Encoder, LoadedModel
    from seaanchor.evaluation.results import EvaluationResult
    from seaanchor.evaluation.typographic_plan import TypographicPlan
    from seaanchor.method import Method
    from seaanchor.training.setup import Given

    ModelLike = str | Path | LoadedModel | Encoder

SECTIONS = ("objective", "anchor", "perturbation", "adapter")
NAMED = {"model": "model", "train_data": "data", "output": "output", "max_steps": "steps"}  # settings → arguments


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        output: its folder, with config.yaml, metrics.jsonl, checkpoints and export.
        config: its resolved settings.
        start: the model that was given, where no library loads its export: a module of your own.
    """

    output: Path
    config: RunConfig
    start: LoadedModel | None = None

    @cached_property
    def model(self) -> LoadedModel:
        """The trained model, as `seaanchor.evaluate` takes it."""
        from seaanchor.training.finish import load_export

        return load_export(self.output / "export", self.config, self.start)

    @cached_property
    def averaged(self) -> LoadedModel:
        """The model with averaged weights.

        Raises:
            SeaAnchorError: the run kept no average.
        """
        folder = self.output / "export-averaged"
        if not folder.is_dir():
            raise SeaAnchorError(
                f"{self.output} has no averaged weights", "a run with average beta or ema", "train one"
            )
        from seaanchor.training.finish import load_export

        return load_export(folder, self.config, self.start)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """What was logged: one dictionary for each line of metrics.jsonl."""
        from seaanchor.training.run_folder import RunFolder

        return RunFolder(self.output).rows()

    def export(self, folder: str | Path, *, half: bool = False, format: str | None = None, alpha: float = 1.0) -> Path:
        """Write the trained model as a folder that another library loads, and verify it by reloading.

        Args:
            folder: where to write.
            half: store fp16 weights.
            format: as in `export_model`; by default that of the model's own library.
            alpha: share of the trained weights, 0 to 1; the rest of each weight is that before training. Less keeps
                more of what the model knew (WiSE-FT, arXiv 2109.01903).

        Raises:
            SeaAnchorError: as `export_model`, an alpha outside [0, 1], or the untouched model is gone.
        """
        if alpha == 1:
            from seaanchor.report.model_card import export_model

            return export_model(self.model, Path(folder), half=half, format=format, run=self.output)
        from seaanchor.steering.interpolation import export_between, load_ends_of

        model, reference = load_ends_of(self.output, self.config, self.start)
        return export_between(model, reference, alpha, Path(folder), half=half, format=format, run=self.output)


@tells_others
def train(
    model: ModelLike,
    data: DataLike,
    method: Method | str,
    *,
    output: str | Path,
    steps: int | None = None,
    **settings: Any,
) -> Run:
    """Train a model by a method on images, and export it; the model itself stays as it is.

    Args:
        model: from `load_model`, its name, or an `Encoder` around a module of your own.
        data: images from `seaanchor.data`, a source's name, a torch `Dataset`, or a `DataLoader`, of which the data set
            is taken.
        method: from `seaanchor.methods`, a `Method` of your own parts, or a recipe's name.
        output: run folder, new or empty; with `resume="auto"` a run that goes on.
        steps: training steps; by default those of the method's epochs.
        settings: any other field of `RunConfig`, such as `batch_size`, `lr`, `seed`, `device`, `resume`.

    Raises:
        SeaAnchorError: an unknown setting, settings that contradict the method or do not go together, data without what
            the method needs, bad weights, a run folder in use, a loss that is not finite, too little memory.
    """
    from seaanchor.training.setup import Given

    settings = {"output": output} | settings
    config, given_method = _config(method, settings, steps)
    config, given_model = _model(model, config)
    config, given_images = _images(data, config)
    return _train(config, Given(given_model, given_images, given_method))


@tells_others
def train_from_config(config: RunConfig) -> Path:
    """Train, evaluate and export the run that a configuration describes; returns its folder.

    Raises:
        SeaAnchorError: as `train`.
    """
    return _train(config).output


@tells_others
def evaluate(
    model: ModelLike,
    data: DataLike,
    *,
    attacks: Sequence[Any] = (),
    suites: Sequence[str] = (),
    reference: ModelLike | None = None,
    head: str | Path | None = None,
    train_data: str | Path | None = None,
    templates: Sequence[str] = (),
    typographic: TypographicPlan | None = None,
    samples: int | None = None,
    seed: int = 0,
    output: str | Path | None = None,
    batch_size: int = 100,
    workers: int = 0,
    device: str | None = None,
) -> EvaluationResult:
    """What a model can do on labelled images, clean and under attacks, beside its untouched reference.

    Args:
        model: from `load_model`, `Run.model`, a name, or an `Encoder` around a module of your own with texts.
        data: labelled images from `seaanchor.data`, a source's name, a torch `Dataset` or a `DataLoader`.
        attacks: records from `seaanchor.attacks`; several radii of one attack are several records.
        suites: further suites by name, such as `drift` or `typographic` (`seaanchor evaluate --help` lists them).
        reference: the untouched model, evaluated on the same images under the same attacks.
        head: `text`; `classifier`, the model's own; `probe`, fitted once on clean embeddings of `train_data`; or a file
            with a linear head. By default the head that a run was trained with, else texts, else the model's own.
        train_data: a source of training images for a probe; by default the train split beside `data`.
        templates: prompts with `{}`; by default those of the data set, or "a photo of a {}."
        typographic: which words the suite of that name draws, how large and in which fonts; it asks for the suite.
        samples: at most this many images, balanced over the classes.
        seed: of subsets and of everything a suite draws.
        output: folder for the result file; by default none is written.
        batch_size, workers, device: how it is computed; they change no result but for rounding.

    Returns:
        `result.clean`, `result.robust["apgd", 2 / 255]`, `result.suites`, `result.checks` and `result.reference`; every
        accuracy with its 95 % interval and n.

    Raises:
        SeaAnchorError: images without labels, no such attack or suite, a head that does not fit, a failed self-check.
    """
    from seaanchor.evaluation.arguments import protocol_of
    from seaanchor.evaluation.run import evaluate_loaded

    images, samples = _to_evaluate(data, samples, seed)
    settings = {"samples": samples, "seed": seed, "head": head, "training": train_data}
    protocol = protocol_of(attacks, suites, templates, typographic, settings)
    return evaluate_loaded(
        _loaded(model),
        images,
        protocol,
        reference=None if reference is None else _loaded(reference),
        output=None if output is None else Path(output),
        dataset=str(data) if isinstance(data, str | Path) else None,
        batch_size=batch_size,
        workers=workers,
        device=device,
    )


def _train(config: RunConfig, given: Given | None = None) -> Run:
    from seaanchor.config.io import with_types
    from seaanchor.evaluation.quick_accuracy import quick_accuracy
    from seaanchor.profiling.fitting import fitted
    from seaanchor.profiling.memory_advice import training_advice
    from seaanchor.training.run import Hooks, train
    from seaanchor.training.setup import Given

    given, config = given or Given(), with_types(config)
    train(config, Hooks(quick_accuracy, training_advice, fitted), given)
    own = given.model is not None and given.model.family == "module"
    return Run(config.output, config, given.model if own else None)


def _config(method: Method | str, settings: dict[str, Any], steps: int | None) -> tuple[RunConfig, Method | None]:
    """The settings of a run, and the method where it was given as an object."""
    from seaanchor.method import Method

    known = {field.name for field in fields(RunConfig)} - {*SECTIONS, *NAMED} | {"output"}
    for name in settings:
        if name in SECTIONS:
            raise SeaAnchorError(
                f"{name} beside a method", "one of them: the method holds all four parts", f"leave {name} out"
            )
        if name in NAMED and name != "output":
            raise SeaAnchorError(f"the setting {name}", f"the argument {NAMED[name]}", f"write {NAMED[name]}=")
        if name not in known:
            near = get_close_matches(name, known | {"model", "data", "method", "steps"}, n=1)
            change = f"did you mean {near[0]}?" if near else "leave it out"
            raise SeaAnchorError(f"unknown setting {name}", f"one of {', '.join(sorted(known))}", change)
    if steps is not None:
        if "epochs" in settings:
            raise SeaAnchorError(f"steps={steps} and epochs={settings['epochs']}", "one of them", "leave one out")
        settings = settings | {"max_steps": steps, "epochs": steps}  # an epoch has at least one step
    if isinstance(method, str):
        from seaanchor.config.recipes import recipe_named

        return replace(recipe_named(method), **settings), None
    if not isinstance(method, Method):
        expected = "a Method, as seaanchor.methods makes them, or a recipe's name"
        raise SeaAnchorError(f"a method of type {type(method).__name__}", expected, "such as seaanchor.methods.lore()")
    return RunConfig(**dict(method.defaults) | settings), method


def _loaded(model: ModelLike) -> LoadedModel:
    """The model itself, or loaded by its name, or made of an encoder."""
    from seaanchor.encoders.encoder import Encoder, LoadedModel
    from seaanchor.encoders.load import load_model
    from seaanchor.encoders.own_module import from_encoder

    if isinstance(model, LoadedModel):
        return model
    if isinstance(model, Encoder):
        return from_encoder(model)
    if isinstance(model, str | Path):
        return load_model(str(model))
    change = "wrap a module of your own: seaanchor.Encoder(module, image_size=..., mean=..., std=...)"
    raise SeaAnchorError(f"a model of type {type(model).__name__}", "a name, a loaded model, or an Encoder", change)


def _model(model: ModelLike, config: RunConfig) -> tuple[RunConfig, LoadedModel | None]:
    """The settings with the model's name, and the model where it was given as an object."""
    if isinstance(model, str | Path):
        return replace(config, model=str(model)), None
    loaded = _loaded(model)
    tokens = config.tokens or loaded.encoder.tokens
    return replace(config, model=loaded.name, pretrained=loaded.pretrained, tokens=tokens), loaded


def _images(data: DataLike, config: RunConfig) -> tuple[RunConfig, Images | None]:
    """The settings with the data's name, and the images where they were given as an object."""
    from seaanchor.data.dataset import images_given

    images = images_given(data)
    return replace(config, train_data=str(data if images is None else images.root)), images


def _to_evaluate(data: DataLike, samples: int | None, seed: int) -> tuple[Images | str, int | None]:
    """Images, at most `samples` of them; a source's name goes with the number."""
    from seaanchor.data.dataset import images_given
    from seaanchor.data.loader import subset
    from seaanchor.utils.numbers import check_count

    check_count("samples", samples)
    images = images_given(data)
    if images is None:
        return str(data), samples
    if samples is None:
        return images, None
    return subset(images, samples, seed), None
