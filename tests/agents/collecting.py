"""A process that collects, to be killed by the tests: `python collecting.py STORE` reads commands from its input.

Each line of input is a number of seconds, and forks a child that collects the whole plan with a policy whose every
call takes that long. The parent prints the child's process id and, when it has ended, its status. The parent has
imported everything, so a child begins in milliseconds. With `STORE SECONDS` it collects once, and minds Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

import palaestra
from palaestra.agents.collect import CollectReport, Interrupted, collect
from palaestra.agents.policies.random import RandomPolicy
from palaestra.agents.policy import Completion, Request
from palaestra.agents.store import EpisodeStore

EPISODES = 2000
"""Of ten steps each, eight at once: at 0.01 s a call more than the test's children make before they are killed."""


class SlowRandom(RandomPolicy):
    """The random policy, taking its time."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        time.sleep(self.seconds)
        return super().act(requests)


def plan(store: str, seconds: float, progress: str = "quiet") -> CollectReport:
    """Collect the plan."""
    with EpisodeStore(store) as opened:
        tasks = palaestra.find("bandit").split("train")[:EPISODES]
        return collect(
            tasks, SlowRandom(seconds), opened, env_settings={"max_steps": 10}, seed=3, progress=progress  # type: ignore[arg-type]
        )  # fmt: skip


def main() -> None:
    store = sys.argv[1]
    if len(sys.argv) > 2:
        try:
            print(plan(store, float(sys.argv[2]), progress="lines").episodes)
        except Interrupted as stopped:
            print(stopped, file=sys.stderr)
            raise SystemExit(130) from None
        return
    for command in sys.stdin:
        child = os.fork()
        if not child:
            plan(store, float(command))
            os._exit(0)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(status, flush=True)


if __name__ == "__main__":
    main()
