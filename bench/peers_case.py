"""What the children of bench/peers.py share: the environment, the arguments, the measuring.

Every child makes the same episodes against the same server: bandits that are cut after so many turns. It runs in an
environment of its own that holds one peer, and of Palaestra only what `palaestra.envs` needs.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import palaestra
from palaestra.envs import Task, TextEnv

ENV = "palaestra/Bandit-v0"
FORM = "Answer with one action and nothing else."


@dataclass(frozen=True)
class Case:
    """What is to be done.

    Attributes:
        url: of the server, without `/v1`; model: under which name it serves; tokenizer: a folder.
        episodes: that are measured; warm: made before, not measured.
        concurrency: episodes at once; turns: calls of each; tokens: ids of an answer at the most.
        way: which of several ways a child has to do it.
    """

    url: str
    model: str
    tokenizer: str
    episodes: int
    warm: int
    concurrency: int
    turns: int
    tokens: int
    way: str

    def make(self) -> TextEnv[Any]:
        """An instance of the environment."""
        return palaestra.make(ENV, max_steps=self.turns)

    def tasks(self, count: int, first: int = 0) -> Sequence[Task]:
        """So many tasks, from the first one on."""
        return list(palaestra.find(ENV).split("train"))[first : first + count]


def read_case() -> Case:
    """From the command line."""
    parser = argparse.ArgumentParser()
    for name, kind in Case.__annotations__.items():
        parser.add_argument(f"--{name}", type=int if kind == "int" else str, required=True)
    return Case(**vars(parser.parse_args()))


def first_line(text: str) -> str:
    """What is handed to the environment of an answer, as `Conversation` with style `action` reads it."""
    return text.strip().splitlines()[0].strip() if text.strip() else ""


class Meter:
    """Wall time, processor time of this process and its children, and the server's count of calls, from `start` on."""

    def __init__(self, case: Case) -> None:
        self.case = case

    def start(self) -> None:
        """Begin to count."""
        self._calls, self._steps = self._told()
        self._cpu = _cpu()
        self._wall = time.perf_counter()

    def stop(self, episodes: int, **more: object) -> None:
        """Print what was counted since, as the last line."""
        wall, cpu = time.perf_counter() - self._wall, _cpu() - self._cpu
        calls, steps = self._told()
        found = {
            "episodes": episodes,
            "wall": wall,
            "cpu": cpu,
            "calls": calls - self._calls,
            "engine_steps": None if steps is None or self._steps is None else steps - self._steps,
            "memory_mb": _peak(),
            **more,
        }
        print(json.dumps(found), flush=True)

    def _told(self) -> tuple[int, int | None]:
        """Calls that the server has answered, and steps that its engine has taken (None where it has none)."""
        with urllib.request.urlopen(f"{self.case.url}/metrics", timeout=30) as reply:
            lines = reply.read().decode().splitlines()
        found: dict[str, float] = {}
        for line in lines:
            if not line.startswith("#") and " " in line:
                name, _, value = line.rpartition(" ")
                key = name.partition("{")[0]
                found[key] = found.get(key, 0.0) + float(value)
        steps = found.get("vllm:iteration_tokens_total_count")
        return int(found["vllm:request_success_total"]), None if steps is None else int(steps)


def _peak() -> float:
    """The most memory that this process has held, in MiB. (`ru_maxrss` would begin with that of its parent.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
