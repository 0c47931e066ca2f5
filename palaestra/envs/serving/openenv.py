"""Servers of OpenEnv, which know nothing of ours: their schema is read, and our messages are put into theirs.

What such a server has: reset with a seed, step, a reward, an end. What it lacks is made up here and said so: a task is
a seed (train 0 to 999, test 1000 to 1199), the score is the sum of the rewards within [0, 1], an episode that ended is
a success if that sum reaches `solved`. Rewinding is by replay, with every observation compared, so an environment
that does not follow its seed is found out instead of being mixed up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from palaestra.envs.errors import BadInput, EnvFault, MissingExtra
from palaestra.envs.fingerprint import digest
from palaestra.envs.serving.answers import OPENENV
from palaestra.envs.serving.connection import Address, Connection, headers
from palaestra.envs.serving.wire import MEGABYTE, WIRE, one_line

TRAIN, TEST = range(1000), range(1000, 1200)
_ASIDE = ("metadata", "done", "reward")
_LONGEST_TEXT = 50_000
"""Characters of an observation that are shown: some of these environments echo whatever they are told."""


class OpenEnvDialect:
    """What an OpenEnv server says of its environment, and how a text becomes an action of it.

    Args:
        address, token_variable, deadline_s: as for a `Connection`.
        action_field: which field of the action the agent's text goes to; None: the only text field there is. Where
            there are several, the agent writes the whole action as a JSON object.
        observation_field: which field of the observation the agent sees; None: the only text field there is. Where
            there are several, it sees the whole observation as JSON.
        solved: the sum of rewards from which an episode that ended is a success.

    Raises:
        BadInput: a field that the schema does not have, or an answer that is no schema. EnvFault: no answer.
        MissingExtra: httpx is not installed.
    """

    def __init__(
        self,
        address: Address,
        token_variable: str,
        deadline_s: float,
        action_field: str | None,
        observation_field: str | None,
        solved: float,
    ) -> None:
        self._address, self._token_variable, self._deadline_s = address, token_variable, deadline_s
        self.solved = solved
        schema, metadata = self._get("schema"), self._get("metadata")
        self.actions = _fields(schema, "action", address)
        seen = {**_fields(schema, "observation", address), **_fields(schema, "reset_observation", address)}
        self.action_field = self._chosen(action_field, self.actions, "action_field")
        self.observation_field = self._chosen(observation_field, seen, "observation_field")
        name = one_line(str(metadata.get("name", "environment")), 80)
        self.instructions = self._instructions(str(metadata.get("description", name)))
        version = one_line(str(metadata.get("version")), 40)
        self.about: dict[str, Any] = {
            "wire": WIRE,
            "env": f"openenv/{name}",
            "settings": {"action_field": self.action_field, "observation_field": self.observation_field},
            "splits": ["train", "test"],
            "fingerprint": f"openenv {name} {version} {digest(json.dumps(schema, sort_keys=True))}",
            "fidelity": "replay",
            "loose_listing": 0.0,
            "lists_actions": False,
            "oracle": False,
            "longest": MEGABYTE * 15,  # what uvicorn reads without being told otherwise is 16
        }

    def over(self, connection: Connection) -> OpenEnvSession:
        """A session that is asked in our words and asks in theirs."""
        return OpenEnvSession(self, connection)

    def told(self, kind: str, data: Mapping[str, Any]) -> dict[str, Any] | None:
        """What needs no session: there a connection is one, and a server has one of them unless it says otherwise."""
        if kind == "tasks":
            seeds = {"train": TRAIN, "test": TEST}[data["split"]]
            return {"names": list(map(str, seeds[data["start"] : data["stop"]])), "total": len(seeds)}
        if kind == "task":
            return {"instructions": self.instructions, "max_steps": None}
        return None

    def action(self, text: str) -> dict[str, Any] | None:
        """The action that an agent's text stands for; None where it is none."""
        text = _whole(text)
        if self.action_field is not None:
            return {self.action_field: text}
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None

    def text(self, observation: Mapping[str, Any]) -> str:
        """What the agent sees of an observation."""
        if self.observation_field is not None:
            return str(observation.get(self.observation_field, ""))
        return json.dumps({key: value for key, value in observation.items() if key not in _ASIDE}, sort_keys=True)

    def _instructions(self, description: str) -> str:
        if self.action_field is not None:
            how = self.actions[self.action_field].get("description", "")
            return f"{description}\nAnswer with one action. {how}".strip()
        fields = {name: {key: each[key] for key in each if key != "title"} for name, each in self.actions.items()}
        return f"{description}\nAnswer with one action as a JSON object with these fields: {json.dumps(fields)}"

    def _chosen(self, wanted: str | None, fields: Mapping[str, Any], setting: str) -> str | None:
        if wanted is not None:
            if wanted not in fields:
                raise BadInput(
                    f"{setting}={wanted!r}: {self._address.http} has the fields {', '.join(fields) or 'none'}"
                )
            return wanted
        texts = [name for name, each in fields.items() if each.get("type") == "string" and "const" not in each]
        others = [name for name, each in fields.items() if name not in texts and "default" not in each]
        if setting == "action_field" and others:  # a text alone would be no whole action
            return None
        return texts[0] if len(texts) == 1 else None

    def _get(self, what: str) -> dict[str, Any]:
        try:
            import httpx
        except ModuleNotFoundError:
            raise MissingExtra("httpx (servers of OpenEnv)", "serve") from None
        where = f"{self._address.http}/{what}"
        shown = headers(self._token_variable)
        try:
            answer = httpx.get(where, headers=shown, timeout=self._deadline_s, trust_env=not self._address.local)
            value = answer.json() if answer.status_code == 200 else None
        except httpx.HTTPError as error:
            raise EnvFault(f"{where} does not answer: {one_line(str(error)) or type(error).__name__}") from None
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise BadInput(f"{where} is not what a server of OpenEnv says (status {answer.status_code})")
        return value


