"""tau-bench's domains as text environments: a user who wants something, a policy to follow, tools to call."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from palaestra.envs.core import Reply, Task, TextEnv
from palaestra.envs.errors import BadInput
from palaestra.envs.fingerprint import code_fingerprint, digest
from palaestra.envs.taubench import data, protocols, toolbox
from palaestra.envs.taubench.judge import judge
from palaestra.envs.taubench.user import STOP, Line, User, ask, named, plain, played_by
from palaestra.envs.taubench.world import Changes, World
from palaestra.envs.tools import calls as grammar

LONGEST = 60_000
"""Characters of a tool's answer that are shown; the longest of the files' has some 45,000."""

_RULES = """\
{policy}

# How you act

In each answer, either call one tool or talk to the user. To call a tool, answer with nothing but the call:
name(argument=value), or as JSON {{"name": ..., "arguments": {{...}}}}. Values are literals. You then see what it
returned. Every other answer is read by the user, who replies. The tools:
{tools}"""


@dataclass
class State:
    """All of an episode.

    Attributes:
        task: name of the task.
        seed: of what the user says.
        changes: what is no longer as in the files.
        lines: what user and agent said to one another.
        calls: the calls that were made, in the Python form.
        verdict: at the end, what the reward is for: rows that differ, outputs that were not told.
    """

    task: str
    seed: int
    changes: Changes = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    verdict: Mapping[str, tuple[str, ...]] | None = None


class TauBench(TextEnv[State]):
    """A customer, a policy, and tools over a database. Score and success: 1 if all was done as it should be, else 0.

    Args:
        user: who plays the user: any policy or its name (`openai:MODEL@URL`, a model in this process), or "scripted".
            None is the policy that the variable PALAESTRA_USER names, or the script where it names none.
        protocol: see `palaestra.envs.taubench.protocols`; None for the files' own splits with any user.
        release: "current", or "recorded" for the databases as the GPT-4o episodes saw them.
        docs: "json" for the tools' schemas as the benchmark gives them, "brief" for a line each: half the tokens.

    Raises:
        BadInput: a user, protocol, release or form of documentation that there is not.
    """

    name: ClassVar[str]

    def __init__(
        self, user: object = None, protocol: str | None = None, release: str = "current", docs: str = "json"
    ) -> None:
        super().__init__()
        if docs not in ("json", "brief"):
            raise BadInput(f"tau-bench's docs are 'json' or 'brief', not {docs!r}")
        if release not in data.RELEASES:
            raise BadInput(f"tau-bench has no release {release!r}; it has: {', '.join(data.RELEASES)}")
        self.protocol, self.release, self.docs = protocol, release, docs
        self._wanted = named(user)
        protocols.check(self.name, protocol, self._wanted)
        self._recited: Mapping[int, str] = {}

    @cached_property
    def domain(self) -> data.Domain:
        """Databases, policy, schemas and tasks. Raises BadInput where they are not here."""
        return data.load(self.name, self.release)

    @cached_property
    def user(self) -> User:
        """Who plays the user. Raises BadInput for a policy that there is not, and what loading it raises."""
        return played_by(self._wanted, self._id)

    @property
    def _id(self) -> str:
        return self.registration.id if self.registration else f"palaestra/Tau{self.name.title()}-v0"

    # -- tasks -------------------------------------------------------------------------------------------------------

    def splits(self) -> Sequence[str]:
        return protocols.splits(self.name, self.protocol) or super().splits()

    def tasks(self, split: str) -> Sequence[Task]:
        """Raises BadInput for a split that does not exist, and for `halves` where the data set is not here."""
        if protocols.splits(self.name, self.protocol) is None:
            return super().tasks(split)
        if split not in self.splits():
            raise BadInput(f"protocol {self.protocol!r} has no split {split!r}; it has: {', '.join(self.splits())}")
        return [Task(env=self._id, name=name, split=split) for name in protocols.half(self.domain, split)]

    def fingerprint(self) -> str:
        """Names who plays the user, in words: figures with different users are not comparable."""
        cls: type = type(self)
        return f"{code_fingerprint(cls, self.domain.digest, _grammar())}, user {self.user.name}"

    def instructions(self, task: Task) -> str:
        tools = toolbox.tools(self.domain).values()
        if self.docs == "brief":
            shown = "\n".join(map(toolbox.brief, tools))
        else:
            shown = "\n".join(json.dumps(each.schema(), ensure_ascii=False) for each in tools)
        return _RULES.format(policy=self.domain.policy, tools=shown)

    # -- an episode --------------------------------------------------------------------------------------------------

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[State, str]:
        """The user speaks first. Raises BadInput for a task that is none, EnvFault where the user does not speak."""
        data.task(self.domain, task.name)
        state = State(task.name, int(rng.integers(2**31)))
        return state, self._user_says(state, 0)

    def act(self, state: State, action: str) -> Reply:
        reading = grammar.read(action, toolbox.tools(self.domain))
        if reading.problem is not None:
            return Reply(reading.problem, valid=False)
        if not reading.calls:
            return self._said(state, plain(action.strip()))
        if len(reading.calls) > 1:
            return Reply(f"{len(reading.calls)} calls in one answer; make one at a time. None was made.", valid=False)
        (call,) = reading.calls
        answer, right = toolbox.make(self.domain, World(self.domain.tables, state.changes), call)
        if right:
            state.calls.append(str(call))
        if right and call.name == toolbox.TRANSFER:
            return self._end(state, answer)
        return Reply(_shown(answer), valid=right)

    def details(self, state: State) -> Mapping[str, Any]:
        """`user`: who plays it; at the end `differing` rows and `untold` outputs, which say why the reward is 0."""
        return {"user": self.user.name, **(state.verdict or {})}

    # -- rewind ------------------------------------------------------------------------------------------------------

    def replay(
        self, task: Task, actions: Sequence[str], observations: Sequence[str] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """As `TextEnv.replay`; where `observations` are given, the user says again what stands in them.

        What a tool answers is worked out anew and compared. So episodes with another user, a recorded one among them,
        can be gone back to at any step, and this instance's user goes on from there.
        """
        with self.reciting(dict(enumerate(observations or ()))):
            return super().replay(task, actions, observations)

    @contextmanager
    def reciting(self, lines: Mapping[int, str]) -> Iterator[None]:
        """While this is open, the user says `lines[n]` after n actions, where there is such a line."""
        before, self._recited = self._recited, lines
        try:
            yield
        finally:
            self._recited = before

    # -- inside ------------------------------------------------------------------------------------------------------

    def _said(self, state: State, words: str) -> Reply:
        state.lines.append(Line(False, words))
        answer = self._user_says(state, len(self.history) + 1)
        return self._end(state, answer) if STOP in answer else Reply(answer)

    def _user_says(self, state: State, step: int) -> str:
        text = self._recited.get(step)
        if text is None:
            instruction = data.task(self.domain, state.task).instruction
            text = ask(self.user, instruction, tuple(state.lines), (state.seed + len(state.lines)) % 2**31)
        state.lines.append(Line(True, text))
        return text

    def _end(self, state: State, observation: str) -> Reply:
        told = [line.text for line in state.lines if not line.by_user]
        verdict = judge(self.domain, state.task, state.changes, told)
        state.verdict = {"differing": verdict.differing, "untold": verdict.untold}
        return Reply(observation, score=float(verdict.passed), success=verdict.passed, over=True)


class TauAirline(TauBench):
    """Bookings, changes and refunds of an airline."""

    name = "airline"


class TauRetail(TauBench):
    """Orders, returns and exchanges of an online shop."""

    name = "retail"


def _shown(text: str) -> str:
    text = plain(text)
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 2
    return f"{text[:half]} [... {len(text) - 2 * half} characters ...] {text[-half:]}"


@lru_cache(maxsize=1)
def _grammar() -> str:
    return digest(Path(grammar.__file__).read_text(encoding="utf-8"))
