"""Runs that are given objects: a module of one's own and a data set of PyTorch, trained, resumed and exported."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import Dataset

from seaanchor.config.recipes import fare, lore
from seaanchor.data.dataset import from_dataset
from seaanchor.data.folder import list_images
from seaanchor.encoders.encoder import Encoder
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.encoders.load import load_model
from seaanchor.encoders.own_module import from_encoder, load_encoder
from seaanchor.errors import SeaAnchorError
from seaanchor.training.run import train
from seaanchor.training.run_folder import RunFolder
from seaanchor.training.setup import Given
from tests.plugins.my_encoder import Pooled, encoder

TIMES = ("seconds", "images_per_s", "waiting")


class Pictures(Dataset):
    """The files of a folder as PIL images with labels."""

    def __init__(self, root) -> None:
        files = list_images(root)
        self.paths, self.targets, self.classes = files.paths, list(files.labels), list(files.class_names)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int):
        with Image.open(self.paths[index]) as image:
            return image.convert("RGB"), self.targets[index]


def outcome(config) -> tuple[list[dict], dict[str, torch.Tensor]]:
    """What a run logged and exported."""
    rows = [json.loads(line) for line in (config.output / "metrics.jsonl").read_text().splitlines()]
    (weights,) = (config.output / "export").glob("*.safetensors")
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows], load_file(weights)


def assert_same(first, second) -> None:
    assert first[0] == second[0]
    assert first[1].keys() == second[1].keys()
    assert all(torch.equal(value, second[1][key]) for key, value in first[1].items())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_set_trains_as_its_files_to_the_last_bit(tiny_run, tmp_path, image_folder, workers):
    files = tiny_run(lore(), workers=workers)
    ours = replace(files, output=tmp_path / "given", train_data="Pictures")
    train(files)
    train(ours, given=Given(images=from_dataset(Pictures(image_folder))))
    assert_same(outcome(files), outcome(ours))


def test_a_given_model_is_copied_and_trains_as_the_loaded_one(tiny_run, tmp_path):
    """With FARE: LORE draws the weights of its dual network after those of the model, which are not drawn again."""
    files = tiny_run(fare())
    train(files)
    model = load_model(files.model)
    before = fingerprint(model.encoder)
    ours = replace(files, output=tmp_path / "given", model="mine")
    train(ours, given=Given(model=model))
    assert fingerprint(model.encoder) == before
    assert_same(outcome(files), outcome(ours))


def test_an_encoder_of_ones_own_trains_resumes_and_exports(tiny_run, tmp_path, image_folder):
    given = Given(from_encoder(encoder(), factory=Pooled), from_dataset(Pictures(image_folder)))
    whole = replace(tiny_run(lore(), max_steps=4), model="Pooled", train_data="Pictures")
    train(whole, given=given)
    cut = replace(whole, output=tmp_path / "cut", resume="auto")
    shutil.copytree(whole.output, cut.output)
    shutil.rmtree(cut.output / "export")
    RunFolder(cut.output).checkpoints()[-1].unlink()  # as if it had been stopped after step 2
    torch.manual_seed(9)
    train(cut, given=Given(from_encoder(encoder(), factory=Pooled), from_dataset(Pictures(image_folder))))
    assert_same(outcome(whole), outcome(cut))
    export = load_encoder(whole.output / "export", Pooled())
    assert fingerprint(export) != fingerprint(given.model.encoder)
    assert (export.image_size, export.dim) == (32, 24)


def test_a_run_does_not_go_on_with_other_objects(tiny_run, tmp_path, image_folder):
    given = Given(from_encoder(encoder()), from_dataset(Pictures(image_folder)))
    config = replace(tiny_run(lore(), max_steps=2, resume="auto"), model="Pooled", train_data="Pictures")
    train(config, given=given)
    Image.new("RGB", (40, 40)).save(image_folder / "apple" / "2.jpg")
    with pytest.raises(SeaAnchorError, match="started with other images"):
        train(config, given=replace(given, images=from_dataset(Pictures(image_folder))))
    other = Pooled()
    other.layers[0].weight.data.mul_(1.1)
    with pytest.raises(SeaAnchorError, match="started with other reference"):
        train(config, given=replace(given, model=from_encoder(Encoder(other, image_size=32, mean=0.5, std=0.25))))
