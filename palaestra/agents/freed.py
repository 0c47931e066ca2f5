"""Memory that was freed goes back to the system."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress


def give_back() -> None:
    """Hand memory that was freed back to the system, where the C library (glibc) keeps it.

    It keeps it in several heaps, each for some of the threads, and what was freed in one of them no other heap can use.
    The prefixes of a policy lie wherever the collector's threads computed them, so a process that plays one evaluation
    after another, each with new policies, would grow by much of what each of them had.
    """
    if sys.platform.startswith("linux"):
        with suppress(AttributeError, OSError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)
