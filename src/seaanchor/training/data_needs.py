"""Whether the training images have the labels or preferences that the parts of the method ask for."""

from seaanchor.config.composition import asks_for_classes, declared
from seaanchor.config.schema import RunConfig
from seaanchor.data.preference_rows import tally
from seaanchor.data.types import Images, PreferenceImages, TypographicImages, UnlabelledImages
from seaanchor.errors import SeaAnchorError
from seaanchor.method import Method
from seaanchor.types import needs_of


def check_data(config: RunConfig, method: Method, images: Images) -> None:
    """Objective and perturbation get the labels or preferences they ask for.

    Raises:
        SeaAnchorError: they do not.
    """
    needs, objective, perturbation = method.needs, config.objective.kind, config.perturbation.kind
    if not asks_for_classes(needs):
        return
    if isinstance(images, PreferenceImages):
        holds = f"{config.train_data} holds preferences"
        if not needs.pairs:
            raise SeaAnchorError(
                f"{holds}, which objective {objective} does not learn from",
                f"an objective of preferences for them: {declared('objective', pairs=True)}",
                "name class folders, or another recipe",
            )
        if needs.gives_pairs:
            raise SeaAnchorError(
                holds, f"class folders for perturbation {perturbation}", "add --perturbation.kind none"
            )
        if needs.labels:
            asking = ", ".join(name for name, part in method.parts.items() if needs_of(part).labels)
            raise SeaAnchorError(
                f"{holds}, and no labels", f"class folders for the {asking}", "name class folders, or another part"
            )
        _check_pairs(config, method, holds, images)
    elif isinstance(images, UnlabelledImages):
        readers = [name for name, part in method.parts.items() if needs_of(part).labels or needs_of(part).head]
        wanted = f"labelled images for the {' and the '.join(readers) or 'perturbation'} (objective {objective})"
        raise SeaAnchorError(f"{config.train_data} has no class folders", wanted, "sort the images into class folders")
    elif needs.pairs and not isinstance(images, TypographicImages) and not needs.gives_pairs:
        found = f"objective {objective} on class folders with perturbation {perturbation}"
        raise SeaAnchorError(
            found, "preferences: a JSON lines file, or perturbation typographic or attribute", "change one of the two"
        )


def _check_pairs(config: RunConfig, method: Method, holds: str, images: PreferenceImages) -> None:
    """Rows of the kinds the objective learns from, over at least two texts."""
    kinds, wanted = tally(images.pairs), config.objective.kind
    if not needs_of(method.objective).unpaired and kinds.paired < len(images.paths):
        found = f"{holds}, {len(images.paths) - kinds.paired} of {len(images.paths)} with one text only"
        raise SeaAnchorError(
            found, f"a chosen and a rejected text in every row for {wanted}", "use kto, or remove those rows"
        )
    if kinds.one_sided:
        present, missing, flag = (
            ("desirable", "undesirable", "false") if kinds.desirable else ("undesirable", "desirable", "true")
        )
        expected = (
            "desirable and undesirable rows: KTO learns from their contrast, and one kind alone "
            "pushes every text the same way"
        )
        raise SeaAnchorError(
            f"{holds}, all {len(images.paths)} {present} and none {missing}",
            expected,
            f'add rows with "desirable": {flag}',
        )
    if len(images.texts) < 2:
        raise SeaAnchorError(
            f"{holds} over one text, {images.texts[0]!r}",
            "at least two different texts",
            "add rows with others",
        )
