"""Texts that a model cannot distinguish, because they differ only behind the tokens that it reads.

Legend: C classes, T templates.
"""

from collections.abc import Callable, Sequence

from seaanchor.encoders.text import TextLimit, overlong
from seaanchor.errors import SeaAnchorError

LONGEST = 60  # characters of a text in a message
SHORT = ("cat", "dog", "a", "two")  # any vocabulary of whole words, pieces, letters or bytes distinguishes them


def check_reads(name: str, read: Callable[[Sequence[str]], Sequence[Sequence[int]]]) -> None:
    """Fail where short texts become the same tokens: a tokenizer without its files gives all texts one.

    Args:
        name: of the model, for the message.
        read: texts → their tokens.

    Raises:
        SeaAnchorError: two of them are alike.
    """
    seen: dict[tuple[int, ...], str] = {}
    for text, tokens in zip(SHORT, read(SHORT), strict=True):
        if (other := seen.setdefault(tuple(tokens), text)) != text:
            found = f"the tokenizer of {name} gives {other!r} and {text!r} the same tokens {list(tokens)[:6]}"
            change = "copy the tokenizer's files beside the weights, such as tokenizer.json or vocab.json"
            raise SeaAnchorError(found, "a tokenizer with its vocabulary", change)


def check_classes_apart(limit: TextLimit, class_names: Sequence[str], templates: Sequence[str]) -> None:
    """Fail where two classes are one to the model: the first of them would get every answer.

    Args:
        limit: of the model.
        class_names: C names.
        templates: T prompts; one that distinguishes the classes is enough.

    Raises:
        SeaAnchorError: names the classes.
    """
    name_bytes = max(len(name.encode()) for name in class_names)
    longest = max(len(template.encode()) + template.count("{}") * name_bytes for template in templates)
    if (
        longest + 3 <= limit.tokens
    ):  # as in `overlong`: nothing can be cut, and thousands of prompts need not be written out
        return
    alike: dict[tuple, list[str]] = {}
    for name, key in zip(
        class_names,
        _read(limit, [[template.replace("{}", name) for template in templates] for name in class_names]),
        strict=True,
    ):
        alike.setdefault(key, []).append(name)
    if same := [names for names in alike.values() if len(names) > 1]:
        named = "; ".join(" = ".join(map(_short, names[:3])) for names in same[:3])
        found = (
            f"{sum(map(len, same))} classes are told apart only behind the {limit.tokens} tokens that the "
            f"model reads: {named}"
        )
        raise SeaAnchorError(
            found,
            "prompts that differ before that",
            "shorten the names with --class-names, or the prompts with --templates",
        )


def check_pairs_apart(limit: TextLimit, texts: Sequence[str], pairs: Sequence[tuple[int, int]], source: str) -> None:
    """Fail where the chosen and the rejected text of a row are one to the model: there is nothing to prefer.

    Args:
        limit: of the model.
        texts: the candidate texts.
        pairs: each row's chosen and rejected text, as numbers of texts; −1 for none.
        source: where the rows are from, for the message.

    Raises:
        SeaAnchorError: says in how many rows, and names the first.
    """
    keys = _read(limit, [[text] for text in texts])
    if same := [
        row
        for row, (chosen, rejected) in enumerate(pairs)
        if min(chosen, rejected) >= 0 and keys[chosen] == keys[rejected]
    ]:
        shown = " and ".join(_short(texts[number]) for number in pairs[same[0]])
        found = (
            f"{source}: in {len(same)} of {len(pairs)} rows the texts differ only behind the "
            f"{limit.tokens} tokens that the model reads, first in row"
        )
        change = "shorten them, move the difference to the front, or remove the rows"
        raise SeaAnchorError(
            f"{found} {same[0] + 1}: {shown}", "a chosen and a rejected text that differ before that", change
        )


def _read(limit: TextLimit, texts: Sequence[Sequence[str]]) -> list[tuple]:
    """What the model reads of each group of texts: its tokens where one of them all is cut, else the texts
    themselves."""
    if not overlong([text for group in texts for text in group], limit):
        return [tuple(group) for group in texts]
    return [tuple(map(tuple, limit.read(group))) for group in texts]


def _short(text: str) -> str:
    """Both ends of a text, as what differs is mostly at the end of one that is cut."""
    return repr(text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}")
