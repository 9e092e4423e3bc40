"""Texts that a model cannot distinguish: they become the same tokens, or differ only behind those that it reads.

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
    alike = [list(class_names)]
    for template in templates:
        alike = [same for names in alike for same in _same(limit, names, template)]
        if not alike:
            return
    named = "; ".join(" = ".join(map(_short, names[:3])) for names in alike[:3])
    count = sum(map(len, alike))
    if overlong([template.replace("{}", name) for name in alike[0] for template in templates], limit):
        raise SeaAnchorError(
            f"{count} classes are told apart only behind the {limit.tokens} tokens that the model reads: {named}",
            "prompts that differ before that",
            "shorten the names with --class-names, or the prompts with --templates",
        )
    raise SeaAnchorError(
        f"{count} classes have the same tokens, as words that the model's vocabulary does not have: {named}",
        "names that the model distinguishes",
        "write them in words that it knows with --class-names, or merge the classes",
    )


def _same(limit: TextLimit, names: Sequence[str], template: str) -> list[list[str]]:
    """Groups of the names that become the same tokens in one prompt."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for name, tokens in zip(names, limit.read([template.replace("{}", name) for name in names]), strict=True):
        groups.setdefault(tuple(tokens), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


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
