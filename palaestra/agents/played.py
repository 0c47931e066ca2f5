"""A person's way through an environment: actions, going back to any step, and what is stored of it.

played = Played(env, task)
played.act("open door")
played.back(0)                     # the door is closed again
played.save(store)                 # an episode; after going back and on, the next one is a fork of it
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import palaestra
from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import (
    Actor,
    Cost,
    Episode,
    Outcome,
    Provenance,
    Start,
    Turn,
    acting,
    episode_id,
    imagined_labels,
)
from palaestra.agents.episode import episode_key as key_of
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, Snapshot, Task, TextEnv


@dataclass(frozen=True)
class Moment:
    """Where a person stands after so many actions: what is seen, and what the last action gave."""

    snapshot: Snapshot
    observation: str
    score: float = 0.0
    reward: float = 0.0
    success: bool = False
    valid: bool = True
    over: bool = False
    truncated: bool = False
    kept: bytes | None = None  # see `TextEnv.keep`
    listed: tuple[str, ...] | None = None  # see `Seen`


class Played:
    """An episode that a person plays.

    Args:
        env: the instance; it is reset to the task.
        task: what to do.
        conversation: in which style the actions are stored as completions.

    Attributes:
        moments: one more than actions were taken: where one stood at each step.
        actions: taken so far, undone ones not among them.
    """

    def __init__(self, env: TextEnv[Any], task: Task, conversation: Conversation | None = None) -> None:
        self.env, self.task, self.conversation = env, task, conversation or Conversation()
        self.actions: list[str] = []
        self._saved: list[tuple[str, tuple[str, ...]]] = []
        observation, info = env.reset(options={"task": task})
        self._info = info
        self.moments = [Moment(env.snapshot(), observation, score=info["score"], success=info["success"])]

    @property
    def now(self) -> Moment:
        """Where one stands."""
        return self.moments[-1]

    @property
    def step(self) -> int:
        """Number of actions taken."""
        return len(self.actions)

    @property
    def over(self) -> bool:
        """Has the episode ended, so that one can only go back."""
        return self.now.over or self.now.truncated

    def admissible(self) -> list[str] | None:
        """The admissible actions here; None where the environment does not list them."""
        listed = self._info["actions"]
        return None if listed is None else list(listed)

    def act(self, action: str) -> Moment:
        """Take an action.

        Raises:
            EnvFault, or whatever the environment raised: it broke; one stands where one stood before, unless it cannot
                go back either.
        """
        try:
            observation, reward, over, truncated, self._info = self.env.step(action)
        except Exception:  # whatever it is: half of the action may have been done
            with contextlib.suppress(Exception):
                self.back(self.step)
            raise
        info = self._info
        self.actions.append(action)
        moment = Moment(
            self.env.snapshot(),
            observation,
            score=info["score"],
            reward=float(reward),
            success=info["success"],
            valid=info["valid"],
            over=over,
            truncated=truncated,
            kept=self._kept(),
            listed=self._imagined_listing(over or truncated),
        )
        self.moments.append(moment)
        return moment

    def back(self, step: int) -> Moment:
        """Go back to where one stood after so many actions.

        Raises:
            BadInput: there is no such step. EnvFault: the environment cannot go back.
        """
        if not 0 <= step <= self.step:
            raise BadInput(f"there is no step {step}; there are 0 to {self.step}")
        _, self._info = self.env.restore(self.moments[step].snapshot)
        del self.moments[step + 1 :], self.actions[step:]
        return self.now

    def save(self, store: EpisodeStore) -> Episode | None:
        """Store the way from the start to here: as a fork of what was stored before, where it begins alike.

        An episode that one leaves before its end is `truncated`, with the label `truncated_by`: `person`.

        Returns:
            The episode; None where there is nothing new to store.
        """
        taken = tuple(self.actions)
        shared = [(_alike(taken, actions), id) for id, actions in self._saved]
        alike, parent = max(shared, default=(0, ""))
        if alike == len(taken):
            return None
        start = Start(task=self.task, parent=parent, fork_step=alike) if alike else Start(task=self.task)
        provenance = Provenance(
            actor=acting(Actor.HUMAN, self.task),
            policy="human",
            recipe="play",
            conversation=self.conversation.model_dump(mode="json"),
            env_settings=dict(self.env.settings),
            env_fingerprint=self.env.fingerprint(),
            palaestra=palaestra.__version__,
            cost=Cost(env_steps=len(taken) - start.fork_step),
        )
        left: dict[str, object] = {} if self.over else {"truncated_by": "person"}
        listed = [moment.listed for moment in self.moments[start.fork_step + 1 :]]
        sample = 0
        while store.has(key_of(start, provenance, sample)):
            sample += 1
        episode = Episode(
            id=episode_id(key_of(start, provenance, sample)),
            start=start,
            sample=sample,
            turns=tuple(self._turn(step) for step in range(start.fork_step, len(taken))),
            final_observation=self.now.observation,
            outcome=self._outcome(),
            score=self.now.score,
            provenance=provenance,
            labels={**left, **imagined_labels(Actor.HUMAN, self.task, bool(self._info.get("judged")), listed)},
        )
        kept = {number: moment.kept for number, moment in enumerate(self.moments) if moment.kept is not None}
        store.add(episode, {number: raw for number, raw in kept.items() if number > start.fork_step})
        self._saved.append((episode.id, taken))
        return episode

    def _imagined_listing(self, over: bool) -> tuple[str, ...] | None:
        listed = self.admissible() if self.env.real is not None and not over else None
        return None if listed is None else tuple(listed)

    def _kept(self) -> bytes | None:
        try:
            return self.env.keep()
        except BadInput:  # too much to keep: a fork replays, as in the collector
            return None

    def _outcome(self) -> Outcome:
        if self.now.success:
            return Outcome.SUCCESS
        return Outcome.FAILURE if self.now.over else Outcome.TRUNCATED

    def _turn(self, step: int) -> Turn:
        after = self.moments[step + 1]
        return Turn(
            observation=self.moments[step].observation,
            completion=self.conversation.write(self.actions[step]),
            action=self.actions[step],
            reward=after.reward,
            score=after.score,
            valid=after.valid,
        )


def _alike(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """How many actions two ways have in common from the start on."""
    count = 0
    while count < min(len(one), len(other)) and one[count] == other[count]:
        count += 1
    return count
