"""The table of a step's parts, against a step taken apart by hand."""

from dataclasses import replace

import pytest

from seaanchor.config.assemble import assemble
from seaanchor.config.recipes import fare, lore
from seaanchor.encoders.load import load_model
from seaanchor.profiling.cost_model import step_cost
from seaanchor.profiling.op_counter import Stage
from seaanchor.profiling.step_parts import by_part, table
from seaanchor.utils.parts import ATTACK, DUAL, OPTIMIZER, OTHER, REFERENCE, UPDATE


def test_clean_and_perturbed_images_share_the_updates():
    counted = {Stage(ATTACK, False): 10, Stage(ATTACK, True): 20, Stage(UPDATE, False): 4, Stage(UPDATE, True): 8}
    assert by_part(counted, clean=True) == {
        "attack": (10, 20),
        "perturbed images": (2, 4),
        "clean images": (2, 4),
        "reference": (0, 0),
        "dual": (0, 0),
        "optimizer": (0, 0),
    }
    assert by_part(counted, clean=False)["perturbed images"] == (4, 8)
    assert by_part({Stage(OTHER, False): 3}, False)["other"] == (3, 0)


def test_rows_have_shares_that_add_up():
    counted = {Stage(ATTACK, False): 10, Stage(ATTACK, True): 20, Stage(UPDATE, False): 4, Stage(DUAL, True): 6}
    seconds = {Stage(OPTIMIZER, False): 1.0, Stage(ATTACK, True): 3.0}
    rows = table(counted, 2, True, seconds)
    assert rows[0] == "attack            forward     5.00 F   25.0 %   backward   10.00 F   50.0 %   time  75.0 %"
    assert rows[1] == "perturbed images  forward     1.00 F    5.0 %   backward    0.00 F    0.0 %   time   0.0 %"
    assert rows[-1] == "optimizer         forward     0.00 F    0.0 %   backward    0.00 F    0.0 %   time  25.0 %"
    assert "backward    3.00 F   15.0 %" in rows[4]


@pytest.mark.parametrize(("recipe", "images"), [(fare(), 1), pytest.param(lore(), 2, marks=pytest.mark.exhaustive)])
def test_a_step_taken_apart(clip_folder, recipe, images):
    """Three gradients of the attack take 3 F forward and a little more back (attention); two updates, of one or two
    images each, 1 F forward and less than 2 F back, as nothing asks for the gradient to the pixels; the reference 1 F
    where it is not cached. The optimizer has no products, and its time is that of its bytes."""
    tower = load_model(str(clip_folder)).encoder
    recipe = replace(recipe, primal_steps=2, batch_size=4, perturbation=replace(recipe.perturbation, num_steps=3))
    cost = step_cost(recipe, tower, assemble(recipe, tower.dim), 7, cached=False)
    unit = 4 * cost.forward.total
    operations = {stage: work.total / unit for stage, work in cost.stages.items()}
    spared = 3 - operations[Stage(ATTACK, False)]  # of the last block's tokens, which nobody reads
    assert 0 <= spared < 3 * 0.4 and 3 - spared < operations[Stage(ATTACK, True)] < 3.6
    assert operations[Stage(UPDATE, False)] == pytest.approx(2 * images * (1 - spared / 3), rel=0.1)
    assert operations[Stage(UPDATE, False)] < operations[Stage(UPDATE, True)] < 2.2 * operations[Stage(UPDATE, False)]
    assert operations[Stage(REFERENCE, False)] == 1 and operations[Stage(OPTIMIZER, False)] == 0
    assert (operations.get(Stage(DUAL, False), 0) > 0) == (images == 2)
    assert cost.stages[Stage(OPTIMIZER, False)].moved > 2 * 4 * sum(p.numel() for p in tower.parameters())
    assert cost.step.total == sum(work.total for work in cost.stages.values())
