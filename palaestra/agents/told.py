"""What a stored fault says to people: of its traceback the last line, without the path to a class."""

from __future__ import annotations

import re

_RAISED = re.compile(r"((?:[A-Za-z_]\w*\.)+)([A-Z]\w*)(?:: (?=\S)|$)")


def last_line(trace: str) -> str:
    """What went wrong: the last line of a traceback.

    Errors of our own are sentences and stand alone; others keep the name of their class, for it may be all they say.

    Args:
        trace: as `Episode.error` holds it; any other text gives its last line as it stands.
    """
    line = (trace.strip().splitlines() or [""])[-1].strip()
    raised = _RAISED.match(line)
    if raised is None:
        return line
    said = line[raised.end() :]
    return said if said and raised[1].startswith("palaestra.") else line[len(raised[1]) :]
