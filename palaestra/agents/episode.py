"""What happened: Start, Turn, Outcome, Provenance, Episode. All frozen; an Episode is never changed once stored.

An episode is a path, and the episodes of a run are a forest. A fork holds only its own turns: what came before is its
parent's path up to `fork_step`, which the store puts together (`EpisodeStore.path`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import StrEnum
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from palaestra.envs import Task, imagines


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _plain(value: Any) -> Any:
    """A deep copy made of what JSON has, so that a stored episode reads back equal and nobody can change it later."""
    if value is None or type(value) in (str, bool, int, float):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        odd = next((key for key in value if not isinstance(key, str)), None)
        if odd is not None:
            raise ValueError(f"key {odd!r} is no text; settings and labels hold only what JSON can hold")
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, PurePath):
        return str(value)
    for kind in (str, int, float):  # members of enumerations, numpy.float64
        if isinstance(value, kind):
            return kind(value)
    raise ValueError(f"{type(value).__name__} {value!r:.80} is not of a kind that JSON can hold")


Plain = Annotated[dict[str, Any], AfterValidator(_plain)]
"""A mapping of what JSON can hold. Tuples become lists, paths texts; anything else that JSON lacks is refused."""


LISTED = "listed"
"""Label of imagined episodes: the admissible actions after each own turn, as they were imagined; None at an end."""


class Outcome(StrEnum):
    """How an episode ended. The last three are faults: kept apart, never a zero reward, never trained on."""

    SUCCESS = "success"
    FAILURE = "failure"
    TRUNCATED = "truncated"
    ENV_ERROR = "env_error"
    POLICY_ERROR = "policy_error"
    TIMEOUT = "timeout"

    @property
    def is_fault(self) -> bool:
        """Did something break, so that this says nothing about the agent."""
        return self in (Outcome.ENV_ERROR, Outcome.POLICY_ERROR, Outcome.TIMEOUT)


class Actor(StrEnum):
    """Who acted."""

    EXPERT = "expert"
    POLICY = "policy"
    HUMAN = "human"
    IMAGINED = "imagined"
    SPLICED = "spliced"


class Start(_Record):
    """Where an episode begins: a task, or a step of an earlier episode (a fork).

    Attributes:
        task: the root task. A fork inherits it and with it the split, so a fork of a test task is never training data.
            What is imagined on from a real episode has the task that imagines the parent's.
        parent: id of the episode that is forked, or None.
        fork_step: number of actions taken, counted from the root's reset, before this episode's first own turn.
        note: what a method says to the agent there, below the observation ("you tried this before: ..."); mostly none.
    """

    task: Task
    parent: str | None = None
    fork_step: int = Field(default=0, ge=0)
    note: str = ""

    @model_validator(mode="after")
    def _whole(self) -> Start:
        if self.parent is None and self.fork_step:
            raise ValueError("fork_step without a parent")
        return self

    @property
    def id(self) -> str:
        """Stable text: the task's id, or `parent@step` for a fork; a note adds its digest."""
        where = self.task.id if self.parent is None else f"{self.parent}@{self.fork_step}"
        said = hashlib.blake2b(self.note.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
        return f"{where}+{said}" if self.note else where


class TokenRecord(_Record):
    """The exact token ids of one turn, when a model wrote it.

    The ids that the model saw at this turn are the concatenation of `context` and `completion` of all turns since the
    last one with `fresh`, followed by this turn's `context`.

    Attributes:
        context: ids appended before the answer: template, instructions, observation, generation prompt.
        completion: ids that the model sampled, its end-of-turn token included when it sampled one.
        logprobs: log-probability of each completion id as sampled; empty where the policy cannot tell.
        fresh: True where the transcript starts anew (the first turn, or where the conversation forgets).
    """

    context: tuple[int, ...]
    completion: tuple[int, ...]
    logprobs: tuple[float, ...] = ()
    fresh: bool = False

    @model_validator(mode="after")
    def _aligned(self) -> TokenRecord:
        if self.logprobs and len(self.logprobs) != len(self.completion):
            raise ValueError(f"{len(self.logprobs)} logprobs for {len(self.completion)} completion ids")
        return self


class Turn(_Record):
    """One observation and the agent's answer to it, with what the environment made of it.

    Attributes:
        observation: what the agent saw.
        completion: what the agent wrote, word for word.
        action: what was taken out of it and handed to the environment.
        thought: the reasoning before the action, if the format has one.
        reward: reward of this step (unbounded).
        score: score after this step, in [0, 1].
        valid: was the action understood.
        tokens: exact ids, when a model wrote the completion.
        note: what a method said to the agent here, below the observation; see `Start`.
    """

    observation: str
    completion: str
    action: str
    thought: str | None = None
    reward: float = 0.0
    score: float = Field(default=0.0, ge=0.0, le=1.0)
    valid: bool = True
    tokens: TokenRecord | None = None
    note: str = ""


class Cost(_Record):
    """What an episode cost."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    model_calls: int = 0
    env_steps: int = 0
    replayed_steps: int = 0
    seconds: float = 0.0


class Provenance(_Record):
    """Where an episode comes from.

    Attributes:
        actor: who acted.
        policy: name of the policy ("smollm2-135m", "oracle:gold").
        policy_version: identifies the weights; part of the key that makes collecting idempotent.
        recipe, iteration: the method and its round, if any.
        sampling: temperature, top_p, max_tokens, seed: whatever the policy was asked with.
        conversation: how the conversation was shown (window, style, actions listed).
        env_settings: the settings the environment was made with.
        env_fingerprint: package version and data hash of the environment.
        palaestra: version of this package.
        cost: what the episode cost.
    """

    actor: Actor = Actor.POLICY
    policy: str
    policy_version: str = "0"
    recipe: str | None = None
    iteration: int | None = None
    sampling: Plain = Field(default_factory=dict)
    conversation: Plain = Field(default_factory=dict)
    env_settings: Plain = Field(default_factory=dict)
    env_fingerprint: str = ""
    palaestra: str = ""
    cost: Cost = Cost()


class Episode(_Record):
    """Start + turns + outcome + provenance.

    Attributes:
        id: 16 hexadecimal digits, a function of `key`, so that collecting again makes the same ids.
        start: where it began.
        sample: which of several samples of the same start by the same policy version.
        turns: its own turns only; a fork's earlier turns are its parent's.
        final_observation: what the environment said last.
        outcome, score, success: how it ended. `score` is the final score in [0, 1], as the protocol defines it.
        provenance: where it comes from.
        error: traceback of a fault, else None.
        labels: free annotations of a method (a group id, a search value); never read by the trainer.
    """

    id: str
    start: Start
    sample: int = 0
    turns: tuple[Turn, ...]
    final_observation: str = ""
    outcome: Outcome
    score: float = Field(default=0.0, ge=0.0, le=1.0)
    provenance: Provenance
    error: str | None = None
    labels: Plain = Field(default_factory=dict)

    @model_validator(mode="after")
    def _marked(self) -> Episode:
        if imagines(self.start.task.env) and self.provenance.actor is not Actor.IMAGINED:
            raise ValueError(f"what happens in {self.start.task.env} is imagined, so the actor must be 'imagined'")
        return self

    @property
    def success(self) -> bool:
        """Was the task solved."""
        return self.outcome is Outcome.SUCCESS

    @property
    def key(self) -> str:
        """(start, policy version, sample): unique in a store; collecting the same key again changes nothing."""
        return episode_key(self.start, self.provenance, self.sample)

    @property
    def end_step(self) -> int:
        """Number of actions from the root's reset to the end of this episode."""
        return self.start.fork_step + len(self.turns)

    @property
    def actions(self) -> tuple[str, ...]:
        """This episode's own actions."""
        return tuple(turn.action for turn in self.turns)

    @property
    def judged(self) -> bool:
        """Are success and score a judge's word: it was imagined, and no real environment scored it."""
        return self.provenance.actor is Actor.IMAGINED and self.labels.get("rewards") != "true"

    def fork(self, step: int) -> Start:
        """The start of a fork after `step` actions, counted from the root's reset.

        Raises:
            ValueError: the step lies before this episode's own first turn or after its end.
        """
        if not self.start.fork_step <= step <= self.end_step:
            raise ValueError(f"episode {self.id} spans steps {self.start.fork_step}..{self.end_step}, not {step}")
        return Start(task=self.start.task, parent=self.id, fork_step=step)

    def forks(self, count: int) -> list[Start]:
        """The starts of up to `count` forks inside this episode, with equal distances, all before its last action."""
        return [self.fork(self.start.fork_step + step) for step in _spread(len(self.turns), count)]


def inherited(task: Task, env: str) -> Task:
    """What a fork's parent has for a task if it is of this environment: the same one, and for what is imagined also the
    real one, inside whose episodes imagination may begin. Never the other way round.
    """
    return task.model_copy(update={"env": env}) if imagines(task.env) else task


def acting(actor: Actor, task: Task) -> Actor:
    """As whom an actor is recorded in a task: whoever acts where a model makes up what happens is `imagined`."""
    return Actor.IMAGINED if imagines(task.env) else actor


def imagined_labels(
    actor: Actor, task: Task, judged: bool, listed: Sequence[Sequence[str] | None] = ()
) -> dict[str, object]:
    """Labels that an imagined episode has: who acted, whether its score is a judge's word, and the admissible actions
    that were imagined after each of its own turns, for whoever goes on from there. A real one has none.
    """
    if not imagines(task.env):
        return {}
    said = [None if each is None else list(each) for each in listed]
    found: dict[str, object] = {"acted_by": actor.value, "rewards": "judged" if judged else "true"}
    return {**found, LISTED: said} if any(each is not None for each in said) else found


def episode_key(start: Start, provenance: Provenance, sample: int) -> str:
    """The idempotent key of an episode, before it has happened."""
    recipe = f"{provenance.recipe or '-'}#{provenance.iteration if provenance.iteration is not None else '-'}"
    actor = acting(provenance.actor, start.task)
    parts = [start.id, actor, provenance.policy, provenance.policy_version, recipe, str(sample)]
    # A bar inside a part is escaped: two different episodes must never share a key, or the second would be dropped.
    return "|".join(part.replace("\\", "\\\\").replace("|", "\\|") for part in parts)


def episode_id(key: str) -> str:
    """16 hexadecimal digits that stand for a key."""
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


class Path(_Record):
    """An episode with all that came before it: from the root's reset to its end.

    Attributes:
        episode: the episode whose path this is.
        turns: all turns from the root on, ancestors' first.
        origins: for each turn, the id of the episode it belongs to.
        unfinished: the turns before the episode's own whose answer is only half there (label `unfinished_turns`).
    """

    episode: Episode
    turns: tuple[Turn, ...]
    origins: tuple[str, ...]
    unfinished: tuple[int, ...] = ()

    @property
    def own(self) -> int:
        """Index of the first turn that the episode itself has."""
        return self.episode.start.fork_step

    @property
    def half(self) -> frozenset[int]:
        """The turns, the episode's own among them, whose answer is known to be only half there."""
        own = self.episode.labels.get("unfinished_turns", ())
        return frozenset((*self.unfinished, *(self.own + step for step in own)))

    @property
    def actions(self) -> tuple[str, ...]:
        """All actions from the root's reset on."""
        return tuple(turn.action for turn in self.turns)

    def observations(self) -> Sequence[str]:
        """All observations, the final one included: one more than actions."""
        return [turn.observation for turn in self.turns] + [self.episode.final_observation]

    def forks(self, count: int) -> list[Start]:
        """The starts of up to `count` forks of the path, with equal distances, all before its last action: each in the
        episode that took the action before it."""
        task, steps = self.episode.start.task, _spread(len(self.turns), count)
        return [Start(task=task, parent=self.origins[step - 1], fork_step=step) for step in steps]


def _spread(length: int, count: int) -> list[int]:
    """Up to `count` steps inside so many, with equal distances."""
    apart = max(1, length // (count + 1))
    return [k * apart for k in range(1, count + 1) if k * apart < length]
