"""The command that evaluates a run, as it can work with what the run exported."""

import json
from pathlib import Path

from seaanchor.config.run_settings import read_settings
from seaanchor.encoders.head_file import NAME
from seaanchor.encoders.own_module import SETTINGS

EXPORTS = ("export", "export-averaged")


def evaluation_command(run: Path) -> str:
    """How a finished run is evaluated beside its reference, on the command line; in Python for an encoder of one's own.

    Args:
        run: its folder, with one export at least.
    """
    folders = [run / name for name in EXPORTS if (run / name).is_dir()]
    if any((folder / SETTINGS).is_file() for folder in folders):
        head = "" if (run / NAME).is_file() else ', head="probe", train_data="TRAIN_FOLDER"'
        return f'seaanchor.evaluate(run.model, "LABELLED_FOLDER"{head}) in Python, run being what train returned'
    model = str(read_settings(run / "config.yaml").get("model"))
    prefix = next((ours for kind, ours in (("timm:", "timm:local-dir:"), ("hf:", "hf:")) if model.startswith(kind)), "")
    names = " ".join(f"{prefix}{folder}" for folder in folders)
    answers = (run / NAME).is_file() or all(_answers(folder) for folder in folders)
    head = "" if answers else " --head probe --train-data TRAIN_FOLDER"
    return f"seaanchor evaluate --model {names} --data LABELLED_FOLDER{head}"


def _answers(folder: Path) -> bool:
    """Whether an export has texts, or a classifier of its own."""
    if (folder / NAME).is_file() or not (folder / "config.json").is_file():
        return True  # of OpenCLIP
    config = json.loads((folder / "config.json").read_text())
    if "pretrained_cfg" in config:  # of timm
        return bool(config.get("num_classes"))
    from seaanchor.encoders.huggingface.families import FAMILIES

    family = FAMILIES.get((config.get("architectures") or [""])[0])
    return family is not None and (family.texts is not None or family.classifies)
