"""What a session answers: an environment, its episode, and one method for each message about them."""

from __future__ import annotations

import base64
import binascii
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palaestra import __version__
from palaestra.envs.core import Fidelity, Snapshot, Task, TextEnv
from palaestra.envs.errors import BadInput
from palaestra.envs.registry import EnvSpec, find, make
from palaestra.envs.serving.wire import (
    PAGE,
    WIRE,
    Keep,
    Kind,
    OneTask,
    Reset,
    Restore,
    Resume,
    Seal,
    Step,
    Tasks,
    bad,
    frame,
    plain,
)

_STANDARD = ("score", "success", "valid", "actions", "task")


@dataclass(frozen=True)
class Served:
    """What a server serves: an environment with its settings.

    Attributes:
        spec, settings: which one, and how it is made.
        oracle: are clients told what the environment's oracle would do.
        longest: bytes that a message may have.
        seal: signs the snapshots.
    """

    spec: EnvSpec
    settings: Mapping[str, Any]
    oracle: bool
    longest: int
    seal: Seal

    @classmethod
    def of(cls, env: str, settings: Mapping[str, Any], *, oracle: bool, longest: int) -> Served:
        """Raises BadInput when there is no such environment, or it cannot run here."""
        spec = find(env)
        if spec.family == "remote":
            raise BadInput("serving what another server serves only adds a detour; serve the environment itself")
        if spec.imagined:
            raise BadInput(f"{spec.id} is imagined, which a client could not see; what is served is real")
        if reason := spec.why_not_ready():
            raise BadInput(f"{spec.id} cannot be served here: {reason}")
        return cls(spec, dict(settings), oracle, longest, Seal())

    def make(self) -> TextEnv[Any]:
        """An instance of the environment."""
        return make(self.spec.id, **self.settings)


class Front:
    """Answers what is no session's: what is served, its tasks, its instructions. Lives in a thread of its own.

    Raises:
        BadInput: (when made) the settings cannot be used, or data is missing.
    """

    def __init__(self, served: Served) -> None:
        self.served = served
        self._env = served.make()
        self._names: dict[str, Sequence[str]] = {}
        env = self._env
        self.about: dict[str, Any] = {
            "wire": WIRE,
            "palaestra": __version__,
            "env": served.spec.id,
            "name": served.spec.short,
            "settings": plain(served.settings),
            "splits": list(env.splits()),
            "fingerprint": env.fingerprint(),
            "fidelity": str(env.fidelity),
            "loose_listing": env.loose_listing,
            "lists_actions": env.lists_actions,
            "oracle": served.oracle and bool(served.spec.oracles),
            "keeps": env.keeps,
            "longest": served.longest,
        }

    def names(self, split: str) -> Sequence[str]:
        """The task names of a split. Raises BadInput for one that there is not."""
        if split not in self._names:
            self._names[split] = [task.name for task in self._env.tasks(split)]
        return self._names[split]

    def tasks(self, data: Tasks) -> str:
        """A page of a split's task names, and how many there are."""
        names = self.names(data.split)
        stop = min(len(names), data.start + PAGE, len(names) if data.stop is None else data.stop)
        return frame("tasks", {"names": list(names[data.start : stop]), "total": len(names)})

    def task(self, data: OneTask) -> str:
        """Instructions and step cap of a task. Raises Refusal for one that its split does not list."""
        if data.split not in self.about["splits"]:
            raise bad(f"task: there is no split {data.split!r:.60}; there are: {', '.join(self.about['splits'])}", 404)
        if not self._env.lists(data.task, data.split):
            raise bad(f"task: the split {data.split!r} has no task {data.task!r:.80}", 404)
        task = Task(env=self.served.spec.id, name=data.task, split=data.split, seed=data.task_seed)
        told = {"instructions": self._env.instructions(task), "max_steps": self._env.step_cap(task)}
        return frame("task", told)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def abort(self) -> None:
        """Kill what a call hangs on."""
        self._env.abort()


