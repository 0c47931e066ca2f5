"""The last lines of a file that may be being written: a run's log, and how it is getting on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def tail(file: Path, most: int) -> list[dict[str, Any]]:
    """The objects in the last `most` bytes of a file of JSON Lines; what is no whole object yet is left out.

    Returns:
        Them in their order; empty where there is no such file.

    Raises:
        OSError: the file is there and cannot be read.
    """
    try:
        with open(file, "rb") as lines:
            lines.seek(0, os.SEEK_END)
            lines.seek(max(0, lines.tell() - most))
            text = lines.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    found = []
    for line in text.split("\n"):
        try:
            item = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(item, dict):
            found.append(item)
    return found
