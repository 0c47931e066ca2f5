"""The code blocks of a page, and what is promised of each.

A block's language says what it is: `python` is run, `console` holds commands behind `$` with their output below them,
`toml`, `json` and `yaml` must load, and `text` is no code. What stands right above a block can say more:

    In `parcels.py`:                                  the block is written to this file, where later blocks find it
    *Not run in the tests: it needs a GPU.*           the block is only read: commands parsed, configurations loaded
    *The tests run it with `--budget 4`.*             the block's commands get these options more, which override theirs
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

_FILE = re.compile(r"`([\w./-]+\.\w+)`[^`]*:$")
_MORE = re.compile(r"^\*The tests run it with `(.+)`\.\*$")
_REASON = re.compile(r"^\*Not run in the tests: (.+)\.\*$")
LANGUAGES = ("python", "console", "toml", "json", "yaml", "text")


@dataclass
class Command:
    """A command of a console block and the output that the page shows; None where it shows none."""

    text: str
    output: list[str] = field(default_factory=list)

    @property
    def background(self) -> bool:
        """Does it go on in the background."""
        return self.text.endswith(" &")


@dataclass
class Block:
    """A code block.

    Attributes:
        page, line: where it begins.
        language: one of `LANGUAGES`.
        text: what is in it.
        reason: why it is not run; None: it is.
        file: what it is written to, if it is a file.
        more: options that the tests add to its commands of `palaestra`, which make them small; empty for none.
    """

    page: Path
    line: int
    language: str
    text: str
    reason: str | None = None
    file: str | None = None
    more: str = ""

    @property
    def where(self) -> str:
        return f"{self.page.name}:{self.line}"

    def commands(self) -> list[Command]:
        """The commands of a console block, in order. Raises AssertionError for output before the first one."""
        found: list[Command] = []
        joined = self.text.replace("\\\n", " ")
        for line in joined.splitlines():
            if line.startswith("$ "):
                text = re.sub(r"\s+#\s.*$", "", line[2:]).strip()
                text += f" {self.more}" if self.more and text.startswith("palaestra ") else ""
                found.append(Command(" ".join(text.split()) if "'" not in text and '"' not in text else text))
            else:
                assert found, f"{self.where}: a console block begins with a command behind '$'"
                found[-1].output.append(line)
        return found


def blocks_of(page: Path) -> list[Block]:
    """All blocks of a page. Raises AssertionError for a language that is not known, or a block that does not end."""
    found: list[Block] = []
    above, opened, inside = "", None, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if opened is None and (fence := re.fullmatch(r"```(\w*)", line)):
            reason, file, more = _REASON.match(above), _FILE.search(above), _MORE.match(above)
            opened = Block(
                *(page, number, fence[1], ""),
                reason=reason[1] if reason else None,
                file=file[1] if file else None,
                more=more[1] if more else "",
            )
            assert opened.language in LANGUAGES, f"{opened.where}: a block's language is one of {LANGUAGES}"
        elif opened is not None and line == "```":
            opened.text = "\n".join(inside) + "\n"
            found.append(opened)
            above, opened, inside = "", None, []
        elif opened is not None:
            inside.append(line)
        elif line.strip():
            above = line.strip()
    assert opened is None, f"{page.name}: the block of line {opened.line if opened else 0} does not end"
    return found
