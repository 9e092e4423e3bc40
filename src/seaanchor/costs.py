"""The cost model: what a training step of any size takes, found by running it on tensors that have shapes and no contents.

Nothing of that size is computed or allocated, so that a laptop can tell what a step takes on eight GPUs. A step is two kinds of work: matrix
products and convolutions, counted in operations at each precision, and everything else, counted in the bytes that it reads and writes. Kernels are
taken as torch runs them one by one, on a processor; a GPU's differ where they fuse more.

Legend: B batch, C classes, D embedding dimension.
"""

import copy
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

from seaanchor.adapters.linear_map import LinearMap
from seaanchor.averaging import WeightAverage
from seaanchor.config import RunConfig
from seaanchor.embedded import Identity
from seaanchor.encoders.encoder import Reference
from seaanchor.hardware import Machine
from seaanchor.memory import Footprint
from seaanchor.method import Method
from seaanchor.parts import Batch, Head, LossOf, Perturbation, Preference, Targets, frozen, input_grad
from seaanchor.perturbations.apgd import APGD, apgd
from seaanchor.perturbations.chain import Chain
from seaanchor.perturbations.none import NoPerturbation
from seaanchor.perturbations.pgd import PGD
from seaanchor.step import Moving, train_step

aten = torch.ops.aten
FORMULAS = flop_registry | {
    aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[aten._scaled_dot_product_flash_attention],
    aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[aten._scaled_dot_product_flash_attention_backward],
}
SMALLEST = 64  # images from which on memory is a straight line: below, what weights need at the update is in the way
ATTACKED = 12  # images' worth of pixels that APGD's state holds: where it is, was and was best, gradients, and what a step makes on the way
ALONE = SimpleNamespace(
    num_processes=1, process_index=0, unwrap_model=lambda module: module, backward=lambda loss: loss.backward(),
    clip_grad_norm_=torch.nn.utils.clip_grad_norm_,
)  # fmt: skip


class Meter(TorchDispatchMode):
    """Counts what runs inside: operations by precision, bytes moved by all other kernels, and bytes alive now and at most.

    Attributes:
        flops: operations of matrix products and convolutions, by `fp32` or `bf16`.
        moved: bytes that the other kernels read and write.
        alive, peak: bytes of the tensors made inside (or shown to `see`), now and at most.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops: Counter[str] = Counter()
        self.moved = self.alive = self.peak = 0
        self._sizes: dict[int, int] = {}

    def see(self, tensor: Tensor) -> None:
        """Take a tensor's memory into account until it is freed."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.alive += self._sizes[key]
            self.peak = max(self.peak, self.alive)
            weakref.finalize(storage, self._freed, key)

    def _freed(self, key: int) -> None:
        self.alive -= self._sizes.pop(key)

    @property
    def work(self) -> "Work":
        """What was counted."""
        return Work(dict(self.flops), self.moved)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = [x for x in tree_iter((args, kwargs)) if isinstance(x, Tensor)]
        outputs = [x for x in tree_iter(result) if isinstance(x, Tensor)]
        for tensor in outputs:
            self.see(tensor)
        if func._overloadpacket in FORMULAS:
            precision = "bf16" if any(x.dtype == torch.bfloat16 for x in inputs) else "fp32"
            self.flops[precision] += FORMULAS[func._overloadpacket](*args, **(kwargs or {}), out_val=result)
        elif func.namespace == "aten" and not func.is_view and func not in _FREE:
            self.moved += sum(map(_bytes, inputs)) + sum(map(_bytes, outputs))
        return result


_FREE = {aten.detach.default, aten.empty.memory_format, aten.empty_like.default, aten._unsafe_view.default, aten.lift_fresh.default}


