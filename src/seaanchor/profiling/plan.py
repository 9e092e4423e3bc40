"""`seaanchor train RECIPE --dry-run-on 8xH100`: FLOPs, time and memory of a run on GPUs that are elsewhere, on paper.

Weights and images are not needed: random weights cost as much as any, and a number of images is enough.
"""

from dataclasses import dataclass, replace

from seaanchor.config.assemble import assemble, build
from seaanchor.config.schema import RunConfig
from seaanchor.config.validation import check
from seaanchor.data.batch_split import BatchSplit
from seaanchor.data.loader import subset
from seaanchor.data.sources import open_images
from seaanchor.data.types import texts_of
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.load import load_model
from seaanchor.encoders.openclip_tags import quick_gelu_of_file
from seaanchor.encoders.pretrained import brings_weights, check_pretrained, is_weights_file, split_pretrained
from seaanchor.errors import SeaAnchorError
from seaanchor.profiling.cost_model import Cost, step_cost
from seaanchor.profiling.hardware import Fleet, Machine, fleet
from seaanchor.profiling.memory import CONTEXT, SPARE
from seaanchor.profiling.op_counter import Work
from seaanchor.profiling.planned_slices import PlannedSlices, does_not_fit_on, in_words, planned_slices
from seaanchor.profiling.step_parts import table
from seaanchor.training.batches import can_be_held
from seaanchor.training.progress import duration
from seaanchor.types import needs_of

# The share of its data sheet's rates, of arithmetic and of memory, that a GPU is assumed to reach on kernels large
# enough to fill it.
REACHED = (0.4, 0.8)
CLASSES = 1000  # candidate texts where no data says how many
STAND_INS = ("one", "two", "three", "four")  # class names: two of even number to draw, and two of odd


@dataclass(frozen=True)
class Plan:
    """What a run would take.

    Attributes:
        config: of the run; its batch is no larger than a process's share of the images.
        fleet: the GPUs, one process each.
        images: in the data set.
        classes: candidate texts.
        total_steps: of the whole run.
        cached: whether reference embeddings are computed once, beforehand.
        clean: whether updates see clean images beside perturbed ones.
        cost: of a step on one GPU.
        work: of a whole run on one GPU, what is done beforehand included.
        memory: bytes on one GPU at the worst moment of whole batches, with what driver and allocator take.
        largest_batch: images at once that fit on one GPU; 0 if not even one does.
        slices: how a batch is taken apart to fit; None for a linear map.
    """

    config: RunConfig
    fleet: Fleet
    images: int
    classes: int
    total_steps: int
    cached: bool
    clean: bool
    cost: Cost
    work: Work
    memory: float
    largest_batch: int
    slices: PlannedSlices | None = None

    @property
    def seconds(self) -> tuple[float, float]:
        """Of the run, at least and at most, evaluations not included."""
        most, least = (self.work.seconds(self.fleet.gpu, share) for share in REACHED)
        return least, most

    @property
    def fits(self) -> bool:
        """Whether the batch fits on one GPU."""
        return self.config.batch_size <= self.largest_batch


