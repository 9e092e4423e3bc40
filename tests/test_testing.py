"""The contract suite: every part of the library passes, and a part that breaks a rule is caught by that rule."""

import copy
import importlib
import subprocess
import sys
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from seaanchor import registry
from seaanchor.adapters.full import Full
from seaanchor.adapters.last_blocks import LastBlocks
from seaanchor.adapters.linear_map import Linear
from seaanchor.adapters.lora import LoRA
from seaanchor.anchors.duals import Dual
from seaanchor.anchors.lagrangian import Lagrangian
from seaanchor.anchors.penalty import NoAnchor, Penalty, kl
from seaanchor.attacks.ball import Ball
from seaanchor.encoders.encoder import Encoder
from seaanchor.encoders.load import load_model
from seaanchor.method import Method
from seaanchor.objectives import DPO, IPO, KTO, PPO, CrossEntropy, EmbeddingDistance, TeCoA
from seaanchor.perturbations.apgd import APGD
from seaanchor.perturbations.attribute import AttributeSwap
from seaanchor.perturbations.chain import Chain
from seaanchor.perturbations.none import NoPerturbation
from seaanchor.perturbations.pgd import PGD
from seaanchor.perturbations.typographic import Typographic
from seaanchor.testing import check_adapter, check_anchor, check_encoder, check_objective, check_perturbation
from seaanchor.testing.rules import SIZE, TEXTS, B, D, inputs, small_encoder, some_images
from seaanchor.types import AnchorTerms, BindContext, Constraint, Head, Needs, Preference

BALL = Ball("linf", 8 / 255)
OBJECTIVES = [EmbeddingDistance(), TeCoA(), CrossEntropy(), DPO(), DPO(0.5, 0.1, True), IPO(), KTO(), PPO()]
ANCHORS = [
    NoAnchor(),
    Penalty(),
    Penalty(0.5, 0.2, "distribution", "fixed"),
    kl(),
    Lagrangian(),
    Lagrangian("linear", space="distribution"),
    Lagrangian("scalar", violators_only=True, augmented=2.0),
    Lagrangian(max_multiplier=3.0, margin="fixed"),
]
PERTURBATIONS = [
    NoPerturbation(),
    PGD(BALL),
    PGD(Ball("l2", 0.5), 3, momentum=0.9),
    APGD(BALL, 4),
    Typographic(sizes=(0.2, 0.4)),
    Typographic(sizes=(0.2, 0.4), variants=2, words="even"),
    AttributeSwap(partner=(1, 0, 3, 4, 2)),
    Chain((Typographic(sizes=(0.2, 0.4)), PGD(BALL, 3))),
]
ADAPTERS = [Full(), LastBlocks(1), LastBlocks(2), Linear(), LoRA(rank=2)]
by_class = lambda part: type(part).__name__  # noqa: E731


@pytest.mark.parametrize("objective", OBJECTIVES, ids=by_class)
def test_our_objectives(objective):
    check_objective(objective, batch_statistics=isinstance(objective, KTO))


@pytest.mark.parametrize("anchor", ANCHORS, ids=by_class)
def test_our_anchors(anchor):
    torch.manual_seed(0)
    check_anchor(anchor)


@pytest.mark.parametrize("perturbation", PERTURBATIONS, ids=by_class)
def test_our_perturbations(perturbation):
    check_perturbation(perturbation)


@pytest.mark.parametrize("adapter", ADAPTERS, ids=by_class)
def test_our_adapters(adapter):
    check_adapter(adapter)


def test_our_encoders():
    check_encoder(load_model("seaanchor-tiny").encoder)
    tower = small_encoder()
    check_encoder(Encoder(tower, SIZE, D, (0.5,) * 3, (0.2,) * 3))
    assert tower.training


def test_every_registered_part_is_checked():
    checked = {"objective": OBJECTIVES, "anchor": ANCHORS, "perturbation": PERTURBATIONS, "adapter": ADAPTERS}
    for part, instances in checked.items():
        for name in registry.BUILT_IN[part]:
            made = registry.lookup(part, name)
            kind = made if isinstance(made, type) else type(made())
            assert kind in {type(instance) for instance in instances}, name


LEGAL = [
    (objective, anchor, perturbation)
    for objective in (EmbeddingDistance(), TeCoA(), CrossEntropy(), DPO(), IPO(), KTO(), PPO())
    for anchor in (NoAnchor(), Penalty(), kl(), Lagrangian())
    for perturbation in PERTURBATIONS[1:]
    if perturbation.needs.gives_pairs or not objective.needs.pairs
]


