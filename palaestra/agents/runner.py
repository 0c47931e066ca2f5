"""One episode on its way: what was seen, what is asked next, and what is stored of it in the end.

An `Attempt` knows nothing of threads and queues. The driver runs `begin`, `step` and `choose` in the environment's
thread and hands over what came of them.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import Cost, Episode, Outcome, Path, Provenance, Start, Turn, acting, episode_id
from palaestra.agents.policy import Completion, Policy, Request, Situation
from palaestra.agents.progress import Tally
from palaestra.agents.transcript import Transcript, resume
from palaestra.agents.workers import EnvWorker
from palaestra.envs import BadInput, EnvFault, TextEnv


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
class Kept:
    """What an environment kept of a step, and which one it was: only the same one can go on from there."""

    raw: bytes
    settings: Mapping[str, Any]
    fingerprint: str


@dataclass(frozen=True)
class Item:
    """One planned episode.

    Attributes:
        start, sample, key: which one.
        parent: the path of the episode that is forked; None for a start at a task.
        kept: what the environment kept of the step that is forked, if it is still the same environment.
        attempt: 0, then 1, 2, ... after faults.
    """

    start: Start
    sample: int
    key: str
    parent: Path | None = None
    kept: Kept | None = None
    attempt: int = 0

    @property
    def before(self) -> tuple[Turn, ...]:
        """The turns before the episode's first own one."""
        return self.parent.turns[: self.start.fork_step] if self.parent is not None else ()


@dataclass(frozen=True)
class Seen:
    """What the environment said: after its reset, its replay to the fork's step, or a step."""

    observation: str
    score: float
    success: bool
    valid: bool = True
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    actions: Sequence[str] | None = None
    instructions: str = ""
    fingerprint: str = ""
    replayed: int = 0
    kept: bytes | None = None


