"""One episode on its way: what was seen, what is asked next, and what is stored of it in the end.

An `Attempt` knows nothing of threads and queues. The driver asks the environment for it and hands over what came back.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import (
    Cost,
    Episode,
    Outcome,
    Path,
    Provenance,
    Start,
    Turn,
    acting,
    episode_id,
    episode_key,
    imagined_labels,
)
from palaestra.agents.instance import Beginning, Kept, Listing, Seen
from palaestra.agents.message import Message
from palaestra.agents.policy import Completion, Policy, Request, Situation
from palaestra.agents.progress import Tally
from palaestra.agents.transcript import Transcript, resume
from palaestra.agents.workers import EnvWorker
from palaestra.envs import BadInput, Recorded, Task


@dataclass(frozen=True)
class Setup:
    """What all episodes of a collection share.

    Attributes:
        policy, conversation: who acts, and how episodes are shown to it.
        provenance: of every episode, without the environment's fingerprint and the cost.
        seed: of the run; the seed of every request follows from it.
        max_context: ids that fit into the model's context, completion included; None for no limit.
        labels: go to every episode.
        max_turns: own turns after which an episode is ended, to be gone on with later; None for no limit.
        tally: where all that is spent is counted.
        fingerprints: of the environments, by id, that the store's episodes of this plan were made with.
        keep: bytes that may be kept of an episode's steps, where its environment keeps any (`TextEnv.keep`); the reset
            and the end may take as many each, to be looked at.
    """

    policy: Policy
    conversation: Conversation
    provenance: Provenance
    seed: int = 0
    max_context: int | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)
    max_turns: int | None = None
    tally: Tally = field(default_factory=Tally)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    keep: int = 0


@dataclass(frozen=True)
class Item:
    """One planned episode.

    Attributes:
        start, sample, key: which one.
        parent: the path of the episode that is forked; None for a start at a task.
        kept: what the environment kept of the step that is forked, if it is still the same environment.
        recorded: what is stored of that step where it was imagined.
        attempt: 0, then 1, 2, ... after faults.
        version: of the policy's weights when it was planned; empty: those that the collection began with.
    """

    start: Start
    sample: int
    key: str
    parent: Path | None = None
    kept: Kept | None = None
    attempt: int = 0
    version: str = ""
    recorded: Recorded | None = None

    @property
    def before(self) -> tuple[Turn, ...]:
        """The turns before the episode's first own one."""
        return self.parent.turns[: self.start.fork_step] if self.parent is not None else ()


