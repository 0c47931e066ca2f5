"""Plays games on our engine and on the original, side by side, and compares all that they say.

    python -m palaestra.envs.alfworld.differential --split valid_seen --games 140 --out seen.jsonl

Each game is played twice: along the expert's path to the win and a little beyond it, and along a perturbed path of
random admissible commands, expert's commands and commands that are none. After every step the text, the admissible
commands, whether the command was understood, the score and whether the game is won are compared, letter by letter.

With `--out` each game's result is written as soon as it is there, and a run that was stopped goes on where it was. The
original takes some 50 to 100 ms a step and 2 s to load a game. Needs the extra `alfworld`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from palaestra.envs.alfworld.files import GameFile
from palaestra.envs.alfworld.game import Game, World, compiled
from palaestra.envs.alfworld.oracle import View, advise
from palaestra.envs.alfworld.textworld import LICENCES, TextWorldEngine
from palaestra.envs.errors import BadInput, EnvFault, MissingExtra

BEYOND = 3
"""Steps after the win: the original plays on."""

PERTURBED = 25
"""Steps of a perturbed path."""

MOST_STEPS = 100
"""Of an expert's path."""

MADE_UP = (
    "", " ", "look around", "go to", "go to nowhere 1", "take everything", "LOOK", "help", "go to cabinet", "put",
    "take apple 99 from fridge 99", "open door 1", "examine", "use", "xyzzy", "go to loc 1", "look;", "inventory 1",
    "gehe zum Tisch", "\u2603", "look\nlook", "go  to desk 1", "a" * 500, "slice bread 1 with knife 1",
)  # fmt: skip
"""Commands that are none."""


PATHS = ("expert", "perturbed")


@dataclass
class Comparison:
    """One path through one game, played on both engines.

    Attributes:
        game, path: which game, and which of PATHS.
        steps, refused: commands taken, and those of them that were refused.
        won: was the game won on the way.
        difference: the first difference, in words; None if there is none. The path ends there.
        native_s, original_s: seconds that each engine took for its steps, listings included.
        native_reset_s, original_reset_s: seconds from the game's texts to the first observation and listing; the
            second path of a game has it loaded already.
    """

    game: str
    path: str
    steps: int = 0
    refused: int = 0
    won: bool = False
    difference: str | None = None
    native_s: float = 0.0
    original_s: float = 0.0
    native_reset_s: float = 0.0
    original_reset_s: float = 0.0


def compare(name: str, file: GameFile, path: str, original: TextWorldEngine, seed: int = 0) -> Comparison:
    """Play one path on both engines, up to the first difference.

    Raises:
        MissingExtra: the original is not installed. BadInput: one of them refuses the game. EnvFault: one broke.
    """
    result, draw = Comparison(name, path), random.Random(f"{seed}:{name}:{path}")
    began = time.perf_counter()
    game = compiled(file)
    world, text = game.start, game.intro()
    listed = game.admissible(world)
    middle = time.perf_counter()
    original.begin(file)
    result.native_reset_s, result.original_reset_s = middle - began, time.perf_counter() - middle
    result.difference = _difference(original, text, listed, game.won(world), True, 0)
    beyond = 0
    while result.difference is None:
        if path == "expert" and not result.won:
            command = advise(View(game, world))
        elif path == "expert" and beyond < BEYOND:
            beyond, command = beyond + 1, _perturbed(game, world, draw)
        elif path == "perturbed" and result.steps < PERTURBED:
            command = _perturbed(game, world, draw)
        else:
            break
        if result.steps >= MOST_STEPS:
            result.difference = f"the expert did not win in {MOST_STEPS} steps"
            break
        before = time.perf_counter()
        move = game.step(world, command)
        listed = game.admissible(move.world)
        middle = time.perf_counter()
        original.act(file, None, command)
        result.native_s, result.original_s = (
            result.native_s + middle - before,
            result.original_s + time.perf_counter() - middle,
        )
        world, result.won = move.world, result.won or move.won
        result.steps, result.refused = result.steps + 1, result.refused + (not move.valid)
        found = _difference(original, move.text, listed, move.won, move.valid, result.steps)
        result.difference = found and f"step {result.steps} {command[:80]!r}: {found}"
    return result


def _perturbed(game: Game, world: World, draw: random.Random) -> str:
    """Mostly an admissible command, often the expert's, sometimes one that is none, sometimes with blanks around it."""
    listed, chance = game.admissible(world), draw.random()
    if chance < 0.35:
        return advise(View(game, world))
    if chance < 0.75:
        command = draw.choice(listed)
        return draw.choice((command, command, command, f"  {command} ", f"{command}\n"))
    if chance < 0.85:
        return draw.choice(MADE_UP)
    words = draw.choice(listed).split(" ")
    words[draw.randrange(len(words))] = draw.choice(draw.choice(listed).split(" "))
    return draw.choice((" ".join(words), " ".join(words).upper(), " ".join(words[:-1])))


