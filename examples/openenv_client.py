"""OpenEnv's own client plays an environment that Palaestra serves.

    palaestra serve crafting &
    pip install openenv          # into an environment of its own: it asks for an older `mcp` than Palaestra's tools
    python examples/openenv_client.py http://127.0.0.1:8000

Where the server has a token, it is taken from PALAESTRA_TOKEN.
"""

from __future__ import annotations

import os
import sys

from openenv.core import GenericEnvClient


def main(url: str) -> None:
    """Play one episode: always the first of the listed actions."""
    token = os.environ.get("PALAESTRA_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else None
    with GenericEnvClient(base_url=url, headers=headers).sync() as env:
        result = env.reset(seed=7, actions=True)
        print(result.observation["instructions"])
        while not result.done:
            print(result.observation["text"])
            actions = result.observation["actions"]
            result = env.step({"message": actions[0] if actions else "look"})
        seen = result.observation
        print(f"{seen['text']}\nscore {seen['score']}, after {env.state()['step_count']} steps")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
