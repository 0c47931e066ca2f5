"""The other side of bench/serving.py: OpenEnv's server around one of our environments, and OpenEnv's client.

PYTHONPATH=.venv/openenv python bench/serving_openenv.py server ENV PORT
PYTHONPATH=.venv/openenv python bench/serving_openenv.py client URL EPISODES.json CLIENTS
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import uvicorn
from openenv.core import GenericEnvClient
from openenv.core.env_server.http_server import create_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

import palaestra
from palaestra.envs import Task


class TextAction(Action):
    """What the agent says."""

    message: str


class TextObservation(Observation):
    """What the agent sees."""

    text: str = ""
    score: float = 0.0
    success: bool = False
    valid: bool = True


def environment(name: str) -> type[Environment[Any, Any, Any]]:
    """One of our environments as one of OpenEnv's."""

    class Wrapped(Environment[Any, Any, Any]):
        SUPPORTS_CONCURRENT_SESSIONS = True

        def __init__(self) -> None:
            super().__init__()
            self.env = palaestra.make(name)

        def reset(
            self, seed: int | None = None, episode_id: str | None = None, task: str = "", split: str = "", **_: Any
        ) -> TextObservation:
            wanted = Task(env=palaestra.find(name).id, name=task, split=split)
            text, info = self.env.reset(options={"task": wanted})
            return TextObservation(text=text, score=info["score"], success=info["success"], valid=info["valid"])

        def step(self, action: TextAction, timeout_s: float | None = None, **_: Any) -> TextObservation:
            text, reward, over, truncated, info = self.env.step(action.message)
            return TextObservation(
                text=text,
                score=info["score"],
                success=info["success"],
                valid=info["valid"],
                reward=float(reward),
                done=over or truncated,
            )

        @property
        def state(self) -> State:
            return State(step_count=len(self.env.history))

        def close(self) -> None:
            self.env.close()

    return Wrapped


async def play(url: str, episodes: list[dict[str, Any]], ready: asyncio.Barrier) -> list[float]:
    """Play recorded episodes. Returns the seconds of each step and reset."""
    seconds = []
    async with GenericEnvClient(base_url=url) as env:
        await env.reset(task=episodes[0]["task"], split=episodes[0]["split"])
        await ready.wait()
        for episode in episodes:
            await env.reset(task=episode["task"], split=episode["split"])
            for action in episode["actions"]:
                began = time.perf_counter()
                await env.step({"message": action})
                seconds.append(time.perf_counter() - began)
    return seconds


async def clients(url: str, episodes: list[dict[str, Any]], count: int) -> None:
    """Several clients at once, all with the same episodes; prints what it took."""
    ready = asyncio.Barrier(count + 1)
    playing = [asyncio.ensure_future(play(url, episodes, ready)) for _ in range(count)]
    await ready.wait()
    began = time.perf_counter()
    seconds = [each for result in await asyncio.gather(*playing) for each in result]
    took = time.perf_counter() - began
    print(json.dumps({"steps_per_s": len(seconds) / took, "median_us": sorted(seconds)[len(seconds) // 2] * 1e6}))


if __name__ == "__main__":
    if sys.argv[1] == "server":
        app = create_app(environment(sys.argv[2]), TextAction, TextObservation, max_concurrent_envs=64)
        uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[3]), log_level="error")
    else:
        asyncio.run(clients(sys.argv[2], json.loads(Path(sys.argv[3]).read_text()), int(sys.argv[4])))
