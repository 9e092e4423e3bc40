"""The next command: what evaluates a run, as it can work with what the run exported, and what shows results."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seaanchor.config.run_settings import read_settings
from seaanchor.data.masks import has_masks
from seaanchor.data.places import NAMES as EMBEDDED_SETS
from seaanchor.data.sources import open_images
from seaanchor.data.types import ClassifiedImages
from seaanchor.encoders.head_file import NAME
from seaanchor.encoders.model_paths import folder_of
from seaanchor.encoders.own_module import SETTINGS
from seaanchor.encoders.pretrained import is_weights_file, split_entry, split_pretrained
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.result_folder import is_result_file
from seaanchor.utils.plain_files import read_object

EXPORTS = ("export", "export-averaged")
SPLITS = ("test", "val", "validation", "valid")
PLACEHOLDER, PROBED, MASKED = "LABELLED_FOLDER", "TRAIN_FOLDER", "FOLDER_WITH_MASKS"


def evaluation_command(run: Path) -> str:
    """How a finished run is evaluated beside its reference, on the command line; in Python for an encoder of one's own.

    Args:
        run: its folder, with one export at least.
    """
    folders = [run / name for name in EXPORTS if (run / name).is_dir()]
    settings = read_settings(run / "config.yaml")
    if settings.get("tokens") == "patches":
        return _dense_command(folders, _masked(str(settings.get("train_data"))))
    if any((folder / SETTINGS).is_file() for folder in folders):
        head = "" if (run / NAME).is_file() else ', head="probe", train_data="TRAIN_FOLDER"'
        return f'seaanchor.evaluate(run.model, "LABELLED_FOLDER"{head}) in Python, run being what train returned'
    names = shlex.join(map(str, folders))
    answers = (run / NAME).is_file() or all(_answers(folder) for folder in folders)
    data, trained_on = labelled_data(settings), _labelled_training_data(settings)
    if not answers:
        return f"seaanchor evaluate --model {names} --data {data} --head probe --train-data {trained_on or PROBED}"
    if data == PLACEHOLDER and trained_on:
        data = trained_on
    return f"seaanchor evaluate --model {names} --data {data}"


def _dense_command(folders: Sequence[Path], data: str) -> str:
    """How a run on patch tokens is evaluated, which give pixels a class and images none."""
    if any((folder / SETTINGS).is_file() for folder in folders):
        call = f'seaanchor.evaluate(run.model, "{data}", suites=("segmentation", "drift"))'
        return f"{call} in Python, run being what train returned"
    names = shlex.join(map(str, folders))
    return f"seaanchor evaluate --model {names} --data {shlex.quote(data)} --suite segmentation,drift"


def _masked(source: str) -> str:
    """The folder of images with masks that training images lie in; else the word FOLDER_WITH_MASKS."""
    images = next((folder for folder in (Path(source), *Path(source).parents) if folder.name == "images"), None)
    return str(images.parent) if images and has_masks(images.parent) else MASKED


def training_images_note(run: Path, command: str) -> str:
    """What has to be known of the data in an evaluation's command: that the run was trained on them; else empty.

    Args:
        run: its folder.
        command: as `evaluation_command` says it.
    """
    source = shlex.quote(str(read_settings(run / "config.yaml").get("train_data")))
    if not f"{command.partition(' --data ')[2]} ".startswith(f"{source} "):
        return ""
    return "it was trained on these images: name labelled ones that it has not seen for an accuracy to rely on"


def _labelled_training_data(settings: Mapping[str, Any]) -> str:
    """The folder that a run was trained on, with its class names, if it holds classes; else empty."""
    source, names = str(settings.get("train_data")), settings.get("class_names")
    if not Path(source).is_dir():
        return ""
    try:
        images = open_images(source, Path(names) if names else None)
    except SeaAnchorError:
        return ""
    if not isinstance(images, ClassifiedImages):
        return ""
    return shlex.join([source, *(["--class-names", str(names)] if names else [])])


def labelled_data(settings: Mapping[str, Any]) -> str:
    """Data to evaluate a run on, as it stands on the command line: its val_data, the test split beside its training
    images or that of its embedded set; else the word LABELLED_FOLDER.

    Args:
        settings: of the run, with paths from here.
    """
    if given := settings.get("val_data"):
        return shlex.join(given)
    source = str(settings.get("train_data"))
    name, _, part = source.partition("/")
    if name in EMBEDDED_SETS and part in ("", "train") and not Path(source).exists():
        return f"{name}/test"
    beside = [Path(source).with_name(split) for split in SPLITS] if Path(source).name == "train" else []
    return next((shlex.quote(str(folder)) for folder in beside if folder.is_dir()), PLACEHOLDER)


def report_command(outputs: Sequence[Path], models: Sequence[str | None] = ()) -> str:
    """How results are written as a page, with pictures of every model: those that lie elsewhere are allowed.

    Args:
        outputs: the folders of the result files, each once; or one result file.
        models: names and weights that were given for the models and their reference, or a folder with several models.
    """
    runs = [folder.parent if (folder.parent / "config.yaml").is_file() else folder for folder in outputs]
    page = [] if len(runs) == 1 else ["--output", str(outputs[0] / "report.html")]
    if is_result_file(outputs[0]):
        runs, page = list(outputs), ["--output", str(outputs[0].with_suffix(".html"))]
    places = dict.fromkeys(place for name in models if name for place in _places(name))
    elsewhere = [place for place in places if place.name not in EXPORTS or place.parent not in runs]
    allow = [word for place in elsewhere for word in ("--allow", str(place))]
    return shlex.join(["seaanchor", "report", *map(str, runs), *page, *allow])


def _places(name: str) -> list[Path]:
    """The folder that a model's name stands for, or the files of weights that are given for it."""
    if (folder := folder_of(name)) is not None:
        return [folder]
    given = split_pretrained(name)
    return [split_entry(part)[0] for part in (given.base, given.image_tower) if part and is_weights_file(part)]


def _answers(folder: Path) -> bool:
    """Whether an export has texts, or a classifier of its own."""
    if (folder / NAME).is_file() or not (folder / "config.json").is_file():
        return True  # of OpenCLIP
    config = read_object(folder / "config.json")
    if "pretrained_cfg" in config:  # of timm
        return bool(config.get("num_classes"))
    from seaanchor.encoders.huggingface.families import FAMILIES

    family = FAMILIES.get((config.get("architectures") or [""])[0])
    return family is not None and (family.texts is not None or family.classifies)
