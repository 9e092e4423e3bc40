"""A method given as an object trains as its recipe does; a part without a name resumes if it has a `config()`."""

from dataclasses import dataclass, replace

import pytest
import yaml

from seaanchor import methods
from seaanchor.config.describe import run_config
from seaanchor.config.recipes import fare, tecoa
from seaanchor.errors import SeaAnchorError
from seaanchor.objectives.embedding import EmbeddingDistance
from seaanchor.training.run import train
from seaanchor.training.run_folder import RunFolder
from seaanchor.training.setup import Given
from seaanchor.types import Needs


@dataclass(frozen=True)
class Nameless(EmbeddingDistance):
    """FARE's objective under no name."""


@dataclass(frozen=True)
class Recorded(EmbeddingDistance):
    """The same, with its settings."""

    def config(self):
        return {}


def losses(folder) -> list[float]:
    return [row["adversarial_loss"] for row in RunFolder(folder).rows()]


def test_an_object_trains_as_its_recipe_does(tiny_run, tmp_path):
    by_name = losses(train(tiny_run(fare())))
    method = replace(methods.fare(), objective=Nameless())
    plain = {"num_steps": 2}
    method = replace(method, perturbation=replace(method.perturbation, **plain))
    config = replace(tiny_run(run_config(method)), output=tmp_path / "object")
    assert losses(train(config, given=Given(method=method))) == by_name
    saved = yaml.safe_load((tmp_path / "object" / "config.yaml").read_text())
    assert saved["objective"]["kind"].startswith("object:") and saved["objective"]["kind"].endswith(".Nameless")
    assert (tmp_path / "object" / "export").is_dir()


def test_an_object_with_settings_resumes_and_one_without_says_why_not(tiny_run):
    recorded = replace(methods.fare(), objective=Recorded())
    recorded = replace(recorded, perturbation=replace(recorded.perturbation, num_steps=2))
    config = tiny_run(run_config(recorded))
    before = losses(train(config, given=Given(method=recorded)))
    RunFolder(config.output).checkpoints()[-1].unlink()
    assert losses(train(replace(config, resume="auto"), given=Given(method=recorded))) == before
    nameless = replace(recorded, objective=Nameless())
    with pytest.raises(SeaAnchorError, match=r"resume auto[\s\S]*config\(self\)"):
        train(replace(tiny_run(fare()), resume="auto"), given=Given(method=nameless))


def test_an_object_and_settings_that_contradict_it_are_refused_before_anything_is_written(tiny_run):
    config = tiny_run(tecoa())
    with pytest.raises(SeaAnchorError, match=r"objective\.kind is 'tecoa', but the method's objective has"):
        train(config, given=Given(method=methods.fare()))
    assert not config.output.exists()


def test_a_part_that_asks_for_what_the_data_lacks(tiny_run, image_folder, tmp_path):
    @dataclass(frozen=True)
    class Labelled(EmbeddingDistance):
        needs = Needs(labels=True)

    for image in image_folder.glob("*/*.jpg"):
        image.rename(image_folder / f"{image.parent.name}-{image.name}")
    for folder in [path for path in image_folder.iterdir() if path.is_dir()]:
        folder.rmdir()
    method = replace(methods.fare(), objective=Labelled())
    with pytest.raises(SeaAnchorError, match=r"has no class folders[\s\S]*Labelled"):
        train(
            tiny_run(fare()),
            given=Given(method=replace(method, perturbation=replace(method.perturbation, num_steps=2))),
        )
