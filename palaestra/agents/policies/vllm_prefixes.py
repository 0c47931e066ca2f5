"""Which request goes next, and to which replica, so that what a replica has read already is not read again.

vLLM keeps what it read of a prompt (its prefix cache), and of several prompts that it is handed together it reads what
they share once. Both help only where prompts with the same beginning come to the same replica, close to one another.
Turns of one episode, its forks, and samples of the same task are all such prompts, and a prompt's ids say so by
themselves: nobody needs to tell which episode a request belongs to.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import OrderedDict
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

    @property
    def key(self) -> tuple[tuple[int, ...], int]:
        """By which jobs are ordered: those that begin alike stand side by side."""
        return self.prompt, self.number


def beginnings(ids: Sequence[int]) -> tuple[int, ...]:
    """A digest of each beginning of `ids` that is a whole number of blocks long."""
    digest, found = 0, []
    for end in range(_BLOCK, len(ids) + 1, _BLOCK):
        digest = hash((digest, *ids[end - _BLOCK : end]))
        found.append(digest)
    return tuple(found)


class Waiting:
    """Jobs that wait, handed out in the order of their prompts, round and round: neighbours together, nobody forgotten.

    A job that comes while the round is at another place waits for one round at the most.
    """

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._last: tuple[tuple[int, ...], int] = ((), -1)

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job) -> None:
        """A further job."""
        insort(self._jobs, job, key=_key)

    def take(self) -> Job:
        """The next job. There must be one."""
        place = bisect_right(self._jobs, self._last, key=_key)
        job = self._jobs.pop(place if place < len(self._jobs) else 0)
        self._last = job.key
        return job

    def clear(self) -> list[Job]:
        """All of them, at once."""
        jobs, self._jobs = self._jobs, []
        return jobs


def _key(job: Job) -> tuple[tuple[int, ...], int]:
    return job.key


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
