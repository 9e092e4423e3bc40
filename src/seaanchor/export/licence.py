"""The licence of the weights that a run started from, where something on this disk or on the Hub states it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seaanchor.encoders.embedded import embedded_folder, embedded_models
from seaanchor.encoders.hub import why_unreachable
from seaanchor.encoders.pretrained import is_weights_file, split_pretrained
from seaanchor.utils.plain_files import parse_yaml

CARD, OURS = "README.md", "CARD.md"


@dataclass(frozen=True)
class Licence:
    """What is said of a licence.

    Attributes:
        identifier: as the Hub writes it, such as `apache-2.0`; `other` where it has a name of its own.
        text: in words.
        source: where it is said.
        name: of a licence that is `other`.
    """

    identifier: str
    text: str
    source: str
    name: str | None = None


@dataclass(frozen=True)
class Base:
    """The model that a run started from.

    Attributes:
        name: as it may be passed on: without the folders that lead to it.
        pretrained: which weights; None where the name says it.
        hub: its name on the Hub, where it has one.
        licence: None where nothing states it.
    """

    name: str
    pretrained: str | None
    hub: str | None
    licence: Licence | None


def base_of(name: str, pretrained: str | None) -> Base:
    """What is known of a model by the name that it was loaded with; nothing is guessed.

    Args:
        name: as `load_model` takes it.
        pretrained: as `load_model` takes it.
    """
    asked = split_pretrained(pretrained)
    shown = None if pretrained is None else Path(pretrained).name
    bare = re.sub(r"^(timm:)?local-dir:|^hf:(?=[./~])", "", name)
    folder = embedded_folder(name) if name in embedded_models() else Path(bare.removeprefix("hf:"))
    if folder.is_dir():
        whole = folder.resolve().parts
        short = name if name in embedded_models() else "/".join(whole[-2:] if whole[-1] == "export" else whole[-1:])
        licence = None if asked.image_tower else _of_folder(folder, short)
        return Base(short, shown, None, licence)
    if asked.base == "none" or is_weights_file(asked.base) or asked.image_tower:
        return Base(name, shown, None, None)
    hub, licence = _of_library(name, pretrained)
    return Base(name, shown, hub, licence or (None if hub is None else _of_hub(hub)))


def _of_folder(folder: Path, name: str) -> Licence | None:
    """By the model card in a folder, or the terms that an embedded model's own card states."""
    if (folder / CARD).is_file():
        return _of_card(folder / CARD, f"the model card of {name}")
    card = folder / OURS
    terms = re.search(r"^\| terms \| (.+?) \|$", card.read_text("utf-8", "replace"), re.M) if card.is_file() else None
    if terms is None:
        return None
    said = re.sub(r"\[([^\]]*)\]\((?!https?:)[^)]*\)", r"\1", terms[1])  # links between files do not go along
    return Licence("other", said.replace("`", ""), f"the card of {name}", "terms-of-the-base-model")


def _of_card(file: Path, source: str) -> Licence | None:
    said = front_matter(file.read_text(encoding="utf-8", errors="replace"))
    found = said.get("license")
    if not isinstance(found, str) or found == "unknown":
        return None
    name = said.get("license_name")
    return Licence(found, str(name or found), source, None if name is None else str(name))


def front_matter(text: str) -> dict[str, Any]:
    """The settings between the dashes at the top of a model card; empty if there are none."""
    found = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.S)
    try:
        said = parse_yaml(found[1]) if found else None
    except ValueError:
        said = None
    return said if isinstance(said, dict) else {}


def _of_library(name: str, pretrained: str | None) -> tuple[str | None, Licence | None]:
    """A model's name on the Hub, and the licence that its library states."""
    if name.startswith("hf:"):
        return name.removeprefix("hf:"), None
    if name.startswith("hf-hub:"):
        return name.removeprefix("hf-hub:"), None
    if name.startswith("timm:hf-hub:"):
        return name.removeprefix("timm:hf-hub:"), None
    if name.startswith("timm:"):
        return _of_timm(name.removeprefix("timm:"), pretrained)
    import open_clip

    hub = (open_clip.get_pretrained_cfg(name, pretrained or "") or {}).get("hf_hub")
    return (hub.strip("/") or None if hub else None), None


def _of_timm(name: str, pretrained: str | None) -> tuple[str | None, Licence | None]:
    from timm.models import get_pretrained_cfg

    architecture, _, tag = name.partition(".")
    try:
        config = get_pretrained_cfg(".".join(filter(None, (architecture, pretrained or tag))))
    except RuntimeError:  # no such tag
        config = None
    said = getattr(config, "license", None)
    licence = Licence(said, said, f"timm's entry of {config.architecture}.{config.tag}") if config and said else None
    return getattr(config, "hf_hub_id", None), licence


def _of_hub(repository: str) -> Licence | None:
    """By the model card on the Hub, from this disk if it is there or the Hub cannot be reached."""
    try:
        from huggingface_hub import hf_hub_download

        file = hf_hub_download(repository, CARD, local_files_only=why_unreachable() is not None)
    except Exception:  # no card, no connection, no access: each in its own way
        return None
    return _of_card(Path(file), f"the model card of {repository} on the Hub")
