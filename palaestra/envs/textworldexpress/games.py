"""Which TextWorldExpress tasks there are: eight games, and for each the package's 1,000 seeds a split.

A task's name is its game and seed, such as `coin/20007`. The seed says the split, and with it what the game draws
from: some games have other objects and recipes in their test split than in training.
"""

from __future__ import annotations

import difflib

from palaestra.envs.errors import BadInput

GAMES = ("cookingworld", "coin", "twc", "mapreader", "arithmetic", "sorting", "simonsays", "peckingorder")

SPLITS = {"train": range(1_000), "dev": range(10_000, 11_000), "test": range(20_000, 21_000)}
"""Split -> seeds, as the package lists them for every game."""


def names(split: str) -> tuple[str, ...]:
    """The task names of a split, the games in turn: 8,000."""
    return tuple(f"{game}/{seed}" for seed in SPLITS[split] for game in GAMES)


def parse(name: str) -> tuple[str, int, str]:
    """Game, seed and the split that the seed is of.

    Raises:
        BadInput: unknown game, or a seed of no split.
    """
    game, _, number = name.partition("/")
    if game not in GAMES:
        near = difflib.get_close_matches(game, GAMES, n=2, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise BadInput(f"TextWorldExpress has no game {game!r}; {hint}it has: {', '.join(GAMES)}")
    if number.isascii() and number.isdigit() and str(int(number)) == number:
        for split, seeds in SPLITS.items():
            if int(number) in seeds:
                return game, int(number), split
    ranges = ", ".join(f"{seeds[0]} to {seeds[-1]} ({split})" for split, seeds in SPLITS.items())
    raise BadInput(f"TextWorldExpress task {name!r}: {game} has the seeds {ranges}")
