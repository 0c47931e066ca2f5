"""What the site needs besides mkdocs: every page in its navigation, and links that lead somewhere.

Links to files outside `docs/`, and to programs in it, lead to copies.

In the repository `[eef.py](../palaestra/trainers/eef.py)` opens the file itself; on the site it opens its text under
`source/`. A link to a file that is not there stays as it is, and the strict build fails at it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)")


def on_config(config: MkDocsConfig, **_: Any) -> MkDocsConfig:
    """Called by mkdocs once: pages that the navigation does not name are listed behind it."""
    docs = Path(config.docs_dir)
    named = set(_pages(config.nav or []))
    more = [page.relative_to(docs).as_posix() for page in sorted(docs.rglob("*.md"))]
    if more := [page for page in more if page not in named]:
        config.nav = [*(config.nav or []), {"More": list(more)}]
    return config


def _pages(nav: Any) -> list[str]:
    """The pages that a piece of the navigation names."""
    if isinstance(nav, str):
        return [nav]
    inner = nav.values() if isinstance(nav, dict) else nav
    return [page for piece in inner for page in _pages(piece)]


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files, **_: Any) -> str:
    """Called by mkdocs with every page's text."""
    from mkdocs.structure.files import File

    here = posixpath.dirname(page.file.src_uri)

    def copied(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, link[1]))
        file = Path(config.docs_dir, target)
        if not (target.startswith("../") or target.endswith(".py")) or not file.is_file():
            return link[1]
        place = f"source/{target.removeprefix('../') if target.startswith('../') else f'docs/{target}'}.txt"
        if files.get_file_from_path(place) is None:
            files.append(File.generated(config, place, content=file.read_text(encoding="utf-8")))
        return posixpath.relpath(place, here or ".")

    return _LINK.sub(copied, markdown)
