"""What the documents name is there: source files, names in them, linked pages and their sections."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src/seaanchor"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def code_spans(line: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", line)


def missing_names(page: str, found: dict[str, str]) -> list[str]:
    """Paths and names of a page that are not there.

    Args:
        page: the text; a path in backticks holds for the names behind it, to the end of the line.
        found: text of every source file by its path.
    """
    missing, everything = [], "\n".join(found.values())
    for line in page.splitlines():
        text = everything
        for span in code_spans(line):
            if span.endswith(".py"):
                missing += [] if span in found else [span]
                text = found.get(span, "")
            elif re.fullmatch(r"[A-Za-z_]\w*(\.[a-z_]\w*)?", span) and not all(
                re.search(rf"\b{part}\b", text) for part in span.split(".")
            ):
                missing.append(f"{span}: {line.strip()[:60]}")
    return missing


def test_papers_names_what_is_there():
    found = {str(file.relative_to(SOURCES)): file.read_text() for file in SOURCES.rglob("*.py")}
    for place in ("studies", "tools"):
        found |= {str(file.relative_to(ROOT)): file.read_text() for file in (ROOT / place).rglob("*.py")}
    missing = missing_names((ROOT / "docs/papers.md").read_text(), found)
    assert not missing, "\n".join(missing)


def test_a_wrong_path_and_a_wrong_name_are_found():
    found = {"a.py": "def one(): ...", "b.py": "def two(): ..."}
    assert missing_names("| x | `a.py` `one`; `b.py` `two` |\n| the same | `two` |", found) == []
    assert missing_names("| x | `a.py` `two` |", found) == ["two: | x | `a.py` `two` |"]
    assert missing_names("`c.py`", found) == ["c.py"]


def anchors(page: str) -> set[str]:
    """Names of the sections of a page, as they are linked."""
    titles = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, section = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (section and section not in anchors(file.read_text())):
            broken.append(target)
    assert not broken
