"""PPO over the candidate texts: values worked out by hand, the textbook's formula with its ratios, closed-form
gradients and finite differences."""

import math

import pytest
import torch
import torch.nn.functional as F

from seaanchor.objectives import PPO, ppo_loss
from seaanchor.objectives.policy_gradient import chosen_over_rejected
from seaanchor.types import Embeddings, Head, Needs, Preference, Targets

OLD = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
REWARD = torch.tensor([[1.0, -1.0, 0.0]], dtype=torch.float64)
ADVANTAGE = [0.8, -1.2, -0.2]  # the mean reward is 0.5 − 0.3 = 0.2
SCALE = 4.0


def advantage(reward, old):
    return reward - (old * reward).sum(-1, keepdim=True)


def textbook(log_policy, log_old, advantage, clip):
    """Equation 7 of Schulman et al. 2017, as it stands there, with the expectation over actions written out."""
    ratio = (log_policy - log_old).exp()
    return -(log_old.exp() * torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)).sum(-1)


def drawn(batch=6, texts=5, seed=0, apart=0.3):
    """Log-probabilities of a policy and of one `apart` from it, and advantages; seldom near a kink."""
    rng = torch.Generator().manual_seed(seed)
    draw = lambda: torch.randn(batch, texts, dtype=torch.float64, generator=rng)  # noqa: E731
    old, away, reward = draw(), draw(), draw()
    log_old = old.log_softmax(-1)
    return (old + apart * away).log_softmax(-1), log_old, advantage(reward, log_old.exp())


@pytest.mark.parametrize(
    ("policy", "loss", "gradient"),
    [
        # ratios 1.4, 1/3, 1 with A > 0, < 0, < 0: both that moved are beyond the clip, and the third alone has a
        # gradient. −(0.6·0.8 − 0.24·1.2 − 0.2·0.2); to log π: −A·π
        ((0.7, 0.1, 0.2), -0.152, (0.0, 0.0, 0.04)),
        # ratios 0.7, 1.5, 1, the wrong way: nothing is clipped. −(0.35·0.8 − 0.45·1.2 − 0.2·0.2)
        ((0.35, 0.45, 0.2), 0.3, (-0.28, 0.54, 0.04)),
        # ratios 1.1, 0.9, 0.9, within the clip. −(0.55·0.8 − 0.27·1.2 − 0.18·0.2)
        ((0.55, 0.27, 0.18), -0.08, (-0.44, 0.324, 0.036)),
    ],
)
def test_three_texts_by_hand(policy, loss, gradient):
    log_policy = torch.tensor([policy], dtype=torch.float64).log().requires_grad_()
    assert advantage(REWARD, OLD).flatten().tolist() == pytest.approx(ADVANTAGE)
    found = ppo_loss(log_policy, OLD.log(), advantage(REWARD, OLD), clip=0.2)
    (grad,) = torch.autograd.grad(found.sum(), log_policy)
    assert found.item() == pytest.approx(loss)
    assert grad.flatten().tolist() == pytest.approx(list(gradient))
    assert [g == 0 for g in grad.flatten().tolist()] == [g == 0 for g in gradient]  # not only nearly


@pytest.mark.parametrize("clip", [0.05, 0.2, 0.9])
@pytest.mark.parametrize("apart", [0.0, 0.3, 3.0])
def test_the_textbooks_formula_and_its_gradient(clip, apart):
    log_policy, log_old, advantages = drawn(apart=apart)
    log_policy.requires_grad_()
    ours, theirs = (loss(log_policy, log_old, advantages, clip) for loss in (ppo_loss, textbook))
    assert ours.shape == (6,) and torch.allclose(ours, theirs, atol=1e-12)
    grads = [torch.autograd.grad(loss.sum(), log_policy)[0] for loss in (ours, theirs)]
    assert torch.allclose(*grads, atol=1e-12)


def test_the_gradient_stops_where_ppo_says_and_nowhere_else():
    log_policy, log_old, advantages = drawn(batch=50, apart=0.5)
    log_policy.requires_grad_()
    (grad,) = torch.autograd.grad(ppo_loss(log_policy, log_old, advantages).sum(), log_policy)
    ratio = (log_policy - log_old).exp()
    stopped = ((advantages > 0) & (ratio > 1.2)) | ((advantages < 0) & (ratio < 0.8))
    assert stopped.any() and not stopped.all() and torch.equal(grad == 0, stopped)


@pytest.mark.parametrize("apart", [0.1, 2.0])
def test_gradient_by_finite_differences(apart):
    log_policy, log_old, advantages = drawn(apart=apart)
    logits = (log_policy + 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: ppo_loss(z.log_softmax(-1), log_old, advantages), logits)


