"""What plays ALFWorld's games behind the environment: our own engine, or the original one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from palaestra.envs.alfworld.game import Answer, Game, GameFile, World, compiled
from palaestra.envs.errors import BadInput, EnvFault

__all__ = ["ENGINES", "Answer", "Engine", "NativeEngine", "engine"]

ENGINES = ("native", "textworld")
"""Our own engine; and the original one, which needs the extra `alfworld` and a compiler."""


class Engine(Protocol):
    """Plays one game at a time.

    Attributes:
        exact: is all state in the `World` that it returns. Otherwise it returns None and keeps the state to itself.
    """

    @property
    def exact(self) -> bool: ...

    @property
    def alive(self) -> bool:
        """Can the running game go on."""
        ...

    def begin(self, file: GameFile) -> Answer:
        """Start a game. Raises BadInput for one that cannot be read, EnvFault when the engine broke."""
        ...

    def act(self, file: GameFile, world: World | None, command: str) -> Answer:
        """Take a command. Raises EnvFault when the engine broke; never for a bad command."""
        ...

    def admissible(self, file: GameFile, world: World | None) -> Sequence[str]:
        """The admissible commands, sorted."""
        ...

    def kill(self) -> None:
        """From any thread: end what a call may hang on. The next `begin` starts anew."""
        ...

    def close(self) -> None:
        """Give everything back. May be called twice."""
        ...


class NativeEngine:
    """Our own engine. The state is in the worlds; it holds only the game that was asked for last."""

    exact: ClassVar[bool] = True
    alive: ClassVar[bool] = True

    def __init__(self) -> None:
        self._game: Game | None = None

    def begin(self, file: GameFile) -> Answer:
        """Start a game. Raises BadInput for one that cannot be read."""
        game = self._of(file)
        return Answer(game.start, game.intro(), True, game.won(game.start))

    def act(self, file: GameFile, world: World | None, command: str) -> Answer:
        """Take a command. Raises EnvFault where the game's grammar turns out to be broken."""
        game = self._of(file)
        try:
            return Answer(*game.step(world or game.start, command))
        except BadInput as error:  # found on the way: no agent can be blamed for it
            raise EnvFault(f"{file.where}/game.tw-pddl: {error}") from error

    def admissible(self, file: GameFile, world: World | None) -> Sequence[str]:
        """The admissible commands, sorted."""
        game = self._of(file)
        return game.admissible(world or game.start)

    def kill(self) -> None:
        """Nothing to kill: it never hangs."""

    def close(self) -> None:
        """Let the game go."""
        self._game = None

    def _of(self, file: GameFile) -> Game:
        game = self._game
        if game is None or game.file.digest != file.digest:
            game = self._game = compiled(file)
        return game


def engine(name: str) -> Engine:
    """An engine by name. Raises BadInput for an unknown one, MissingExtra where the original is not installed."""
    if name == "native":
        return NativeEngine()
    if name == "textworld":
        from palaestra.envs.alfworld.textworld import TextWorldEngine

        return TextWorldEngine()
    raise BadInput(f"ALFWorld has no engine {name!r}; it has: {', '.join(ENGINES)}")
