"""What a run started from is loaded again as it was, or said to be lost; evaluation and steering compare with nothing
else."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import seaanchor as sa
from seaanchor.config.recipes import fare
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError, note
from seaanchor.evaluation.model_pair import open_pair
from seaanchor.evaluation.protocol import Protocol
from seaanchor.training.run import train
from seaanchor.training.start import LostStartError, load_start

PROTOCOL = Protocol(plans=(), templates=("{}",), samples=None, seed=0)


@pytest.fixture(autouse=True)
def _fresh_notes():
    note.cache_clear()


def drawn(seed: int):
    """A random tower as a run of this seed draws it."""
    import open_clip

    torch.manual_seed(seed)
    return open_clip.create_model("tiny-vit").visual.state_dict()


def same(model, state) -> bool:
    found = model.module.visual.state_dict()
    return all(torch.equal(found[key], value) for key, value in state.items())


@pytest.fixture
def random_run(architectures, tiny_run) -> Path:
    return train(replace(tiny_run(fare(), max_steps=1), model="tiny-vit", pretrained="none", seed=7))


def test_random_weights_are_drawn_as_the_run_drew_them(random_run):
    pair = open_pair(str(random_run / "export"), None, None, PROTOCOL, None)
    assert same(pair.reference, drawn(7))
    assert not same(pair.reference, drawn(0))
    assert not same(pair.model, drawn(7))  # a step was taken
    torch.manual_seed(123)
    before = torch.get_rng_state()
    start = load_start(random_run)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(start, drawn(7))


def test_random_weights_that_cannot_be_drawn_again_are_no_reference(random_run, caplog):
    """Another version of the libraries may draw otherwise, another size of images does."""
    file = random_run / "env.json"
    environment = json.loads(file.read_text())
    assert environment["start"]["image_size"] == 32
    file.write_text(json.dumps(environment | {"start": environment["start"] | {"weights": "another"}}))
    pair = open_pair(str(random_run / "export"), None, None, PROTOCOL, None)
    assert pair.reference is None
    assert "random ones, drawn differently; it is evaluated without a reference" in caplog.text
    with pytest.raises(LostStartError):
        load_start(random_run)
    file.write_text(json.dumps({}))  # a run of an earlier version
    with pytest.raises(LostStartError, match="not recorded"):
        load_start(random_run)
    file.write_text(json.dumps(environment))
    with pytest.raises(LostStartError, match="for this size of images"):
        load_start(random_run, 64)
    with pytest.raises(SeaAnchorError, match="the reference of"):
        open_pair(str(random_run / "export"), None, None, replace(PROTOCOL, suites=("drift",), image_size=64), None)


def test_a_model_given_as_an_object_names_its_weights(architectures, image_folder, tmp_path):
    torch.manual_seed(5)
    model = load_model("tiny-vit", "none")
    torch.save(model.module.state_dict(), tmp_path / "w.pt")
    for given, found in ((model, False), (load_model("tiny-vit", str(tmp_path / "w.pt")), True)):
        output = tmp_path / str(found)
        sa.train(given, str(image_folder), "fare-quick", output=output, steps=1, batch_size=3, device="cpu")
        pair = open_pair(str(output / "export"), None, None, PROTOCOL, None)
        assert (pair.reference is not None) == found  # random weights of an unknown seed are no reference
        if pair.reference is not None:
            assert same(pair.reference, model.module.visual.state_dict())


@pytest.fixture
def moved_run(architectures, image_folder, tiny_run, tmp_path, monkeypatch) -> Path:
    """A run whose model and images were given by relative paths, seen from another folder."""
    monkeypatch.chdir(tmp_path)
    Path("weights").mkdir()
    torch.save(load_model("tiny-vit", "none").module.state_dict(), "weights/w.pt")
    given = tiny_run(fare(), max_steps=1)
    train(replace(given, model="tiny-vit", pretrained="weights/w.pt", train_data="images", output=Path("runs/x")))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return Path("../runs/x")


def test_relative_weights_are_found_from_another_folder(moved_run, tmp_path):
    pair = open_pair(str(moved_run / "export"), None, None, PROTOCOL, None)
    assert same(pair.reference, {k.removeprefix("visual."): v for k, v in _visual(tmp_path / "weights/w.pt").items()})
    assert str(tmp_path) not in (moved_run / "config.yaml").read_text()


def _visual(file: Path):
    return {k: v for k, v in torch.load(file, weights_only=True).items() if k.startswith("visual.")}


def test_a_reference_that_is_gone_is_called_the_reference(moved_run, tmp_path):
    (tmp_path / "weights" / "w.pt").rename(tmp_path / "weights" / "moved.pt")
    name = str(moved_run / "export")
    with pytest.raises(SeaAnchorError) as caught:
        open_pair(name, None, None, PROTOCOL, None)
    assert "which the run in ../runs/x started from, could not be loaded" in caught.value.found
    assert "--reference none" in caught.value.change and caught.value.change != "set --pretrained"
    assert open_pair(name, None, "none", PROTOCOL, None).reference is None
    found = open_pair(name, str(tmp_path / "weights" / "moved.pt"), "tiny-vit", PROTOCOL, None)
    assert found.reference is not None
    with pytest.raises(SeaAnchorError, match=r"the reference of .*, no-such-model, could not be loaded"):
        open_pair(name, None, "no-such-model", PROTOCOL, None)


def test_weights_that_changed_since_are_no_reference(moved_run, tmp_path, caplog):
    state = torch.load(tmp_path / "weights/w.pt", weights_only=True)
    torch.save({key: value + 1 if "proj" in key else value for key, value in state.items()}, tmp_path / "weights/w.pt")
    assert open_pair(str(moved_run / "export"), None, None, PROTOCOL, None).reference is None
    assert "its weights are not those of then; it is evaluated without a reference" in caplog.text


def test_a_run_goes_on_from_another_folder(moved_run, tiny_run, tmp_path, monkeypatch):
    """The same files under other relative paths are the same settings."""
    config = replace(
        tiny_run(fare(), max_steps=1), model="tiny-vit", pretrained="../weights/w.pt", train_data="../images"
    )
    train(replace(config, output=moved_run, resume="auto"))
    with pytest.raises(SeaAnchorError, match="other settings"):
        train(replace(config, output=moved_run, resume="auto", train_data="../runs"))


def test_pretrained_is_meant_for_bare_names(architectures, clip_folder, tmp_path):
    """A folder beside a bare reference, and the other way round."""
    weights = tmp_path / "w.pt"
    torch.save(load_model("tiny-vit", "none").module.state_dict(), weights)
    state = torch.load(weights, weights_only=True)
    state = {key.removeprefix("visual."): value for key, value in state.items() if key.startswith("visual.")}
    pair = open_pair(str(clip_folder), str(weights), "tiny-vit", PROTOCOL, None)
    assert same(pair.reference, state)
    pair = open_pair("tiny-vit", str(weights), str(clip_folder), PROTOCOL, None)
    assert same(pair.model, state)
    assert open_pair(str(clip_folder), str(weights), None, PROTOCOL, None, ["tiny-vit"]).reference is None
    with pytest.raises(SeaAnchorError, match="brings its own weights"):
        open_pair(str(clip_folder), str(weights), None, PROTOCOL, None)


def test_an_image_towers_file_is_compared_with_its_base(architectures, tmp_path):
    base = load_model("tiny-vit", "none").module
    torch.save(base.state_dict(), tmp_path / "base.pt")
    torch.save({key: value + 0.01 for key, value in base.visual.state_dict().items()}, tmp_path / "fare.pt")
    asked = f"{tmp_path / 'base.pt'}+{tmp_path / 'fare.pt'}"
    pair = open_pair("tiny-vit", asked, None, PROTOCOL, None)
    assert same(pair.reference, base.visual.state_dict())
    assert not same(pair.model, base.visual.state_dict())
    assert same(open_pair("tiny-vit", asked, "tiny-vit", PROTOCOL, None).reference, base.visual.state_dict())
    assert open_pair("tiny-vit", f"none+{tmp_path / 'fare.pt'}", None, PROTOCOL, None).reference is None
