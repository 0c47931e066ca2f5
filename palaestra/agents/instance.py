"""One environment instance as the collector uses it, wherever it lives: a thread, another process, another machine.

What it is asked and what it answers are plain, picklable records: a `Beginning` or an action is answered with what was
`Seen`, a `Request` with the `Completion` of a policy that looks inside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from palaestra.agents.episode import Start
from palaestra.agents.policy import Completion, Policy, Request
from palaestra.envs import BadInput, EnvFault, Recorded, TextEnv


@dataclass(frozen=True)
class Kept:
    """What an environment kept of a step, and which one it was: only the same one can go on from there."""

    raw: bytes
    settings: Mapping[str, Any]
    fingerprint: str


class Listing(StrEnum):
    """Who wants the admissible actions: listing them can take most of a step's time."""

    NOBODY = "nobody"
    ALL = "all"
    """They are handed over at every step."""
    INSIDE = "inside"
    """A policy that looks inside: it looks while the environment stands there, if it looks at all."""


@dataclass(frozen=True)
class Beginning:
    """Where an episode begins, and what is wanted of it.

    Attributes:
        start: the task, or the fork.
        actions: those before the episode's first own turn; empty for a task.
        observations: the recorded ones, one more than `actions`; empty for a task.
        kept: what the environment kept of the step that is forked, if anything.
        settings: that the collection makes environments with: only what was kept under the same ones is used.
        fingerprint: of the environment that the store's episodes of this plan were made with; None: there are none.
        keep: bytes that may be kept of the steps; the reset and the end may take as many each, to be looked at.
        listing: who wants the admissible actions.
        recorded: what is stored of the step that is forked, where it was imagined.
    """

    start: Start
    actions: tuple[str, ...] = ()
    observations: tuple[str, ...] = ()
    kept: Kept | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str | None = None
    keep: int = 0
    listing: Listing = Listing.NOBODY
    recorded: Recorded | None = None


@dataclass(frozen=True)
class Seen:
    """What the environment said: after its reset, its replay to the fork's step, or a step.

    Attributes:
        replayed: actions that were taken again to come here.
        warm: a fork began without a reset: the instance stood on its way.
        kept: what the environment kept of this step, to be stored.
        judged: scores are a judge's word, where what happens is imagined.
        listed: the admissible actions here, where a model imagines them: nobody else could say them later.
        cap: actions from the root's reset until the episode is truncated, told at its beginning; None for no limit.
    """

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
    warm: bool = False
    kept: bytes | None = None
    judged: bool = False
    listed: tuple[str, ...] | None = None
    cap: int | None = None


Ask = Beginning | str | Request
"""Begin an episode; take this action; choose the next one."""


