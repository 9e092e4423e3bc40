"""Runs that experiments share: legal settings, one run for the same settings, and the same budget for every method."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from seaanchor.config.schema import RunConfig, from_dict
from seaanchor.config.validation import check
from seaanchor.sweeps.arms import one
from seaanchor.sweeps.tables import Column
from studies.anchor_studies import ANCHORED, DUALS, MOVING_ARMS
from studies.constraint_study import constraint_arms
from studies.declare import Claim, Contrast, Design, Line, SetColumns
from studies.lore_studies import FAMILIES
from studies.noise_arms import TECOAS
from studies.pools import word_folder
from studies.real_arms import real_fare, real_specs
from studies.registry import STUDIES
from studies.rows import UNTOUCHED
from studies.threat_studies import FIRST
from studies.word_ablations import BETA, DATA, LAMBDA, UPDATES, VARIANTS
from studies.word_arms import MAPS, TOWERS
from studies.workspace import Workspace

WORKSPACE = Workspace(Path("runs/reproduce/any"))
DESIGNS = {name: study.design for name, study in STUDIES.items() if isinstance(study.design, Design)}


def robust_arms():
    families = [
        *FAMILIES.values(),
        TECOAS,
        constraint_arms(900.0),
        *(dict(family.values()) for family in ANCHORED.values()),
    ]
    return [config for family in [*families, *DUALS.values()] for config in family.values()]


def every_arm():
    real = [DESIGNS[name].arms for name in DESIGNS if name.startswith("real-")]
    of_real = [config for arms in real for config in arms.values()]
    return [*robust_arms(), *MOVING_ARMS.values(), *TOWERS.values(), *MAPS.values(), *FIRST.values(), *of_real]


@pytest.mark.parametrize("config", every_arm())
def test_every_arm_is_a_legal_method(config):
    assert check(config).seed == 0


def test_robust_arms_differ_in_objective_anchor_and_updates_alone():
    plain = [
        replace(config, objective=robust_arms()[0].objective, anchor=robust_arms()[0].anchor, primal_steps=1)
        for config in robust_arms()
    ]
    assert len(plain) > 15 and all(config == plain[0] for config in plain)


def test_settings_name_a_run_of_words():
    dpo, ipo = TOWERS["DPO + KL"], TOWERS["IPO + KL"]
    folder = word_folder(dpo, 0, WORKSPACE)
    assert folder.parent == Path("runs/reproduce/words/seed-0")
    assert folder == word_folder(
        replace(dpo, output=Path("elsewhere")), 0, replace(WORKSPACE, output=Path("runs/reproduce/other"))
    )
    others = [
        word_folder(ipo, 0, WORKSPACE),
        word_folder(dpo, 1, WORKSPACE),
        word_folder(replace(dpo, lr=1e-5), 0, WORKSPACE),
        word_folder(MAPS["DPO + KL"], 0, WORKSPACE),
    ]
    assert len({folder, *others}) == 5


def test_a_published_recipe_is_the_run_it_names():
    """Everything that a run's settings decide is in the file beside its numbers, and nothing of this machine."""
    workspace = Workspace(Path("runs/reproduce/any"))
    arms = dict(enumerate(every_arm()))
    for name, config in arms.items():
        workspace.keep(str(name), config)
    published = yaml.safe_load(yaml.safe_dump(workspace.recipes))
    assert all(check(from_dict(RunConfig, published[str(name)])) == check(config) for name, config in arms.items())
    workspace.keep("second", arms[0], model="the export of: first")
    assert workspace.recipes["second"]["model"] == "the export of: first" and str(Path.cwd()) not in str(
        workspace.recipes
    )