class EpisodePlayer:
    """One session's environment. Every answer is a whole message as text. Used in the session's thread only."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._env = served.make()
        self._info: dict[str, Any] = {}
        self._listing = False
        self._episode_id: str | None = None

    def answer(self, kind: str, data: Any) -> str:
        """Answer a message. Raises Refusal, BadInput, EnvFault, and whatever else the environment raises."""
        methods: dict[str, Callable[[Any], str]] = {
            "step": self._step,
            "reset": self._reset,
            "snapshot": self._snapshot,
            "restore": self._restore,
            "keep": self._keep,
            "resume": self._resume,
            "actions": self._actions,
            "state": self._state,
            "oracle": self._oracle,
        }
        return methods[kind](data)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def abort(self) -> None:
        """Kill what a call hangs on."""
        self._env.abort()

    def _reset(self, data: Reset) -> str:
        options: dict[str, Any] | None = None
        if data.task is not None and data.split is not None:
            task = Task(env=self._served.spec.id, name=data.task, split=data.split, seed=data.task_seed)
            options = {"task": task}
        elif data.task is not None:
            options = {"task": data.task}
        elif data.split is not None:
            raise bad("reset: a split needs a task; without both, `seed` picks one of the training split")
        self._listing, self._episode_id = data.actions, data.episode_id
        observation, info = self._env.reset(seed=data.seed, options=options)
        return self._seen(observation, None, False, False, info, first=True)

    def _step(self, data: Step) -> str:
        observation, reward, over, truncated, info = self._env.step(data.message)
        return self._seen(observation, float(reward), over, truncated, info)

    def _seen(
        self, text: str, reward: float | None, over: bool, truncated: bool, info: dict[str, Any], first: bool = False
    ) -> str:
        self._info, task = info, info["task"]
        seen: dict[str, Any] = {
            "text": text,
            "score": info["score"],
            "success": info["success"],
            "valid": info["valid"],
            "terminated": over,
            "truncated": truncated,
            "actions": plain(list(info["actions"])) if self._listing and info["actions"] is not None else None,
            "task": {"name": task.name, "split": task.split, "seed": task.seed},
            "details": {str(key): plain(value) for key, value in info.items() if key not in _STANDARD},
        }
        if first:
            seen |= {"instructions": self._env.instructions(task), "max_steps": self._env.max_steps}
        return frame("observation", {"observation": seen, "reward": reward, "done": over or truncated})

    def _state(self, _: object) -> str:
        try:
            steps, score, task = len(self._env.history), self._env.score, self._env.task
        except Exception:  # there is no episode yet, which in OpenEnv is a state like any other
            return frame("state", {"episode_id": self._episode_id, "step_count": 0})
        about = {"name": task.name, "split": task.split, "seed": task.seed}
        told = {"episode_id": self._episode_id, "step_count": steps, "score": score, "task": about}
        return frame("state", told)

    def _actions(self, _: object) -> str:
        if not self._info:
            raise bad("there is no episode; reset first", 409, Kind.RESET_NEEDED)
        listed = self._info["actions"]
        return frame("actions", {"actions": None if listed is None else list(listed)})

    def _oracle(self, _: object) -> str:
        if not self._served.oracle:
            raise bad("this server does not tell what the oracle would do (--no-oracle)", 403, Kind.NO_ORACLE)
        if not self._served.spec.oracles:
            raise bad(f"{self._served.spec.id} has no oracle", 404, Kind.NO_ORACLE)
        return frame("oracle", {"action": self._served.spec.oracle()(self._env)})

    def _snapshot(self, _: object) -> str:
        if self._env.fidelity is not Fidelity.EXACT:
            raise bad(f"{self._served.spec.id} cannot copy its state; go back by replaying the actions", 409)
        content = pickle.dumps(self._env.snapshot(), pickle.HIGHEST_PROTOCOL)
        return frame("snapshot", {"snapshot": self._packed("the snapshot", self._served.seal.close(content))})

    def _restore(self, data: Restore) -> str:
        sealed = _bytes("restore: the snapshot", data.snapshot)
        snapshot = pickle.loads(self._served.seal.open(sealed))  # our own bytes: see Seal
        assert isinstance(snapshot, Snapshot)
        observation, info = self._env.restore(snapshot)
        return self._seen(observation, None, False, False, info, first=True)

    def _keep(self, data: Keep) -> str:
        kept = self._env.keep(data.most)
        return frame("keep", {"kept": None if kept is None else self._packed("what is kept of this step", kept)})

    def _resume(self, data: Resume) -> str:
        task = Task(env=self._served.spec.id, name=data.task, split=data.split, seed=data.task_seed)
        kept = _bytes("resume: what was kept", data.kept)
        observation, info = self._env.resume(task, data.actions, data.observations, kept)
        return self._seen(observation, None, False, False, info, first=True)

    def _packed(self, what: str, content: bytes) -> str:
        """In base64. Raises Refusal for what the client could not send back."""
        told = base64.b64encode(content).decode()
        if len(told) + 100 > self._served.longest:
            raise bad(
                f"{what} has {len(told):,} bytes, and a message may have {self._served.longest:,}; serve with a larger "
                "--max-message",
                413,
            )
        return told


def _bytes(what: str, told: str) -> bytes:
    try:
        return base64.b64decode(told, validate=True)
    except (binascii.Error, ValueError):
        raise bad(f"{what} is not base64") from None