def turn_seed(seed: int, key: str, step: int) -> int:
    """Seed of one request: a function of the run's seed, the episode's key and the step, below 2**63."""
    raw = hashlib.blake2b(f"{seed}|{step}|{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(raw, "little") >> 1


class Attempt:
    """One try at a planned episode.

    Attributes:
        item: what is tried.
        worker: where its environment lives.
        stage: what is waited for: "env", "policy", or "inside" for a policy that acts in the environment's thread.
        kept: step, counted from the root's reset -> what the environment kept of it.
    """

    def __init__(self, item: Item, worker: EnvWorker, setup: Setup) -> None:
        self.item, self.worker, self.setup = item, worker, setup
        self.stage = "env"
        self.request = Request(messages=())
        self.turns: list[Turn] = []
        self.kept: dict[int, bytes] = {}
        self._kept_bytes = 0
        self._unfinished: list[int] = []
        self._seen = Seen("", 0.0, False)
        self._first: Seen | None = None
        self._answer = Completion("")
        self._transcript: Transcript | None = None
        self._cost: dict[str, float] = dict.fromkeys(Cost.model_fields, 0)
        self._began = time.monotonic()

    # -- in the environment's thread ----------------------------------------------------------------------------------

    def begin(self) -> Seen:
        """Put the environment where the episode starts.

        Raises:
            ReplayDiverged: the environment does not answer as it did in the parent.
            BadInput: there is no such task, the fork lies at the environment's end under these settings, or the store
                holds episodes of this plan that were made with another version or data of the environment.
        """
        env, start = self.worker.env(), self.item.start
        if self.worker.fingerprint is None:
            self.worker.fingerprint = env.fingerprint()
        before = self.setup.fingerprints.get(start.task.env)
        if before is not None and before != self.worker.fingerprint:
            raise BadInput(
                f"{start.task.env}: the store holds episodes of this plan made with env_fingerprint={before!r}, and "
                f"here it is {self.worker.fingerprint!r}; collect into another store"
            )
        replayed = 0
        if self.item.parent is None:
            observation, info = env.reset(options={"task": start.task})
        else:
            actions = [turn.action for turn in self.item.before]
            observations = self.item.parent.observations()[: start.fork_step + 1]
            resumed = self._resume(env, actions, observations)
            if resumed is None:
                way = env.distance(start.task, actions)
                replayed = len(actions) if way is None else way
                resumed = env.replay(start.task, actions, observations)
            observation, info = resumed
            if env.distance(start.task, actions) is None:
                raise BadInput(f"fork {start.id}: the episode is over at this step under these settings (max_steps?)")
        return Seen(
            observation,
            info["score"],
            info["success"],
            actions=self._list(info),
            instructions=env.instructions(start.task),
            fingerprint=self.worker.fingerprint,
            replayed=replayed,
            kept=self._keep_end(env) if self.item.parent is None else None,
        )

    def _resume(
        self, env: TextEnv[Any], actions: Sequence[str], observations: Sequence[str]
    ) -> tuple[str, dict[str, Any]] | None:
        """Go on from what was kept of the step; None where nothing was, or not by this environment."""
        kept = self.item.kept
        same = (self.setup.provenance.env_settings, self.worker.fingerprint)
        if kept is None or (kept.settings, kept.fingerprint) != same:
            return None
        try:
            return env.resume(self.item.start.task, actions, observations, kept.raw)
        except BadInput:  # damaged, or more than fits here; the actions are there all the same
            return None

    def _keep(self, env: TextEnv[Any]) -> bytes | None:
        """What the environment keeps of this step; None where that is nothing, or too much."""
        room = self.setup.keep - self._kept_bytes
        if room <= 0:
            return None
        try:
            raw = env.keep(room)
        except BadInput:  # more than there is room for
            return None
        self._kept_bytes += len(raw or b"")
        return raw

    def _keep_end(self, env: TextEnv[Any]) -> bytes | None:
        """What the environment keeps at the reset, or where the episode is over: nothing is forked from it, it is to be
        looked at. It takes no room from the steps in between."""
        try:
            return env.keep(self.setup.keep) if self.setup.keep else None
        except (BadInput, EnvFault):  # more than may be kept; or an environment that is gone after the end
            return None

    def step(self, action: str) -> Seen:
        """Hand an action to the environment."""
        env = self.worker.env()
        observation, reward, terminated, truncated, info = env.step(action)
        over = terminated or truncated
        return Seen(
            observation,
            info["score"],
            info["success"],
            valid=info["valid"],
            reward=float(reward),
            terminated=terminated,
            truncated=truncated,
            actions=None if over else self._list(info),
            kept=self._keep_end(env) if over else self._keep(env),
        )

    def choose(self) -> Completion:
        """Ask a policy that looks inside."""
        env: TextEnv[Any] = self.worker.env()
        request = Request(self.request.messages, self.request.seed, actions=self.request.actions, env=env)
        (answer,) = self.setup.policy.act([request])
        return answer

    def _list(self, info: Mapping[str, Any]) -> Sequence[str] | None:
        """The admissible actions if anybody wants them: listing them can take most of a step's time."""
        listed: Sequence[str] | None = info["actions"]
        if listed is None or not (self.setup.policy.wants_actions or self.setup.conversation.actions):
            return None
        if self.setup.policy.looks_inside and not self.setup.conversation.actions:
            return listed  # such a policy looks while the environment stands here, if it looks at all
        return list(listed)

    # -- in the driver's thread ---------------------------------------------------------------------------------------

    def saw(self, seen: Seen) -> None:
        """The environment has answered: write the turn, if this was the answer to an action."""
        if self._first is None:
            self._first = seen
            self._spend(replayed_steps=seen.replayed)
        else:
            self.turns.append(self._turn(seen))
            self._spend(env_steps=1)
        if seen.kept is not None:
            self.kept[self.item.start.fork_step + len(self.turns)] = seen.kept
        self._seen = seen

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
        messages = conversation.opening(self._first.instructions, turns, seen.observation, seen.actions, note)
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

    def fault(self, outcome: Outcome, error: str) -> Episode:
        """The episode as a fault, with the turns that were taken. It has no score."""
        return self._episode(outcome, 0.0, error, {"attempt": self.item.attempt})

    def _episode(self, outcome: Outcome, score: float, error: str | None, labels: dict[str, object]) -> Episode:
        if self._unfinished:
            labels = {**labels, "unfinished_turns": self._unfinished}
        cost = Cost.model_validate({**self._cost, "seconds": time.monotonic() - self._began})
        before = self.setup.provenance
        actor = acting(before.actor, self.item.start.task)
        if actor is not before.actor:
            labels = {**labels, "acted_by": before.actor.value, "rewards": "judged"}
        fingerprint = self._first.fingerprint if self._first else ""
        provenance = before.model_copy(update={"actor": actor, "env_fingerprint": fingerprint, "cost": cost})
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
