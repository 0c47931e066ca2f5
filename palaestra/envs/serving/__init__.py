"""Serving: any environment behind HTTP (`palaestra serve`), and `RemoteEnv`, which plays what is served by its address.

The wire format is OpenEnv's, with a few messages more for what OpenEnv lacks (rewind above all), so that clients of
either kind play servers of either kind. `wire` says what is spoken, `server` and `session` serve, `client` plays.
"""

from __future__ import annotations

from palaestra.envs.registry import register


def register_all() -> None:
    """Register the environment that stands for whatever a server serves."""
    register(
        "palaestra/Remote-v0",
        "palaestra.envs.serving.client:RemoteEnv",
        splits={"train": ()},  # an instance asks its server
        extra="serve",
        requires=("websockets",),
        oracles={"served": "palaestra.envs.serving.client:served_oracle"},
        family="remote",
        summary="any environment that a server serves: -s url=http://HOST:PORT",
    )
