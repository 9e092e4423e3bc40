"""What a step changes: where it lies, and that its parts are told apart."""

from dataclasses import replace

import pytest
import torch

from seaanchor.config.recipes import dpo, lore
from seaanchor.distributed.process_group import ONE_PROCESS
from seaanchor.errors import SeaAnchorError
from seaanchor.training.run_folder import RunFolder
from seaanchor.training.setup import prepare
from seaanchor.training.state import make_state, save_checkpoint, stop_if_not_finite
from seaanchor.utils.checkpoint import load_state


def test_everything_that_a_step_reads_lies_on_the_device_of_the_run(tiny_run):
    """On a device without contents, which any machine has: policy, reference, averages and the multipliers' network."""
    setup = replace(prepare(tiny_run(lore(), average="beta")), device=torch.device("meta"))
    state = make_state(setup)
    assert state.dual is not None and state.average is not None
    tensors = [*state.policy.parameters(), *setup.reference.parameters(), *state.dual.parameters(), *state.average.mean]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


@pytest.mark.parametrize("recipe", [lore(), dpo()], ids=["lore", "dpo"])
def test_a_state_goes_on_as_its_checkpoint_left_it(tiny_run, tmp_path, recipe):
    config = tiny_run(recipe, average="ema")
    setup, folder = prepare(config), RunFolder(tmp_path / "run")
    state = make_state(setup)
    with torch.no_grad():
        for parameter in state.policy.parameters():
            parameter += 1
    state.average.update()
    save_checkpoint(setup, state, ONE_PROCESS, folder, 1, {"images_seen": 3})
    again = make_state(prepare(config), ONE_PROCESS, folder.load(1))
    for mine, theirs in zip(state.policy.parameters(), again.policy.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert again.average.index == 1 and torch.equal(again.average.mean[0], state.average.mean[0])
    assert folder.load(1)["images_seen"] == 3
    assert ("dual" in load_state(folder.checkpoint(1))) == (state.dual is not None)


def test_numbers_that_are_not_finite_stop_the_run_and_name_the_last_checkpoint(tmp_path):
    folder = RunFolder(tmp_path / "run")
    stop_if_not_finite([torch.ones(3)], 7, folder, ONE_PROCESS)
    with pytest.raises(SeaAnchorError, match=r"at step 7[\s\S]*no checkpoint was due yet[\s\S]*check_objective"):
        stop_if_not_finite([torch.ones(3), torch.tensor(float("inf"))], 7, folder, ONE_PROCESS)
    saved = folder.save(2, {"step": 2})
    with pytest.raises(SeaAnchorError) as caught:
        stop_if_not_finite([torch.tensor(float("nan"))], 7, folder, ONE_PROCESS)
    assert str(saved) in caught.value.change
