"""What OpenCLIP knows of a model by its tags alone, and what is assumed of it where weights come from a file."""

from dataclasses import dataclass
from typing import Any

from seaanchor.errors import note
from seaanchor.utils.json_text import to_json


@dataclass(frozen=True)
class TagValues:
    """A setting of one model as each of its tags has it.

    Attributes:
        of: tag → value; empty for a model without tags.
    """

    of: dict[str, Any]

    @property
    def agree(self) -> bool:
        """Whether there are tags, and all say the same."""
        return len({to_json(value) for value in self.of.values()}) == 1

    @property
    def agreed(self) -> Any:
        """What all tags say; None where they do not agree."""
        return next(iter(self.of.values())) if self.agree else None


def tag_values(name: str, key: str, default: Any = None) -> TagValues:
    """A setting of `open_clip.get_pretrained_cfg` over all tags of a model.

    Args:
        name: an OpenCLIP name.
        key: such as `mean`, `resize_mode` or `quick_gelu`.
        default: of tags that do not have it.
    """
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(name)
    return TagValues({tag: open_clip.get_pretrained_cfg(name, tag).get(key, default) for tag in tags})


def quick_gelu_of_file(name: str) -> bool:
    """Whether weights from a file are for OpenAI's approximate GELU: as the architecture says, or all tags of its name.

    A note says what was assumed where the tags disagree.
    """
    import open_clip

    values = tag_values(name, "quick_gelu", False)
    own = bool((open_clip.get_model_config(name) or {}).get("quick_gelu"))
    if own or values.agree or not values.of:
        return own or bool(values.agreed)
    quick = [tag for tag, value in values.of.items() if value]
    note(
        f"{name} from a file: the exact GELU is assumed, as {len(values.of) - len(quick)} of its {len(values.of)} tags "
        f"have it; weights that descend from {', '.join(quick[:3])} need QuickGELU: name {name}-quickgelu for them"
    )
    return False
