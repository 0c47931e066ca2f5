"""Imagined pages beside the real ones that came, as measuring a world model leaves them: `pages.jsonl.gz`."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palaestra.envs import BadInput

PAGES = "pages.jsonl.gz"


class Compared(BaseModel):
    """One imagined page and the real one.

    Attributes:
        task: the task's id. episode: the real episode.
        origin: the step that was imagined on from. steps: imagined steps since, the one of this page included.
        action: what was done last.
        imagined: the page; empty where there is none. problem: why, if it was cut here or before.
        real: the real page, cut as the imagined one is.
        similarity: ratio of matching words and signs. copying: the same for repeating the last real page.
        over: does the episode end here, as imagined; ended: as it was.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    episode: str
    origin: int = Field(ge=0)
    steps: int = Field(ge=1)
    action: str
    imagined: str
    problem: str | None = None
    real: str
    similarity: float
    copying: float
    over: bool
    ended: bool

    @property
    def step(self) -> int:
        """Actions from the root's reset to this page."""
        return self.origin + self.steps


def packed(pages: Iterable[Compared]) -> bytes:
    """One JSON line each, compressed, by episode, origin and steps; the same pages give the same bytes."""
    ordered = sorted(pages, key=lambda page: (page.task, page.episode, page.origin, page.steps))
    return gzip.compress("".join(page.model_dump_json() + "\n" for page in ordered).encode(), mtime=0)


def read(file: Path) -> list[Compared]:
    """What `packed` wrote. Raises BadInput when the file is damaged."""
    try:
        return [Compared.model_validate_json(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    except (OSError, EOFError, ValidationError, ValueError) as error:
        raise BadInput(f"{file} cannot be read: {' '.join(str(error).split())[:160]}") from error
