"""`RemoteEnv`: what a server serves, played like any other environment, rewind included.

    env = palaestra.make("remote", url="http://127.0.0.1:8000")

Its tasks, instructions, limits and way of rewinding are the served environment's. Where an environment copies its
state, a snapshot holds the server's sealed copy, which any other instance and process may hand back to the same
server; a server that was started anew does not know it any more, and then the actions are played again and every
observation is compared. The server may also be one of OpenEnv's: see `openenv`.
"""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import ValidationError

from palaestra.envs.core import Fidelity, Reply, Snapshot, Task, TextEnv
from palaestra.envs.errors import BadInput, EnvFault, NoOracle, ReplayDiverged
from palaestra.envs.serving.answers import first_of
from palaestra.envs.serving.connection import Address, Connection, ForeignSnapshot, UnknownType
from palaestra.envs.serving.openenv import OpenEnvDialect, OpenEnvSession
from palaestra.envs.serving.several import agree
from palaestra.envs.serving.wire import MEGABYTE, PAGE, TOKEN_VARIABLE, WIRE, About, frame, one_line

_LONGEST = 1_000_000
"""Seconds that a deadline may be away."""

_TURNS = itertools.count()  # whose turn it is, where instances are spread over several servers


@dataclass
class Standing:
    """Where the session stands, as far as the client knows.

    Attributes:
        details: the further keys of `info`.
        sealed: the server's copy of this very step, where a snapshot was made of it.
    """

    details: Mapping[str, Any] = field(default_factory=dict)
    sealed: bytes | None = None


