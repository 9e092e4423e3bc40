"""Class names and prompt templates: from files, from OpenCLIP's lists, or as given."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seaanchor.errors import SeaAnchorError, note

TEMPLATE_LISTS = ("openai-imagenet", "simple-imagenet")
"""OpenCLIP's 80 prompts for ImageNet, and the 7 that were chosen among them."""
IMAGENET = "imagenet"
"""OpenCLIP's names of the 1,000 classes of ImageNet."""


def read_class_names(file: Path, folders: Sequence[str] | None) -> tuple[str, ...]:
    """Names for classes.

    Args:
        file: JSON, a mapping folder → name or a list of names; or text with one name a line; or names themselves,
            joined by commas; or `imagenet`. Lists are in the order of the class numbers, which for folders is their
            sorted order.
        folders: the sorted class folders, or the names that the data set has for its classes; None if it has none, and
            a list of any length will do.

    Raises:
        SeaAnchorError: the file is missing or malformed, or does not name every class and no other.
    """
    data = _listed(file, folders)
    if isinstance(data, dict):
        if folders is None:
            raise SeaAnchorError(
                f"{file} maps names, and the data set has none for its classes",
                "a list in the order of the class numbers",
                "write a list",
            )
        missing = [f for f in folders if f not in data]
        if missing:
            raise SeaAnchorError(
                f"{file} does not name {', '.join(missing[:5])}", "a name for every class folder", "add them"
            )
        data = [data[f] for f in folders]
    if not isinstance(data, list) or not all(isinstance(name, str) and name.strip() for name in data):
        raise SeaAnchorError(
            f"{file} holds something other than names", "a list of names, or a mapping folder → name", "correct it"
        )
    if folders is not None and len(data) != len(folders):
        odd = (
            f"{data[len(folders)]!r} is a class without images"
            if len(data) > len(folders)
            else f"{folders[len(data)]!r} has images and no class"
        )
        expected = f"{len(folders)}, one for each class folder"
        raise SeaAnchorError(
            f"{file} holds {len(data)} names: {odd}", expected, "correct the list or write a JSON mapping"
        )
    return tuple(name.strip() for name in data)


def note_unused(names: Sequence[str], labels: Sequence[int], source: Path | str) -> None:
    """Log which classes have no image: a list may be longer than it was meant to be, and every name is an
    answer that a model may give."""
    used = set(labels)
    unused = [name for number, name in enumerate(names) if number not in used]
    if unused:
        shown = ", ".join(unused[:5]) + (f" and {len(unused) - 5} more" if len(unused) > 5 else "")
        note(f"{len(unused)} of {len(names)} classes have no image in {source}: {shown}")


def _listed(file: Path, folders: Sequence[str] | None) -> Any:
    """The names as they are given, unchecked."""
    if not file.exists() and str(file) == IMAGENET:
        return _imagenet(folders)
    if not file.exists() and "," in str(file):
        return [name.strip() for name in str(file).split(",")]
    try:
        text = file.read_text(encoding="utf-8-sig")
        return (
            json.loads(text)
            if file.suffix.lower() == ".json"
            else [line.strip() for line in text.splitlines() if line.strip()]
        )
    except (OSError, ValueError) as error:
        expected = f"a JSON or text file of class names, {IMAGENET}, or names joined by commas"
        raise SeaAnchorError(f"{file} could not be read ({error})", expected, "correct --class-names") from error


REPEATED = {
    744: ("missile", "projectile"),
    836: ("sunglasses", "sunglass"),
}  # class number → OpenCLIP's name, WordNet's


def _imagenet(folders: Sequence[str] | None) -> Any:
    """The 1,000 names in order, or by WordNet number where the folders are called by those, so that a part of ImageNet
    is named too. OpenCLIP's list has two names twice; the classes meant are distinguished here by the words that
    WordNet has for them."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
    from timm.data import ImageNetInfo

    names = list(IMAGENET_CLASSNAMES)
    for number, (given, distinct) in REPEATED.items():
        names[number] = distinct if names[number] == given else names[number]
    numbers = dict(zip(ImageNetInfo().label_names(), names, strict=True))
    return numbers if folders and set(folders) <= set(numbers) else names


def read_templates(values: Sequence[str]) -> tuple[str, ...]:
    """Prompt templates with a place `{}` for the class name.

    Args:
        values: any of a prompt with `{}` (or `{c}`, as CLIP_benchmark writes it); a text file with one a line, or a
            JSON list; a name of `TEMPLATE_LISTS`.

    Raises:
        SeaAnchorError: a prompt without a place for the class name, a file that is missing or malformed, or nothing at
            all.

    >>> read_templates(["a {c}.", "the {}."])
    ('a {}.', 'the {}.')
    >>> len(read_templates(["openai-imagenet"]))
    80
    """
    prompts = [prompt for value in values for prompt in _prompts(value)]
    if not prompts:
        raise SeaAnchorError(
            "there is no template", "at least one prompt with {}", "leave --templates out for 'a photo of a {}.'"
        )
    return tuple(prompts)


def _prompts(value: str) -> list[str]:
    if value in TEMPLATE_LISTS:
        import open_clip.zero_shot_metadata as lists

        made = lists.OPENAI_IMAGENET_TEMPLATES if value == TEMPLATE_LISTS[0] else lists.SIMPLE_IMAGENET_TEMPLATES
        return [template("{}") for template in made]
    if "{}" in value or "{c}" in value:
        return [_with_place(value, None)]
    if not Path(value).is_file():
        expected = (
            f"a prompt with {{}} as in 'a photo of a {{}}.', a file of prompts, or one of {', '.join(TEMPLATE_LISTS)}"
        )
        raise SeaAnchorError(
            f"the template {value!r} has no {{}}, and is no file", expected, "add {} where the class name goes"
        )
    return read_template_file(Path(value))


def read_template_file(file: Path) -> list[str]:
    """The prompts of a file, one a line or a JSON list.

    Raises:
        SeaAnchorError: unreadable, no list, or a prompt without a place for the class name.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        data = (
            json.loads(text)
            if file.suffix.lower() == ".json"
            else [line.strip() for line in text.splitlines() if line.strip()]
        )
    except (OSError, ValueError) as error:
        raise SeaAnchorError(
            f"{file} could not be read ({error})", "a text file with one prompt a line, or a JSON list", "correct it"
        ) from error
    if not isinstance(data, list) or not all(isinstance(prompt, str) for prompt in data):
        raise SeaAnchorError(f"{file} holds something other than prompts", "a list of prompts", "correct it")
    return [_with_place(prompt, file) for prompt in data]


def _with_place(prompt: str, file: Path | None) -> str:
    prompt = prompt.replace("{c}", "{}")
    if "{}" not in prompt:
        where = f" of {file}" if file else ""
        raise SeaAnchorError(
            f"the template {prompt!r}{where} has no {{}}",
            "a place for the class name, as in 'a photo of a {}.'",
            "add {}",
        )
    return prompt