def plan(config: RunConfig, on: str, images: int | None = None) -> Plan:
    """Predict a run.

    Args:
        config: of the run.
        on: GPUs, as `hardware.fleet` reads them.
        images: how many the data set has; `config.train_data` is then not opened.

    Raises:
        SeaAnchorError: settings that do not go together, an unknown GPU, model or data set, fewer images than GPUs.
    """
    check(config)
    gpus = fleet(on)
    if images is not None and images < 1:
        raise SeaAnchorError(f"--dry-run-images {images}", "at least 1", "give the number of images in the data set")
    count, classes = (images, CLASSES) if images is not None else _counted(config)
    if images is not None and config.train_samples is not None:
        count = min(images, config.train_samples)
    if count < gpus.count:
        raise SeaAnchorError(f"{count} images for {gpus.count} GPUs", "at least one for each", "use fewer GPUs")
    config = replace(config, batch_size=min(config.batch_size, -(-count // gpus.count)))
    model = architecture(config)
    split = BatchSplit(count, config.batch_size, gpus.count, config.grad_accumulation)
    total = min(config.max_steps or config.epochs * split.per_epoch, config.epochs * split.per_epoch)
    linear = needs_of(build(config.adapter)).stored_embeddings
    cached = linear or (total * split.global_batch_size / count > 1.5 and can_be_held(model.encoder, count))
    method = assemble(config, model.encoder.dim, STAND_INS, model.encoder.image_size, count)
    cost = step_cost(replace(config, slice_size=None), model.encoder, method, classes, cached)
    beforehand = (
        count * (1 + config.perturbation.variants * needs_of(method.perturbation).draws_words if linear else 1)
        if cached
        else 0
    )
    work = Work.sum([(cost.step, total * config.grad_accumulation), (cost.forward, beforehand)])
    buckets = 4 * cost.trained * (gpus.count > 1)  # gradients on their way to the other GPUs
    waiting = (
        8 * 3 * model.encoder.image_size**2 * config.batch_size * (config.grad_accumulation - 1)
    )  # the other parts' images, clean and perturbed
    memory = cost.memory.of(config.batch_size) + buckets + waiting + CONTEXT
    largest = cost.memory.largest_batch(gpus.gpu.memory - buckets - waiting - CONTEXT)
    slices = planned_slices(config, cost, model.encoder.image_size, gpus.gpu, gpus.count, buckets + CONTEXT)
    return Plan(config, gpus, count, classes, total, cached, method.needs.clean, cost, work, memory, largest, slices)


def one_image_fits(found: Plan) -> None:
    """Raises:
    SeaAnchorError: not even one image at a time does.
    """
    gpu, slices = found.fleet.gpu, found.slices
    if slices is not None and max(slices.largest, found.largest_batch) == 0:
        buckets = 4 * found.cost.trained * (found.fleet.count > 1)
        raise does_not_fit_on(slices, gpu, max(0.0, gpu.memory - buckets - CONTEXT))


def architecture(config: RunConfig) -> LoadedModel:
    """The model; with random weights where its own would have to be found or fetched.

    Raises:
        SeaAnchorError: as `load_model`.
    """
    name, tag = config.model, config.pretrained
    if brings_weights(name):
        return load_model(name, tag, config.image_size, config.tokens, preprocess=config.preprocess)
    check_pretrained(name, tag)
    base = split_pretrained(tag).base
    if not name.startswith("timm:") and base not in (None, "none"):
        import open_clip

        is_tag = base in open_clip.list_pretrained_tags_by_model(name)
        if not is_tag and not is_weights_file(base):
            return load_model(
                name, tag, config.image_size, config.tokens, preprocess=config.preprocess
            )  # which says what is wrong
        quick = open_clip.get_pretrained_cfg(name, base).get("quick_gelu") if is_tag else quick_gelu_of_file(name)
        if quick and f"{name}-quickgelu" in open_clip.list_models():
            name = f"{name}-quickgelu"  # its activation keeps more for the backward pass
    return load_model(name, "none", config.image_size, config.tokens)


def lines(found: Plan) -> list[str]:
    """The plan in plain text."""
    config, cost, gpu, count = found.config, found.cost, found.fleet.gpu, found.fleet.count
    attack = (
        f" (ε = {config.perturbation.epsilon}, {config.perturbation.num_steps} steps)"
        if needs_of(build(config.perturbation)).pixel_gradient
        else ""
    )
    least, most = found.seconds
    parts = config.grad_accumulation
    step = [cost.step.seconds(gpu, share) * parts for share in reversed(REACHED)]
    each = [config.batch_size * parts / seconds for seconds in reversed(step)]
    low, high = (f"{100 * share:.0f}" for share in REACHED)
    over = "" if parts == 1 else f" x {parts}"
    return [
        f"predicted    for {count} x {gpu.name} ({gpu.source}); nothing was computed there, or written",
        f"model        {config.model}: {cost.forward.total / 1e9:.3g} GFLOP an image forward (F), whatever its weights",
        f"method       {config.objective.kind} + {config.anchor.kind} + {config.perturbation.kind}{attack} + "
        f"{config.adapter.kind}",
        f"run          {found.images:,} images, {found.total_steps:,} steps of {config.batch_size} x "
        f"{count}{over}, {config.primal_steps} updates each",
        f"trained      {cost.trained:,} parameters",
        f"cost         {cost.passes:.1f} F an image, {_amount(found.work.total * count, 'FLOP')} in all; a "
        f"step: {_rates(cost.step, gpu)}",
        *(f"{'' if number else 'of which':13}{row}" for number, row in enumerate(_parts(found))),
        f"time         {duration(least)} to {duration(most)} in all, {step[0]:.3g} to {step[1]:.3g} s a batch,",
        f"             if the GPU reaches {high} to {low} % of these rates (an assumption), {_used(cost.step, gpu)};",
        "             evaluations and the exchange between GPUs are not included",
        "loading      each image once, then embeddings"
        if config.adapter.kind == "linear"
        else f"loading      {each[0]:,.0f} to {each[1]:,.0f} images/s for each GPU, or it waits for them",
        f"memory       {found.memory / 2**30:.2f} of {gpu.memory / 2**30:.2f} GiB: weights, gradients, "
        f"optimizer and reference {cost.memory.fixed / 2**30:.2f},"
        f" {(1 + SPARE) * cost.memory.per_image / 2**20:.1f} MiB an image, driver {CONTEXT / 2**30:.0f}",
        _fitting(found),
    ]


def _counted(config: RunConfig) -> tuple[int, int]:
    """Images and candidate texts of the data set."""
    images = open_images(config.train_data, config.class_names)
    if config.train_samples is not None:
        images = subset(images, config.train_samples, config.seed)
    return len(images.paths), len(texts_of(images)) or CLASSES


def _parts(found: Plan) -> list[str]:
    """What a step's parts take."""
    cost, gpu = found.cost, found.fleet.gpu
    operations = {stage: work.total for stage, work in cost.stages.items()}
    seconds = {stage: work.seconds(gpu) for stage, work in cost.stages.items()}
    return table(operations, cost.batch * cost.forward.total, found.clean, seconds)


def _rates(work: Work, gpu: Machine) -> str:
    """What a step is made of, with the rates it is divided by."""
    parts = [
        f"{_amount(count, 'FLOP')} in {precision} at {gpu.rate(precision) / 1e12:.3g} TFLOP/s"
        for precision, count in sorted(work.flops.items())
    ]
    return ", ".join([*parts, f"{_amount(work.moved, 'B')} moved at {gpu.bandwidth / 1e9:.0f} GB/s"])


def _used(work: Work, gpu: Machine) -> str:
    """The same as a share of the fastest arithmetic that the step uses: what is called model-FLOPs utilisation."""
    best = max(gpu.rate(precision) for precision in work.flops)
    shares = [100 * work.total / work.seconds(gpu, share) / best for share in REACHED]
    return f"that is {shares[0]:.0f} to {shares[1]:.0f} % of the peak at {'bf16' if 'bf16' in work.flops else 'fp32'}"


def _fitting(found: Plan) -> str:
    asked, largest = found.config.batch_size, found.largest_batch
    words = None if found.slices is None else in_words(found.slices, found.fleet.gpu, largest)
    if words is not None:
        return f"fits         {words}"
    if largest == 0:
        return "fits         no: not even one image, whatever the batch size; take a smaller model or a larger GPU"
    if found.fits:
        return f"fits         yes; up to --batch-size {largest:,}"
    asked *= found.config.grad_accumulation
    parts = -(-asked // largest)
    instead = (
        f"--batch-size {-(-asked // parts)} --grad-accumulation {parts} lets an update still see {asked} images a GPU"
    )
    return f"fits         no: up to --batch-size {largest:,}; {instead}"


def _amount(number: float, unit: str) -> str:
    for factor, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if number >= factor:
            return f"{number / factor:.3g} {prefix}{unit}"
    return f"{number:.3g} {unit}"
