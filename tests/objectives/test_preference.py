"""Preference losses against values worked out by hand, closed-form gradients, and finite differences."""

import math

import pytest
import torch
import torch.nn.functional as F

from seaanchor.objectives.losses import dpo_loss, log_ratio_margin
from seaanchor.objectives.preference import DPO, IPO, KTO
from seaanchor.types import Embeddings, Head, Preference, Targets

SCALE = 20.0


def case(batch=5, texts=7, dim=6, dtype=torch.float64):
    rng = torch.Generator().manual_seed(3)
    draw = lambda *shape: torch.randn(*shape, dtype=dtype, generator=rng)  # noqa: E731
    head = Head(F.normalize(draw(texts, dim), dim=-1), SCALE)
    chosen = torch.randint(texts, (batch,), generator=rng)
    rejected = (chosen + 1 + torch.randint(texts - 1, (batch,), generator=rng)) % texts
    targets = Targets(draw(batch, dim), None, head, Preference(chosen, rejected), draw(batch, dim))
    return Embeddings(draw(batch, dim).requires_grad_(), draw(batch, dim).requires_grad_()), targets


def cosine(a, b):
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))


def margin_by_hand(embeddings, targets):
    chosen, rejected = (
        targets.head.weight_CD[targets.preference.chosen_B],
        targets.head.weight_CD[targets.preference.rejected_B],
    )
    policy, reference = embeddings.perturbed_BD, targets.reference_perturbed_BD
    return SCALE * (
        (cosine(policy, chosen) - cosine(policy, rejected)) - (cosine(reference, chosen) - cosine(reference, rejected))
    )


def test_the_softmax_normaliser_cancels():
    embeddings, targets = case()
    log_policy = targets.head(embeddings.perturbed_BD).log_softmax(-1)
    log_reference = targets.head(targets.reference_perturbed_BD).log_softmax(-1)
    rows = torch.arange(5)
    pair = targets.preference
    chosen, rejected = (rows, pair.chosen_B), (rows, pair.rejected_B)
    h = log_ratio_margin(log_policy[chosen], log_policy[rejected], log_reference[chosen], log_reference[rejected])
    assert torch.allclose(h, margin_by_hand(embeddings, targets))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_dpo_value(smoothing):
    embeddings, targets = case()
    h = margin_by_hand(embeddings, targets)
    sigma = 1 / (1 + (-0.5 * h).exp())
    expected = -(1 - smoothing) * sigma.log() - smoothing * (1 - sigma).log()
    assert torch.allclose(DPO(0.5, smoothing)(embeddings, targets), expected)


def test_dpo_gradient_is_the_closed_form():
    """−βs·σ(−βh)·(T(y_w) − T(y_l)) on the unit embedding; the raw one adds (1 − ÎÎᵀ)/‖I‖."""
    embeddings, targets = case()
    beta = 0.7
    (grad,) = torch.autograd.grad(DPO(beta)(embeddings, targets).sum(), embeddings.perturbed_BD)
    direction = (
        targets.head.weight_CD[targets.preference.chosen_B] - targets.head.weight_CD[targets.preference.rejected_B]
    )
    h = margin_by_hand(embeddings, targets)
    assert torch.allclose(
        grad,
        through_normalisation(-beta * SCALE * torch.sigmoid(-beta * h)[:, None] * direction, embeddings.perturbed_BD),
    )


def test_ipo_gradient_is_the_closed_form():
    embeddings, targets = case()
    beta = 0.05
    (grad,) = torch.autograd.grad(IPO(beta)(embeddings, targets).sum(), embeddings.perturbed_BD)
    direction = (
        targets.head.weight_CD[targets.preference.chosen_B] - targets.head.weight_CD[targets.preference.rejected_B]
    )
    h = margin_by_hand(embeddings, targets)
    assert torch.allclose(
        grad, through_normalisation(2 * SCALE * (h - 1 / (2 * beta))[:, None] * direction, embeddings.perturbed_BD)
    )


def through_normalisation(grad, raw):
    unit = raw / raw.norm(dim=-1, keepdim=True)
    return ((grad - unit * (unit * grad).sum(-1, keepdim=True)) / raw.norm(dim=-1, keepdim=True)).detach()


def test_kto_baseline_is_detached_and_is_the_clean_kl():
    embeddings, targets = case()
    loss = KTO(1.0)(embeddings, targets)
    clean = targets.head(embeddings.clean_BD).log_softmax(-1)
    reference = targets.head(targets.reference_BD).log_softmax(-1)
    z0 = (reference.exp() * (reference - clean)).sum(-1).mean()
    policy = targets.head(embeddings.perturbed_BD).log_softmax(-1)
    ratio = policy - targets.head(targets.reference_perturbed_BD).log_softmax(-1)
    rows = torch.arange(5)
    wanted = 1 - torch.sigmoid(ratio[rows, targets.preference.chosen_B] - z0)
    unwanted = 1 - torch.sigmoid(z0 - ratio[rows, targets.preference.rejected_B])
    assert torch.allclose(loss, (wanted + unwanted) / 2)
    gradients = torch.autograd.grad(loss.sum(), [embeddings.perturbed_BD, embeddings.clean_BD], allow_unused=True)
    assert gradients[0].abs().sum() > 0 and gradients[1] is None


