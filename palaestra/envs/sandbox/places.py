"""How many sandboxes all pools of a process have together: one number, and who gives way where it is reached."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING

from palaestra.envs.errors import BadInput

if TYPE_CHECKING:
    from palaestra.envs.sandbox.pool import Pool

VARIABLE = "PALAESTRA_MOST_SANDBOXES"
_USUAL = 128


class Places:
    """How many sandboxes several pools may have together: ready, being started, and lent.

    Args:
        most: of them.

    Raises:
        BadInput: `most` below 1.
    """

    def __init__(self, most: int) -> None:
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise BadInput(f"pools share at least 1 place, got most={most!r}")
        self.most = most
        self.pools: weakref.WeakSet[Pool] = weakref.WeakSet()
        self.renew()
        _all_places.add(self)

    def renew(self) -> None:
        """A new lock; in a fork of this process the old one may be held by a thread that does not exist there."""
        self.change = threading.Condition()  # all pools' lock: that one has room may depend on any other

    @property
    def taken(self) -> int:
        """How many there are. The lock is held."""
        return sum(pool.size for pool in self._own())

    def missing(self, asker: Pool) -> int:
        """How many others than the asker's are waited for and not being started. The lock is held."""
        return sum(pool.missing for pool in self._own() if pool is not asker)

    def longest_idle(self, asker: Pool) -> Pool | None:
        """The pool, not the asker, whose first warm sandbox has idled longest. The lock is held.

        What became ready after the asker was last asked for one stays, unless somebody waits: two pools do not displace
        one another's sandboxes for ever.
        """
        idle = [(pool.idle_since, pool) for pool in self._own() if pool is not asker]
        old = [(since, pool) for since, pool in idle if since is not None and asker.may_displace(since)]
        return min(old, key=lambda pair: pair[0])[1] if old else None

    def _own(self) -> list[Pool]:
        return [pool for pool in self.pools if pool.process == os.getpid()]


_all_places: weakref.WeakSet[Places] = weakref.WeakSet()
PLACES = Places(_USUAL)
"""Those of all pools that name no other."""


def usual_places() -> Places:
    """`PLACES`, as many as $PALAESTRA_MOST_SANDBOXES says, else 128. Raises BadInput."""
    asked = os.environ.get(VARIABLE) or str(_USUAL)
    if not (asked.isascii() and asked.isdecimal()) or not 1 <= int(asked) <= 1_000_000:
        raise BadInput(f"${VARIABLE} is a number from 1 to 1000000, not {asked!r}")
    PLACES.most = int(asked)
    return PLACES


def _renew_places() -> None:
    for places in _all_places:
        places.renew()


os.register_at_fork(after_in_child=_renew_places)