@pytest.mark.parametrize(("objective", "anchor", "perturbation"), LEGAL, ids=by_class)
def test_every_legal_pair_makes_a_step(objective, anchor, perturbation):
    """One step of each composition: its losses are one for each sample, and its gradient reaches the policy alone."""
    torch.manual_seed(0)
    method = Method(objective=objective, anchor=anchor, perturbation=perturbation, adapter=Full()).bind(
        BindContext(D, TEXTS, image_size=SIZE)
    )
    policy, batch = small_encoder(), some_images()
    reference = copy.deepcopy(policy).requires_grad_(False)
    policy[3].bias.data += 0.1
    weights = list(method.adapter.trainable(policy))
    head = Head(F.normalize(torch.randn(len(TEXTS), D), dim=-1), 10.0)
    targets = replace(inputs(Needs())[1], reference_BD=reference(batch.pixels_BCHW), label_B=batch.label_B, head=head)
    perturbed = method.perturb(policy, batch, targets, torch.Generator().manual_seed(0))
    targets = method.complete(targets, perturbed, reference)
    terms = method.primal_terms(policy, batch, perturbed, targets, policy)
    assert terms.objective_B.shape == terms.anchor.loss_B.shape == (B,) and bool(terms.total_B.isfinite().all())
    terms.total_B.mean().backward()
    assert any(p.grad is not None and bool((p.grad != 0).any()) for p in weights)
    dual = method.anchor.dual_module()
    assert dual is None or all(p.grad is None for p in dual.parameters())


