"""The contract of an environment: a Gymnasium environment of texts that can be rewound.

An environment of your own says two things: how an episode begins and what an action does.

    class Guess(TextEnv[State]):
        def begin(self, task, rng):      return State(...), "first observation"
        def act(self, state, action):    return Reply("next observation", score=1.0, success=True, over=True)

`state` holds *all* that changes during an episode. Because it does, the base class can do the rest: the five-tuple,
limits, `info`, rewinding, pickling. An environment whose state cannot be copied (a JVM, a browser) sets
`fidelity = Fidelity.REPLAY`; the base class then rewinds by resetting and replaying the actions, and compares the
digest of every observation on the way.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
import pickle
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, SupportsFloat, TypedDict, TypeVar, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from pydantic import BaseModel, ConfigDict, Field

from palaestra.envs.actions import Actions, Text
from palaestra.envs.errors import BadInput, ReplayDiverged
from palaestra.envs.fingerprint import code_fingerprint, digest

if TYPE_CHECKING:
    from palaestra.envs.registry import EnvSpec

S = TypeVar("S")


class Fidelity(StrEnum):
    """How an environment goes back to an earlier step."""

    EXACT = "exact"
    """The state is copied: a fork goes on exactly where the original stood."""
    REPLAY = "replay"
    """Reset, replay of the actions, and a comparison of every observation's digest."""


class Needs(StrEnum):
    """What an instance needs to run beside others: the collector places it accordingly."""

    NOTHING = "nothing"
    """It answers in microseconds and waits for nothing: thousands of instances share a thread."""
    THREAD = "thread"
    """It may wait, for a process, a browser or a server: a thread of its own, from its making to its closing."""
    PROCESS = "process"
    """It computes for long in Python, or may take its interpreter down: a process of its own."""


