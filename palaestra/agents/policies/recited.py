"""Says written answers again, turn by turn: how a spliced episode goes through its environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from palaestra.agents.episode import Actor
from palaestra.agents.policy import Completion, PolicyBase, Request
from palaestra.agents.runner import turn_seed


class RecitedPolicy(PolicyBase):
    """Recites completions word for word, each in the planned episode it belongs to.

    A request's seed is a function of the run's seed, the episode's key and the step: that is how this policy, which is
    shown nothing else, knows which line is due.

    Args:
        name, version, actor: for the key and the provenance.
    """

    def __init__(self, *, name: str, version: str = "0", actor: Actor = Actor.SPLICED) -> None:
        super().__init__(name=name, version=version, actor=actor)
        self._lines: dict[int, Completion] = {}

    def learn(self, key: str, first: int, lines: Sequence[Completion], seed: int) -> None:
        """Take in the lines of one planned episode.

        Args:
            key: of the episode (`planned_keys`); `first`: the step of its first own turn.
            lines: its answers, half ones marked as such; seed: that `collect` will be given.
        """
        self._lines |= {turn_seed(seed, key, first + place): line for place, line in enumerate(lines)}

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        """The line that is due; an error for an episode that goes on after its last line."""
        lines: Mapping[int, Completion] = self._lines
        return [
            lines[request.seed]
            if request.seed in lines
            else Completion("", error=f"{self.name} has no line for this turn")
            for request in requests
        ]