def turn_seed(seed: int, key: str, step: int) -> int:
    """Seed of one request: a function of the run's seed, the episode's key and the step, below 2**63."""
    raw = hashlib.blake2b(f"{seed}|{step}|{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(raw, "little") >> 1


class Attempt:
    """One try at a planned episode.

    Attributes:
        item: what is tried.
        worker: where its environment lives.
        stage: what is waited for: "env", "policy", or "inside" for a policy that acts beside the environment.
        unanswered: how often its request was lost with the engine that had it.
        kept: step, counted from the root's reset -> what the environment kept of it.
    """

    def __init__(self, item: Item, worker: EnvWorker, setup: Setup) -> None:
        self.item, self.worker, self.setup = item, worker, setup
        self.stage = "env"
        self.unanswered = 0
        self.request = Request(messages=())
        self.turns: list[Turn] = []
        self.kept: dict[int, bytes] = {}
        self._unfinished: list[int] = []
        self._listed: list[Sequence[str] | None] = []
        self._written_by: dict[str, str] = {}
        self._seen = Seen("", 0.0, False)
        self._first: Seen | None = None
        self._answer = Completion("")
        self._transcript: Transcript | None = None
        self._messages: list[Message] = []  # at the step before: most of a conversation is what it was there
        self._cost: dict[str, float] = dict.fromkeys(Cost.model_fields, 0)
        self._began = time.monotonic()

    @property
    def beginning(self) -> Beginning:
        """What its environment is asked first."""
        item, setup = self.item, self.setup
        wanted = setup.policy.wants_actions or setup.conversation.actions
        inside = setup.policy.looks_inside and not setup.conversation.actions
        forks = item.parent is not None
        return Beginning(
            item.start,
            tuple(turn.action for turn in item.before),
            tuple(item.parent.observations()[: item.start.fork_step + 1]) if item.parent is not None else (),
            item.kept,
            setup.provenance.env_settings if forks else {},
            setup.fingerprints.get(item.start.task.env),
            setup.keep,
            Listing.NOBODY if not wanted else Listing.INSIDE if inside else Listing.ALL,
            item.recorded,
        )

    def saw(self, seen: Seen) -> bool:
        """The environment has answered: write the turn, if this was the answer to an action.

        Returns:
            True if it was not, but the episode's beginning.
        """
        began = self._first is None
        if began:
            self._first = seen
            self._spend(replayed_steps=seen.replayed)
        else:
            self.turns.append(self._turn(seen))
            self._listed.append(seen.listed)
            self._spend(env_steps=1)
        if seen.kept is not None:
            self.kept[self.item.start.fork_step + len(self.turns)] = seen.kept
        self._seen = seen
        return began

    @property
    def standing(self) -> tuple[Task, tuple[str, ...]] | None:
        """Where its environment stands: the task and all actions from the reset; None where the episode is over."""
        if self._first is None or self.over:
            return None
        actions = [turn.action for turn in (*self.item.before, *self.turns)]
        return self.item.start.task, tuple(actions)

    @property
    def doing(self) -> str:
        """What the environment's thread is at, in words."""
        if self._first is None:
            return "the reset" if self.item.parent is None else "the replay to the fork"
        return f"{'choosing for ' if self.stage == 'inside' else ''}step {len(self.turns) + 1}"

    @property
    def over(self) -> bool:
        """Has the environment ended the episode."""
        return self._seen.terminated or self._seen.truncated

    @property
    def enough(self) -> bool:
        """Has the episode had all the turns that it was to have."""
        return self.setup.max_turns is not None and len(self.turns) >= self.setup.max_turns

    @property
    def _note(self) -> str:
        """What the method says to the agent at this turn: the start's note, at the first own one."""
        return "" if self.turns else self.item.start.note

    def ask(self) -> bool:
        """Prepare the request for the next turn. False when it would not fit into the model's context.

        Raises:
            BadInput: not even the first prompt of the task fits.
        """
        conversation, turns, seen = self.setup.conversation, [*self.item.before, *self.turns], self._seen
        assert self._first is not None
        note = self._note
        if self._messages and not conversation.actions and not conversation.shown(len(turns)):
            messages = [
                *self._messages,
                Message(role="assistant", content=conversation.shown_completion(turns[-1])),
                conversation.newest(turns, seen.observation, note=note),
            ]
        else:
            messages = conversation.opening(self._first.instructions, turns, seen.observation, seen.actions, note)
        self._messages = messages
        prompt: list[int] = []
        policy = self.setup.policy
        if policy.template is not None:
            if self._transcript is None:
                self._transcript = resume(turns, conversation, policy.template, self._first.instructions)
            if conversation.forgets(len(turns)):
                self._transcript.open(messages)
            else:
                self._transcript.observe([conversation.newest(turns, seen.observation, seen.actions, note)])
            prompt = list(self._transcript.ids)
        self.request = Request(
            messages,
            turn_seed(self.setup.seed, self.item.key, len(turns)),
            prompt,
            seen.actions if policy.wants_actions else None,
            situation=Situation(
                self.item.start.task,
                self._first.instructions,
                turns,
                seen.observation,
                conversation,
                seen.actions,
                self.item.key,
                self._first.cap,
            ),
        )
        room = policy.sampling.max_tokens if policy.sampling is not None else 0
        limit = self.setup.max_context
        if limit is None or len(prompt) + room <= limit:
            return True
        if not turns and not note:  # no fault of the agent: with these settings no episode of this task could begin
            raise BadInput(
                f"{self.item.start.task.id}: its first prompt has {len(prompt)} tokens and the answer may have {room} "
                f"(max_tokens), but the context holds {limit}; use a longer context or fewer max_tokens"
            )
        return False

    def answered(self, answer: Completion) -> str:
        """The policy has answered: the action to hand to the environment, empty where the answer cannot be read."""
        conversation = self.setup.conversation
        if answer.action is not None:
            answer = Completion(conversation.write(answer.action), action=answer.action, calls=answer.calls)
        self._answer = answer
        if answer.version and answer.version != (self.item.version or self.setup.provenance.policy_version):
            self._written_by[str(len(self.turns))] = answer.version
        asked = answer.calls > 0  # a strategy may say what it has thought out at an earlier turn
        self._spend(
            model_calls=answer.calls,
            prompt_tokens=answer.prompt_tokens or (len(self.request.prompt_ids) if asked else 0),
            completion_tokens=answer.completion_tokens or (len(answer.ids) if asked else 0),
        )
        return conversation.read(answer.text).action

    def _turn(self, seen: Seen) -> Turn:
        read = self.setup.conversation.read(self._answer.text)
        tokens = None
        if self._transcript is not None:
            tokens = self._transcript.answer(self._answer.ids, self._answer.logprobs)
        elif not self._answer.finished:
            self._unfinished.append(len(self.turns))
        return Turn(
            observation=self._seen.observation,
            completion=self._answer.text,
            action=read.action,
            thought=read.thought,
            reward=seen.reward,
            score=seen.score,
            valid=seen.valid and read.problem is None,
            tokens=tokens,
            note=self._note,
        )

    def finish(self) -> Episode:
        """The episode as it ended."""
        if self._seen.success:
            outcome = Outcome.SUCCESS
        elif self._seen.terminated:
            outcome = Outcome.FAILURE
        else:
            outcome = Outcome.TRUNCATED
        cut: dict[str, object] = {} if self.over else {"truncated_by": "turns" if self.enough else "context"}
        return self._episode(outcome, self._seen.score, None, cut)

    def again(self) -> Item:
        """The next attempt, by the weights that there are by now."""
        item, version = self.item, self.setup.policy.version
        by = self.setup.provenance.model_copy(update={"policy_version": version})
        return replace(item, attempt=item.attempt + 1, key=episode_key(item.start, by, item.sample), version=version)

    def fault(self, outcome: Outcome, error: str) -> Episode:
        """The episode as a fault, with the turns that were taken. It has no score."""
        return self._episode(outcome, 0.0, error, {"attempt": self.item.attempt})

    def _episode(self, outcome: Outcome, score: float, error: str | None, labels: dict[str, object]) -> Episode:
        if self._unfinished:
            labels = {**labels, "unfinished_turns": self._unfinished}
        cost = Cost.model_validate({**self._cost, "seconds": time.monotonic() - self._began})
        if self._written_by:
            labels = {**labels, "written_by": dict(self._written_by)}
        before = self.setup.provenance
        actor = acting(before.actor, self.item.start.task)
        judged = self._first is None or self._first.judged  # nothing was seen: not a true score either
        labels = {**labels, **imagined_labels(before.actor, self.item.start.task, judged, self._listed)}
        fingerprint = self._first.fingerprint if self._first else ""
        version = self.item.version or before.policy_version
        changed = {"actor": actor, "policy_version": version, "env_fingerprint": fingerprint, "cost": cost}
        provenance = before.model_copy(update=changed)
        return Episode(
            id=episode_id(self.item.key),
            start=self.item.start,
            sample=self.item.sample,
            turns=tuple(self.turns),
            final_observation=self._seen.observation,
            outcome=outcome,
            score=score,
            provenance=provenance,
            error=error,
            labels={**self.setup.labels, **labels},
        )

    def _spend(self, **amounts: int) -> None:
        for name, amount in amounts.items():
            self._cost[name] += amount
            setattr(self.setup.tally, name, getattr(self.setup.tally, name) + amount)
