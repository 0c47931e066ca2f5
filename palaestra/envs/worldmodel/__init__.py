"""Registration of the environment that a world model imagines; its code is `palaestra.worldmodel`, above the gym."""

from __future__ import annotations

from palaestra.envs.crafting.worlds import SPLITS
from palaestra.envs.registry import register


def register_all() -> None:
    """Register `palaestra/WorldModel-v0`: without settings, the crafting world behind a world model's interface."""
    register(
        "palaestra/WorldModel-v0",
        "palaestra.worldmodel.env:WorldModelEnv",
        splits=SPLITS,
        imagined=True,
        summary="what a world model imagines of another environment (-s env=... -s model=FOLDER): for practice, never "
        "for evaluation",
    )