def test_at_a_ratio_of_one_it_is_the_plain_policy_gradient():
    """−Σ_y π (r − E r) ∇log π, which is the gradient of the negative expected reward; the loss itself is 0."""
    rng = torch.Generator().manual_seed(1)
    logits, reward = (torch.randn(6, 5, dtype=torch.float64, generator=rng) for _ in range(2))
    logits.requires_grad_()
    log_policy = logits.log_softmax(-1)
    policy = log_policy.exp().detach()
    loss = ppo_loss(log_policy, log_policy.detach(), advantage(reward, policy))
    assert loss.abs().max() < 1e-12
    (grad,) = torch.autograd.grad(loss.sum(), logits, retain_graph=True)
    plain = -(policy * advantage(reward, policy) * log_policy).sum()
    assert torch.allclose(grad, torch.autograd.grad(plain, logits, retain_graph=True)[0], atol=1e-12)
    expected = -(log_policy.exp() * reward).sum()
    assert torch.allclose(grad, torch.autograd.grad(expected, logits)[0], atol=1e-12)


def test_a_reward_that_is_the_same_for_all_texts_moves_nothing():
    log_policy, log_old, _ = drawn()
    log_policy.requires_grad_()
    loss = ppo_loss(log_policy, log_old, advantage(torch.full_like(log_old, 0.7), log_old.exp()))
    (grad,) = torch.autograd.grad(loss.sum(), log_policy)
    assert loss.abs().max() < 1e-12 and grad.abs().max() < 1e-12


def test_only_the_policy_is_differentiated():
    log_policy, log_old, advantages = (tensor.requires_grad_() for tensor in drawn())
    loss = ppo_loss(log_policy, log_old, advantages).sum()
    assert torch.autograd.grad(loss, (log_old, advantages), allow_unused=True) == (None, None)


def test_policies_that_are_sure_overflow_nothing():
    """At a scale of 100 a ratio is up to e^200: the textbook's formula is not a number there, and neither is its
    gradient."""
    sure = 100 * torch.tensor([[1.0, -1.0, 0.9], [-1.0, 1.0, 0.9], [0.0, 0.0, 1.0], [1.0, -1.0, 0.9]])
    old = sure[[1, 0, 3, 0]]
    reward = torch.tensor([[1.0, -1.0, 0.0]]).expand(4, 3)
    found = {}
    for dtype in (torch.float32, torch.float64):
        logits, log_old = sure.to(dtype).requires_grad_(), old.to(dtype).log_softmax(-1)
        loss = ppo_loss(logits.log_softmax(-1), log_old, advantage(reward.to(dtype), log_old.exp()))
        (grad,) = torch.autograd.grad(loss.sum(), logits)
        assert loss.isfinite().all() and grad.isfinite().all()
        found[dtype] = loss, grad
    for single, double in zip(found[torch.float32], found[torch.float64], strict=True):
        assert torch.allclose(single.double(), double, atol=1e-6)
    log_policy, log_old = sure.log_softmax(-1), old.log_softmax(-1)
    assert not textbook(log_policy, log_old, advantage(reward, log_old.exp()), 0.2).isfinite().all()


@pytest.mark.parametrize("clip", [0.0, 1.0, -0.1, 2.0, math.nan, math.inf])
def test_the_clip_is_a_share(clip):
    with pytest.raises(ValueError, match=r"clip is .*; expected a share in \(0, 1\)"):
        ppo_loss(*drawn(), clip=clip)
    ppo_loss(*drawn(), clip=0.999)


def test_shapes_and_the_number_of_texts():
    log_policy, log_old, advantages = drawn()
    for given in ((log_policy, log_old, advantages[:, :1]), (log_policy[0], log_old[0], advantages[0])):
        with pytest.raises(ValueError, match=r"expected one shape \(B, Y\)"):
            ppo_loss(*given)
    with pytest.raises(ValueError, match="Y of at least 2"):
        ppo_loss(*(t[:, :1] for t in (log_policy, log_old, advantages)))


# --- the objective


def case(batch=4, texts=5, dim=6, scale=SCALE):
    rng = torch.Generator().manual_seed(3)
    draw = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=rng)  # noqa: E731
    head = Head(F.normalize(draw(texts, dim), dim=-1), scale)
    pair = Preference(torch.arange(batch) % texts, (torch.arange(batch) + 2) % texts)
    embeddings = Embeddings(draw(batch, dim).requires_grad_())
    old = head(embeddings.perturbed_BD.detach() + 0.05 * draw(batch, dim))
    return embeddings, Targets(draw(batch, dim), None, head, pair, old_logits_BC=old)


def reward_by_hand(targets):
    reward = torch.zeros_like(targets.old_logits_BC)
    for row, (chosen, rejected) in enumerate(
        zip(targets.preference.chosen_B.tolist(), targets.preference.rejected_B.tolist(), strict=True)
    ):
        reward[row, chosen], reward[row, rejected] = 1.0, -1.0
    return reward


