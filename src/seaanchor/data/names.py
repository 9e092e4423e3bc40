"""Class names and prompt templates: from files, from OpenCLIP's lists, or as given."""

import os
from collections.abc import Sequence
from pathlib import Path

from seaanchor.data.name_lists import Given, read_name_list
from seaanchor.data.name_pairing import clean_names, match_classes, pair_names
from seaanchor.errors import SeaAnchorError, is_text, note
from seaanchor.utils.plain_files import parse_json, read_text

TEMPLATE_LISTS = ("openai-imagenet", "simple-imagenet")
"""OpenCLIP's 80 prompts for ImageNet, and the 7 that were chosen among them."""
IMAGENET = "imagenet"
"""OpenCLIP's names of the 1,000 classes of ImageNet."""


def read_class_names(file: Path, folders: Sequence[str] | None) -> tuple[str, ...]:
    """Names for classes.

    Args:
        file: a file as `read_name_list` takes it; or names themselves, joined by commas; or `imagenet`. Lists are in
            the order of the class numbers, which for folders is their sorted order, by number where all of them are
            numbers.
        folders: the class folders in that order, or the names that the data set has for its classes; None if it has
            none, and a list of any length will do.

    Raises:
        SeaAnchorError: the file is missing or malformed, or does not name every class and no other.
    """
    return clean_names(pair_names(_listed(file, folders), folders, str(file)), str(file))


def is_mapping(file: Path, folders: Sequence[str] | None) -> bool:
    """Whether names are given by folder, and not in the order of the classes; errors as for `read_class_names`."""
    return isinstance(_listed(file, folders), dict)


def note_unused(names: Sequence[str], labels: Sequence[int], source: Path | str) -> None:
    """Log which classes have no image: a list may be longer than it was meant to be, and every name is an
    answer that a model may give."""
    used = set(labels)
    unused = [name for number, name in enumerate(names) if number not in used]
    if unused:
        shown = ", ".join(unused[:5]) + (f" and {len(unused) - 5} more" if len(unused) > 5 else "")
        first = " (if its class numbers begin at 1, all names are one off)" if 0 not in used and 1 in used else ""
        note(f"{len(unused)} of {len(names)} classes have no image in {source}: {shown}{first}")


def _listed(file: Path, folders: Sequence[str] | None) -> Given:
    """The names as they are given, unchecked."""
    there = os.path.exists(file)  # False for what is too long for a path
    if not there and str(file) == IMAGENET:
        return _imagenet(folders)
    if not there and "," in str(file):
        return [name.strip() for name in str(file).split(",")]
    return read_name_list(file, gaps=folders is not None)


REPEATED = {
    744: ("missile", "projectile"),
    836: ("sunglasses", "sunglass"),
}  # class number → OpenCLIP's name, WordNet's


def imagenet_names() -> list[str]:
    """OpenCLIP's names of the 1,000 classes of ImageNet, in their order. Two of them are there twice; the classes meant
    are distinguished here by the words that WordNet has for them."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    names = list(IMAGENET_CLASSNAMES)
    for number, (given, distinct) in REPEATED.items():
        names[number] = distinct if names[number] == given else names[number]
    return names


def _imagenet(folders: Sequence[str] | None) -> Given:
    """The 1,000 names in order, or by WordNet number where the folders are called by those, so that a part of ImageNet
    is named too."""
    from timm.data import ImageNetInfo

    names = imagenet_names()
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
    expected = "a text file with one prompt a line, or a JSON list"
    text = read_text(file, expected)
    try:
        data = (
            parse_json(text)
            if file.suffix.lower() == ".json"
            else [line.strip() for line in text.splitlines() if line.strip()]
        )
    except ValueError as error:
        raise SeaAnchorError(f"{file} could not be read ({error})", expected, "correct it") from error
    if not isinstance(data, list) or not all(isinstance(prompt, str) for prompt in data):
        raise SeaAnchorError(f"{file} holds something other than prompts", "a list of prompts", "correct it")
    return [_with_place(prompt, file) for prompt in data]


def _with_place(prompt: str, file: Path | None) -> str:
    prompt = prompt.replace("{c}", "{}")
    if not is_text(prompt):
        raise SeaAnchorError(f"the template {prompt} is not UTF-8", "a text in UTF-8", "correct it")
    if "{}" not in prompt:
        where = f" of {file}" if file else ""
        raise SeaAnchorError(
            f"the template {prompt!r}{where} has no {{}}",
            "a place for the class name, as in 'a photo of a {}.'",
            "add {}",
        )
    return prompt


__all__ = [
    "IMAGENET",
    "TEMPLATE_LISTS",
    "match_classes",
    "note_unused",
    "read_class_names",
    "read_template_file",
    "read_templates",
]
