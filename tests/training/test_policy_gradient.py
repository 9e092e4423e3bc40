"""PPO in whole steps: what the policy before the step is, and that the K updates are those of a loop by hand."""

import copy
import json
from dataclasses import replace

import pytest
import torch

from seaanchor.api import train_from_config as train
from seaanchor.config.recipes import ppo, ppo_tiny
from seaanchor.config.schema import AdapterConfig, AnchorConfig, ObjectiveConfig, PerturbationConfig
from seaanchor.config.validation import check
from seaanchor.data.loader import SkipLog
from seaanchor.errors import SeaAnchorError
from seaanchor.method import Method
from seaanchor.training.batches import load_steps, make_micro_batch
from seaanchor.training.setup import prepare
from seaanchor.training.state import TrainState, make_state
from seaanchor.training.step import step_seed, train_step

DRAWN = PerturbationConfig("typographic", variants=2, sizes=(0.25, 0.4))
UPDATES, RATE, WEIGHT, CLIP = 3, 0.03, 0.5, 0.1


def first_step(config):
    """The run's setup and the images of its first step."""
    setup = prepare(config)
    ((batch, is_padding),) = next(load_steps(setup, 0, 0, 1, SkipLog(setup.images)))
    return setup, make_micro_batch(setup, batch, is_padding, None)


def plain_state(setup):
    """Updates that are as large as their gradients: Adam would make much of those that are 0 but for rounding."""
    state = make_state(setup)
    parameters = [p for p in state.policy.parameters() if p.requires_grad]
    return TrainState(state.policy, torch.optim.SGD(parameters, lr=RATE), None, None, prefix=state.prefix)


def by_hand(encoder, drawn, clean, targets):
    """Weights after K updates, and the shares of ratios that each of them clips, with nothing of the library but the
    tower and its texts. The policy before the step is asked in eval mode, in a forward of its own."""
    texts, scale = targets.head.weight_CD, targets.head.logit_scale

    def log_policy(pixels, tower):
        embedding = tower(pixels)
        return (scale * embedding / embedding.norm(dim=-1, keepdim=True) @ texts.T).log_softmax(-1)

    reward = torch.zeros(len(drawn.index_B), len(texts))
    for row, (chosen, rejected) in enumerate(zip(drawn.preference.chosen_B, drawn.preference.rejected_B, strict=True)):
        reward[row, chosen], reward[row, rejected] = 1.0, -1.0
    with torch.no_grad():
        old = log_policy(drawn.pixels_BCHW, copy.deepcopy(encoder).eval())
        reference = log_policy(clean.pixels_BCHW, copy.deepcopy(encoder).eval())
    advantage = reward - (old.exp() * reward).sum(1, keepdim=True)
    clipped = []
    for _ in range(UPDATES):
        ratio = (log_policy(drawn.pixels_BCHW, encoder) - old).exp()
        gains = torch.minimum(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)
        divergence = reference.exp() * (reference - log_policy(clean.pixels_BCHW, encoder))
        encoder.zero_grad()
        (-(old.exp() * gains).sum(1).mean() + WEIGHT * divergence.sum(1).mean()).backward()
        clipped.append(((ratio - 1).abs() > CLIP).double().mean().item())
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter -= RATE * parameter.grad
    return torch.cat([p.detach().flatten() for p in encoder.parameters()]), clipped


def test_k_updates_are_those_of_a_loop_by_hand(tmp_path):
    """On the embedded model: three updates that share the policy from before the first, and are clipped against it."""
    config = replace(
        ppo_tiny(),
        objective=ObjectiveConfig("ppo", clip=CLIP),
        anchor=AnchorConfig("kl", weight=WEIGHT),
        primal_steps=UPDATES,
        batch_size=8,
        train_samples=40,
        average="none",
        output=tmp_path / "run",
        device="cpu",
    )
    setup, clean = first_step(config)
    rng = torch.Generator().manual_seed(step_seed(config.seed, 0, 0))
    drawn = setup.method.perturb(setup.policy, clean.batch, clean.targets, rng)
    start = torch.cat([p.detach().flatten() for p in setup.policy.parameters()])
    encoder = copy.deepcopy(setup.policy).train().requires_grad_()
    wanted, clipped = by_hand(encoder, drawn, clean.batch, clean.targets)
    assert clipped[0] == 0 and min(clipped[1:]) > 0.05  # so that the old policy and the clip count
    state = plain_state(setup)
    train_step(setup.method, state, [clean], config, 0, setup.reference)
    found = torch.cat([p.detach().flatten() for p in state.encoder.parameters()])
    assert (found - wanted).norm() < 1e-2 * (wanted - start).norm()  # 0.25 without the clip, 0.001 of rounding