class RemoteEnv(TextEnv[Standing]):
    """An environment that a server serves.

    A session begins when something is first asked, and ends with `close`. If it has ended meanwhile (the server was
    started anew, or nothing was asked for long), the next `reset` or `restore` begins another one; a step cannot.

    Args:
        url: of the server, such as `http://127.0.0.1:8000`; has to be given. Of several that serve the same, with
            commas between them, each instance takes the next one.
        deadline: seconds that an answer may take; later it is a fault.
        token_variable: the environment variable that holds the server's token. There is no setting for the token
            itself: settings are stored with every episode.
        action_field, observation_field: for servers of OpenEnv only: which field of the action the agent's text goes
            to, and which field of the observation it sees; found out from its schema where there is one choice.
        solved: for servers of OpenEnv only: the sum of rewards from which an episode that ended is a success.

    Raises:
        BadInput: an argument cannot be used. When something is first asked: the server wants a token, is none, or
            speaks another version.
    """

    def __init__(
        self,
        url: str = "",
        *,
        deadline: float = 150.0,
        token_variable: str = TOKEN_VARIABLE,
        action_field: str | None = None,
        observation_field: str | None = None,
        solved: float = 1.0,
    ) -> None:
        if isinstance(deadline, bool) or not isinstance(deadline, int | float) or not 0 < deadline <= _LONGEST:
            raise BadInput(f"deadline is a number of seconds above 0 and at most {_LONGEST:,}, got {deadline!r:.40}")
        if not isinstance(token_variable, str) or not re.fullmatch(r"\w+", token_variable, re.ASCII):
            raise BadInput(f"token_variable is the name of an environment variable, got {token_variable!r:.40}")
        for setting, field_name in (("action_field", action_field), ("observation_field", observation_field)):
            if field_name is not None and not isinstance(field_name, str):
                raise BadInput(f"{setting} is the name of a field, got {field_name!r:.40}")
        if isinstance(solved, bool) or not isinstance(solved, int | float) or solved != solved:
            raise BadInput(f"solved is a number, got {solved!r:.40}")
        if not url:
            raise BadInput("remote stands for what a server serves, so it needs its address: -s url=http://HOST:PORT")
        servers = [Address(each.strip()) for each in url.split(",")] if isinstance(url, str) else [Address(url)]
        self._servers, self._address = servers, servers[next(_TURNS) % len(servers)]
        self._deadline = float(deadline)
        self._token_variable = token_variable
        self._foreign = (action_field, observation_field, solved)
        self._connection: Connection | OpenEnvSession | None = None
        self._dialect: OpenEnvDialect | None = None
        self._about: dict[str, Any] | None = None
        self._names: dict[str, tuple[Task, ...]] = {}
        self._told: tuple[Task, str, int | None] | None = None
        self._resumed = Standing()

    # -- what is served ----------------------------------------------------------------------------------------------

    @property
    def about(self) -> Mapping[str, Any]:
        """What the server says of itself: `env`, `settings`, `fingerprint`, `splits`, ... Connects if need be."""
        if self._about is None:
            connection = self._session(fresh=True)
            if self._dialect is not None:  # see `told` of it
                connection.close()
                self._connection = None
            assert self._about is not None
        return self._about

    def splits(self) -> Sequence[str]:
        """The served environment's."""
        return tuple(self.about["splits"])

    def lists(self, name: str, split: str) -> bool:
        """The server looks, at every reset: thousands of names are not fetched for it."""
        return True

    def tasks(self, split: str) -> Sequence[Task]:
        """The served environment's, under this environment's id."""
        if split not in self.splits():
            raise BadInput(f"{self.about['env']} has no split {split!r}; it has: {', '.join(self.splits())}")
        if split not in self._names:
            env = self._id
            self._names[split] = tuple(Task(env=env, name=name, split=split) for name in self._pages(split))
        return self._names[split]

    def _pages(self, split: str) -> Sequence[str]:
        """The names of a split, page by page. Raises EnvFault for pages that never come to an end, or are not full."""
        names: dict[str, None] = {}
        while True:
            page = self._ask("tasks", {"split": split, "start": len(names), "stop": len(names) + PAGE}, again=True)
            total, before = page["total"], len(names)
            names.update(dict.fromkeys(page["names"]))
            if len(names) == total:
                return tuple(names)
            if len(names) != before + PAGE or len(names) > total:
                raise EnvFault(
                    f"{self._address.http} lists the tasks of {split!r:.60} wrongly: after {len(names):,} of {total:,} "
                    "come none, too few, further ones, or the same again"
                )

    def instructions(self, task: Task) -> str:
        """The served environment's."""
        return self._of(task)[0]

    def step_cap(self, task: Task) -> int | None:
        """The served environment's, or this instance's own `max_steps` where that is less."""
        return self._capped(self._of(task)[1])

    def fingerprint(self) -> str:
        """Of what is served: its id and settings, then its own fingerprint."""
        settings = ", ".join(f"{key}={value!r}" for key, value in sorted(self.about["settings"].items()))
        return f"{self.about['env']}({settings}) {self.about['fingerprint']}"

    @property
    def lists_actions(self) -> bool:
        """Does the served environment list its actions."""
        return bool(self.about["lists_actions"])

    @property
    def keeps(self) -> bool:
        """Does the served environment keep something of its steps."""
        return bool(self.about.get("keeps", False))

    @property
    def _id(self) -> str:
        return self.registration.id if self.registration is not None else "palaestra/Remote-v0"

    def _of(self, task: Task) -> tuple[str, int | None]:
        if self._told is None or self._told[0] != task:
            answer = self._ask("task", {"task": task.name, "split": task.split, "task_seed": task.seed}, again=True)
            self._told = (task, answer["instructions"], answer["max_steps"])
        return self._told[1:]

    def _capped(self, served: int | None) -> int | None:
        own = self.settings.get("max_steps")
        return min((cap for cap in (own, served) if cap is not None), default=None)

    # -- an episode --------------------------------------------------------------------------------------------------

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[Standing, str]:
        wanted = {"task": task.name, "split": task.split, "task_seed": task.seed}
        seen = self._ask("reset", wanted, again=True)["observation"]
        self._told = (task, seen["instructions"], seen["max_steps"])
        self.max_steps = self._capped(seen["max_steps"])
        return Standing(seen["details"]), seen["text"]

    def act(self, state: Standing, action: str) -> Reply:
        longest = self.about["longest"]
        if 12 * len(action) + 100 > longest and len(frame("step", {"message": action})) > longest:
            action = action[: longest // 12 - 100]  # the server reads no message that long, and it is noise anyway
        answer = self._going_on().ask("step", {"message": action})
        seen = answer["observation"]
        state.details, state.sealed = seen["details"], None
        return Reply(
            seen["text"],
            score=seen["score"],
            reward=answer["reward"],
            success=seen["success"],
            over=seen["terminated"],
            valid=seen["valid"],
        )

    def admissible(self, state: Standing) -> Sequence[str] | None:
        listed: Sequence[str] | None = self._going_on().ask("actions", {})["actions"]
        return listed

    def details(self, state: Standing) -> Mapping[str, Any]:
        return state.details

    def oracle(self) -> str:
        """What the served environment's oracle would do now. Raises NoOracle where it has none or tells nobody."""
        if not self.about["oracle"]:
            raise NoOracle(f"{self.about['env']} is served without an oracle")
        return str(self._going_on().ask("oracle", {})["action"])

    # -- rewind ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        if self.fidelity is Fidelity.EXACT:
            state = self._going().state
            if state.sealed is None:
                state.sealed = base64.b64decode(self._going_on().ask("snapshot", {})["snapshot"])
        return super().snapshot()

    def restore(self, snapshot: Snapshot) -> tuple[str, dict[str, Any]]:
        self.about  # noqa: B018  # connects, so that the way of rewinding is known
        answer = super().restore(snapshot)
        if snapshot.fidelity is Fidelity.REPLAY:
            return answer
        now, self._now = self._going(), None
        sealed = base64.b64encode(now.state.sealed or b"").decode()
        try:
            seen = self._ask("restore", {"snapshot": sealed}, again=True)["observation"]
        except ForeignSnapshot:
            return self._replay(snapshot.task, snapshot.actions, now.digests, None)
        if seen["text"] != now.observation:
            raise ReplayDiverged(snapshot.task.id, snapshot.step, now.observation, seen["text"])
        self.max_steps = self._capped(seen["max_steps"])
        self._told = (snapshot.task, seen["instructions"], seen["max_steps"])
        self._now = now
        return answer

    def keep(self, most: int = MEGABYTE) -> bytes | None:
        """What the served environment keeps of this step."""
        self._going()
        if not self.keeps:
            return None
        kept = self._going_on().ask("keep", {"most": most})["kept"]
        return None if kept is None else base64.b64decode(kept)

    def resume(
        self, task: Task, actions: Sequence[str], observations: Sequence[str], kept: bytes
    ) -> tuple[str, dict[str, Any]]:
        """In the served environment. Also raises BadInput where the server would not read a message that long."""
        self._now = None
        wanted = {
            "task": task.name,
            "split": task.split,
            "task_seed": task.seed,
            "actions": list(actions),
            "observations": list(observations),
            "kept": base64.b64encode(kept).decode(),
        }
        size, longest = len(frame("resume", wanted)), self.about["longest"]
        if size > longest:
            raise BadInput(
                f"going on with a kept step of {task.id} takes {size:,} bytes, and {self._address.http} reads messages "
                f"of {longest:,}; serve with a larger --max-message"
            )
        seen = self._ask("resume", wanted, again=True)["observation"]
        self._told = (task, seen["instructions"], seen["max_steps"])
        self.max_steps = self._capped(seen["max_steps"])
        self._resumed = Standing(seen["details"])
        return super().resume(task, actions, observations, kept)

    def from_bytes(self, task: Task, raw: bytes) -> Standing:
        return self._resumed

    def distance(self, task: Task, actions: Sequence[str]) -> int | None:
        """As in every environment; None where the session has ended."""
        alive = self._connection is not None and self._connection.open
        return super().distance(task, actions) if alive else None

    def abort(self) -> None:
        """Break the connection off: whoever waits for an answer gets a fault, and the server aborts its call."""
        if self._connection is not None:
            self._connection.cut()

    def close(self) -> None:
        """End the session; the server closes its environment."""
        super().close()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- the session -------------------------------------------------------------------------------------------------

    def _going_on(self) -> Connection | OpenEnvSession:
        """The session of the current episode."""
        if self._connection is None:
            raise EnvFault(f"the session with {self._address.http} has ended")
        return self._connection

    def _ask(self, kind: str, data: dict[str, Any], *, again: bool = False) -> dict[str, Any]:
        """Ask what needs no episode. `again`: where the session has ended meanwhile, in a new one, once."""
        if self._dialect is not None and (told := self._dialect.told(kind, data)) is not None:
            return told
        old = self._connection
        connection = self._session(fresh=old is None or not old.open)
        try:
            return connection.ask(kind, data)
        except EnvFault:
            if not again or connection is not old or not connection.ended:
                raise
        return self._session(fresh=True).ask(kind, data)

    def _session(self, *, fresh: bool) -> Connection | OpenEnvSession:
        if not fresh and self._connection is not None:
            return self._connection
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        connection, dialect, about = self._greet(self._address)
        try:
            self._agree(about)
            agree(self._servers, self._address, about, self._said)
        except BaseException:
            connection.close()
            raise
        self._connection, self._dialect = connection, dialect
        return connection

    def _greet(self, address: Address) -> tuple[Connection | OpenEnvSession, OpenEnvDialect | None, dict[str, Any]]:
        """A new session with a server, and what it says of itself."""
        connection = Connection(address, self._token_variable, self._deadline)
        try:
            try:
                return connection, None, connection.ask("hello", {"wire": WIRE})
            except UnknownType:
                dialect = OpenEnvDialect(address, self._token_variable, self._deadline, *self._foreign)
                return dialect.over(connection), dialect, dialect.about
        except BaseException:
            connection.close()
            raise

    def _said(self, address: Address) -> Mapping[str, Any]:
        """What another server of the list says of itself."""
        connection, _, about = self._greet(address)
        connection.close()
        self._understood(address, about)
        return about

    def _agree(self, about: dict[str, Any]) -> None:
        """Take what the server says of itself. Raises BadInput for nonsense, another version or environment."""
        self._understood(self._address, about)
        before, same = self._about, ("env", "settings", "fingerprint")
        if before is not None and any(before[key] != about[key] for key in same):
            was, now = (" ".join(str(one[key]) for key in same) for one in (before, about))
            raise BadInput(f"{self._address.http} now serves {now}, before it was {was}; make the environment anew")
        self._about = about
        # What other classes say of all their instances is said here of each, once its server is known.
        self.__dict__.update(fidelity=Fidelity(about["fidelity"]), loose_listing=float(about["loose_listing"]))

    @staticmethod
    def _understood(address: Address, about: Mapping[str, Any]) -> None:
        wire = about.get("wire")
        if type(wire) is int and wire != WIRE:  # what is no whole number is told below
            raise BadInput(
                f"{address.http} speaks version {one_line(str(wire), 40)} of the protocol (Palaestra "
                f"{one_line(str(about.get('palaestra')), 40)}), this client version {WIRE}; "
                "install the same Palaestra on both sides"
            )
        try:
            About.model_validate(about)
        except ValidationError as error:
            raise BadInput(
                f"{address.http} is no environment server: what it says of itself is {first_of(error)}"
            ) from None


def served_oracle(env: TextEnv[Any]) -> str:
    """The oracle of the served environment, asked over the wire."""
    if not isinstance(env, RemoteEnv):
        raise BadInput(f"this oracle asks the server of a RemoteEnv, got {type(env).__name__}")
    return env.oracle()
