"""The next command: what evaluates a run, as it can work with what the run exported, and what shows results."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seaanchor.config.run_settings import read_settings
from seaanchor.data.places import NAMES as EMBEDDED_SETS
from seaanchor.encoders.head_file import NAME
from seaanchor.encoders.model_paths import folder_of
from seaanchor.encoders.own_module import SETTINGS
from seaanchor.encoders.pretrained import is_weights_file, split_entry, split_pretrained
from seaanchor.evaluation.result_folder import is_result_file
from seaanchor.utils.plain_files import read_object

EXPORTS = ("export", "export-averaged")
SPLITS = ("test", "val", "validation", "valid")


def evaluation_command(run: Path) -> str:
    """How a finished run is evaluated beside its reference, on the command line; in Python for an encoder of one's own.

    Args:
        run: its folder, with one export at least.
    """
    folders = [run / name for name in EXPORTS if (run / name).is_dir()]
    if any((folder / SETTINGS).is_file() for folder in folders):
        head = "" if (run / NAME).is_file() else ', head="probe", train_data="TRAIN_FOLDER"'
        return f'seaanchor.evaluate(run.model, "LABELLED_FOLDER"{head}) in Python, run being what train returned'
    settings = read_settings(run / "config.yaml")
    names = shlex.join(map(str, folders))
    answers = (run / NAME).is_file() or all(_answers(folder) for folder in folders)
    head = "" if answers else " --head probe --train-data TRAIN_FOLDER"
    return f"seaanchor evaluate --model {names} --data {labelled_data(settings)}{head}"


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
    return next((shlex.quote(str(folder)) for folder in beside if folder.is_dir()), "LABELLED_FOLDER")


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