@pytest.mark.parametrize("adapter", ["full", "lora", "linear", "last_blocks"])
@pytest.mark.parametrize("slice_size", [None, 2])
def test_all_updates_of_a_step_are_given_the_policy_from_before_it(tiny_run, monkeypatch, adapter, slice_size):
    """Each image its own, whatever moves: the first update is that policy, the last is not."""
    options = {"lora": {"rank": 2}, "last_blocks": {"last_blocks": 1}}.get(adapter, {})
    config = tiny_run(
        ppo(), perturbation=DRAWN, adapter=AdapterConfig(adapter, **options), batch_size=5, slice_size=slice_size
    )
    setup, clean = first_step(replace(config, primal_steps=3, lr=1e-2))
    seen, real = [], Method.primal_terms

    def watched(self, encode, clean, perturbed, targets, policy):
        terms = real(self, encode, clean, perturbed, targets, policy)
        head = self.adapter.head(policy, targets.head) or targets.head
        with torch.no_grad():
            now = head(encode(torch.cat([perturbed.pixels_BCHW, clean.pixels_BCHW])).float())[: len(clean.index_B)]
        seen.append((clean.index_B.tolist(), targets.old_logits_BC, terms, now))
        return terms

    monkeypatch.setattr(Method, "primal_terms", watched)
    train_step(setup.method, make_state(setup), [clean], setup.config, 0, setup.reference)
    count = len(seen) // 3
    assert count == (3 if slice_size else 1)
    for first, second, third in zip(seen[:count], seen[count : 2 * count], seen[2 * count :], strict=True):
        assert first[0] == second[0] == third[0]
        old = first[2].old_logits_BC
        assert first[1] is None and torch.allclose(old, first[3], atol=1e-4) and not old.requires_grad
        assert first[2].objective_B.abs().max() < 1e-6  # every ratio is 1
        assert torch.equal(second[1], old) and torch.equal(third[1], old)
        assert not torch.allclose(third[3], old, atol=1e-2) and third[2].objective_B.abs().max() > 1e-4


def test_it_costs_no_forward_of_its_own(tiny_run):
    setup, clean = first_step(tiny_run(ppo(), perturbation=DRAWN, batch_size=5, primal_steps=3))
    state, seen = make_state(setup), []
    state.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    train_step(setup.method, state, [clean], setup.config, 0, setup.reference)
    assert seen == [10, 10, 10]  # perturbed and clean images together


def test_other_methods_are_told_nothing(tiny_run, monkeypatch):
    seen, real = [], Method.primal_terms
    setup, clean = first_step(
        tiny_run(ppo(), perturbation=DRAWN, objective=ObjectiveConfig("dpo"), primal_steps=2, batch_size=5)
    )
    monkeypatch.setattr(Method, "primal_terms", lambda *args: seen.append(args[4]) or real(*args))
    train_step(setup.method, make_state(setup), [clean], setup.config, 0, setup.reference)
    assert [targets.old_logits_BC for targets in seen] == [None, None]


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", ["typographic", "typographic+pgd"])
def test_a_run_moves_towards_its_reward(tiny_run, kind):
    """The loss that the last update of a step logs is mostly below 0, which is that of the policy before the step."""
    drawn = replace(DRAWN, kind=kind, num_steps=2, epsilon="1/255")
    rows = metrics(train(tiny_run(ppo(), perturbation=drawn, epochs=3, average="none", anchor=AnchorConfig())))
    assert len(rows) == 12 and sum(row["adversarial_loss"] for row in rows) / 12 < -0.01


def test_drawn_words_lose_their_power(tmp_path):
    """A minute's training in small: the embedded model, a linear map of its embeddings."""
    config = replace(
        ppo_tiny(),
        adapter=AdapterConfig("linear", orthogonality=0.03),
        anchor=AnchorConfig("kl", weight=0.1),
        perturbation=replace(ppo_tiny().perturbation, variants=1),
        train_samples=80,
        batch_size=40,
        epochs=20,
        lr=3e-3,
        average="none",
        output=tmp_path / "run",
        device="cpu",
    )
    setup = prepare(config)
    head, attacked, label = setup.head, setup.table.attacked_NVD[:, 0], setup.table.label_N

    def accuracy(weight):
        mapped = replace(head, weight_CD=torch.nn.functional.normalize(head.weight_CD @ weight.T, dim=-1))
        return (mapped(attacked @ weight.T).argmax(-1) == label).double().mean().item()

    from seaanchor.export.trained import read_map

    before, after = accuracy(torch.eye(attacked.shape[1])), accuracy(read_map(train(config)))
    assert after > before + 0.1


@pytest.mark.parametrize("clip", [0.0, 1.0, -0.2, float("nan")])
def test_a_clip_out_of_range_is_refused_before_anything_loads(clip):
    with pytest.raises(SeaAnchorError, match=r"objective\.clip is .*\n.*a share in \(0, 1\)"):
        check(replace(ppo(), objective=ObjectiveConfig("ppo", clip=clip)))
    assert check(replace(ppo(), objective=ObjectiveConfig("ppo", clip=0.9)))


def test_data_without_pairs_or_with_one_text_is_refused(tiny_run, image_folder, tmp_path):
    with pytest.raises(SeaAnchorError, match="preferences"):
        prepare(tiny_run(ppo(), perturbation=PerturbationConfig("pgd")))
    image = str(image_folder / "apple" / "0.jpg")
    rows = {"one.jsonl": ("a", "a"), "half.jsonl": ("a", None)}
    for name, (chosen, rejected) in rows.items():
        row = {"image": image, "chosen": chosen, "rejected": rejected}
        if rejected is None:
            row = {"image": image, "text": chosen, "desirable": True}
        (tmp_path / name).write_text(json.dumps(row) + "\n")
        with pytest.raises(SeaAnchorError):
            prepare(replace(tiny_run(ppo(), perturbation=PerturbationConfig("none")), train_data=str(tmp_path / name)))
    with pytest.raises(SeaAnchorError, match="at least two"):
        (tmp_path / "single").mkdir()
        (image_folder / "apple").rename(tmp_path / "single" / "apple")
        prepare(replace(tiny_run(ppo(), perturbation=DRAWN), train_data=str(tmp_path / "single")))
