"""Crafting: raw materials, stations, goods and a target, as a graph of recipes drawn anew for every world.

The fastest environment here: exact snapshots, tens of thousands of steps a second, as many worlds as there are
numbers, graded by depth, and a planner that wins in the fewest commands. The task is that of TextCraft (ADaPT, Prasad
et al., arXiv 2311.05772); recipes, words and code are our own. `words.py` has the vocabularies, `worlds.py` draws the
worlds, `env.py` plays them, `oracle.py` plans.
"""

from __future__ import annotations

from palaestra.envs.crafting.worlds import SPLITS
from palaestra.envs.registry import register


def register_all() -> None:
    """Register `palaestra/Crafting-v0`."""
    register(
        "palaestra/Crafting-v0",
        "palaestra.envs.crafting.env:Crafting",
        splits=SPLITS,
        max_steps=40,  # twice the longest plan of depth 6
        oracles={"planner": "palaestra.envs.crafting.oracle:planner"},
        summary="recipes drawn for each world, targets of depth 1 to 6; test has deeper targets and unseen words",
    )
