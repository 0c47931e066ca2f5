"""Plays the experts' recorded episodes of the release: every one must win, with every recorded text the same.

    python -m palaestra.envs.alfworld.proof            # all 3,554 (some two minutes)
    python -m palaestra.envs.alfworld.proof 50         # every 50th

The records (`gt_traj.json` beside each training game) are not part of ALFWorld's official release, so that
`palaestra data get alfworld` does not bring them. Without them there is nothing to play, which is said and no success.

The records leave out "You arrive at loc N.", as the protocols `eto` and `agentgym` do.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from palaestra.envs.alfworld.game import compiled
from palaestra.envs.alfworld.games import Release, names, release
from palaestra.envs.alfworld.protocols import protocol
from palaestra.envs.errors import BadInput


@dataclass(frozen=True)
class Replayed:
    """How a record went.

    Attributes:
        steps: commands taken.
        difference: the first difference, in words; None when it won and all texts were the same.
    """

    name: str
    steps: int
    difference: str | None


def replay(name: str, games: Release) -> Replayed | None:
    """Play a task's record; None where it has none. Raises BadInput: the game is not here or cannot be read."""
    record = games.expert(name)
    if record is None:
        return None
    cut = protocol("eto")
    game = compiled(games.file(name))
    if game.intro() != record.intro:
        return Replayed(name, 0, f"intro: recorded {record.intro!r}, got {game.intro()!r}")
    world, won = game.start, False
    for step, command in enumerate(record.commands):
        world, text, valid, won = game.step(world, command)
        if not valid:
            return Replayed(name, step, f"step {step}: {command!r} is not admissible")
        if step < len(record.observations) and cut.observation(text) != record.observations[step]:
            recorded = record.observations[step]
            return Replayed(name, step, f"step {step}, {command!r}: recorded {recorded!r}, got {text!r}")
    return Replayed(name, len(record.commands), None if won else "it did not win")


def replays(chosen: Iterable[str]) -> Iterator[Replayed]:
    """The records of some tasks, played."""
    games = release()
    for name in chosen:
        result = replay(name, games)
        if result is not None:
            yield result


def main(arguments: list[str]) -> int:
    """The command line: 0 when all is the same, 1 when something differs, 2 for bad input."""
    began = time.monotonic()
    played = steps = different = 0
    try:
        every = int(arguments[0]) if arguments else 1
        for result in replays(names("train")[:: max(1, every)]):
            played, steps = played + 1, steps + result.steps
            if result.difference is not None:
                different += 1
                print(f"{result.name}: {result.difference}")
    except (BadInput, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    if not played:
        print(
            "the games here have no recorded episodes (gt_traj.json): these are not in ALFWorld's official release, "
            "which `palaestra data get alfworld` fetches; add them to the data folder's training games",
            file=sys.stderr,
        )
        return 2
    seconds = time.monotonic() - began
    print(
        f"{played} recorded episodes, {steps} steps in {seconds:.0f} s: {played - different} won with every text equal"
    )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
