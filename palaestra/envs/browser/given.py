"""What the settings of web environments may be: one clear line for each value that cannot be used.

Values come from a command line, where `-s hosts=8080` is a number, or from a configuration file.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePath

from palaestra.envs.errors import BadInput


def path(setting: str, value: object) -> Path:
    """A file or folder. Raises BadInput for what is no path."""
    try:
        if isinstance(value, str | PurePath) and os.fspath(value) and b"\0" not in os.fsencode(value):
            return Path(value)
    except UnicodeEncodeError:  # half a surrogate pair
        pass
    raise BadInput(f"{setting} is a path, got {value!r:.80}")


def hosts(value: object) -> tuple[str, ...]:
    """Hosts with commas between, or a list of them. Raises BadInput for what is neither."""
    listed = value.split(",") if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or not all(isinstance(host, str) for host in listed):
        raise BadInput(f"hosts are names with commas between, such as a.com,b.com:8080; got {value!r:.80}")
    return tuple(host.strip() for host in listed if host.strip())
