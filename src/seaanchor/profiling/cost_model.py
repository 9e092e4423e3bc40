"""The cost model: what a training step of any size takes, found by running it on tensors that have shapes and no
contents.

Nothing of that size is computed or allocated, so that a laptop can tell what a step takes on eight GPUs. A step is two
kinds of work: matrix products and convolutions, counted in operations at each precision, and everything else, counted
in the bytes that it reads and writes. Kernels are taken as torch runs them one by one, on a processor; a GPU's differ
where they fuse more.

Legend: B batch, C classes, D embedding dimension.
"""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode

from seaanchor.adapters.linear_map import LinearMap
from seaanchor.config.schema import RunConfig
from seaanchor.encoders.embedding_table import Identity
from seaanchor.encoders.encoder import Encoder, Reference
from seaanchor.encoders.kernels import adam_options
from seaanchor.encoders.low_precision import LowPrecisionCopy
from seaanchor.functional.gradients import frozen, input_grad
from seaanchor.method import Method
from seaanchor.profiling.memory import Footprint
from seaanchor.profiling.op_counter import Meter, Stage, Work
from seaanchor.profiling.rehearsed import rehearsed
from seaanchor.profiling.replay import Calls, Recorder
from seaanchor.profiling.without_contents import shapes_alone, without_contents
from seaanchor.training.batches import MicroBatch, only_cached
from seaanchor.training.dual_step import dual_optimizer
from seaanchor.training.state import TrainState, reference_average, reused_prefix, staying, weight_average
from seaanchor.training.step import train_step
from seaanchor.types import Batch, Head, Preference, Targets, needs_of

SMALLEST = 64  # images from which on memory is a straight line: below, what weights need at the update is in the way
# images' worth of pixels that APGD's state holds: where it is, was and was best, gradients, and what a step makes on
# the way
ATTACKED = 12


@dataclass(frozen=True)
class Cost:
    """What a step on one device takes.

    Attributes:
        batch: images of the step.
        stages: its work, by stage.
        forward: the work of one image once through the tower; its operations are F.
        memory: bytes, as a line over the number of images.
        trained: numbers that are trained, multipliers included.
    """

    batch: int
    stages: Mapping[Stage, Work]
    forward: Work
    memory: Footprint
    trained: int

    @property
    def step(self) -> Work:
        """The work of the step."""
        return Work.sum((work, 1) for work in self.stages.values())

    @property
    def passes(self) -> float:
        """Operations per image, in units of F."""
        return self.step.total / self.batch / self.forward.total


@shapes_alone
def step_cost(config: RunConfig, encoder: Encoder, method: Method, classes: int, cached: bool) -> Cost:
    """What one step of `config.batch_size` images takes, in fp32 or as `config.precision` has it.

    Args:
        config: attack steps, primal steps, optimizer, precision, averages.
        encoder: the tower as `load_model` gives it; its weights are not read.
        method: its parts; drawn and swapped words cost the device nothing.
        classes: C, candidate texts.
        cached: whether reference embeddings are looked up instead of computed.
    """
    scene = _Scene(config, encoder, method, classes, cached, config.batch_size)
    scene.measure(scene.step)  # gradients and optimizer state are there from now on
    forward = _Scene(config, encoder, method, classes, cached, 1).forward()
    trained = sum(p.numel() for module in scene.moves for p in module.parameters() if p.requires_grad)
    return Cost(
        config.batch_size,
        scene.measure(scene.step).stages,
        forward.work,
        step_memory(config, encoder, method, classes, cached),
        trained,
    )


@shapes_alone
def step_work(config: RunConfig, encoder: Encoder, method: Method, classes: int, cached: bool) -> Work:
    """The work of a step alone; arguments as for `step_cost`."""
    scene = _Scene(config, encoder, method, classes, cached, config.batch_size)
    return scene.measure(scene.step).work


