"""Palaestra plays an environment that OpenEnv serves, and goes back to an earlier step of it.

pip install openenv          # into an environment of its own
openenv init echo && cd echo && python -m uvicorn server.app:app --port 8001 &
python examples/openenv_server.py http://127.0.0.1:8001
"""

from __future__ import annotations

import sys

import palaestra


def main(url: str) -> None:
    """Play, rewind, and play on otherwise."""
    env = palaestra.make("remote", url=url, max_steps=10)
    task = env.tasks("test")[0]  # a seed
    print(env.instructions(task))
    observation, _ = env.reset(options={"task": task})
    print(observation)
    print(env.step("hello")[:2])
    here = env.snapshot()  # OpenEnv cannot copy a state: rewinding plays the actions again and compares
    print(env.step("one way")[:2])
    print("back at:", env.restore(here)[0])
    print(env.step("another way")[:2])
    env.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8001")
