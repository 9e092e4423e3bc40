"""Study: what DPO, IPO and KTO weigh, image by image, while they train.

Legend: B probe images, D embedding dimension.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import mean

import torch
import torch.nn.functional as F
from torch import Tensor

from seaanchor.config.recipes import dpo_tiny, ipo_tiny, kto_tiny
from seaanchor.config.schema import RunConfig
from seaanchor.data.loader import ImageDataset, SkipLog, batches, subset
from seaanchor.objectives.losses import log_ratio_margin
from seaanchor.plotting.panels import Series, panels
from seaanchor.training.batches import MicroBatch, load_batches, make_targets
from seaanchor.training.schedule import set_learning_rate
from seaanchor.training.setup import Setup, prepare
from seaanchor.training.state import make_state
from seaanchor.training.step import train_step
from seaanchor.types import Batch, Embeddings, Targets
from seaanchor.utils.checkpoint import write_atomic
from seaanchor.utils.log import log
from studies.declare import Section, Study
from studies.differences import Difference
from studies.verdicts import Effect, Verdict, judge
from studies.word_arms import PASSES, short
from studies.workspace import ONE_SEED, Workspace

EVERY, PROBED = 4, 200
SHOWN = 2  # the probe in the middle that is shown: many are still fooled, the losses have parted


@dataclass(frozen=True)
class Weights:
    """Of every probe image (B,): norm of the objective's gradient to the unit embedding, margin h, and whether the
    drawn word still wins over the object."""

    batch: int
    gradient_B: Tensor
    margin_B: Tensor
    fooled_B: Tensor

    @property
    def spent_on_fooled(self) -> float:
        """Share of all gradient that goes to images whose word still wins."""
        return (self.gradient_B[self.fooled_B].sum() / self.gradient_B.sum()).item()

    @property
    def excess_on_fooled(self) -> float:
        """That share, less the share of the images which they are."""
        return self.spent_on_fooled - self.fooled_B.double().mean().item()

    def of(self, index_B: Tensor) -> "Weights":
        """The same of these images."""
        return Weights(self.batch, self.gradient_B[index_B], self.margin_B[index_B], self.fooled_B[index_B])

    @property
    def spent_on_tenth(self) -> float:
        """Share that goes to the tenth of the images with the largest gradients."""
        return (self.gradient_B.topk(max(1, len(self.gradient_B) // 10)).values.sum() / self.gradient_B.sum()).item()


def weigh(setup: Setup, clean: Batch, perturbed: Batch, targets: Targets, batch: int) -> Weights:
    """The gradient of the objective, anchor left out, at fixed lettered images."""
    encoder, head, pair = setup.policy, targets.head, perturbed.preference
    if head is None or pair is None or targets.reference_perturbed_BD is None:
        raise ValueError("a preference method has head, pairs and reference embeddings of the lettered images")
    was_training = encoder.training
    encoder.eval()
    with torch.no_grad():
        perturbed_BD, clean_BD = encoder(perturbed.pixels_BCHW).float(), encoder(clean.pixels_BCHW).float()
    encoder.train(was_training)
    unit_BD = F.normalize(perturbed_BD, dim=-1).requires_grad_()
    loss_B = setup.method.objective(
        Embeddings(unit_BD, clean_BD), targets
    )  # cosines see no length, so the unit embedding stands for the raw one
    (gradient_BD,) = torch.autograd.grad(loss_B.sum(), unit_BD)
    now, before = head(unit_BD.detach()), head(targets.reference_perturbed_BD)
    chosen, rejected = (
        [logits.gather(1, text_B[:, None]).squeeze(1) for logits in (now, before)]
        for text_B in (pair.chosen_B, pair.rejected_B)
    )
    return Weights(
        batch,
        gradient_BD.norm(dim=-1),
        log_ratio_margin(chosen[0], rejected[0], chosen[1], rejected[1]),
        rejected[0] > chosen[0],
    )


def spending_gap(
    read: Callable[[Weights], float], one: Sequence[Weights], other: Sequence[Weights], draws: int = 1000
) -> Difference:
    """How much larger a share of its gradient is with one objective than with another, in points; mean over runs, with
    the 95 % interval of a bootstrap over the images, which both see alike."""
    generator, gaps = torch.Generator().manual_seed(0), []
    count = len(one[0].gradient_B)
    for draw in range(draws + 1):
        index_B = torch.randint(count, (count,), generator=generator) if draw else torch.arange(count)
        shares = [mean(read(w.of(index_B)) for w in runs) for runs in (one, other)]
        gaps.append(100 * (shares[0] - shares[1]))
    low, high = torch.tensor(gaps[1:]).quantile(torch.tensor([0.025, 0.975])).tolist()
    return Difference(gaps[0], low, high)


def watch(config: RunConfig) -> list[Weights]:
    """Train as `seaanchor train` does, and weigh the same lettered photos every few steps."""
    setup = prepare(config)
    state = make_state(setup)
    clean, perturbed, targets = _probe(setup)
    seen = [weigh(setup, clean, perturbed, targets, 0)]
    stream = load_batches(setup, 0, 0, 1, SkipLog(setup.images))
    for step in range(setup.total_steps):
        batch = next(stream)
        set_learning_rate(state.optimizer, config, step, setup.total_steps)
        train_step(
            setup.method, state, [MicroBatch(batch, make_targets(setup, batch, None))], config, step, setup.reference
        )
        if (step + 1) % EVERY == 0:
            seen.append(weigh(setup, clean, perturbed, targets, step + 1))
    return seen


def _probe(setup: Setup) -> tuple[Batch, Batch, Targets]:
    """A few training photos, the same with one word drawn on each, and what the objective needs of them."""
    few = subset(setup.images, PROBED, 0)
    dataset = ImageDataset(few, setup.model.encoder.preprocessing)
    clean = next(iter(batches(dataset, PROBED, workers=0, order=None, skip_log=SkipLog(few))))
    generator = torch.Generator().manual_seed(0)
    perturbed = setup.method.perturb(setup.policy, clean, make_targets(setup, clean, None), generator)
    return clean, perturbed, setup.method.complete(make_targets(setup, clean, None), perturbed, setup.reference)


Runs = dict[str, list[list[Weights]]]
"""Objective → for every seed its probes over training."""

READS: dict[str, Callable[[list[Weights], Weights], float]] = {
    "median gradient, of the start's": lambda run, w: (w.gradient_B.median() / run[0].gradient_B.median()).item(),
    "spent on images whose word wins, %": lambda run, w: 100 * w.spent_on_fooled,
    "images whose word wins, %": lambda run, w: 100 * w.fooled_B.float().mean().item(),
    "spent on a tenth of the images, %": lambda run, w: 100 * w.spent_on_tenth,
    "mean margin h": lambda run, w: w.margin_B.mean().item(),
}


def run_gradients(workspace: Workspace) -> Section:
    """Per-image gradients of the three preference losses over training."""
    curves: Runs = {}
    for name, recipe in (("DPO", dpo_tiny()), ("IPO", ipo_tiny()), ("KTO", kto_tiny())):
        config = short(recipe)
        workspace.keep(name, config)
        for seed in workspace.seeds:
            log.info(f"{name}, seed {seed}")
            curves.setdefault(name, []).append(watch(replace(config, seed=seed)))
    table = _tables(curves, workspace)
    figure = [(title, "batch", title, _series(curves, read)) for title, read in READS.items()]
    panels(figure[:3], workspace.output / "figure.svg")
    note = (
        f"The recipes `dpo-tiny`, `ipo-tiny`, `kto-tiny` with {PASSES} passes. Norm of the objective's gradient to "
        f"each unit embedding, of {PROBED} training photos with one word drawn on each, the same throughout; "
        f"{workspace.over_seeds().removesuffix(', range in brackets')}.\n\n"
    )
    picture = "\n\n![gradients over training](figure.svg)\n"
    return Section(note + table + picture, ("figure.svg",), _verdicts(curves))


def _series(curves: Runs, read: Callable[[list[Weights], Weights], float]) -> list[Series]:
    found = []
    for name, runs in curves.items():
        columns = [[read(run, run[i]) for run in runs] for i in range(len(runs[0]))]
        middle, low, high = ([pick(c) for c in columns] for pick in (mean, min, max))
        found.append(Series(name, [w.batch for w in runs[0]], middle, low, high, marker=False))
    return found


def _tables(curves: Runs, workspace: Workspace) -> str:
    """Markdown of three probes; CSV of all."""
    lines = [f"| | batch | {' | '.join(READS)} |", "|" + " --- |" * (len(READS) + 2)]
    csv = [",".join(["objective", "batch", *READS])]
    for name, runs in curves.items():
        for i, weights in enumerate(runs[0]):
            cells = [mean(read(run, run[i]) for run in runs) for read in READS.values()]
            csv.append(",".join([name, str(weights.batch), *(f"{c:.6g}" for c in cells)]))
            if i in (0, SHOWN, len(runs[0]) - 1):
                shown = " | ".join(f"{c if abs(c) > 1e-5 else 0:.3g}" for c in cells)
                lines.append(f"| {name} | {weights.batch} | {shown} |")
    write_atomic(workspace.output / "table.csv", "\n".join(csv) + "\n")
    return "\n".join(lines)


def _gaps(what: str, read: Callable[[Weights], float], at: dict[str, list[Weights]]) -> list[Effect]:
    return [Effect(f"{name} less IPO, {what}", spending_gap(read, at[name], at["IPO"])) for name in ("DPO", "KTO")]


def _verdicts(curves: Runs) -> tuple[Verdict, ...]:
    end, early = ({name: [run[i] for run in runs] for name, runs in curves.items()} for i in (-1, SHOWN))
    batch = early["IPO"][0].batch
    return (
        judge(
            "DPO and KTO spend more of their gradient on few images than IPO does",
            _gaps("share spent on a tenth of the images, at the end", lambda w: w.spent_on_tenth, end),
        ),
        judge(
            "DPO and KTO favour images whose word still wins more than IPO does",
            _gaps(
                f"share of the gradient above share of the images, at step {batch}",
                lambda w: w.excess_on_fooled,
                early,
            ),
        ),
    )


STUDIES = (
    Study(
        "po-gradients",
        "What each loss weighs",
        "arXiv 2411.08923: DPO and KTO weigh the images that are still wrong, IPO all alike.",
        4,
        run_gradients,
        ONE_SEED,
    ),
)
