"""Hooks of the documentation site: a page for each public module, and links out of the folder of pages."""

import inspect
import re
import sys
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\((?P<path>[^)\s#:]+)(?P<section>#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add a page for each public module, and name it in the navigation."""
    from mkdocs.structure.files import File

    sys.path.insert(0, str(ROOT))  # the command `mkdocs` does not look into the working folder
    from tools.api_reference import entries, public_modules

    pages = []
    for module in public_modules():
        name = module.__name__
        files.append(File.generated(config, f"api/{name}.md", content=_page(module, entries(module))))
        pages.append({name: f"api/{name}.md"})
    section = next(entry["API"] for entry in config.nav if "API" in entry)
    section[1:] = pages
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links to files of the repository that are no pages become their names: a site has no place for them."""
    return outside_as_text(markdown, PurePosixPath(page.file.src_uri), ROOT / "docs")


def outside_as_text(markdown: str, page: PurePosixPath, docs: Path) -> str:
    """A page with its links out of `docs`, or to a folder, written as the text alone and, where that does not say it,
    the path.

    >>> outside_as_text("See [its card](../models/x/CARD.md).", PurePosixPath("a.md"), Path("/r/docs"))
    'See its card (`models/x/CARD.md`).'
    >>> outside_as_text("See [there](b.md).", PurePosixPath("a.md"), Path("/r/docs"))
    'See [there](b.md).'
    """

    def inside(text: str, path: str) -> str | None:
        target = Path(str(docs / page.parent)).joinpath(path)
        parts: list[str] = []
        for part in target.parts:
            parts = parts[:-1] if part == ".." else [*parts, part]
        whole = Path(*parts)
        if whole.is_relative_to(docs):
            return text if whole.is_dir() else None
        shown = whole.relative_to(docs.parent)
        return text if str(shown) in text else f"{text} (`{shown}`)"

    def change(match: re.Match[str]) -> str:
        return found if (found := inside(match["text"], match["path"])) is not None else match[0]

    return re.sub(r"(?<!!)\[(?P<text>[^\]]*)" + LINK.pattern, change, markdown)


def _page(module: ModuleType, public: dict[str, Any]) -> str:
    """What the module says of itself, and each class and function by where it is defined: names are imported on first
    use, which a reading of the source alone does not see."""
    defined = [one for one in public.values() if inspect.isclass(one) or inspect.isfunction(one)]
    blocks = [f"::: {one.__module__}.{one.__qualname__}\n    options:\n      heading_level: 2" for one in defined]
    return "\n\n".join([f"# {module.__name__}", inspect.cleandoc(module.__doc__ or ""), *blocks]) + "\n"
