"""Recipes by name: named configurations and nothing else; `config.assemble` turns one into its four parts."""

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from seaanchor.config.embedded_recipes import (
    dpo_linear_lite,
    dpo_linear_tiny,
    dpo_lite,
    dpo_lore_lite,
    dpo_lore_tiny,
    dpo_tiny,
    fare_lite,
    fare_quick,
    fare_tiny,
    ipo_lite,
    ipo_tiny,
    kto_lite,
    kto_tiny,
    lore_lite,
    lore_quick,
    lore_tiny,
    ppo_lite,
    ppo_tiny,
    typographic_ce_lite,
    typographic_ce_tiny,
)
from seaanchor.config.io import from_dict
from seaanchor.config.published_recipes import (
    dpo,
    dpo_linear,
    dpo_lore,
    fare,
    gender_flip,
    ipo,
    kto,
    lore,
    penalty,
    ppo,
    tecoa,
    tecoa_kl,
    tecoa_lore,
    typographic_ce,
)
from seaanchor.config.run_settings import read_settings
from seaanchor.config.schema import RunConfig
from seaanchor.config.validation import check
from seaanchor.errors import SeaAnchorError, naming

RECIPES: dict[str, Callable[[], RunConfig]] = {
    "fare": fare,
    "lore": lore,
    "penalty": penalty,
    "tecoa": tecoa,
    "tecoa-lore": tecoa_lore,
    "tecoa-kl": tecoa_kl,
    "dpo": dpo,
    "ipo": ipo,
    "kto": kto,
    "ppo": ppo,
    "typographic-ce": typographic_ce,
    "dpo-lore": dpo_lore,
    "dpo-linear": dpo_linear,
    "gender-flip": gender_flip,
    "fare-tiny": fare_tiny,
    "lore-tiny": lore_tiny,
    "fare-lite": fare_lite,
    "lore-lite": lore_lite,
    "fare-quick": fare_quick,
    "lore-quick": lore_quick,
    "dpo-lite": dpo_lite,
    "dpo-lore-lite": dpo_lore_lite,
    "ipo-lite": ipo_lite,
    "kto-lite": kto_lite,
    "ppo-lite": ppo_lite,
    "typographic-ce-lite": typographic_ce_lite,
    "dpo-linear-lite": dpo_linear_lite,
    "dpo-tiny": dpo_tiny,
    "ipo-tiny": ipo_tiny,
    "kto-tiny": kto_tiny,
    "ppo-tiny": ppo_tiny,
    "typographic-ce-tiny": typographic_ce_tiny,
    "dpo-lore-tiny": dpo_lore_tiny,
    "dpo-linear-tiny": dpo_linear_tiny,
}


def of_its_file(error: SeaAnchorError, name: str) -> SeaAnchorError:
    """An error of a command that a recipe went into, with the recipe's file named where its settings alone give it.

    Args:
        error: of the command.
        name: of the recipe, as `recipe_named` takes it.
    """
    if name in RECIPES:
        return error
    try:
        check(recipe_named(name))
    except SeaAnchorError as own:
        if own.found == error.found and name not in own.found:
            return SeaAnchorError(f"{name}: {error.found}", error.expected, error.change)
    return error


def recipe_named(name: str) -> RunConfig:
    """A shipped recipe by its name, or that of a YAML file.

    Raises:
        SeaAnchorError: no recipe of this name, or a file that holds none.
    """
    if name in RECIPES:
        return RECIPES[name]()
    if name.endswith((".yaml", ".yml")):
        with naming(name):
            return from_dict(RunConfig, read_settings(Path(name)))
    plain = name.lower().replace("-", "_")
    near = [recipe for recipe, make in RECIPES.items() if make().objective.kind == plain]
    near = near or get_close_matches(name, RECIPES, n=1, cutoff=0.4)
    change = f"did you mean {near[0]}?" if near else "see `seaanchor recipes ls`"
    raise SeaAnchorError(f"no recipe is called {name!r}", f"one of {', '.join(RECIPES)}, or a .yaml file", change)
