"""Runs that experiments share: legal settings, one run for the same settings, and the same budget for every method."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from seaanchor.config.schema import RunConfig, from_dict
from seaanchor.config.validation import check
from seaanchor.sweeps.arms import one
from studies.ablations import constraint_arms, tecoa_arms
from studies.anchoring import dual_arms, noise_anchors
from studies.experiment import Bench
from studies.lore import fronts
from studies.preference import BETA, DATA, LAMBDA, UPDATES, VARIANTS
from studies.threats import joint_arms
from studies.words import maps, towers, word_folder

BENCH = Bench(Path("runs/reproduce/any"))


def robust_arms():
    families = [
        *fronts(BENCH).values(),
        tecoa_arms(BENCH),
        constraint_arms(BENCH, 900.0),
        *noise_anchors(BENCH).values(),
        *dual_arms(BENCH).values(),
    ]
    return [config for family in families for config in family.values()]


@pytest.mark.parametrize("config", [*robust_arms(), *towers().values(), *maps().values(), *joint_arms()[0].values()])
def test_every_arm_is_a_legal_method(config):
    assert check(config).seed == 0


def test_robust_arms_differ_in_objective_anchor_and_updates_alone():
    plain = [
        replace(config, objective=robust_arms()[0].objective, anchor=robust_arms()[0].anchor, primal_steps=1)
        for config in robust_arms()
    ]
    assert len(plain) > 15 and all(config == plain[0] for config in plain)


def test_settings_name_a_run_of_words():
    dpo, ipo = towers()["DPO + KL"], towers()["IPO + KL"]
    folder = word_folder(dpo, 0, BENCH)
    assert folder.parent == Path("runs/reproduce/words/seed-0")
    assert folder == word_folder(
        replace(dpo, output=Path("elsewhere")), 0, replace(BENCH, output=Path("runs/reproduce/other"))
    )
    others = [
        word_folder(ipo, 0, BENCH),
        word_folder(dpo, 1, BENCH),
        word_folder(replace(dpo, lr=1e-5), 0, BENCH),
        word_folder(maps()["DPO + KL"], 0, BENCH),
    ]
    assert len({folder, *others}) == 5


def test_a_published_recipe_is_the_run_it_names():
    """Everything that a run's settings decide is in the file beside its numbers, and nothing of this machine."""
    bench = Bench(Path("runs/reproduce/any"))
    arms = dict(enumerate([*robust_arms(), *towers().values(), *maps().values(), *joint_arms()[0].values()]))
    for name, config in arms.items():
        bench.keep(str(name), config)
    published = yaml.safe_load(yaml.safe_dump(bench.recipes))
    assert all(check(from_dict(RunConfig, published[str(name)])) == check(config) for name, config in arms.items())
    bench.keep("second", arms[0], model="the export of: first")
    assert bench.recipes["second"]["model"] == "the export of: first" and str(Path.cwd()) not in str(bench.recipes)


@pytest.mark.parametrize("ablation", [BETA, LAMBDA, VARIANTS, DATA])
def test_an_ablation_compares_values_it_has_at_equal_updates(ablation):
    assert ablation.contrasts and {value for c in ablation.contrasts for value in (c.one, c.other)} <= set(
        ablation.values
    )
    configs = [check(one(ablation.base, {ablation.setting: value}).config) for value in ablation.values]
    photos = [config.train_samples or 800 for config in configs]
    updates = [
        config.max_steps or math.ceil(n / config.batch_size) * config.epochs
        for config, n in zip(configs, photos, strict=True)
    ]
    assert set(updates) == {UPDATES}
