"""What environments kept of an episode's steps, as one block beside it in the store: forks there begin with it.

Only environments in which the same actions may lead elsewhere keep anything (`TextEnv.keep`); all others replay.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping

_LEVEL = 6  # most of a step is what the step before had


def pack_kept(kept: Mapping[int, bytes]) -> bytes:
    """Step (counted from the root's reset) -> what was kept there, compressed together."""
    sizes = json.dumps([[step, len(raw)] for step, raw in kept.items()]).encode()
    return zlib.compress(sizes + b"\n" + b"".join(kept.values()), _LEVEL)


def unpack_kept(body: bytes) -> dict[int, bytes]:
    """The inverse of `pack_kept`. Raises zlib.error or ValueError on bytes that it did not write."""
    sizes, _, raw = zlib.decompress(body).partition(b"\n")
    found: dict[int, bytes] = {}
    place = 0
    for step, size in json.loads(sizes):
        found[int(step)] = raw[place : place + int(size)]
        place += int(size)
    if place != len(raw):
        raise ValueError(f"{len(raw)} bytes where {place} belong")
    return found