@pytest.mark.parametrize("ablation", [BETA, LAMBDA, VARIANTS, DATA])
def test_an_ablation_compares_values_it_has_at_equal_updates(ablation):
    assert ablation.contrasts and {float(value) for c in ablation.contrasts for value in (c.one, c.other)} <= set(
        ablation.values
    )
    configs = [check(one(ablation.base, {ablation.setting: value}).config) for value in ablation.values]
    photos = [config.train_samples or 800 for config in configs]
    updates = [
        config.max_steps or math.ceil(n / config.batch_size) * config.epochs
        for config, n in zip(configs, photos, strict=True)
    ]
    assert set(updates) == {UPDATES}


def test_a_renamed_setting_leaves_the_folders_of_runs_that_are_there():
    folder = word_folder(MAPS["DPO + Lagrangian"], 0, WORKSPACE)
    assert folder.name == "dpo-lagrangian-linear-f8f52cac"


@pytest.mark.parametrize("name", DESIGNS)
def test_a_design_names_only_arms_that_it_has(name):
    """Claims, lines and starting points: a wrong name would show after hours of training."""
    design = DESIGNS[name]
    declared = constraint_arms(900.0) if callable(design.arms) else design.arms
    alphas = design.mixtures.alphas if design.mixtures else ()
    known = {UNTOUCHED, *declared, *design.compared, *(f"{arm} α={alpha:g}" for arm in declared for alpha in alphas)}
    used = {arm for panel in design.panels for line in panel.lines if isinstance(line, Line) for arm in line.arms}
    used |= set(design.starts_from) | set(design.starts_from.values())
    for claim in design.claims:
        used |= {arm for comparison in comparisons(claim) for arm in arms_of(comparison)}
    shipped = {
        "adaptive": {"seaanchor-tiny-fare", "seaanchor-tiny-lore", "seaanchor-tiny-lore, t = 1"},
        "real-joint": {"seaanchor-lite-lore", "seaanchor-lite-dpo"},
    }
    assert used - known <= shipped.get(name, set())
    assert len(design.claims) > 0 and len(known) > 2


@pytest.mark.parametrize("name", DESIGNS)
def test_a_panel_shows_columns_that_the_table_has(name):
    design = DESIGNS[name]
    titles = {column.title for column in design.columns if isinstance(column, Column)}
    titles |= {title for column in design.columns if isinstance(column, SetColumns) for title, _ in column.columns}
    titles |= {title.replace("{set}", "emoji") for title in titles}
    for panel in design.panels:
        shown = {title for title in (panel.x, panel.y) if title and "{set}" not in title}
        assert shown <= titles, panel.title


def test_arms_of_the_real_tower_against_noise_share_a_budget():
    """Those of one radius and photos: they differ in objective, anchor, updates and whether they are watched."""
    plain = {
        replace(config, objective=real_fare().objective, anchor=real_fare().anchor, primal_steps=2)
        for name in ("real-front", "real-once", "real-duals", "real-tecoa", "real-other")
        for config in DESIGNS[name].arms.values()
    }
    assert plain == {real_fare()}


def test_rows_of_studies_that_measure_alike_lie_together():
    alike = [DESIGNS[name] for name in ("real-front", "real-duals", "real-tecoa")]
    workspaces = [replace(WORKSPACE, rows=Path("docs/rows") / name) for name in ("real-front", "real-duals")]
    assert {design.pool.kept(w) for design in alike for w in workspaces} == {Path("docs/rows/real-front")}
    assert {str(design.specs) for design in alike} == {str(real_specs())}
    names = [name for design in alike for name in design.arms]
    assert all(
        check(one.arms[name]) == check(other.arms[name])
        for one in alike
        for other in alike
        for name in names
        if name in one.arms and name in other.arms
    )
    other = replace(WORKSPACE, rows=Path("docs/rows/real-other"))
    assert DESIGNS["real-other"].pool.kept(other) == other.rows and DESIGNS["real-other"].pool.kept(WORKSPACE) is None


def comparisons(claim: Claim):
    return [one for effect in claim.effects for one in getattr(effect, "comparisons", (effect,))]


def arms_of(comparison) -> tuple[str, ...]:
    if isinstance(comparison, Contrast):
        return comparison.one, comparison.other
    return *comparison.arms, *comparison.curve
