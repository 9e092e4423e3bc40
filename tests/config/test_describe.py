"""Parts as settings: what a method object becomes in a configuration, and what contradicts it."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from seaanchor import methods
from seaanchor.anchors.duals import Dual
from seaanchor.anchors.lagrangian import Lagrangian
from seaanchor.anchors.penalty import Penalty
from seaanchor.config.assemble import method_of
from seaanchor.config.describe import run_config, with_method
from seaanchor.config.recipes import RECIPES
from seaanchor.config.schema import AnchorConfig, ObjectiveConfig, RunConfig, from_dict, to_dict
from seaanchor.errors import SeaAnchorError
from seaanchor.objectives.embedding import EmbeddingDistance
from seaanchor.objectives.policy_gradient import PPO
from seaanchor.objectives.preference import DPO
from seaanchor.types import Needs


@dataclass(frozen=True)
class Scaled(EmbeddingDistance):
    """An objective that nobody registered."""

    scale: float = 2.0


@dataclass(frozen=True)
class Recorded(Scaled):
    """The same with its settings."""

    def config(self):
        return {"scale": self.scale, "beta": 0.5}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_and_the_method_of_its_name_are_one(name):
    """Equal parts, and the same settings but for `kl`, which is the penalty on distributions by another name."""
    recipe, method = RECIPES[name](), getattr(methods, name.replace("-", "_"))()
    for part, made in method_of(recipe).parts.items():
        assert getattr(method, part) == made
    config = run_config(method)
    if recipe.anchor.kind == "kl":
        assert (config.anchor.kind, config.anchor.space) == ("penalty", "distribution")
        config = replace(config, anchor=replace(config.anchor, kind="kl", space="embedding"))
    assert config == recipe


def test_methods_take_numbers_and_texts_for_a_radius():
    assert methods.lore(rho=0.2, epsilon=4 / 255) == methods.lore(rho=0.2, epsilon="4/255")
    assert methods.fare(0.01).perturbation.ball.epsilon == 0.01
    assert methods.lore().defaults == {"epochs": 2, "primal_steps": 5}
    assert run_config(methods.lore(), lr=3e-4).lr == 3e-4
    assert run_config(methods.lore(), output="runs/x").output == Path("runs/x")


def test_a_described_method_is_made_again_from_its_settings():
    for name in RECIPES:
        method = getattr(methods, name.replace("-", "_"))()
        config = from_dict(RunConfig, to_dict(run_config(method)))
        assert method_of(config).parts == method.parts


def test_an_object_without_a_name_is_recorded_by_its_class():
    method = replace(methods.fare(), objective=Recorded(scale=3.0))
    section = with_method(RunConfig(), method).objective
    assert section.kind.startswith("object:") and section.kind.endswith("Recorded")
    assert section.options == {"scale": 3.0} and section.beta == 0.5  # a setting of the section is one
    config = with_method(RunConfig(), method)
    assert from_dict(RunConfig, to_dict(config)) == config == with_method(config, method)
    assert with_method(RunConfig(), replace(method, objective=Scaled())).objective.options == {}
    with pytest.raises(SeaAnchorError, match="given as an object"):
        method_of(config)


def test_a_reward_of_ones_own_is_not_recorded_as_the_usual_one():
    """A resumed run would otherwise go on with another reward than it began with."""
    method = replace(methods.ppo(), objective=PPO(0.3, reward=lambda targets: targets.old_logits_BC))
    assert with_method(RunConfig(), method).objective.kind == "object:seaanchor.objectives.policy_gradient.PPO"
    assert with_method(RunConfig(), replace(method, objective=PPO(0.3))).objective == ObjectiveConfig("ppo", clip=0.3)
    with pytest.raises(SeaAnchorError, match="objective PPO"):
        with_method(RunConfig(resume="auto"), method)


def test_resuming_an_object_without_settings_is_refused():
    method = replace(methods.fare(), objective=Scaled())
    with pytest.raises(SeaAnchorError, match=r"objective Scaled[\s\S]*add `config\(self\) -> dict`"):
        with_method(RunConfig(resume="auto"), method)
    with_method(RunConfig(resume="auto"), replace(method, objective=Recorded()))
    ready = replace(methods.lore(), anchor=Lagrangian(Dual("scalar", 3)))
    with pytest.raises(SeaAnchorError, match="anchor Lagrangian"):
        with_method(RunConfig(resume="auto"), ready)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"objective": ObjectiveConfig("tecoa")}, r"objective\.kind is 'tecoa'"),
        ({"anchor": AnchorConfig("lagrangian", rho=0.3)}, r"anchor\.rho is 0\.3, but the method's anchor has 0\.1"),
        ({"objective": ObjectiveConfig(options={"a": 1})}, r"options"),
    ],
)
def test_an_object_and_other_settings_contradict(section, message):
    with pytest.raises(SeaAnchorError, match=message):
        with_method(replace(RunConfig(), **section), methods.lore())


def test_what_the_object_does_not_know_stays():
    config = replace(RunConfig(), anchor=AnchorConfig(reference="ema", reference_decay=0.9))
    assert with_method(config, methods.lore()).anchor.reference == "ema"


def test_settings_that_yaml_cannot_hold_are_refused():
    class Odd(Penalty):
        needs = Needs()

        def config(self):
            return {"loss": DPO()}

    with pytest.raises(SeaAnchorError, match=r"config\(\) of .*Odd returns"):
        with_method(RunConfig(), replace(methods.fare(), anchor=Odd()))