def test_kto_rows_with_one_text_only():
    embeddings, targets = case()
    none = torch.full((5,), -1)
    good = Targets(
        targets.reference_BD,
        None,
        targets.head,
        Preference(targets.preference.chosen_B, none),
        targets.reference_perturbed_BD,
    )
    bad = Targets(
        targets.reference_BD,
        None,
        targets.head,
        Preference(none, targets.preference.rejected_B),
        targets.reference_perturbed_BD,
    )
    both = KTO(1.0)(embeddings, targets)
    assert torch.allclose((KTO(1.0)(embeddings, good) + KTO(1.0)(embeddings, bad)) / 2, both)


@pytest.mark.parametrize("objective", [DPO(0.5, 0.1), IPO(0.1), KTO(1.5, 2.0, 0.5)])
def test_gradients_by_finite_differences(objective):
    embeddings, targets = case()
    clean = embeddings.clean_BD.detach()
    assert torch.autograd.gradcheck(lambda p: objective(Embeddings(p, clean), targets), embeddings.perturbed_BD)


def test_reference_free_needs_no_reference_and_is_the_policys_own_margin():
    embeddings, targets = case()
    free = Targets(targets.reference_BD, None, targets.head, targets.preference)
    chosen, rejected = (
        targets.head.weight_CD[targets.preference.chosen_B],
        targets.head.weight_CD[targets.preference.rejected_B],
    )
    h = SCALE * (cosine(embeddings.perturbed_BD, chosen) - cosine(embeddings.perturbed_BD, rejected))
    assert torch.allclose(DPO(1.0, reference_free=True)(embeddings, free), -F.logsigmoid(h))
    assert not DPO(reference_free=True).needs.reference_perturbed and DPO().needs.reference_perturbed
    with pytest.raises(ValueError, match="perturbed images"):
        DPO()(embeddings, free)


def test_every_loss_is_per_sample():
    embeddings, targets = case(batch=4)
    for objective in (DPO(), IPO(), KTO()):
        assert objective(embeddings, targets).shape == (4,)


@pytest.mark.parametrize("objective", [DPO(0.7), DPO(0.7, 0.1, True), IPO(0.1)])
def test_only_the_two_texts_of_a_pair_matter(objective):
    """More candidates, and others in place of those that no pair names, change no bit of the loss."""
    embeddings, targets = case()
    used = torch.cat([targets.preference.chosen_B, targets.preference.rejected_B]).unique()
    other = F.normalize(torch.randn(9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(8)), dim=-1)
    weight = torch.cat([other[:7], other[7:]])
    weight[used] = targets.head.weight_CD[used]
    wider = Targets(targets.reference_BD, None, Head(weight, SCALE), targets.preference, targets.reference_perturbed_BD)
    assert torch.equal(objective(embeddings, wider), objective(embeddings, targets))


def test_the_pairs_logits_are_those_of_the_whole_set():
    embeddings, targets = case(dtype=torch.float32)
    pair, rows = targets.preference, torch.arange(5)
    policy, reference = targets.head(embeddings.perturbed_BD), targets.head(targets.reference_perturbed_BD)
    whole = log_ratio_margin(
        *(logits[rows, text] for logits in (policy, reference) for text in (pair.chosen_B, pair.rejected_B))
    )
    assert torch.allclose(DPO(1.0)(embeddings, targets), dpo_loss(whole, beta=1.0), atol=1e-5)
    assert torch.allclose(IPO(0.1).attack_loss(embeddings.perturbed_BD, targets), -whole, atol=1e-5)


def test_kto_depends_on_the_candidate_set():
    """Its policy is a distribution over Y: the counterpart of the test above, which would otherwise pass for any
    loss."""
    embeddings, targets = case()
    narrower = Targets(
        targets.reference_BD,
        None,
        Head(targets.head.weight_CD[:6], SCALE),
        Preference(*(x % 6 for x in (targets.preference.chosen_B, targets.preference.rejected_B))),
        targets.reference_perturbed_BD,
    )
    same = targets.preference.chosen_B.lt(6) & targets.preference.rejected_B.lt(6)
    assert same.any() and not torch.allclose(KTO(1.0)(embeddings, narrower)[same], KTO(1.0)(embeddings, targets)[same])


def test_with_a_uniform_reference_kto_takes_its_kl_from_reference_to_policy():
    """Two texts: the clean image gives 1/2, 1/2 under the reference and 0.9, 0.1 under the policy; z0 = KL(reference ‖
    policy) = 0.510826."""
    head = Head(torch.eye(2, dtype=torch.float64), math.log(9) * math.sqrt(2))
    even, leaning = (
        torch.tensor([[1.0, 1.0]], dtype=torch.float64),
        torch.tensor([[math.cos(math.pi / 12), math.sin(math.pi / 12)]], dtype=torch.float64),
    )
    gap = head.logit_scale * (math.cos(math.pi / 12) - math.sin(math.pi / 12))
    assert gap == pytest.approx(math.log(9))
    targets = Targets(even, None, head, Preference(torch.tensor([0]), torch.tensor([-1])), even)
    loss = KTO(1.0)(
        Embeddings(even.clone(), leaning), targets
    )  # the perturbed image has a log-ratio of 0, so the loss is σ(z0)
    assert loss.item() == pytest.approx(
        0.625, abs=1e-6
    )  # 1/(1 + e^-0.510826) = 1/(1 + 0.6); with the KL reversed, 0.368064, it would be 0.590991