class Task(BaseModel):
    """What to do. Frozen, serialisable, with a stable `id`.

    Attributes:
        env: id of the environment, such as `palaestra/ScienceWorld-v0`.
        name: name of the task inside the environment, such as `boil/12`.
        split: `train`, `dev`, `test`, ...: what this task may be used for. A fork inherits it.
        seed: all randomness of an episode follows from the task, and so from this number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    env: str
    name: str
    split: str
    seed: int = Field(default=0, ge=0)

    @property
    def id(self) -> str:
        """Stable over processes, machines and versions: `env:split:name:seed`."""
        return f"{self.env}:{self.split}:{self.name}:{self.seed}"

    def rng(self) -> np.random.Generator:
        """A fresh generator that depends on nothing but this task."""
        digest = hashlib.sha256(self.id.encode()).digest()
        return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


class Info(TypedDict):
    """What `info` holds after every `reset`, `step` and `restore` (a plain dict; environments may add keys)."""

    score: float
    """How well the task is done so far, in [0, 1]."""
    success: bool
    """Is the task solved."""
    valid: bool
    """Was the last action understood."""
    actions: Sequence[str] | None
    """The admissible actions (listed when first looked at), or None where they cannot be listed."""
    task: Task


@dataclass(frozen=True)
class Reply:
    """What an environment answers to an action.

    Attributes:
        observation: the text the agent sees next.
        score: score of the episode from now on, in [0, 1]; None leaves it as it was.
        reward: reward of this step; None means the change of the score, so that rewards sum up to the score.
        success: is the task solved now. Once True it stays True.
        over: does the episode end here (Gymnasium's `terminated`).
        valid: was the action understood. A bad action costs a step and says what was wrong.
        extra: further keys for `info`.
    """

    observation: str
    score: float | None = None
    reward: float | None = None
    success: bool = False
    over: bool = False
    valid: bool = True
    extra: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Snapshot:
    """A step of an episode, to go back to with `TextEnv.restore`. Picklable; valid in other instances and processes.

    Attributes:
        task, settings, fingerprint: where it may be restored: an instance with the same settings and data.
        fidelity: how it will be restored.
        actions: the actions from the start of the episode up to here.
        digests: digest of each observation so far; one more than `actions`. Empty for exact snapshots.
        payload: the pickled state for exact snapshots; empty for replay.
    """

    task: Task
    settings: str
    fingerprint: str
    fidelity: Fidelity
    actions: tuple[str, ...]
    digests: tuple[str, ...]
    payload: bytes

    @property
    def step(self) -> int:
        """Number of actions taken when the snapshot was made."""
        return len(self.actions)


@dataclass(frozen=True)
class Recorded:
    """What is stored of a step of an imagined episode beside its actions and pages: see `TextEnv.recall`.

    Attributes:
        real: how many of the actions were taken in the real environment, before imagination began.
        score, valid: what the last action came to.
        listed: the admissible actions that were imagined after it; None where none were.
        settings, fingerprint: of the environment that imagined it.
    """

    real: int
    score: float = 0.0
    valid: bool = True
    listed: tuple[str, ...] | None = None
    settings: Mapping[str, Any] | None = None
    fingerprint: str = ""


@dataclass
class _Progress(Generic[S]):
    """All that changes during an episode: the environment's own state and what the base class keeps beside it."""

    task: Task
    state: S
    observation: str
    actions: list[str]
    digests: list[str]
    score: float = 0.0
    success: bool = False
    valid: bool = True
    over: bool = False
    truncated: bool = False
    extra: Mapping[str, Any] | None = None


class TextEnv(gymnasium.Env[str, str], Generic[S]):
    """A `gymnasium.Env[str, str]` that can be rewound. Subclasses write `begin` and `act`; the rest is here.

    Construction is cheap in every environment: what is heavy (a JVM, a browser, a data set) starts at `reset`.

    Attributes:
        fidelity: how this environment rewinds (class attribute).
        needs: what an instance needs to run beside others (class attribute).
        loose_listing: the largest share of listed actions that it may still refuse (class attribute); 0 unless the
            listing comes from an engine that lists more than it understands. The conformance check measures it.
        max_steps: actions until the episode is truncated; None for no limit.
        settings: the keyword arguments that this instance was made with.
        real: id and settings of the environment whose dynamics a model imagines here; None where nothing is imagined.
    """

    fidelity: ClassVar[Fidelity] = Fidelity.EXACT
    needs: ClassVar[Needs] = Needs.THREAD
    loose_listing: ClassVar[float] = 0.0
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"], "render_fps": 1}  # type: ignore[misc]  # Gymnasium: not a ClassVar

    registration: EnvSpec | None = None
    max_steps: int | None = None
    settings: Mapping[str, Any] = {}
    real: tuple[str, Mapping[str, Any]] | None = None
    render_mode = "ansi"

    @cached_property
    def observation_space(self) -> spaces.Space[str]:  # type: ignore[override]  # Gymnasium declares an attribute
        return Text()

    @cached_property
    def action_space(self) -> spaces.Space[str]:  # type: ignore[override]
        return Text()

    # -- what an environment writes ---------------------------------------------------------------------------------

    @abstractmethod
    def begin(self, task: Task, rng: np.random.Generator) -> tuple[S, str]:
        """Start the task: first state and first observation. All randomness comes from `rng` (keep it in the state)."""

    @abstractmethod
    def act(self, state: S, action: str) -> Reply:
        """Apply an action: change `state` in place and answer. Raises only `EnvFault`, never for a bad action."""

    def admissible(self, state: S) -> Sequence[str] | None:
        """The actions that would be understood now, or None where they cannot be listed."""
        return None

    def details(self, state: S) -> Mapping[str, Any]:
        """Further keys for `info`, after `reset`, `step` and `restore`; `Reply.extra` has those of one step."""
        return {}

    def to_bytes(self, state: S, most: int) -> bytes | None:
        """The state as bytes, where the same actions may lead elsewhere next time (commands that read the clock, a
        model that is asked again).

        A collector stores these bytes at every step, and forks begin with them. No pickle: the store may be somebody
        else's. None, as here: the same actions always lead here, and nothing need be stored.

        Raises:
            BadInput: there are more than `most` of them.
        """
        return None

    def from_bytes(self, task: Task, raw: bytes) -> S:
        """The state that `to_bytes` wrote. Raises BadInput where it did not write this."""
        raise BadInput(f"{type(self).__name__} stores no states")

    def fingerprint(self) -> str:
        """What this environment's behaviour depends on besides the task: package version and data hash."""
        cls: type = type(self)
        return code_fingerprint(cls)

    def instructions(self, task: Task) -> str:
        """What an agent is told before its first observation: rules and action format."""
        registered = self.registration.instructions if self.registration else ""
        classes = itertools.takewhile(lambda cls: cls is not TextEnv, type(self).__mro__)
        return registered or next((inspect.cleandoc(cls.__doc__) for cls in classes if cls.__doc__), "")

    def tasks(self, split: str) -> Sequence[Task]:
        """All tasks of a split. Raises BadInput for a split that does not exist."""
        if self.registration is None:
            raise BadInput(
                f"{type(self).__name__} is not registered, so it has no splits; call palaestra.register first"
            )
        return self.registration.split(split)

    def splits(self) -> Sequence[str]:
        """The names of the splits, training split first."""
        return tuple(self.registration.splits) if self.registration else ()

    def lists(self, name: str, split: str) -> bool:
        """Is this the name of a task of that split. Asked at every reset: a task must not claim another's split."""
        if self.registration is not None and type(self).tasks is TextEnv.tasks:
            return self.registration.lists(name, split)
        if split not in self._named:
            self._named[split] = frozenset(task.name for task in self.tasks(split))
        return name in self._named[split]

    @cached_property
    def _named(self) -> dict[str, frozenset[str]]:
        return {}

    def step_cap(self, task: Task) -> int | None:
        """Actions until an episode of this task is truncated; None for no limit."""
        return self.max_steps

    def abort(self) -> None:
        """Called from another thread when a call to this instance has passed its deadline: kill what it hangs on."""

    # -- Gymnasium ---------------------------------------------------------------------------------------------------

    _now: _Progress[S] | None = None
    _listed: Actions | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: seeds the choice of the task when none is given. The episode's own randomness follows from the task.
            options: `{"task": Task or name}`; a name is looked up in all splits.

        Raises:
            BadInput: unknown option, unknown task, or a task of another environment.
        """
        super().reset(seed=seed)
        if not isinstance(options, Mapping | None):
            raise BadInput(f"reset: options are {{'task': TASK}}, not {options!r:.80}")
        unknown = set(options or ()) - {"task"}
        if unknown:
            raise BadInput(f"reset: unknown option {sorted(unknown)[0]!r}; the only option is 'task'")
        task = self._pick((options or {}).get("task"))
        self._move_on()
        self._now = None
        state, observation = self.begin(task, task.rng())
        self._now = _Progress(task, state, observation, [], [digest(observation)])
        return observation, self._info()

    def step(self, action: str) -> tuple[str, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take an action. A bad action costs a step and is answered; it never raises.

        Returns:
            observation, reward, terminated, truncated, info (see `Info`).

        Raises:
            gymnasium.error.ResetNeeded: before the first `reset` or after the episode's end.
            EnvFault: the environment itself broke. The episode is lost; reset or restore to go on.
        """
        now = self._going()
        if now.over or now.truncated:
            raise gymnasium.error.ResetNeeded("the episode is over; call reset() or restore() first")
        if not isinstance(action, str):
            action = str(action)
        self._move_on()
        try:
            reply = self.act(now.state, action)
        except BaseException:
            self._now = None  # the state may be half changed
            raise
        before = now.score
        now.actions.append(action)
        now.observation = reply.observation
        now.digests.append(digest(reply.observation))
        if reply.score is not None:
            now.score = min(1.0, max(0.0, float(reply.score)))
        now.success = now.success or reply.success
        now.valid, now.over, now.extra = reply.valid, reply.over, reply.extra
        now.truncated = not now.over and self.max_steps is not None and len(now.actions) >= self.max_steps
        reward = now.score - before if reply.reward is None else float(reply.reward)
        return now.observation, reward, now.over, now.truncated, self._info()

    def render(self) -> str | None:
        """The current observation."""
        return self._now.observation if self._now else None

    def close(self) -> None:
        """Give everything back. May be called twice."""
        self._move_on()
        self._now = None

    # -- rewind ------------------------------------------------------------------------------------------------------

    @property
    def task(self) -> Task:
        """The task of the current episode."""
        return self._going().task

    @property
    def state(self) -> S:
        """The hidden state of the current episode: what oracles look at."""
        return self._going().state

    @property
    def history(self) -> tuple[str, ...]:
        """The actions of the current episode so far."""
        return tuple(self._going().actions)

    @property
    def score(self) -> float:
        """The score of the current episode, in [0, 1]."""
        return self._going().score

    def snapshot(self) -> Snapshot:
        """Remember this step. Raises gymnasium.error.ResetNeeded when there is no episode."""
        now = self._going()
        exact = self.fidelity is Fidelity.EXACT
        return Snapshot(
            task=now.task,
            settings=_settings_text(self.settings),
            fingerprint=self.fingerprint(),
            fidelity=self.fidelity,
            actions=tuple(now.actions),
            digests=() if exact else tuple(now.digests),
            payload=pickle.dumps(now, pickle.HIGHEST_PROTOCOL) if exact else b"",
        )

    def restore(self, snapshot: Snapshot) -> tuple[str, dict[str, Any]]:
        """Put this instance where `snapshot` was made, in this instance or another one.

        Returns:
            The observation and `info` of that step, as `reset` would.

        Raises:
            BadInput: the snapshot is of another environment or settings, or of another version of its code or data.
            ReplayDiverged: (replay only) the environment answered otherwise than when the snapshot was made.
        """
        if not isinstance(snapshot, Snapshot):
            raise BadInput(f"restore takes what snapshot() gave, not {snapshot!r:.80}")
        here = _settings_text(self.settings)
        if snapshot.settings != here:
            raise BadInput(f"snapshot was made with settings {snapshot.settings}, this instance has {here}")
        if snapshot.fingerprint != self.fingerprint():
            raise BadInput(f"snapshot was made by {snapshot.fingerprint}, this instance is {self.fingerprint()}")
        if snapshot.fidelity is Fidelity.REPLAY:
            return self._replay(snapshot.task, snapshot.actions, snapshot.digests, None)
        self._pick(snapshot.task)
        self._move_on()
        self._now = cast("_Progress[S]", pickle.loads(snapshot.payload))
        return self._now.observation, self._info()

    def replay(
        self, task: Task, actions: Sequence[str], observations: Sequence[str] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Reset to `task` and take `actions`, from where this instance already stands if that lies on the way.

        Args:
            observations: the recorded ones, one more than `actions`; each is compared by its digest. None: no check.

        Raises:
            ReplayDiverged: with the step and both texts.
            BadInput: the number of observations does not fit.
        """
        if observations is not None and len(observations) != len(actions) + 1:
            raise BadInput(
                f"replay needs {len(actions) + 1} observations for {len(actions)} actions, got {len(observations)}"
            )
        digests = [digest(text) for text in observations] if observations is not None else None
        return self._replay(task, actions, digests, observations)

    def recall(
        self, task: Task, actions: Sequence[str], observations: Sequence[str], recorded: Recorded, *, same: bool
    ) -> tuple[str, dict[str, Any]]:
        """Stand where a stored episode stood that a model imagined; no page of it is imagined again.

        Args:
            actions, observations: as for `replay`.
            recorded: what else is stored of that step.
            same: was it imagined with this instance's settings, code, data and models.

        Raises:
            ReplayDiverged: the real environment does not show the pages before imagination began.
            BadInput: nothing is imagined here, or the records do not say all of that step.
        """
        raise BadInput(f"{type(self).__name__} imagines nothing")

    def distance(self, task: Task, actions: Sequence[str]) -> int | None:
        """How many steps from here to the end of `actions`; None if this instance does not stand on the way."""
        now = self._now
        if now is None or now.task != task or now.over or now.truncated or len(now.actions) > len(actions):
            return None
        if list(actions[: len(now.actions)]) != now.actions:
            return None
        return len(actions) - len(now.actions)

    def keep(self, most: int = 1 << 20) -> bytes | None:
        """What `resume` needs of this step beside the actions and observations; None where `replay` is as good.

        Raises:
            BadInput: more than `most` bytes. EnvFault: the environment itself broke.
        """
        now = self._going()
        raw = self.to_bytes(now.state, most)
        if raw is None:
            return None
        head = json.dumps({"score": now.score, "success": now.success, "valid": now.valid}).encode() + b"\n"
        if len(head) + len(raw) > most:
            raise BadInput(f"this step takes {len(head) + len(raw)} bytes to keep; at most {most} are kept")
        return head + raw

    def resume(
        self, task: Task, actions: Sequence[str], observations: Sequence[str], kept: bytes
    ) -> tuple[str, dict[str, Any]]:
        """Stand where `keep` was called after these actions, taking none of them.

        Args:
            actions, observations: as for `replay`.
            kept: by an instance with the same settings, code and data.

        Raises:
            BadInput: the number of observations does not fit, or `kept` is damaged or of another environment. There is
                no episode then.
        """
        if len(observations) != len(actions) + 1:
            raise BadInput(
                f"resume needs {len(actions) + 1} observations for {len(actions)} actions, got {len(observations)}"
            )
        self._pick(task)
        self._move_on()
        self._now = None
        head, _, raw = kept.partition(b"\n")
        try:
            flags = json.loads(head)
            score, success, valid = float(flags["score"]), bool(flags["success"]), bool(flags["valid"])
            if not 0.0 <= score <= 1.0:
                raise ValueError(f"a score of {score}")
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"what was kept of a step of {task.id} is damaged") from error
        return self._stand(task, self.from_bytes(task, raw), actions, observations, score, success, valid)

    def _stand(
        self,
        task: Task,
        state: S,
        actions: Sequence[str],
        observations: Sequence[str],
        score: float,
        success: bool,
        valid: bool,
    ) -> tuple[str, dict[str, Any]]:
        """Be in this state after these actions."""
        digests = [digest(text) for text in observations]
        now = self._now = _Progress(task, state, observations[-1], list(actions), digests, score, success, valid)
        now.truncated = self.max_steps is not None and len(now.actions) >= self.max_steps
        return now.observation, self._info()

    def _replay(
        self, task: Task, actions: Sequence[str], digests: Sequence[str] | None, texts: Sequence[str] | None
    ) -> tuple[str, dict[str, Any]]:
        done = len(self._now.actions) if self._now is not None and self.distance(task, actions) is not None else None
        if done is None or (digests is not None and self._going().digests != list(digests[: done + 1])):
            self.reset(options={"task": task})
            done = 0
        now = self._going()
        self._compare(now, 0, digests, texts)
        for step in range(done, len(actions)):
            if now.over or now.truncated:
                raise ReplayDiverged(task.id, step, "the episode goes on", "the episode is over")
            self.step(actions[step])
            self._compare(now, step + 1, digests, texts)
        return now.observation, self._info()

    def _compare(
        self, now: _Progress[S], step: int, digests: Sequence[str] | None, texts: Sequence[str] | None
    ) -> None:
        if digests is not None and now.digests[step] != digests[step]:
            raise ReplayDiverged(
                now.task.id, step, texts[step] if texts else f"digest {digests[step]}", now.observation
            )

    # -- inside ------------------------------------------------------------------------------------------------------

    def _going(self) -> _Progress[S]:
        if self._now is None:
            raise gymnasium.error.ResetNeeded("there is no episode; call reset() first")
        return self._now

    def _pick(self, wanted: Task | str | None) -> Task:
        if isinstance(wanted, Task):
            if self.registration is not None and wanted.env != self.registration.id:
                raise BadInput(f"task {wanted.id} belongs to {wanted.env}, this is {self.registration.id}")
            if self.registration is not None and wanted.split not in self.splits():
                raise BadInput(f"task {wanted.id} is of no split of {wanted.env}: {', '.join(self.splits())}")
            self._check_split(wanted)
            return wanted
        if wanted is None:
            names = self.splits()
            if not names:
                raise BadInput(f"{type(self).__name__} has no splits; pass options={{'task': Task(...)}}")
            tasks = self.tasks(names[0])
            if not tasks:
                raise BadInput(f"split {names[0]!r} of {type(self).__name__} has no tasks")
            return tasks[int(self.np_random.integers(len(tasks)))]
        for split in self.splits():
            for task in self.tasks(split):
                if task.name == wanted:
                    return task
        raise BadInput(f"{type(self).__name__} has no task {wanted!r}; `palaestra envs ENV` lists them")

    def _check_split(self, task: Task) -> None:
        """A test task never becomes training data: refuse a name that only other splits list."""
        if self.registration is None or self.lists(task.name, task.split):
            return
        others = [split for split in self.splits() if split != task.split and self.lists(task.name, split)]
        if others:
            raise BadInput(f"task {task.name!r} of {task.env} is of the split {others[0]!r}, not of {task.split!r}")

    def _move_on(self) -> None:
        if self._listed is not None:
            self._listed.expire()
            self._listed = None

    def _info(self) -> dict[str, Any]:
        now = self._going()
        self._move_on()
        actions: Actions | None = None
        if self.lists_actions:
            actions = self._listed = Actions(partial(self._list, now), (now.task, now.actions, len(now.actions)))
            if now.over or now.truncated:
                len(actions)  # none: known at once, so that a vector environment can still ship them after its reset
        info = Info(score=now.score, success=now.success, valid=now.valid, actions=actions, task=now.task)
        return {**self.details(now.state), **(now.extra or {}), **info}

    def _list(self, now: _Progress[S]) -> Sequence[str]:
        return () if now.over or now.truncated else self.admissible(now.state) or ()

    @property
    def keeps(self) -> bool:
        """Does this environment keep something of its steps for later forks: see `keep`."""
        return type(self).to_bytes is not TextEnv.to_bytes

    @property
    def lists_actions(self) -> bool:
        """Can this environment list its admissible actions."""
        return type(self).admissible is not TextEnv.admissible


def _settings_text(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={settings[key]!r}" for key in sorted(settings)) or "none"
