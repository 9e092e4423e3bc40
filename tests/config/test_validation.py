"""Settings that go together, and those that do not."""

from dataclasses import replace
from pathlib import Path

import pytest

from seaanchor.config.recipes import RECIPES
from seaanchor.config.schema import AnchorConfig, ObjectiveConfig, PerturbationConfig, RunConfig, to_dict
from seaanchor.config.validation import check, differences, needs_classes
from seaanchor.errors import SeaAnchorError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"epochs": 0}, "epochs"),
        ({"primal_steps": 0}, "primal_steps"),
        ({"lr": -1.0}, "lr"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"max_steps": 0}, "max_steps"),
        ({"save_every": 0}, "save_every"),
        ({"log_every": 0}, "log_every"),
        ({"grad_clip": 0.0}, "grad_clip"),
        ({"workers": -1}, "workers"),
        ({"eval_every": 0, "val_data": ("emoji",)}, "eval_every"),
        ({"eval_every": 5}, "without val_data"),
        ({"val_data": ("emoji",)}, "without eval_every"),
        ({"templates": ("a photo",)}, "has no {}"),
        ({"anchor": AnchorConfig(rho=-0.1)}, "anchor.rho"),
        ({"anchor": AnchorConfig(initial_multiplier=0.0)}, "initial_multiplier"),
        ({"anchor": AnchorConfig(max_multiplier=-1.0)}, "max_multiplier"),
        ({"perturbation": PerturbationConfig("none")}, "0 from the start"),
        ({"perturbation": PerturbationConfig(num_steps=-1)}, "num_steps"),
        ({"perturbation": PerturbationConfig(epsilon="0")}, "0 from the start"),
        ({"perturbation": PerturbationConfig("apgd", epsilon="0")}, "0 from the start"),
        ({"perturbation": PerturbationConfig(num_steps=0, random_start=False)}, "0 from the start"),
        ({"perturbation": PerturbationConfig(norm="l2", epsilon="128"), "image_size": 64}, "did you mean 128/255"),
        ({"perturbation": PerturbationConfig(norm="l2", step_size="128"), "image_size": 64}, "did you mean 128/255"),
        ({"perturbation": PerturbationConfig(step_size="2")}, "did you mean 2/255"),
        ({"tokens": "patches", "objective": ObjectiveConfig("tecoa")}, "tecoa, which.*\n.*embedding_distance"),
        (
            {
                "tokens": "patches",
                "objective": ObjectiveConfig("dpo"),
                "perturbation": PerturbationConfig("typographic"),
            },
            "dpo, which.*\n.*embedding_distance",
        ),
        ({"tokens": "patches", "anchor": AnchorConfig("kl")}, "class distributions, which.*\n.*space embedding"),
        (
            {"tokens": "patches", "anchor": AnchorConfig("lagrangian", space="distribution")},
            "class distributions, which",
        ),
        ({"tokens": "patches", "eval_every": 1, "val_data": ("emoji",)}, "classifies images"),
    ],
)
def test_settings_that_do_not_go_together(changes, message):
    with pytest.raises(SeaAnchorError, match=message):
        check(replace(RunConfig(), **changes))


def test_legal_settings_at_the_edge():
    smallest = {"lr": 0.0, "wd": 0.0, "batch_size": 1, "max_steps": 1, "eval_every": 1, "val_data": ("emoji",)}
    for settings in (
        smallest | {"anchor": AnchorConfig("lagrangian", rho=0.0)},
        {"objective": ObjectiveConfig("tecoa"), "perturbation": PerturbationConfig("none")},
        {"tokens": "patches", "anchor": AnchorConfig("lagrangian")},
        {"tokens": "patches", "anchor": AnchorConfig("penalty"), "perturbation": PerturbationConfig("apgd")},
        {"tokens": "mean", "objective": ObjectiveConfig("tecoa")},
        {"objective": ObjectiveConfig("tecoa"), "perturbation": PerturbationConfig(epsilon="0")},
        {"perturbation": PerturbationConfig(num_steps=0)},  # the random start changes images
        {"perturbation": PerturbationConfig(norm="l2", epsilon="110.8"), "image_size": 64},
    ):
        config = replace(RunConfig(), **settings)
        assert check(config) == config


def test_needs_classes():
    assert not needs_classes(RECIPES["fare"]()) and not needs_classes(RECIPES["lore"]())
    assert needs_classes(RECIPES["tecoa"]()) and needs_classes(RECIPES["tecoa-kl"]())
    assert needs_classes(replace(RECIPES["lore"](), anchor=AnchorConfig("lagrangian", space="distribution")))
    assert not needs_classes(replace(RECIPES["fare"](), anchor=AnchorConfig("none", space="distribution")))


def test_differences_name_what_changed_and_leave_out_what_may():
    old = RunConfig()
    new = replace(
        old,
        lr=3e-5,
        perturbation=PerturbationConfig(epsilon="4/255"),
        output=Path("elsewhere"),
        log_every=1,
        resume="auto",
    )
    assert differences(to_dict(old), to_dict(new)) == ["lr: 1e-05 → 3e-05", "perturbation.epsilon: 2/255 → 4/255"]
    assert differences(to_dict(old), to_dict(old)) == []
