"""Runs that studies share: where each kind of arm is trained, and under which name."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from seaanchor.config.schema import RunConfig
from seaanchor.sweeps.arms import Arm, drop_checkpoints, recipe_of, run_arm
from studies.noise_arms import FARE, FARE_ONCE, LORE, require_sibling, watched
from studies.workspace import Workspace


@dataclass(frozen=True)
class Pool:
    """Where arms are trained and measured.

    Attributes:
        shared: folder beside those of the studies which holds runs and evaluations; empty for the study's own folder.
        train: name in tables, settings, seed, workspace → folder of the run, trained or found done.
        settings: what the options of the command change in an arm's settings.
        alike: the study among whose rows those of an arm are kept, where its studies measure alike; empty for each
            study's own.
    """

    shared: str
    train: Callable[[str, RunConfig, int, Workspace], Path]
    settings: Callable[[RunConfig, Workspace], RunConfig] = lambda config, workspace: config
    alike: str = ""

    def folder(self, workspace: Workspace) -> Path:
        """The folder of evaluations and of shared runs."""
        return workspace.shared(self.shared) if self.shared else workspace.output

    def kept(self, workspace: Workspace) -> Path | None:
        """The folder of rows that were measured before, where there is one."""
        return workspace.rows and (workspace.rows.parent / self.alike if self.alike else workspace.rows)


def _noise_settings(config: RunConfig, workspace: Workspace) -> RunConfig:
    require_sibling()
    return _given_photos(config, workspace)


def _train_noise(name: str, config: RunConfig, seed: int, workspace: Workspace) -> Path:
    # whichever study trains these three: one shows them over the steps
    followed = watched(config) if name in (FARE, FARE_ONCE, LORE) else config
    return run_arm(Arm(name, replace(followed, seed=seed)), workspace.shared("robust") / f"seed-{seed}")


def word_folder(config: RunConfig, seed: int, workspace: Workspace) -> Path:
    """Where the run of these settings lies, whichever study asks for it: its name is a digest of those that are not
    the default."""
    settings = recipe_of(replace(config, seed=seed, output=RunConfig().output, resume=RunConfig().resume))
    anchor = settings.get("anchor", {})
    if "space" in anchor:  # its former name: runs that are there already keep their folders
        settings["anchor"] = {"on" if key == "space" else key: value for key, value in anchor.items()}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:8]
    name = f"{config.objective.kind}-{config.anchor.kind}-{config.adapter.kind}-{digest}"
    return workspace.shared("words") / f"seed-{seed}" / name


def word_run(config: RunConfig, seed: int, workspace: Workspace) -> Path:
    """Train it, or see that it is done; returns its folder."""
    folder = word_folder(config, seed, workspace)
    run = run_arm(Arm(folder.name, replace(config, seed=seed)), folder.parent)
    drop_checkpoints(run)
    return run


def _given_photos(config: RunConfig, workspace: Workspace) -> RunConfig:
    return replace(config, train_data=workspace.source("train", config.train_data))


def _train_words(name: str, config: RunConfig, seed: int, workspace: Workspace) -> Path:
    return word_run(config, seed, workspace)


def _train_in(shared: str) -> Callable[[str, RunConfig, int, Workspace], Path]:
    """Trains each arm once, whichever study asks for it by its name."""

    def train(name: str, config: RunConfig, seed: int, workspace: Workspace) -> Path:
        run = run_arm(Arm(name, replace(config, seed=seed)), workspace.shared(shared) / f"seed-{seed}")
        drop_checkpoints(run)
        return run

    return train


def _train_own(name: str, config: RunConfig, seed: int, workspace: Workspace) -> Path:
    run = run_arm(Arm(name, replace(config, seed=seed)), workspace.output / f"seed-{seed}")
    drop_checkpoints(run)
    return run


NOISE = Pool("robust", _train_noise, _noise_settings)
WORDS = Pool("words", _train_words)
REAL = Pool("real-front", _train_in("real-front"))  # a tower of real size against noise, on the photos that ship
REAL_ALIKE = replace(REAL, alike="real-front")
REAL_CLEAN = replace(REAL, alike="real-anneal")  # more photos elsewhere, without attacks on them
REAL_WORDS = Pool("real-words", _train_in("real-words"), alike="real-words")  # against drawn words
OWN = Pool("", _train_own)
GIVEN = Pool("", _train_own, _given_photos)  # photos of `--extra train=`, where they are given
