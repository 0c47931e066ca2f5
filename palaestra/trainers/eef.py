"""EEF: exploring expert failures (Lan et al., arXiv 2504.13145).

    pi_1 = SFT(pi_0, successful experts)
    for i = 1..I:
        one rollout of pi_i from s_0 of every task, and one from each of M evenly spaced states of every expert episode,
        failed ones too; w_k: did the rollout from state k win
        important states: s_0 of every task, and s_{k+1} where w_k = 1 and w_{k+1} = 0 (the expert's step harmed)
        the solution of an important state s_j: the rollout from s_j if it won, else the expert's actions up to the
        earliest later state that won, and the rollout from there; all before s_j is context
        pi_{i+1} = SFT(start, successful experts + solutions)

The paper's body was not at hand: this follows its figure 1, its loss and its reviews. Ours are: ties of a state go to
the shortest solution; with several experts of a task, s_0 takes the solution with the earliest winning state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator

from palaestra.agents.episode import Path, Start
from palaestra.agents.selection import Head
from palaestra.trainers.config import RecipeConfig
from palaestra.trainers.recipe import Recipe
from palaestra.trainers.sample import Sample
from palaestra.trainers.wins import Row, WinMatrix, row_of, share, winning


class EEFConfig(RecipeConfig):
    """What is EEF's own.

    Attributes:
        states: M, the states of an expert episode that are tried besides s_0.
        win: with several rollouts a state (`samples`): one win is enough, or half of them must win.
        selection: the paper's rule, or the control that its reviewers missed: any winning way on, drawn by the seed.
        targets: which solutions are learnt: of initial states (D_s0), of recovery states (D_r), or both.
        data: learn from the solutions of all iterations so far, or of the latest one only.
        start: fit from pi_0 each time, or from the weights of the iteration before.
    """

    states: int = Field(default=5, ge=1)
    win: Literal["any", "half"] = "any"
    selection: Literal["earliest", "random"] = "earliest"
    targets: tuple[Literal["initial", "recovery"], ...] = Field(default=("initial", "recovery"), min_length=1)
    data: Literal["cumulative", "latest"] = "cumulative"
    start: Literal["base", "previous"] = "base"

    @model_validator(mode="after")
    def _needs_experts(self) -> EEFConfig:
        if self.experts is None:
            raise ValueError("EEF explores expert episodes: give 'experts', failed ones among them")
        return self


@dataclass(frozen=True)
class _Way:
    """A winning way on from an important state: the expert's actions up to state k, then the rollout from there."""

    k: int
    turns: int
    rollout: str


class EEF(Recipe[EEFConfig]):
    """Exploring expert failures."""

    name = "eef"
    config_type = EEFConfig
    inside = True

    def beginnings(self) -> Sequence[Start]:
        """Task by task: s_0, then the states of its experts."""
        starts: list[Start] = []
        experts = self._experts()
        for task in self.tasks:
            states = [state for expert in experts.get(task.id, ()) for state in self._states(expert)]
            starts += dict.fromkeys([Start(task=task), *states])  # one that two experts share is tried once
        return starts

    def base(self, iteration: int) -> str:
        return self.config.model if self.config.start == "base" else self.model(iteration - 1)

    def mine(self, iteration: int) -> list[Sample]:
        samples = self.cloned()
        first = iteration if self.config.data == "latest" else 1
        for number in range(max(first, 1), iteration + 1):
            samples += self._explored(number)
        return samples

    def _explored(self, iteration: int) -> list[Sample]:
        """The solutions of one iteration's important states; leaves its win matrix in the run directory."""
        rollouts: dict[str, list[Head]] = {}
        for id in self.collected(iteration).episodes:
            head = self.store.head(id)
            rollouts.setdefault(f"{head.parent or head.task} {head.fork_step}", []).append(head)
        rows: list[Row] = []
        initial: list[Sample] = []
        recovery: list[Sample] = []
        experts = self._experts()
        for task in self.tasks:
            tried = rollouts.get(f"{task.id} 0", [])
            own = [head for head in tried if head.success] if winning(tried, self.config.win) else []
            ways = [_Way(0, head.n_turns, head.id) for head in own]
            harmed: dict[Start, list[_Way]] = {}
            for expert in experts.get(task.id, ()):
                states = self._states(expert)
                found = [rollouts.get(f"{s.parent or s.task.id} {s.fork_step}", []) for s in states]
                row = row_of(expert.episode, states, found, self.config.win)
                rows.append(row)
                ways += self._ways(row, found, 0)
                for k in row.harmful:
                    harmed.setdefault(states[k + 1], []).extend(self._ways(row, found, k + 1))
            for state, found_ways in harmed.items():
                recovery += self._solution("recovery", state.fork_step, found_ways)
            initial += self._solution("initial", 0, ways)
        shares = tuple(share(rows, k) for k in range(self.config.states + 1))
        matrix = WinMatrix(rows=tuple(rows), success_by_state=shares, initial=len(initial), recovery=len(recovery))
        self.run.save(f"iteration-{iteration}/wins.json", matrix)
        return [
            s
            for kind, found in (("initial", initial), ("recovery", recovery))
            if kind in self.config.targets
            for s in found
        ]

    def _experts(self) -> dict[str, list[Path]]:
        """The experts of each task, from the reset on: one in the file may be a fork of another."""
        found: dict[str, list[Path]] = {}
        for id in self.experts():
            path = self.store.path(id)
            found.setdefault(path.episode.start.task.id, []).append(path)
        return found

    def _states(self, expert: Path) -> list[Start]:
        return [Start(task=expert.episode.start.task), *expert.forks(self.config.states)]

    def _ways(self, row: Row, found: Sequence[Sequence[Head]], j: int) -> list[_Way]:
        """The winning ways on from state j: through the rollouts of state j and of the states after it."""
        return [
            _Way(k, head.fork_step + head.n_turns - row.steps[j], head.id)
            for k in range(j, len(found))
            if row.won[k]
            for head in found[k]
            if head.success
        ]

    def _solution(self, kind: str, step: int, ways: Sequence[_Way]) -> list[Sample]:
        """What an important state at `step` teaches: the way that is chosen, all before it being context."""
        if not ways:
            return []
        random = self.config.selection == "random"
        way = min(ways, key=(lambda way: self._drawn(way)) if random else lambda way: (way.k, way.turns, way.rollout))
        path = self.store.path(way.rollout)
        return self.samples_of(path, range(step, len(path.turns)), kind=kind)

    def _drawn(self, way: _Way) -> str:
        return hashlib.blake2b(f"{self.config.seed}|{way.rollout}".encode(), digest_size=8).hexdigest()
