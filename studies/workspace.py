"""Where a study works, and what it may use."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seaanchor.config.schema import RunConfig
from seaanchor.sweeps.arms import recipe_of

SEEDS, TWO_SEEDS, ONE_SEED = (0, 1, 2), (0, 1), (0,)
PHOTOS, EMOJI = "photos-mini/test", "emoji/test"
ELSEWHERE = "{elsewhere}"  # among data sets: all that take no part in any training


@dataclass(frozen=True)
class Workspace:
    """Where a study works, and what it may use.

    Attributes:
        output: its folder: runs, evaluations, numbers.csv, tables, figures.
        seeds: of every run.
        extra: further labelled data sets by name, such as `cifar10`, for what took no part in training; `train` names
            other training photos.
        photos: the labelled set that figures, tables and claims call the photos.
        rows: folder of rows that were measured before, which are not measured again, and where new ones are kept.
        recipes: of the runs it has asked for so far, by their names in tables.
    """

    output: Path
    seeds: tuple[int, ...] = SEEDS
    extra: tuple[tuple[str, str], ...] = ()
    photos: str = PHOTOS
    rows: Path | None = None
    recipes: dict[str, dict[str, Any]] = field(default_factory=dict, compare=False)

    def keep(self, name: str, config: RunConfig, **described: Any) -> None:
        """Note the recipe of a run, to be published with what came of it; `described` says in words what would name a
        folder of this machine."""
        given = self.source("train", "")
        photos = {"train_data": "the photos of: --extra train"} if given and config.train_data == given else {}
        self.recipes[name] = recipe_of(config) | photos | described

    def over_seeds(self) -> str:
        """Which seeds the numbers of a table come from, and how they are put together, in words."""
        if len(self.seeds) == 1:
            return f"seed {self.seeds[0]}"
        return f"mean over seeds {', '.join(map(str, self.seeds))}, range in brackets"

    def elsewhere(self) -> dict[str, str]:
        """Data sets that take no part in any training, by label."""
        return {label: path for label, path in (("emoji", EMOJI), *self.extra) if label != "train"}

    def source(self, name: str, default: str) -> str:
        """The data set of that name, where one is given."""
        return dict(self.extra).get(name, default)

    def shared(self, name: str) -> Path:
        """A folder of runs that several studies share; it lies beside theirs."""
        return self.output.parent / name
