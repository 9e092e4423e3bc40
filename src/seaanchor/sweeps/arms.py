"""One run of many: its settings, its folder, and its numbers.

An arm is trained once and evaluated once, whatever kills the process in between: training resumes, evaluations that are
there are read.
"""

import itertools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from seaanchor.config.io import current_name
from seaanchor.config.schema import RunConfig, from_dict, to_dict
from seaanchor.config.validation import check
from seaanchor.errors import SeaAnchorError
from seaanchor.training.resume import changed_settings
from seaanchor.training.run_folder import RunFolder
from seaanchor.utils.checksums import check_checksums
from seaanchor.utils.locks import remove_left


@dataclass(frozen=True)
class Arm:
    """A configuration with the name it has in tables and folders, and what tells it from its neighbours."""

    name: str
    config: RunConfig
    settings: Mapping[str, Any] = field(default_factory=dict)


def grid(base: RunConfig, vary: Mapping[str, Sequence[Any]]) -> list[Arm]:
    """One arm for every combination of values.

    Args:
        base: the settings that all share.
        vary: setting, such as `anchor.rho` → its values.

    Raises:
        SeaAnchorError: no such setting, a value of another type, or two arms that are the same.

    >>> [arm.name for arm in grid(RunConfig(), {"lr": [1e-5, "1e-4"], "anchor.rho": [0.1]})]
    ['lr=1e-05,anchor.rho=0.1', 'lr=0.0001,anchor.rho=0.1']
    """
    arms = [one(base, dict(zip(vary, values, strict=True))) for values in itertools.product(*vary.values())]
    names = [arm.name for arm in arms]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise SeaAnchorError(
            f"{', '.join(sorted(repeated))} stands twice in the sweep", "different values", "remove one"
        )
    return arms


def one(base: RunConfig, settings: Mapping[str, Any]) -> Arm:
    """The base configuration with some settings changed; `objective.kind` style names, or whole sections as nested
    mappings."""
    data, settings = to_dict(base), {current_name(key): value for key, value in settings.items()}
    for key, value in settings.items():
        _put(data, key, value)
    config = check(from_dict(RunConfig, data))
    resolved = to_dict(config)
    found = {key: _read(resolved, key) for key in settings}
    return Arm(",".join(f"{key}={_short(value)}" for key, value in found.items()) or "base", config, found)


def _put(data: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for name in sections:
        if not isinstance(data.get(name), dict):
            inside = ", ".join(k for k, v in data.items() if isinstance(v, dict))
            raise SeaAnchorError(f"unknown setting {key}", f"settings of {inside}, or plain ones", "correct it")
        data = data[name]
    if isinstance(value, str) and isinstance(data.get(last), list):
        value = value.split("+")
    data[last] = None if value in ("none", "None") and last != "kind" and not isinstance(data.get(last), str) else value


def _read(data: dict[str, Any], key: str) -> Any:
    for name in key.split("."):
        data = data[name]
    return data


def _short(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value).replace("/", "|")


def recipe_of(config: RunConfig) -> dict[str, Any]:
    """The settings that are not the default: a recipe as `seaanchor train` takes it.

    >>> recipe_of(RunConfig(lr=1e-3))
    {'lr': 0.001}
    """
    return _changed(to_dict(config), to_dict(RunConfig()))


def _changed(settings: dict[str, Any], default: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _changed(value, default[key]) if isinstance(value, dict) else value
        for key, value in settings.items()
        if value != default[key]
    }


def run_arm(arm: Arm, root: Path) -> Path:
    """Train an arm, or go on with it, or see that it is done; returns its run folder.

    Raises:
        SeaAnchorError: as `train`; the folder holds a run with other settings, or another process is at work on it.
    """
    from seaanchor.api import train_from_config as train

    output = root / arm.name
    config = replace(arm.config, output=output, resume="auto")
    if is_done(config):
        remove_left(output)  # of a process that was killed as it ended
        return output
    return train(config)


def is_done(config: RunConfig) -> bool:
    """Whether the run of these settings is in its folder, exported.

    Raises:
        SeaAnchorError: the folder holds another run.
    """
    folder = RunFolder(config.output)
    if not folder.config.exists():
        return False
    if changed := changed_settings(folder, config):
        found = f"the run in {config.output} was made with other settings ({'; '.join(changed[:6])})"
        raise SeaAnchorError(
            found, "the same settings, or a new folder", "name another --output, or remove that folder"
        )
    if not folder.export.is_dir():
        return False
    try:
        check_checksums(folder.export)
    except SeaAnchorError:
        return False  # half of it was replaced when the process was killed: the run goes on, and exports again
    return True


def drop_checkpoints(run: Path) -> None:
    """Remove what only resuming needs, of a run that is done: twenty runs of a large model would fill a disk."""
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