class OpenEnvSession:
    """One session with an OpenEnv server, with the interface of a `Connection` that `RemoteEnv` uses."""

    def __init__(self, dialect: OpenEnvDialect, connection: Connection) -> None:
        self._dialect, self._connection = dialect, connection
        connection.forms = OPENENV
        self._sum = 0.0

    @property
    def open(self) -> bool:
        """As of `Connection`."""
        return self._connection.open

    @property
    def ended(self) -> bool:
        """As of `Connection`."""
        return self._connection.ended

    def cut(self) -> None:
        """As of `Connection`."""
        self._connection.cut()

    def close(self) -> None:
        """As of `Connection`."""
        self._connection.close()

    def ask(self, kind: str, data: dict[str, Any]) -> dict[str, Any]:
        """As of `Connection`, with our kinds of messages."""
        if (told := self._dialect.told(kind, data)) is not None:
            return told
        if kind == "reset":
            return self._reset(data)
        if kind == "step":
            return self._step(data["message"])
        raise BadInput(f"{self._dialect.about['env']} is a server of OpenEnv, which has no {kind!r}")

    def _reset(self, data: Mapping[str, Any]) -> dict[str, Any]:
        name = str(data["task"])
        if not (name.isascii() and name.isdigit()) or len(name) > 9:
            raise BadInput(f"a task of a server of OpenEnv is a seed, got {name!r:.80}")
        self._sum = 0.0
        answer = self._connection.ask("reset", {"seed": int(name)})
        return self._seen(answer, first=True)

    def _step(self, text: str) -> dict[str, Any]:
        action = self._dialect.action(text)
        if action is None:
            return self._unreadable("The action must be a JSON object.")
        try:
            answer = self._connection.ask("step", action)
        except BadInput as error:  # the server's own check of the action's fields
            return self._unreadable(str(error))
        return self._seen(answer)

    def _seen(self, answer: Mapping[str, Any], first: bool = False) -> dict[str, Any]:
        observation = answer["observation"]
        value = 0.0 if first else float(answer.get("reward") or 0.0)
        self._sum += value
        over = answer.get("done", False)
        rest = {key: each for key, each in observation.items() if key != self._dialect.observation_field}
        text = _whole(self._dialect.text(observation))
        if len(text) > _LONGEST_TEXT:
            text = f"{text[:_LONGEST_TEXT]}… ({len(text) - _LONGEST_TEXT:,} characters more)"
        return self._answer(text, value, over, True, rest)

    def _unreadable(self, text: str) -> dict[str, Any]:
        return self._answer(text, 0.0, False, False, {})

    def _answer(self, text: str, reward: float, over: bool, valid: bool, rest: Mapping[str, Any]) -> dict[str, Any]:
        seen = {
            "text": text,
            "score": min(1.0, max(0.0, self._sum)),
            "success": over and self._sum >= self._dialect.solved,
            "valid": valid,
            "terminated": over,
            "details": {"openenv": dict(rest)},
            "instructions": self._dialect.instructions,
            "max_steps": None,
        }
        return {"observation": seen, "reward": reward, "done": over}


def _whole(text: str) -> str:
    """The text with question marks for halves of surrogate pairs, at which these servers break."""
    return text.encode("utf-8", "replace").decode()


def _fields(schema: Mapping[str, Any], which: str, address: Address) -> dict[str, dict[str, Any]]:
    """The fields of an action or observation, without those that all of them have."""
    part = schema.get(which) or {}
    properties = part.get("properties", {}) if isinstance(part, dict) else None
    if not isinstance(properties, dict) or not all(isinstance(each, dict) for each in properties.values()):
        raise BadInput(f"{address.http}/schema has no fields for {which!r}")
    return {name: each for name, each in properties.items() if name not in _ASIDE}
