"""docs/compatibility.md: what was tried, and what came of it."""

import platform
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import seaanchor

CHECKS = ("images", "texts", "classes", "pixels", "step", "export", "FLOPs")
LIBRARIES = {"open_clip": "OpenCLIP", "timm": "timm", "hf": "Hugging Face"}
HEAD = """# Which encoders work

Architectures of OpenCLIP (up to 450 M parameters), timm and transformers, each with random weights by
`seaanchor.testing.check_encoder`, in a process of its own:

| column | what holds where it says ✓ |
| --- | --- |
| images | embeddings are those of the library, finite, repeatable, independent of the batch; pixels get a gradient |
| texts | embeddings of texts are those of the library; – for towers without texts |
| classes | the model's own classifier, from a file of weights, answers as in the library; – where there is none |
| pixels | ten pictures of six shapes in RGB, grey, palette and CMYK become the pixels of the library's own transform |
| step | one step of LORE on two images: a finite loss, weights move, batch statistics do not |
| export | the trained model loads in its library and by its path: same embeddings (1e-5), texts and preprocessing |
| FLOPs | a forward costs what torch's own counter says, and forward and both gradients three forwards |

"""


def write_table(page: Path, names: Iterable[str], results: dict[str, dict[str, Any]], tags: dict[str, Any]) -> None:
    """Write the page of the results that there are, and name what was not tried."""
    names = list(names)
    tried = [results[name] for name in names if name in results]
    lines = [HEAD + _made_with(tried), *_counts(tried, names), "", _tags(tags), ""]
    for library, title in LIBRARIES.items():
        own = [record for record in tried if record["name"].startswith(library + ":")]
        missing = [_short(name) for name in names if name.startswith(library + ":") and name not in results]
        lines += [f"## {title}", "", _notes(library, own), "", *_rows(own)]
        if missing:
            lines += ["", f"Not tried: {', '.join(missing)}."]
        lines += [""]
    page.write_text("\n".join(lines))


def outcome(record: dict[str, Any]) -> str:
    """`passed`, `refused` or `failed`."""
    wrong = {check: told["error"] for check, told in record["checks"].items() if told["error"]}
    if not wrong:
        return "passed"
    refused = all(error.startswith("SeaAnchorError") for error in wrong.values()) and set(wrong) == {"load"}
    return "refused" if refused else "failed"


def _made_with(tried: list[dict[str, Any]]) -> str:
    libraries = sorted({f"{k} {v}" for record in tried for k, v in record["versions"].items() if k != "commit"})
    made = sorted({record["versions"]["commit"] for record in tried})
    minutes = sum(record["seconds"] for record in tried) / 60
    return (
        f"Made with seaanchor {seaanchor.__version__}, {', '.join(libraries)}, on {_processor()}, one thread, beside "
        f"other work: {minutes:.0f} minutes. The last column but one names "
        f"the commit of each row, or the nearest that was kept ({len(made)} commits). "
        "Again: `python -m tools.compatibility --work FOLDER`.\n"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "a processor")


def _counts(tried: list[dict[str, Any]], names: list[str]) -> list[str]:
    lines = [
        "| | known | tried | passed | refused, with the reason | failed |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for library, title in [*LIBRARIES.items(), ("", "all")]:
        ends = Counter(outcome(record) for record in tried if record["name"].startswith(library))
        known = sum(name.startswith(library) for name in names)
        cells = [ends[end] for end in ("passed", "refused", "failed")]
        lines.append(f"| {title} | {known} | {sum(cells)} | {' | '.join(map(str, cells))} |")
    return lines


def _tags(tags: dict[str, Any]) -> str:
    different = f"different for {', '.join(tags['different'])}" if tags["different"] else "the same pixels for all"
    return (
        f"Pictures are also prepared as OpenCLIP's {tags['tags']} published tags say, here and by its own transform "
        f"({tags['settings']} different settings): {different}."
    )


def _notes(library: str, own: list[dict[str, Any]]) -> str:
    if library == "open_clip":
        return (
            "Image size in brackets: smaller than its own, which would take too long. *: tokenizer and, where there is "
            "one, text tower of transformers stand in for files of the Hub: the same layers, another vocabulary."
        )
    if library == "timm":
        return (
            "One or more of every family, mostly the smallest, from a file of its weights (an empty cell: with random "
            "weights, without that check); `NAME@224` at another image size than its own. DINOv2's embedding is the "
            "class token, DINOv3's ViT the mean of its patches."
        )
    return "Small models of each class, with transformers' own processors and tokenizers."


def _rows(own: list[dict[str, Any]]) -> list[str]:
    if not own:
        return []
    head = ["model", "M parameters", "pixels a side", "D", *CHECKS, "at", "s"]
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join(['---'] * len(head))} |"]
    for record in own:
        name = _short(record["name"]) + ("*" if record.get("stand_in") else "")
        if outcome(record) == "refused":
            reason = record["checks"]["load"]["error"].removeprefix("SeaAnchorError: ").partition(" expected:")[0]
            cells = [name, "", "", "", "refused: " + reason.replace("|", "/"), *[""] * (len(CHECKS) - 1)]
            lines.append(f"| {' | '.join(cells)} | {record['versions']['commit']} | |")
            continue
        side = f"({record['side']})" if record.get("reduced") else str(record.get("side", ""))
        size = f"{record.get('parameters', 0) / 1e6:.1f}"
        cells = [name, size, side, str(record.get("dim", "")), *(_cell(record, check) for check in CHECKS)]
        lines.append(f"| {' | '.join(cells)} | {record['versions']['commit']} | {record['seconds']:.0f} |")
    return lines


def _cell(record: dict[str, Any], check: str) -> str:
    checks = record["checks"]
    check = check.lower()
    told = [checks[each] for each in ((check, "tower") if check == "images" else (check,)) if each in checks]
    wrong = " ".join(one["error"] for one in told if one["error"])
    if wrong:
        return "**" + wrong.replace("AssertionError: broken rule: ", "").replace("|", "/")[:160] + "**"
    if check in record.get("absent", ()):
        return "–"
    return "✓" if told else ""


def _short(name: str) -> str:
    return name.partition(":")[2]