class Instance:
    """An environment and the episode that is played in it. The environment is made when something is first asked.

    Args:
        create: makes it.
        policy: who chooses, where the policy looks inside.
    """

    def __init__(self, create: Callable[[], TextEnv[Any]], policy: Policy | None = None) -> None:
        self._create, self._policy = create, policy
        self._env: TextEnv[Any] | None = None
        self._fingerprint: str | None = None
        self._asked: Beginning | None = None
        self._kept_bytes = 0
        self._listed: Sequence[str] | None = None

    def answer(self, ask: Ask) -> Seen | Completion:
        """What comes of it. Raises what the environment or the policy raises, and what `begin` raises."""
        if isinstance(ask, Beginning):
            return self.begin(ask)
        return self.step(ask) if isinstance(ask, str) else self.choose(ask)

    def begin(self, asked: Beginning) -> Seen:
        """Put the environment where the episode starts.

        Raises:
            ReplayDiverged: the environment does not answer as it did in the parent.
            BadInput: there is no such task, the fork lies at the environment's end under these settings, or the store
                holds episodes of this plan that were made with another version or data of the environment.
        """
        env, start = self._made(), asked.start
        self._asked, self._kept_bytes = asked, 0
        if self._fingerprint is None:
            self._fingerprint = env.fingerprint()
        if asked.fingerprint is not None and asked.fingerprint != self._fingerprint:
            raise BadInput(
                f"{start.task.env}: the store holds episodes of this plan made with env_fingerprint="
                f"{asked.fingerprint!r}, and here it is {self._fingerprint!r}; collect into another store"
            )
        replayed, way = 0, None
        if start.parent is None:
            observation, info = env.reset(options={"task": start.task})
        else:
            resumed = self._resume(env, asked)
            if resumed is None and asked.recorded is not None:
                recorded, here = asked.recorded, (asked.settings, self._fingerprint)
                same = (recorded.settings, recorded.fingerprint) == here
                resumed = env.recall(start.task, asked.actions, asked.observations, recorded, same=same)
                replayed = 0 if same and recorded.real < len(asked.actions) else recorded.real
            if resumed is None:
                way = env.distance(start.task, asked.actions)
                replayed = len(asked.actions) if way is None else way
                resumed = env.replay(start.task, asked.actions, asked.observations)
            observation, info = resumed
            if env.distance(start.task, asked.actions) is None:
                raise BadInput(f"fork {start.id}: the episode is over at this step under these settings (max_steps?)")
        return Seen(
            observation,
            info["score"],
            info["success"],
            actions=self._list(info),
            instructions=env.instructions(start.task),
            fingerprint=self._fingerprint,
            replayed=replayed,
            warm=way is not None,
            kept=self._keep_end(env, asked) if start.parent is None else None,
            judged=bool(info.get("judged")),
            cap=env.max_steps,
        )

    def step(self, action: str) -> Seen:
        """Hand an action to the environment."""
        env, asked = self._made(), self._begun()
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
            kept=self._keep_end(env, asked) if over else self._keep(env, asked),
            listed=tuple(info["actions"]) if env.real is not None and env.lists_actions and not over else None,
        )

    def choose(self, request: Request) -> Completion:
        """Ask a policy that looks inside."""
        if self._policy is None:
            raise BadInput("this instance was made without a policy that looks inside")
        inside = self._begun().listing is Listing.INSIDE
        actions = self._listed if inside else request.actions
        (answer,) = self._policy.act([replace(request, env=self._made(), actions=actions, situation=None)])
        return answer

    def abort(self) -> None:
        """From another thread: kill what a call hangs on."""
        if self._env is not None:
            self._env.abort()

    def close(self) -> None:
        """Give everything back. May be called twice."""
        env, self._env, self._listed = self._env, None, None
        if env is not None:
            env.close()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _made(self) -> TextEnv[Any]:
        if self._env is None:
            self._env = self._create()
        return self._env

    def _begun(self) -> Beginning:
        if self._asked is None:
            raise BadInput("an instance takes actions after it was told where to begin")
        return self._asked

    def _resume(self, env: TextEnv[Any], asked: Beginning) -> tuple[str, dict[str, Any]] | None:
        """Go on from what was kept of the step; None where nothing was, or not by this environment."""
        kept = asked.kept
        if kept is None or (kept.settings, kept.fingerprint) != (asked.settings, self._fingerprint):
            return None
        try:
            return env.resume(asked.start.task, asked.actions, asked.observations, kept.raw)
        except BadInput:  # damaged, or more than fits here; the actions are there all the same
            return None

    def _keep(self, env: TextEnv[Any], asked: Beginning) -> bytes | None:
        """What the environment keeps of this step; None where that is nothing, or too much."""
        room = asked.keep - self._kept_bytes
        if room <= 0:
            return None
        try:
            raw = env.keep(room)
        except BadInput:  # more than there is room for
            return None
        self._kept_bytes += len(raw or b"")
        return raw

    @staticmethod
    def _keep_end(env: TextEnv[Any], asked: Beginning) -> bytes | None:
        """What the environment keeps at the reset, or where the episode is over: nothing is forked from it, it is to be
        looked at. It takes no room from the steps in between."""
        try:
            return env.keep(asked.keep) if asked.keep else None
        except (BadInput, EnvFault):  # more than may be kept; or an environment that is gone after the end
            return None

    def _list(self, info: Mapping[str, Any]) -> Sequence[str] | None:
        listed: Sequence[str] | None = info["actions"]
        listing = self._begun().listing
        self._listed = listed if listing is Listing.INSIDE else None
        return list(listed) if listed is not None and listing is Listing.ALL else None