@shapes_alone
def step_calls(config: RunConfig, encoder: Encoder, method: Method, classes: int, cached: bool) -> Calls:
    """The kernels of a step with their arguments, as `replayed` runs them; arguments as for `step_cost`."""
    scene = _Scene(config, encoder, method, classes, cached, config.batch_size)
    scene.measure(scene.step)  # gradients and optimizer state are there from now on
    return _recorded(scene, _Scene.step)


@shapes_alone
def forward_calls(config: RunConfig, encoder: Encoder, method: Method) -> Calls:
    """Those of a forward of a batch through the tower, without gradients."""
    return _recorded(_Scene(config, encoder, method, 1, True, config.batch_size), _Scene.forward)


def _recorded(scene: "_Scene", run: Callable[["_Scene"], object]) -> Calls:
    recorder = Recorder()

    def recorded() -> None:
        with recorder:
            run(scene)

    scene.measure(recorded)
    return recorder.calls


@shapes_alone
def step_memory(config: RunConfig, encoder: Encoder, method: Method, classes: int, cached: bool) -> Footprint:
    """Bytes at the worst moment of a step, from steps of two sizes; arguments as for `step_cost`."""
    size = max(SMALLEST, config.batch_size)
    scenes = [_Scene(_short(config), encoder, method, classes, cached, images) for images in (size, 2 * size)]
    small, large = (scene.measure(scene.two_steps).peak for scene in scenes)
    return Footprint(2 * small - large, (large - small) / size)


@shapes_alone
def attack_memory(encoder: Encoder, classes: int) -> Footprint:
    """Bytes at the worst moment of an attack of an evaluation: a gradient to the pixels, and a few more images of the
    same size."""
    peaks = []
    for images in (SMALLEST, 2 * SMALLEST):
        mode, meter = without_contents(), Meter()
        with FakeCopyMode(mode):
            tower = copy.deepcopy(encoder)
        with mode, meter, frozen(tower), next(encoder.parameters()).device:
            for tensor in (*tower.parameters(), *tower.buffers()):
                meter.see(tensor)
            others = [torch.rand(images, 3, tower.image_size, tower.image_size) for _ in range(ATTACKED)]
            input_grad(partial(_attacked, tower, Head(torch.randn(classes, tower.dim), 100.0)), others[0])
        peaks.append(meter.peak)
        del others
    return Footprint(2 * peaks[0] - peaks[1], (peaks[1] - peaks[0]) / SMALLEST)