@pytest.mark.parametrize("clip", [0.1, 0.3])
def test_the_objective_by_the_textbook(clip):
    embeddings, targets = case()
    log_old = targets.old_logits_BC.log_softmax(-1)
    log_policy = targets.head(embeddings.perturbed_BD).log_softmax(-1)
    expected = textbook(log_policy, log_old, advantage(reward_by_hand(targets), log_old.exp()), clip)
    assert expected.abs().min() > 1e-4 and torch.allclose(PPO(clip)(embeddings, targets), expected, atol=1e-12)
    assert torch.equal(chosen_over_rejected(targets), reward_by_hand(targets))


def test_the_policys_own_texts_are_taken_where_they_move():
    embeddings, targets = case()
    own = Head(F.normalize(targets.head.weight_CD + 0.1, dim=-1), SCALE)
    moved = Embeddings(embeddings.perturbed_BD, None, own)
    log_old = targets.old_logits_BC.log_softmax(-1)
    log_policy = own(embeddings.perturbed_BD).log_softmax(-1)
    expected = textbook(log_policy, log_old, advantage(reward_by_hand(targets), log_old.exp()), 0.2)
    assert torch.allclose(PPO()(moved, targets), expected, atol=1e-12)


def test_gradient_of_the_objective_by_finite_differences():
    embeddings, targets = case()
    for loss in (lambda p: PPO()(Embeddings(p), targets), lambda p: PPO().attack_loss(p, targets)):
        assert torch.autograd.gradcheck(loss, embeddings.perturbed_BD)


def test_a_reward_of_ones_own():
    embeddings, targets = case()
    seen = []

    def steps(given):
        seen.append(given)
        return torch.arange(5.0).expand(4, 5)  # of another type than the logits

    log_old = targets.old_logits_BC.log_softmax(-1)
    rewards = torch.arange(5.0, dtype=torch.float64).expand(4, 5)
    log_policy = targets.head(embeddings.perturbed_BD).log_softmax(-1)
    expected = textbook(log_policy, log_old, advantage(rewards, log_old.exp()), 0.2)
    assert torch.allclose(PPO(reward=steps)(embeddings, targets), expected, atol=1e-12) and seen == [targets]
    for wrong in (lambda t: torch.zeros(4), lambda t: torch.zeros(5, 4), lambda t: 1.0):
        with pytest.raises(ValueError, match=r"the reward gives .*; expected one number .*\(4, 5\)"):
            PPO(reward=wrong)(embeddings, targets)


def test_the_attack_orders_as_the_negative_expected_reward_does():
    embeddings, targets = case()
    attack = PPO().attack_loss(embeddings.perturbed_BD, targets)
    expected = (targets.head(embeddings.perturbed_BD).softmax(-1) * reward_by_hand(targets)).sum(-1)
    assert torch.allclose(attack.exp() - 1, -expected, atol=1e-12)  # the best reward is 1
    one, other = (torch.autograd.grad(loss[0], embeddings.perturbed_BD)[0][0] for loss in (attack, -expected))
    assert F.cosine_similarity(one, other, dim=0) == pytest.approx(1.0)


def test_the_attack_lives_where_the_policy_is_sure():
    """All other texts at a probability of e^-141, which fp32 does not have."""
    head = Head(torch.eye(3), 100.0)
    targets = Targets(torch.zeros(1, 3), None, head, Preference(torch.tensor([0]), torch.tensor([1])))
    image = torch.tensor([[1.0, -0.999, -1.0]], requires_grad=True)
    plain = -(head(image).softmax(-1) * chosen_over_rejected(targets)).sum()
    assert (torch.autograd.grad(plain, image)[0] == 0).all()
    loss = PPO().attack_loss(image, targets)
    (grad,) = torch.autograd.grad(loss.sum(), image)
    assert loss.isfinite().all() and grad.isfinite().all() and grad[0, 0] < 0 < grad[0, 1]


def test_there_is_nothing_to_attack_where_all_texts_are_worth_the_same():
    embeddings, targets = case()
    even = PPO(reward=lambda t: torch.tensor([[0.5] * 5, [1.0, 0, 0, 0, 0]] * 2))
    loss = even.attack_loss(embeddings.perturbed_BD, targets)
    (grad,) = torch.autograd.grad(loss.sum(), embeddings.perturbed_BD)
    assert loss[::2].tolist() == [0, 0] and (grad[::2] == 0).all()
    assert grad.isfinite().all() and (grad[1::2] != 0).any(-1).all()


def test_what_is_missing_is_named():
    embeddings, targets = case()
    assert PPO().needs == Needs(head=True, pairs=True, old_policy=True)
    with pytest.raises(ValueError, match="start of the step"):
        PPO()(embeddings, Targets(targets.reference_BD, None, targets.head, targets.preference))
    with pytest.raises(ValueError, match="head and preference"):
        PPO()(embeddings, Targets(targets.reference_BD, None, targets.head, old_logits_BC=targets.old_logits_BC))
