"""Which request goes next, and to which replica, so that what a replica has read already is not read again.

vLLM keeps what it read of a prompt (its prefix cache), and of several prompts that it is handed together it reads what
they share once. Both help only where prompts with the same beginning come to the same replica, close to one another.
Turns of one episode, its forks, and samples of the same task are all such prompts, and a prompt's ids say so by
themselves: nobody needs to tell which episode a request belongs to.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from palaestra.agents.policies.vllm_server import Server

_BLOCK = 32
"""Ids that prefixes are compared by."""
_REMEMBERED = 1 << 16
"""Blocks that are remembered of a replica: some two million ids."""
_SLACK = 4
"""A replica may have this many more requests, and half as many again, as the least busy one, to keep a prefix."""
_AHEAD = 64
"""Jobs that are looked at for one that a replica with room has read the beginning of."""


@dataclass
class Job:
    """One request on its way.

    Attributes:
        prompt: its ids.
        number: in the order of asking.
        body: what the server is asked, without the model's name.
        done: is told the server's answer, or what went wrong as one line.
        blocks: digests of the prompt's beginnings.
    """

    prompt: tuple[int, ...]
    number: int
    body: dict[str, Any]
    done: Callable[[Any], None]
    blocks: tuple[int, ...] = field(default=())

    def __post_init__(self) -> None:
        self.blocks = beginnings(self.prompt)


def beginnings(ids: Sequence[int]) -> tuple[int, ...]:
    """A digest of each beginning of `ids` that is a whole number of blocks long."""
    digest, found = 0, []
    for end in range(_BLOCK, len(ids) + 1, _BLOCK):
        digest = hash((digest, *ids[end - _BLOCK : end]))
        found.append(digest)
    return tuple(found)


class Waiting:
    """Jobs that wait, handed out in rounds, each in the order of its prompts: neighbours together, nobody forgotten.

    What comes during a round is of the next one. Otherwise an episode's turns, each of which stands just behind the one
    before, could go ahead of all others for ever.
    """

    def __init__(self) -> None:
        self._round: deque[Job] = deque()
        self._next: list[Job] = []

    def __len__(self) -> int:
        return len(self._round) + len(self._next)

    def add(self, job: Job) -> None:
        """A further job."""
        self._next.append(job)

    def take(self, fits: Callable[[Job], bool] = lambda _: True) -> Job:
        """The first of the round's next jobs that `fits`, or else the very next one. There must be one."""
        if not self._round:
            self._next.sort(key=lambda job: (job.prompt, job.number))
            self._round.extend(self._next)
            self._next.clear()
        for place, job in enumerate(itertools.islice(self._round, _AHEAD)):
            if fits(job):
                del self._round[place]
                return job
        return self._round.popleft()

    def clear(self) -> list[Job]:
        """All of them, at once."""
        jobs = [*self._round, *self._next]
        self._round.clear()
        self._next.clear()
        return jobs


class Known:
    """What a replica has read, as far as it is likely to keep it."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def longest(self, blocks: Sequence[int]) -> int:
        """How many blocks of a prompt's beginning it has read."""
        return next((n for n, block in enumerate(blocks) if block not in self._blocks), len(blocks))

    def add(self, blocks: Sequence[int]) -> None:
        """It reads a prompt. The end goes first out of mind: a beginning without it is still of use."""
        for block in reversed(blocks):
            self._blocks[block] = None
            self._blocks.move_to_end(block)
        while len(self._blocks) > _REMEMBERED:
            self._blocks.popitem(last=False)

    def forget(self) -> None:
        """It was started again, or has new weights."""
        self._blocks.clear()


def choose(job: Job, servers: Sequence[Server], known: Sequence[Known], limit: int) -> int:
    """The replica that has read most of a job, unless others have far less to do. There must be one with room."""
    free = [place for place, server in enumerate(servers) if server.ready and server.in_flight < limit]
    least = min(servers[place].in_flight for place in free)
    fair = [place for place in free if servers[place].in_flight <= 1.5 * least + _SLACK]
    return min(fair, key=lambda place: (-known[place].longest(job.blocks), servers[place].in_flight, place))


def at_home(job: Job, servers: Sequence[Server], known: Sequence[Known], limit: int) -> bool:
    """Has a replica with room read as much of a job as any that is busy but well."""
    if len(servers) == 1:
        return True
    room, busy = -1, -1
    for server, read in zip(servers, known, strict=True):
        if server.ready and server.in_flight < limit:
            room = max(room, read.longest(job.blocks))
        elif server.ready:
            busy = max(busy, read.longest(job.blocks))
    return room >= busy
