"""The planner: from wherever an episode stands, the fewest commands to the target."""

from __future__ import annotations

from palaestra.envs.core import TextEnv
from palaestra.envs.crafting.env import State


def planner(env: TextEnv[State]) -> str:
    """The next command of a shortest plan: of what is missing, the first whose own needs are met.

    Raises:
        gymnasium.error.ResetNeeded: there is no episode.
    """
    state = env.state
    missing = state.world.missing(state.have)
    name = next(reversed(missing))  # the shallowest: nothing that is missing lies below it
    recipe = state.world.recipes.get(name)
    return recipe.command(missing[name]) if recipe else f"get {missing[name]} {name}"
