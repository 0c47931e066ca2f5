"""Acts at random: the floor of every comparison, and a cheap way to fill a store."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from palaestra.agents.policy import Completion, PolicyBase, Request
from palaestra.envs import BadInput


class RandomPolicy(PolicyBase):
    """Takes an admissible action, each with the same probability. The choice follows from `Request.seed`.

    Args:
        words: choose among these instead of the admissible actions, for environments that do not list theirs.

    Raises:
        BadInput: `words` is empty. When acting: neither words nor admissible actions are there.
    """

    def __init__(self, words: Sequence[str] | None = None) -> None:
        if words is not None and (isinstance(words, str) or not words):
            raise BadInput("RandomPolicy(words=...) needs a list of at least one action")
        super().__init__(name="random", wants_actions=words is None)
        self.words = tuple(words) if words is not None else None

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        return [Completion(action, action=action) for action in map(self._choose, requests)]

    def _choose(self, request: Request) -> str:
        among = self.words if self.words is not None else request.actions
        if not among:
            raise BadInput("the random policy needs admissible actions or words=[...]; this environment lists none")
        return str(among[Random(request.seed).randrange(len(among))])