def _difference(
    original: TextWorldEngine, text: str, listed: Sequence[str], won: bool, valid: bool, step: int
) -> str | None:
    """What the original says otherwise, in words. Its score and done are unset before the first step."""
    said = original.said
    assert said is not None
    score, done = (None, None) if step == 0 else (int(won), won)
    missing = sorted(set(said.admissible) - set(listed))
    more = sorted(set(listed) - set(said.admissible))
    parts = [
        f"{what}: ours {ours!r}, the original's {its!r}"
        for what, ours, its in (
            ("text", text, said.text),
            ("won", won, said.won),
            ("valid", valid, said.valid),
            ("score", score, said.score),
            ("done", done, said.done),
        )
        if ours != its
    ]
    if tuple(listed) != said.admissible:
        parts.append(f"admissible: ours lacks {missing[:5]}, has besides {more[:5]}")
    return "; ".join(parts) or None


# -- many games --------------------------------------------------------------------------------------------------------


def run(games: Iterable[tuple[str, GameFile]], out: Path | None = None, seed: int = 0) -> Iterator[Comparison]:
    """Compare both paths of each game; what `out` already holds is not played again. Errors as `compare`."""
    known = {(each.game, each.path): each for each in read(out)} if out is not None and out.exists() else {}
    original = TextWorldEngine()
    try:
        for name, file in games:
            for path in PATHS:
                result = known.get((name, path))
                if result is None:
                    try:
                        result = compare(name, file, path, original, seed)
                    except (EnvFault, BadInput) as error:
                        if isinstance(error, MissingExtra):
                            raise
                        result = Comparison(name, path, difference=f"{type(error).__name__}: {error}")
                    if out is not None:
                        with out.open("a") as lines:
                            lines.write(json.dumps(asdict(result)) + "\n")
                yield result
    finally:
        original.close()


def read(out: Path) -> list[Comparison]:
    """The results in a file; a last line that was cut off is left out."""
    lines = [line for line in out.read_text().splitlines(keepends=True) if line.endswith("}\n")]
    return [Comparison(**json.loads(line)) for line in lines]


def stratified(names: Sequence[str], count: int) -> list[str]:
    """Some of the tasks `TYPE/NUMBER`: the types in turn, and within a type spread evenly over its numbers."""
    if count >= len(names):
        return list(names)
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.partition("/")[0], []).append(name)
    shares = dict.fromkeys(groups, 0)
    for kind in itertools.cycle(groups):
        if sum(shares.values()) >= min(count, len(names)):
            break
        shares[kind] = min(shares[kind] + 1, len(groups[kind]))
    spread = [
        [group[place * len(group) // shares[kind]] for place in range(shares[kind])] for kind, group in groups.items()
    ]
    return [name for turn in itertools.zip_longest(*spread) for name in turn if name is not None]


def summary(results: Sequence[Comparison]) -> str:
    """The outcome of a run in some lines."""
    steps = sum(each.steps for each in results)
    games = {each.game for each in results}
    first = [each for each in results if each.path == PATHS[0]]
    differing = [each for each in results if each.difference is not None]
    native, original = sum(each.native_s for each in results), sum(each.original_s for each in results)
    lines = [
        f"{len(games)} games, {len(results)} paths, {steps} steps ({sum(each.refused for each in results)} refused), "
        f"{sum(each.won for each in first)} of {len(first)} expert's paths won",
        f"steps: ours {1000 * native / max(1, steps):.2f} ms, the original {1000 * original / max(1, steps):.1f} ms "
        f"({original / max(native, 1e-9):.0f} times as long), the listing of all commands included",
        f"first resets: ours {1000 * _mean([each.native_reset_s for each in first]):.1f} ms, "
        f"the original {1000 * _mean([each.original_reset_s for each in first]):.0f} ms",
        f"differences: {len(differing)}",
    ]
    return "\n".join([*lines, *(f"  {each.game} {each.path}: {each.difference}" for each in differing)])


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / max(1, len(numbers))


def games_of(split: str, count: int) -> Iterator[tuple[str, GameFile]]:
    """Some games of a split of the release, or of the made-up ones for `generated`. Raises BadInput."""
    if split == "generated":
        from palaestra.envs.alfworld.generate import SPLITS, generated

        yield from ((name, generated(name)) for name in stratified(SPLITS["test"], count))
        return
    from palaestra.envs.alfworld.games import names, release

    chosen = stratified(names(split), count)
    games = release()
    yield from ((name, games.file(name)) for name in chosen)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; the exit status is 1 if anything differs and 2 for what cannot be played at all."""
    parser = argparse.ArgumentParser(prog="python -m palaestra.envs.alfworld.differential", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--split", default="valid_seen", help="train, valid_seen, valid_unseen or generated")
    parser.add_argument("--games", type=int, default=12, help="how many, spread over the six task types")
    parser.add_argument("--seed", type=int, default=0, help="of the perturbed paths")
    parser.add_argument("--out", type=Path, help="results, one JSON line a path; a run goes on with what is there")
    given = parser.parse_args(arguments)
    print(LICENCES, file=sys.stderr)
    try:
        results: list[Comparison] = []
        for result in run(games_of(given.split, given.games), given.out, given.seed):
            results.append(result)
            if result.difference is not None:
                print(f"{result.game} {result.path}: {result.difference}", file=sys.stderr, flush=True)
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    print(summary(results))
    return int(any(each.difference is not None for each in results))


if __name__ == "__main__":
    raise SystemExit(main())