def _attacked(tower: nn.Module, head: Head, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    return head(tower(pixels_BCHW)).sum(1), pixels_BCHW


def _short(config: RunConfig) -> RunConfig:
    """The same step with the fewest repetitions: two gradients of the attack and two updates see the worst moment as
    well as ten do."""
    attack = replace(config.perturbation, num_steps=min(2, config.perturbation.num_steps))
    return replace(config, perturbation=attack, primal_steps=min(2, config.primal_steps))


class _Scene:
    """A step's models, optimizers and batch as tensors without contents."""

    def __init__(
        self, config: RunConfig, encoder: Encoder, method: Method, classes: int, cached: bool, batch: int
    ) -> None:
        self.config, self.batch, self.cached, self.mode = config, batch, cached, without_contents()
        # a copy of a tensor without contents stays in its mode
        setattr(self.mode, "__deepcopy__", lambda memo: self.mode)  # noqa: B010
        self.method = replace(method, perturbation=rehearsed(method.perturbation, config.perturbation.num_steps))
        linear = config.adapter.kind == "linear"
        self.shared: set[str] = set()  # by the reference with the policy
        adapted: Any = encoder  # what goes in where there are real weights goes in before they are left behind
        if not linear and not needs_of(method.adapter).whole_tower:
            adapted = copy.deepcopy(encoder)
            before = dict(adapted.named_parameters())
            list(method.adapter.trainable(adapted))
            self.shared = set(staying(encoder, before, adapted))
        prefix = reused_prefix(config, adapted) if adapted is not encoder else None
        shadow = LowPrecisionCopy(adapted) if config.attack_precision == "bf16" and not linear else None
        with FakeCopyMode(self.mode):
            self.tower, shadow = copy.deepcopy((adapted, shadow))
            self.method = copy.deepcopy(self.method)
            self.reference = Identity() if linear or (cached and only_cached(method)) else Reference(encoder)
        self.side, dim = adapted.image_size, adapted.dim
        device = next(encoder.parameters()).device
        with self.mode, device, _without_fakes_warning():
            policy = LinearMap(dim) if linear else self.tower
            parameters = (
                [p for p in policy.parameters() if p.requires_grad]
                if adapted is not encoder
                else list(self.method.adapter.trainable(policy))
            )
            average = weight_average(config, parameters, 1000)
            held_to = reference_average(config.anchor, parameters, 1000)
            fused = adam_options(device)
            optimizer = (
                torch.optim.AdamW(parameters, lr=1e-5, **fused)
                if config.optimizer == "adamw"
                else torch.optim.Adamax(parameters, lr=1e-5)
            )
            dual = self.method.anchor.dual_module()
            moves_dual = dual_optimizer(dual, config.anchor, device)
            policy.train()
            self.state = TrainState(policy, optimizer, dual, moves_dual, average, shadow, held_to, prefix)
            self.moves = [policy] if dual is None else [policy, dual]
            shape = (batch, dim) if linear else (batch, 3, self.side, self.side)
            label_B = torch.zeros(batch, dtype=torch.long)
            self.clean = Batch(torch.rand(shape), label_B, torch.arange(batch), Preference(label_B, label_B))
            self.head = Head(F.normalize(torch.randn(classes, dim), dim=-1), 100.0)
            self.stored_BD = torch.randn(batch, dim)

    def measure(self, run: Callable[[], object]) -> Meter:
        """Run something and tell what it took; what lies there beforehand counts as alive."""
        meter, fast_path = Meter(), torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # one opaque kernel, which no formula counts
        try:
            with self.mode, meter:
                for tensor in self._held():
                    meter.see(tensor)
                run()
        finally:
            torch.backends.mha.set_fastpath_enabled(fast_path)
        return meter

    def _held(self) -> Iterator[Tensor]:
        for module in (
            self.tower,
            self.reference,
            *self.moves,
            *([self.state.low_precision_copy.encoder] if self.state.low_precision_copy is not None else []),
        ):
            yield from module.buffers()
            for name, parameter in module.named_parameters():
                if module is self.reference and name.removeprefix("encoder.") in self.shared:
                    continue
                yield parameter
                if parameter.grad is not None:
                    yield parameter.grad
        for values in self.state.optimizer.state.values():
            yield from (value for value in values.values() if isinstance(value, Tensor))
        for average in (self.state.average, self.state.moving_reference):
            yield from average.mean if average is not None else []
        yield self.clean.pixels_BCHW

    def step(self) -> None:
        """One step of training, as `train` takes it."""
        reference_BD = self.stored_BD if self.cached else self.reference(self.clean.pixels_BCHW)
        targets = Targets(reference_BD, self.clean.label_B, self.head, index_B=self.clean.index_B)
        train_step(self.method, self.state, [MicroBatch(self.clean, targets)], self.config, 0, self.reference)

    def two_steps(self) -> None:
        """The second finds gradients and optimizer state that the first one left."""
        self.step()
        self.step()

    def forward(self) -> Meter:
        """One forward through the tower, without gradients."""
        with self.mode:
            pixels_BCHW = torch.rand(self.batch, 3, self.side, self.side, device=self.clean.index_B.device)
        return self.measure(lambda: torch.no_grad()(self.tower)(pixels_BCHW))


@contextmanager
def _without_fakes_warning() -> Iterator[None]:
    """torch warns when a tensor without contents is copied, because it asks for its address."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
        yield
