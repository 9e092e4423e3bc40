"""One step of training: perturb, K primal updates, one dual update.

Legend: B batch, D embedding dimension.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from seaanchor.config.schema import RunConfig
from seaanchor.distributed.process_group import ONE_PROCESS, ProcessGroup
from seaanchor.encoders.kernels import fast_kernels, num_tokens
from seaanchor.encoders.prefix import PrefixCache
from seaanchor.method import Encode, Method
from seaanchor.training.averaging import WeightAverage
from seaanchor.training.batches import MicroBatch
from seaanchor.training.dual_step import take_dual_step
from seaanchor.training.loggers import StepRecord
from seaanchor.training.precision import training_forward, training_kernels
from seaanchor.training.slices import Pair, Slicing, joined, sliced, sliced_pair, slicings, with_baseline
from seaanchor.training.state import TrainState
from seaanchor.types import Batch, Constraint, Embeddings, LossTerms, Targets
from seaanchor.utils.parts import ATTACK, DUAL, OPTIMIZER, REFERENCE, UPDATE, part


def train_step(
    method: Method,
    state: TrainState,
    micro_batches: Sequence[MicroBatch],
    config: RunConfig,
    step: int,
    reference: Encode | None = None,
    group: ProcessGroup = ONE_PROCESS,
    num_images: float = 0,
) -> StepRecord:
    """One step: perturb once, K primal updates with the multipliers detached, one dual update with the violation
    detached.

    All micro-batches of all processes are perturbed at the weights from before the step. Each of the K updates takes
    the gradient of the mean over all their images, and so does the dual update: it is the step of one process with
    memory for the global batch. With `config.slice_size` the same is done with a part of a micro-batch at a time. The
    attack's randomness is a function of seed, step and image, that of layers such as dropout of seed, step and process
    (and of the slices), so resuming needs no state.

    Args:
        method: objective, anchor, perturbation and adapter.
        state: what the step changes.
        micro_batches: of this process.
        config: of the run.
        step: counted from 0.
        reference: pixels → embeddings of the frozen reference, for methods that embed perturbed images with it.
        group: the processes of the run.
        num_images: images of all processes, padding not counted; by default as many on each process as on this one.

    Returns:
        What the log needs, of the images of this process.
    """
    num_images = num_images or group.world * sum(micro_batch.num_images for micro_batch in micro_batches)
    method = method.at(step)
    attack, update = slicings(config, method, state.encoder)
    torch.manual_seed(step_seed(config.seed, step, group.rank))
    state.optimizer.zero_grad(set_to_none=True)  # the last step's gradients are in the way of the attack
    seed = step_seed(config.seed, step, 0)
    whole = _perturb(method, state, micro_batches, seed, reference, attack)
    slices = [sliced_pair(pair, update) for pair in whole]
    perturbed = [pair for own in slices for pair in own]
    if state.moving_reference is not None:
        perturbed = _anchored_to_average(state.encoder, state.moving_reference, perturbed)
    # gradients are averaged over processes
    weights = [group.world * clean.num_images / num_images for clean, _ in perturbed]
    terms, prefixes = list[LossTerms](), PrefixCache(state.encoder, state.prefix)
    for _ in range(config.primal_steps):
        compared = _compared(method, state, perturbed, [len(own) for own in slices], config)
        terms = _primal_step(method, state, compared, weights, config, prefixes)
        perturbed = _with_old_policy(perturbed, terms)
    constraints = [term.anchor.constraint for term in terms]
    if config.anchor.exact_dual and constraints[0] is not None:
        constraints = _constraints_now(method, state.encoder, [clean for clean, _ in perturbed], config, prefixes)
    if config.anchor.dual_lr > 0 and state.dual is not None:
        clean = [clean for clean, _ in perturbed]
        take_dual_step(method, state.dual, state.dual_optimizer, clean, constraints, weights, config.anchor, group)
    for average in (state.average, state.moving_reference):
        if average is not None:
            average.update()
    return _record([clean for clean, _ in perturbed], terms, constraints)


@part(ATTACK)
def _perturb(
    method: Method,
    state: TrainState,
    micro_batches: Sequence[MicroBatch],
    seed: int,
    reference: Encode | None,
    slicing: Slicing,
) -> list[Pair]:
    """Each micro-batch, its targets completed, with its perturbed images. All slices start from one state of the
    generator, as each image draws for itself."""
    copy = state.low_precision_copy
    under_attack, dtype = (state.encoder, torch.float32) if copy is None else (copy.refreshed(), copy.dtype)

    def attacked(clean: MicroBatch) -> tuple[Targets, Batch]:
        rng = torch.Generator().manual_seed(seed)
        perturbed = method.perturb(under_attack, clean.batch, clean.targets, rng)
        return method.complete(clean.targets, perturbed, reference), perturbed

    pairs = []
    with fast_kernels(under_attack, dtype, num_tokens(state.encoder), state.compiled):
        for whole in micro_batches:
            found = [(attacked(clean), clean.num_images) for clean in sliced(whole, slicing)]
            own = [pair for pair, images in found if images or whole.is_padding]  # without what fills a micro-batch up
            pairs.append((replace(whole, targets=joined([t for t, _ in own])), joined([hard for _, hard in own])))
    return pairs


@part(REFERENCE)
@torch.no_grad()
def _anchored_to_average(encoder: nn.Module, average: WeightAverage, pairs: Sequence[Pair]) -> list[Pair]:
    """The same, with the clean images' embeddings under the averaged weights as the anchor's targets."""
    encoder.eval()
    with average.swapped():
        embeddings = [encoder(micro_batch.batch.pixels_BCHW).float() for micro_batch, _ in pairs]
    encoder.train()
    return [
        (replace(micro_batch, targets=replace(micro_batch.targets, anchor_BD=anchor_BD)), perturbed)
        for (micro_batch, perturbed), anchor_BD in zip(pairs, embeddings, strict=True)
    ]


@part(UPDATE)
def _compared(
    method: Method, state: TrainState, perturbed: Sequence[Pair], counts: Sequence[int], config: RunConfig
) -> list[Pair]:
    """The slices, `counts` of each micro-batch, with what the objective reads of all its images at the weights of
    now."""
    encode, found = training_forward(state.policy, config.precision), list[Pair]()
    with training_kernels(state.encoder, config, state.compiled_updates):
        for count in counts:
            found += with_baseline(method, encode, state.encoder, perturbed[len(found) : len(found) + count])
    return found


def _with_old_policy(perturbed: Sequence[Pair], terms: Sequence[LossTerms]) -> list[Pair]:
    """The slices with the policy's logits from before the first update, which it has told; as they are where no part
    asks for them."""
    targets = [replace(c.targets, old_logits_BC=t.old_logits_BC) for (c, _), t in zip(perturbed, terms, strict=True)]
    return [(replace(clean, targets=told), hard) for (clean, hard), told in zip(perturbed, targets, strict=True)]


@part(UPDATE)
def _primal_step(
    method: Method,
    state: TrainState,
    perturbed: Sequence[Pair],
    weights: Sequence[float],
    config: RunConfig,
    prefixes: PrefixCache,
) -> list[LossTerms]:
    """One update of the policy; the loss terms of every micro-batch, detached."""
    encoder, encode, terms = state.encoder, training_forward(state.policy, config.precision), list[LossTerms]()
    state.optimizer.zero_grad(set_to_none=True)
    for (clean, hard), weight in zip(perturbed, weights, strict=True):
        last = len(terms) + 1 == len(perturbed)
        kernels = training_kernels(encoder, config, state.compiled_updates)
        with _gradient_sync(state.policy, last), kernels, prefixes.of(len(terms)):
            term = method.primal_terms(encode, clean.batch, hard, clean.targets, encoder)
            (term.total_B.mean() * weight).backward()
        terms.append(_detached(term))
    with part(OPTIMIZER):
        if config.grad_clip is not None:
            nn.utils.clip_grad_norm_(state.policy.parameters(), config.grad_clip)
        state.optimizer.step()
    return terms


def _gradient_sync(policy: nn.Module, last: bool) -> AbstractContextManager[object]:
    """Gradients are accumulated here and averaged over processes with the last micro-batch."""
    return nullcontext() if last or not isinstance(policy, DistributedDataParallel) else policy.no_sync()


def _detached(terms: LossTerms) -> LossTerms:
    """What the log and the dual step read; its graph is freed before the next micro-batch builds one."""
    constraint = terms.anchor.constraint
    if constraint is not None:
        constraint = replace(constraint, distance_B=constraint.distance_B.detach())
    adapter = None if terms.adapter is None else terms.adapter.detach()
    anchor = replace(terms.anchor, loss_B=terms.anchor.loss_B.detach(), constraint=constraint)
    return replace(terms, objective_B=terms.objective_B.detach(), anchor=anchor, adapter=adapter)


@part(DUAL)
@torch.no_grad()
def _constraints_now(
    method: Method, encoder: nn.Module, micro_batches: Sequence[MicroBatch], config: RunConfig, prefixes: PrefixCache
) -> list[Constraint | None]:
    """The constraints at the weights after the updates, in fp32."""
    constraints = []
    for number, clean in enumerate(micro_batches):
        count = len(clean.batch.index_B)
        # the updates have seen the perturbed images first, then these
        seen = prefixes.of(number, slice(count, None)) if config.precision == "fp32" else nullcontext()
        with seen:
            clean_BD = encoder(clean.batch.pixels_BCHW).float()
        head = method.adapter.head(encoder, clean.targets.head)
        constraints.append(method.anchor(Embeddings(clean_BD, clean_BD, head), clean.targets).constraint)
    return constraints


def _record(
    micro_batches: Sequence[MicroBatch], terms: Sequence[LossTerms], constraints: Sequence[Constraint | None]
) -> StepRecord:
    """What all micro-batches but padding leave for the log."""
    counted = [i for i, micro_batch in enumerate(micro_batches) if not micro_batch.is_padding]
    there = [constraint for i in counted if (constraint := constraints[i]) is not None]
    multipliers = [multiplier_B for i in counted if (multiplier_B := terms[i].anchor.multiplier_B) is not None]
    objective_B = torch.cat([terms[i].objective_B for i in counted] or [terms[0].objective_B[:0]])
    adapter = terms[0].adapter  # of the weights, whatever the images
    return StepRecord(
        objective_B,
        Constraint(torch.cat([c.distance_B for c in there]), torch.cat([c.bound_B for c in there])) if there else None,
        torch.cat(multipliers) if multipliers else None,
        None if adapter is None else adapter.reshape(1),
    )


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of one step on one process."""
    return (seed * 1_000_003 + step) * 4_099 + rank
