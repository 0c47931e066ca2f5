"""The environment of the first hour (docs/first-hour.md): three parcels, three sacks, three moves.

Try it:  palaestra play mine/Parcels-v0 --load examples/parcels.py
"""

from dataclasses import dataclass

from palaestra import Reply, TextEnv, register

NORTH, SOUTH, WEST = (
    ("Oslo", "Turku", "Umea", "Bergen"),
    ("Naples", "Malaga", "Athens", "Faro"),
    ("Cork", "Brest", "Porto", "Galway"),
)
SACKS = {town: sack for sack, towns in (("north", NORTH), ("south", SOUTH), ("west", WEST)) for town in towns}


@dataclass
class State:
    """All that changes in an episode: the towns of the parcels that are left, the one in hand first."""

    towns: list[str]


class Parcels(TextEnv[State]):
    """Put each of three parcels into its sack: north, south or west. You have three moves."""

    def begin(self, task, rng):
        towns = [str(town) for town in rng.choice(sorted(SACKS), size=3, replace=False)]
        return State(towns), f"A parcel to {towns[0]}."

    def act(self, state, action):
        if action not in self.admissible(state):
            return Reply("Answer with north, south or west.", valid=False)
        if action != SACKS[state.towns[0]]:
            return Reply(f"Not to the {action}. A parcel to {state.towns[0]}.", score=1 - len(state.towns) / 3)
        del state.towns[0]
        if not state.towns:
            return Reply("All parcels are on their way.", score=1.0, success=True, over=True)
        return Reply(f"A parcel to {state.towns[0]}.", score=1 - len(state.towns) / 3)

    def admissible(self, state):
        return ["north", "south", "west"]


def knows(env):
    """The oracle: it looks the town up."""
    return SACKS[env.state.towns[0]]


register(
    "mine/Parcels-v0",
    Parcels,
    splits={"train": [f"round/{n}" for n in range(200)], "test": [f"round/{n}" for n in range(200, 300)]},
    max_steps=3,
    oracles={"knows": knows},
    summary="Three parcels, three sacks, three moves",
)
