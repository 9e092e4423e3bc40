"""What `seaanchor attack` prints of the images it wrote."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seaanchor.errors import printable
from seaanchor.utils.text import plural

if TYPE_CHECKING:
    from seaanchor.evaluation.context import ChosenHead

SHOWN = 20  # rows of the printed table
SIZE = re.compile(r"(?:^|,)size=(\d+)")  # of the model's input, in its preprocessing


def print_record(record: Mapping[str, Any], output: Path, model: str) -> None:
    """A row for each of the first images, and the sums."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    rows = record["images"]
    table = Table(title=escape(f"{record['settings']['attack']} on {model}: answers to the written files"))
    for column in ("picture", "before", "after"):
        table.add_column(column)
    for row in rows[:SHOWN]:
        word = f" + {row['word']!r}" if row["word"] else ""
        wrong = "" if row["right_before"] else f" (wrong: {row['label']})"
        texts = [f"{row['source']}{word}", *(f"{row[k]['name']}, {row[k]['share']:.0%}" for k in ("before", "after"))]
        table.add_row(*(printable(escape(text)) for text in (texts[0], texts[1] + wrong, texts[2])))
    console = Console()
    console.print(table)
    if len(rows) > SHOWN:
        console.print(f"... and {len(rows) - SHOWN} more in {output / 'answers.json'}")
    for line in sum_lines(record):
        print(line)
    print(f"written to {output}: attacked, difference, answers.json")


def sum_lines(record: Mapping[str, Any]) -> list[str]:
    """How many images were answered how, and what undid the attack on some."""
    sums, how = record["summary"], record["settings"]["preprocessing"]
    total, still = sums["images"], sums["right_after"]
    if record["images"][0]["label"] is not None:
        lines = [f"{plural(total, 'image')}: {sums['right_before']} answered rightly before, {still} after"]
    else:
        lines = [f"{plural(total, 'image')}: {still} with the same answer as before, {total - still} with another"]
    if count := sums["undone_by_rounding"]:
        were, are = ("was", "is") if count == 1 else ("were", "are")
        lines.append(f"{count} {were} fooled by the attacked pixels, and {are} not after rounding to 8 bits")
    if count := sums["undone_by_preprocessing"]:
        cure = f"; --preprocess resize_size={size[1]}, here and in evaluate, " if (size := SIZE.search(how)) else ""
        lines.append(
            f"{count} {'is' if count == 1 else 'are'} fooled by the 8 bits of the file, and not by what the model's "
            f"preprocessing makes of them ({how}){cure and cure + 'reads the files as they are'}"
        )
    if count := sums["read_differently"]:
        are = "is" if count == 1 else "are"
        lines.append(f"{plural(count, 'file')} {are} resized or cropped when the model reads them, and judged so")
    return [*lines, *filter(None, [record["skipped"]])]


def evaluate_command(
    record: Mapping[str, Any], output: Path, model: str, asked: Mapping[str, Any], chosen: "ChosenHead"
) -> str | None:
    """The command that evaluates the written files; None where they are no class folders of the same classes.

    Args:
        record: of the attack.
        output: its folder.
        model: under attack.
        asked: options of the attack, by name.
        chosen: the head that answered.
    """
    names = record["settings"]["class_names"]
    if {row["label"] for row in record["images"]} != set(names) or not _found_again(names, asked, chosen):
        return None
    words = ["seaanchor", "evaluate", "--model", model, "--data", str(output / "attacked"), "--suite", "clean"]
    if asked["head"] == "probe":
        asked = {**asked, "train_data": chosen.source}
    for name in ("pretrained", "preprocess", "head", "train_data"):
        words += [] if asked[name] is None else [f"--{name.replace('_', '-')}", asked[name]]
    return shlex.join(words)


def _found_again(names: Sequence[str], asked: Mapping[str, Any], chosen: "ChosenHead") -> bool:
    """Whether folders of these names are paired with the same classes: a head without names takes them in order, and
    a probe that is fitted again needs the names of its training images."""
    from seaanchor.data.name_pairing import class_order

    if chosen.kind == "probe" and asked["head"] == "probe":
        return asked["class_names"] is None
    by_order = chosen.named is not None and chosen.named.class_names is None
    return not by_order or class_order(names) == list(names)