@pytest.mark.parametrize("folder", ["testing", "anchors", "adapters", "perturbations"])
def test_a_folder_exports_lazily_and_no_name_is_a_file(folder):
    code = (
        f"import sys, pkgutil, seaanchor.{folder} as package\n"
        "assert 'torch' not in sys.modules\n"
        "names = {name: getattr(package, name) for name in package.__all__}\n"
        "print({m.name for m in pkgutil.iter_modules(package.__path__)} & set(names), len(names) > 3)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set() True"
    package = importlib.import_module(f"seaanchor.{folder}")
    assert set(package.__all__) == set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing


# --- one planted fault for each rule


@dataclass(frozen=True)
class Faulty:
    """An objective: `change` makes the fault of its loss, `attack` of its attack loss."""

    change: object
    attack: object = None
    needs: ClassVar[Needs] = Needs()

    def attack_loss(self, embedding_BD, targets):
        fault = self.attack or (lambda loss_B, embedding_BD, targets: loss_B)
        return fault((embedding_BD - targets.reference_BD).square().sum(-1), embedding_BD, targets)

    def __call__(self, embeddings, targets):
        loss_B = (embeddings.perturbed_BD - targets.reference_BD).square().sum(-1)
        return self.change(loss_B, embeddings.perturbed_BD, targets)


fine = lambda loss_B, *_: loss_B  # noqa: E731


def spoil(loss_B, embedding_BD, targets):
    targets.reference_BD.add_(0.0001)
    return loss_B


OBJECTIVE_FAULTS = {
    "mean": (Faulty(lambda loss_B, *_: loss_B.mean()), r"the loss is float \(B,\)"),
    "keepdim": (Faulty(lambda loss_B, *_: loss_B[:, None]), r"the loss is float \(B,\)"),
    "nan": (Faulty(lambda loss_B, *_: loss_B * float("nan")), "finite"),
    "attack mean": (Faulty(fine, lambda loss_B, *_: loss_B.mean()), r"attack_loss is float \(B,\)"),
    "random": (Faulty(lambda loss_B, *_: loss_B + torch.rand(())), "the same inputs"),
    "in place": (Faulty(spoil), "left as they are"),
    "no gradient": (Faulty(lambda loss_B, *_: loss_B.detach()), "gradient of loss reaches"),
    "no attack gradient": (Faulty(fine, lambda loss_B, *_: loss_B.detach()), "gradient of attack_loss reaches"),
    "gradient nowhere": (Faulty(lambda loss_B, *_: loss_B * 0), "reaches each sample"),
    "infinite gradient": (Faulty(lambda loss_B, e, _: loss_B + (e[:, 0] * 0).sqrt()), "finite"),
    "crossed": (Faulty(lambda loss_B, *_: loss_B + loss_B.mean()), "reaches no other sample"),
    "summed": (Faulty(lambda loss_B, *_: loss_B + loss_B.detach().sum()), "twice the same batch"),
    "centred": (Faulty(lambda loss_B, *_: loss_B - loss_B.detach().mean()), "the loss of a sample does not depend"),
    "attack centred": (
        Faulty(fine, lambda loss_B, *_: loss_B - loss_B.detach().mean()),
        "attack_loss of a sample does not depend",
    ),
    "undeclared labels": (Faulty(lambda loss_B, e, t: loss_B + t.label_B.float()), "declares in `needs` alone"),
    "undeclared head": (Faulty(fine, lambda loss_B, e, t: t.head(e).sum(-1)), "declares in `needs` alone"),
    "needs": (SimpleNamespace(needs="clean"), "`needs` is a Needs"),
}


@pytest.mark.parametrize("fault", OBJECTIVE_FAULTS)
def test_a_faulty_objective_is_caught(fault):
    part, rule = OBJECTIVE_FAULTS[fault]
    with pytest.raises(AssertionError, match=f"broken rule: .*(?:{rule})"):
        check_objective(part)


def test_a_batch_statistic_has_to_be_admitted():
    centred = OBJECTIVE_FAULTS["centred"][0]
    check_objective(Faulty(fine))
    check_objective(centred, batch_statistics=True)
    with pytest.raises(AssertionError, match="twice the same batch"):
        check_objective(OBJECTIVE_FAULTS["summed"][0], batch_statistics=True)


@dataclass(frozen=True)
class FaultyAnchor:
    """λ·(distance − bound) with what `fault` names done wrong."""

    fault: str = ""
    dual: Dual | None = None
    needs: ClassVar[Needs] = Needs(clean=True)

    def __call__(self, embeddings, targets):
        if self.fault == "tuple":
            return embeddings.clean_BD.sum(-1), None
        distance_B = (embeddings.clean_BD - targets.reference_BD).square().sum(-1)
        bound_B = torch.full_like(distance_B, -0.1 if self.fault == "negative bound" else 0.1)
        multiplier_B = self.dual(targets.reference_BD) if self.dual else torch.ones_like(distance_B)
        detached_B = multiplier_B if self.fault == "undetached multiplier" else multiplier_B.detach()
        loss_B = {
            "mean": lambda: distance_B.mean(),
            "nan": lambda: distance_B * float("nan"),
            "summed": lambda: distance_B + distance_B.detach().sum(),
            "centred": lambda: distance_B - distance_B.detach().mean(),
            "detached": lambda: distance_B.detach(),
            "crossed": lambda: (
                distance_B + 0 * distance_B.detach() + (distance_B.flip(0) - distance_B.flip(0).detach())
            ),
            "undeclared": lambda: distance_B + targets.label_B,
        }.get(self.fault, lambda: detached_B * (distance_B - bound_B))()
        shown_B = multiplier_B if self.fault == "shown multiplier" else detached_B
        constraint = None if self.fault == "no constraint" else Constraint(distance_B, bound_B)
        return AnchorTerms(loss_B, constraint, shown_B)

    def dual_loss(self, constraint, targets):
        if self.dual is None:
            return torch.zeros(()) if self.fault == "dual loss without dual" else None
        violation_B = constraint.violation_B
        if self.fault != "undetached violation":
            violation_B = violation_B.detach()
        product_B = self.dual(targets.reference_BD) * violation_B
        if self.fault == "frozen dual":
            product_B = product_B * 0
        return {"per sample": lambda: -product_B, "sum": lambda: -product_B.sum()}.get(
            self.fault, lambda: -product_B.mean()
        )()

    def dual_module(self):
        return self.dual


ANCHOR_FAULTS = {
    "tuple": "returns AnchorTerms",
    "mean": r"the loss is float \(B,\)",
    "nan": "finite",
    "undeclared": "declares in `needs` alone",
    "summed": "twice the same batch",
    "centred": "does not depend on what else",
    "detached": "reaches the clean embedding",
    "crossed": "reaches no other sample",
    "negative bound": "bound_B is",
    "dual loss without dual": "there is no dual loss",
}
DUAL_FAULTS = {
    "undetached multiplier": "detach the multiplier",
    "shown multiplier": "multiplier_B is detached",
    "no constraint": "returns its constraint",
    "per sample": "dual loss is a scalar",
    "frozen dual": "moves the dual",
    "undetached violation": "detach the violation",
    "sum": "dual loss is a mean",
}


@pytest.mark.parametrize("fault", [*ANCHOR_FAULTS, *DUAL_FAULTS])
def test_a_faulty_anchor_is_caught(fault):
    part = FaultyAnchor(fault, Dual("scalar", D) if fault in DUAL_FAULTS else None)
    with pytest.raises(AssertionError, match=f"broken rule: .*{(ANCHOR_FAULTS | DUAL_FAULTS)[fault]}"):
        check_anchor(part)


def test_the_anchor_without_a_fault_passes():
    check_anchor(FaultyAnchor())
    check_anchor(FaultyAnchor(dual=Dual("scalar", D)))
    with pytest.raises(AssertionError, match="`needs` is a Needs"):
        check_anchor(SimpleNamespace(needs=None))


@dataclass(frozen=True)
class FaultyPerturbation:
    """Uniform noise of at most 0.1, with what `fault` names done wrong."""

    fault: str = ""
    encoder: nn.Module | None = None
    ball: ClassVar[Ball] = Ball("linf", 0.1)

    @property
    def needs(self):
        return Needs(
            pixel_gradient=self.fault == "backward",
            leaves_pixels=self.fault == "leaves",
            gives_pairs=self.fault in ("same text", "unknown text", "missing pairs"),
        )

    def __call__(self, batch, loss, rng):
        draw = None if self.fault == "global generator" else rng
        noise = 0.2 * torch.rand(batch.pixels_BCHW.shape[1:], generator=draw) - 0.1
        if self.fault == "neighbours":
            noise = 0.05 * (batch.pixels_BCHW.mean(0) > 0.5)
        pixels = batch.pixels_BCHW.add_(noise).clamp_(0, 1) if self.fault == "in place" else batch.pixels_BCHW + noise
        if self.fault != "range":
            pixels = pixels.clamp(0, 1)
        label_B = batch.label_B
        if self.fault == "ball":
            pixels = (batch.pixels_BCHW + 2 * noise).clamp(0, 1)
        if self.fault == "nan":
            pixels = pixels * float("nan")
        if self.fault == "type":
            pixels = pixels.double()
        if self.fault == "graph":
            pixels = pixels.requires_grad_()
        if self.fault == "backward":
            leaf = batch.pixels_BCHW.clone().requires_grad_()
            loss(batch)(leaf)[0].sum().backward()
        if self.fault == "undeclared gradient":
            leaf = batch.pixels_BCHW.clone().requires_grad_()
            torch.autograd.grad(loss(batch)(leaf)[0].sum(), leaf)
        if self.fault == "undeclared labels":
            pixels = pixels + 0 * batch.label_B[:, None, None, None]
        if self.fault == "mode":
            self.encoder.eval()
        if self.fault == "tensor":
            return pixels
        index_B = batch.index_B + (self.fault == "numbers")
        return replace(batch, pixels_BCHW=pixels, index_B=index_B, label_B=label_B, preference=self.pairs(batch))

    def pairs(self, batch):
        zero_B = torch.zeros(len(batch.index_B), dtype=torch.long)
        return {
            "same text": Preference(zero_B, zero_B),
            "unknown text": Preference(zero_B, zero_B + 9),
            "undeclared pairs": Preference(zero_B, zero_B + 1),
        }.get(self.fault)


PERTURBATION_FAULTS = {
    "tensor": "returns a Batch",
    "in place": "batch it is given is left",
    "type": "keep shape and type",
    "graph": "no graph",
    "range": r"stay in \[0, 1\]",
    "nan": r"stay in \[0, 1\]",
    "ball": "stay in the ball",
    "backward": ".grad is left alone",
    "mode": "mode is left",
    "numbers": "image numbers are left",
    "missing pairs": "if and only if it declares",
    "undeclared pairs": "if and only if it declares",
    "same text": "two different texts",
    "unknown text": "texts of the run",
    "global generator": "same seed gives the same pixels",
    "neighbours": "what else is in the batch",
    "leaves": "leaves the pixels as it declares",
    "undeclared gradient": "declares in `needs` alone",
    "undeclared labels": "declares in `needs` alone",
}


@pytest.mark.parametrize("fault", PERTURBATION_FAULTS)
def test_a_faulty_perturbation_is_caught(fault):
    encoder = small_encoder()
    with pytest.raises(AssertionError, match=f"broken rule: .*{PERTURBATION_FAULTS[fault]}"):
        check_perturbation(FaultyPerturbation(fault, encoder), encoder=encoder)


def test_the_perturbation_without_a_fault_passes_and_a_smaller_ball_is_broken():
    check_perturbation(FaultyPerturbation())
    with pytest.raises(AssertionError, match=r"at most 0\.01"):
        check_perturbation(FaultyPerturbation(), ball=Ball("linf", 0.01))


class FaultyAdapter(Full):
    """The whole module, with what `fault` names done wrong."""

    needs: ClassVar[Needs] = Needs()

    def __init__(self, fault: str = "") -> None:
        object.__setattr__(self, "fault", fault)

    def trainable(self, encoder):
        moved = list(super().trainable(encoder))
        if self.fault == "moves off":
            moved[-1].data += 0.1
        if self.fault == "dead":
            encoder[0].register_parameter("spare", nn.Parameter(torch.zeros(1)))
            encoder.requires_grad_(False)
            return [encoder[0].spare.requires_grad_()]
        return {
            "nothing": [],
            "tensors": [moved[0].data],
            "twice": [*moved, moved[0]],
            "foreign": [*moved, nn.Parameter(torch.zeros(1))],
            "unfrozen": moved[1:],
        }.get(self.fault, moved)

    def head(self, policy, head):
        if head is None:
            return Head(torch.eye(D), 1.0) if self.fault == "head of nothing" else None
        return {"long": Head(2 * head.weight_CD, 1.0), "few": Head(head.weight_CD[1:], 1.0)}.get(self.fault)

    def penalty(self, policy):
        return {"rows": torch.zeros(3), "infinite": torch.tensor(float("inf"))}.get(self.fault)


ADAPTER_FAULTS = {
    "nothing": "returns parameters",
    "tensors": "returns parameters",
    "twice": "returned twice",
    "foreign": "belongs to the module",
    "unfrozen": "all else is frozen",
    "moves off": "starts where the reference is",
    "dead": "changes the embeddings",
    "head of nothing": "there is no head",
    "long": "unit rows",
    "few": "one a text",
    "rows": "penalty is a scalar",
    "infinite": "penalty is a scalar",
}


@pytest.mark.parametrize("fault", ADAPTER_FAULTS)
def test_a_faulty_adapter_is_caught(fault):
    check_adapter(FaultyAdapter())
    with pytest.raises(AssertionError, match=f"broken rule: .*{ADAPTER_FAULTS[fault]}"):
        check_adapter(FaultyAdapter(fault))


class FaultyEncoder(nn.Module):
    """A small tower with what `fault` names done wrong."""

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault, self.tower = fault, small_encoder()
        self.secret = torch.ones(1)
        if fault == "dim":
            self.dim = 7
        if fault == "state":  # weights that no state dict holds
            self.hidden = [nn.Parameter(torch.ones(D))]

    def parameters(self, recurse=True):
        yield from super().parameters(recurse)
        yield from getattr(self, "hidden", ())

    def forward(self, x):
        out = self.tower(x.detach() if self.fault == "no gradient" else x)
        if self.fault == "state":
            return out * self.hidden[0]
        return {
            "tuple": lambda: (out, out),
            "rows": lambda: out[:-1],
            "tokens": lambda: out[:, None, :],
            "integers": lambda: (100 * out).long(),
            "nan": lambda: out / 0 * 0,
            "random": lambda: out + 0.01 * torch.rand(()),
            "batch": lambda: out - out.mean(0),
            "constant": lambda: out * 0,
        }.get(self.fault, lambda: out)()


ENCODER_FAULTS = {
    "tuple": "returns a tensor: tuple",
    "rows": "one row for each image",
    "tokens": "one row for each image",
    "integers": "embeddings are float",
    "nan": "finite",
    "dim": "`dim` is the width",
    "random": "same images give the same",
    "batch": "what else is in the batch",
    "constant": "different images",
    "state": "state dict holds everything",
    "no gradient": "reaches the pixels",
}


@pytest.mark.parametrize("fault", ENCODER_FAULTS)
def test_a_faulty_encoder_is_caught(fault):
    check_encoder(FaultyEncoder())
    encoder = FaultyEncoder(fault)
    with pytest.raises(AssertionError, match=f"broken rule: .*{ENCODER_FAULTS[fault]}"):
        check_encoder(encoder)
    assert encoder.training and all(p.grad is None for p in encoder.parameters())