def _bytes(tensor: Tensor) -> int:
    """What a kernel touches of a tensor: an expanded one is read from the few bytes that it has."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


@dataclass(frozen=True)
class Work:
    """What a machine has to do.

    Attributes:
        flops: operations of matrix products and convolutions, by `fp32` or `bf16`.
        moved: bytes that all other kernels read and write.
    """

    flops: dict[str, int]
    moved: int

    def seconds(self, machine: Machine, share: float = 1.0) -> float:
        """Where the machine reaches a share of its rates of arithmetic and of memory."""
        arithmetic = sum(count / machine.rate(precision) for precision, count in self.flops.items())
        return (arithmetic + self.moved / machine.bandwidth) / share

    @property
    def total(self) -> int:
        """Operations of all precisions."""
        return sum(self.flops.values())


@dataclass(frozen=True)
class Cost:
    """What a step on one device takes.

    Attributes:
        batch: images of the step.
        step: its work.
        forward: the work of one image once through the tower; its operations are F.
        memory: bytes, as a line over the number of images.
        trained: numbers that are trained, multipliers included.
    """

    batch: int
    step: Work
    forward: Work
    memory: Footprint
    trained: int

    @property
    def passes(self) -> float:
        """Operations per image, in units of F."""
        return self.step.total / self.batch / self.forward.total


def step_cost(config: RunConfig, encoder: nn.Module, method: Method, classes: int, cached: bool) -> Cost:
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
    return Cost(config.batch_size, scene.measure(scene.step).work, forward.work, step_memory(config, encoder, method, classes, cached), trained)


def step_memory(config: RunConfig, encoder: nn.Module, method: Method, classes: int, cached: bool) -> Footprint:
    """Bytes at the worst moment of a step, from steps of two sizes; arguments as for `step_cost`."""
    size = max(SMALLEST, config.batch_size)
    scenes = [_Scene(_short(config), encoder, method, classes, cached, images) for images in (size, 2 * size)]
    small, large = (scene.measure(scene.two_steps).peak for scene in scenes)
    return Footprint(2 * small - large, (large - small) / size)


def attack_memory(encoder: nn.Module, classes: int) -> Footprint:
    """Bytes at the worst moment of an attack of an evaluation: a gradient to the pixels, and a few more images of the same size."""
    peaks = []
    for images in (SMALLEST, 2 * SMALLEST):
        mode, meter = FakeTensorMode(), Meter()
        with FakeCopyMode(mode):
            tower = copy.deepcopy(encoder)
        with mode, meter, frozen(tower), next(encoder.parameters()).device:
            weights = [meter.see(tensor) for tensor in (*tower.parameters(), *tower.buffers())]
            others = [torch.rand(images, 3, tower.image_size, tower.image_size) for _ in range(ATTACKED)]
            head = Head(torch.randn(classes, tower.dim), 100.0)
            input_grad(lambda pixels, tower=tower, head=head: (head(tower(pixels)).sum(1), pixels), others[0])
        peaks.append(meter.peak)
        del weights, others
    return Footprint(2 * peaks[0] - peaks[1], (peaks[1] - peaks[0]) / SMALLEST)


def _short(config: RunConfig) -> RunConfig:
    """The same step with the fewest repetitions: two gradients of the attack and two updates see the worst moment as well as ten do."""
    attack = replace(config.perturbation, num_steps=min(2, config.perturbation.num_steps))
    return replace(config, perturbation=attack, primal_steps=min(2, config.primal_steps))


class _Scene:
    """A step's models, optimizers and batch as tensors without contents."""

    def __init__(self, config: RunConfig, encoder: nn.Module, method: Method, classes: int, cached: bool, batch: int) -> None:
        self.config, self.batch, self.cached, self.mode = config, batch, cached, FakeTensorMode()
        self.method = replace(method, perturbation=_rehearsed(method.perturbation, config.perturbation.num_steps))
        linear = config.adapter.kind == "linear"
        adapted: Any = encoder
        if config.adapter.kind == "lora":  # goes in where there are real weights
            adapted = copy.deepcopy(encoder)
            list(method.adapter.trainable(adapted))
        with FakeCopyMode(self.mode):
            self.tower: Any = copy.deepcopy(adapted)
            self.method = copy.deepcopy(self.method)
            self.reference = Identity() if linear else Reference(encoder)
        self.side, dim = adapted.image_size, adapted.dim
        with self.mode, next(encoder.parameters()).device:
            policy = LinearMap(dim) if linear else self.tower
            average = None
            parameters = [p for p in policy.parameters() if p.requires_grad] if adapted is not encoder else list(self.method.adapter.trainable(policy))
            if config.average != "none":
                average = WeightAverage(parameters, 1000, config.average, config.ema_decay)
            optimizer = {"adamw": torch.optim.AdamW, "adamax": torch.optim.Adamax}[config.optimizer](parameters, lr=config.lr)
            dual = self.method.anchor.dual_module()
            dual_optimizer = None if dual is None else torch.optim.AdamW(dual.parameters(), lr=1e-3)
            policy.train()
            self.moving = Moving(policy, optimizer, dual, dual_optimizer, average)
            self.moves = [policy] if dual is None else [policy, dual]
            shape = (batch, dim) if linear else (batch, 3, self.side, self.side)
            label_B = torch.zeros(batch, dtype=torch.long)
            self.clean = Batch(torch.rand(shape), label_B, torch.arange(batch), Preference(label_B, label_B))
            self.head = Head(F.normalize(torch.randn(classes, dim), dim=-1), 100.0)
            self.stored_BD = torch.randn(batch, dim)

    def measure(self, run: Callable[[], object]) -> Meter:
        """Run something and tell what it took; what lies there beforehand counts as alive."""
        meter = Meter()
        with self.mode, meter:
            for tensor in self._held():
                meter.see(tensor)
            run()
        return meter

    def _held(self) -> Iterator[Tensor]:
        for module in (self.tower, self.reference, *self.moves):
            yield from module.buffers()
            for parameter in module.parameters():
                yield parameter
                if parameter.grad is not None:
                    yield parameter.grad
        for state in self.moving.optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, Tensor))
        yield from self.moving.average.mean if self.moving.average is not None else []
        yield self.clean.pixels_BCHW

    def step(self) -> None:
        """One step of training, as `train` takes it."""
        reference_BD = self.stored_BD if self.cached else self.reference(self.clean.pixels_BCHW)
        targets = Targets(reference_BD, self.clean.label_B, self.head)
        train_step(self.method, self.moving, ALONE, self.clean, targets, self.config, 0, self.reference)

    def two_steps(self) -> None:
        """The second finds gradients and optimizer state that the first one left."""
        self.step()
        self.step()

    def forward(self) -> Meter:
        """One forward through the tower, without gradients."""
        with self.mode:
            pixels_BCHW = torch.rand(self.batch, 3, self.side, self.side, device=self.clean.index_B.device)
        return self.measure(lambda: torch.no_grad()(self.tower)(pixels_BCHW))


def _rehearsed(perturbation: Perturbation, num_steps: int) -> Perturbation:
    """A perturbation as the device pays for it: attacks start at the clean image, and words are drawn elsewhere."""
    if isinstance(perturbation, Chain):
        return Chain(tuple(_rehearsed(link, num_steps) for link in perturbation.links))
    if isinstance(perturbation, PGD):
        return replace(perturbation, random_start=False, num_steps=num_steps)
    if isinstance(perturbation, APGD):
        return _FromClean(replace(perturbation, num_steps=num_steps))
    return NoPerturbation()


@dataclass(frozen=True)
class _FromClean:
    """APGD from the clean image."""

    attack: APGD

    def __call__(self, batch: Batch, loss: LossOf, rng: torch.Generator) -> Batch:
        attack_loss, pixels_BCHW = loss(batch), batch.pixels_BCHW
        result = apgd(lambda pixels, row: attack_loss(pixels), pixels_BCHW, pixels_BCHW, self.attack.ball, self.attack.num_steps)
        return replace(batch, pixels_BCHW=result.pixels_BCHW)
