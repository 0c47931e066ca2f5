"""BFCL's multi-turn entries as a text environment: a user's requests one after another, API functions to call."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from palaestra.envs.bfcl import data, judge, protocols
from palaestra.envs.bfcl import worlds as api
from palaestra.envs.bfcl.data import Entry
from palaestra.envs.core import Reply, Task, TextEnv
from palaestra.envs.errors import BadInput
from palaestra.envs.fingerprint import code_fingerprint, digest
from palaestra.envs.tools import calls as grammar
from palaestra.envs.tools.calls import Call

STEPS = 20
"""Answers with calls that a turn may have; one more, and the entry is failed, as in the benchmark."""

MOST_BYTES = 400_000
"""Size of the pickled instances (at most 27,000 under the ground truth) and of what calls answer (32,000). An answer
whose calls go beyond it is undone."""

_RULES = """\
You help a user by calling functions. The user makes several requests, one after another. To call functions, answer
with nothing but the calls: name(argument=value), several as [name(argument=value), name()], or as JSON
{{"name": ..., "arguments": {{...}}}}. Values are literals. You then see what they answered and can call more. When a
request is fulfilled, answer in words, or with: done. If no function fits, or an argument is missing that you cannot
find out, say so in words. The functions:
{functions}"""


@dataclass
class State:
    """All of an episode.

    Attributes:
        entry: name of the entry.
        worlds, truth: the instances of the agent and those on which the ground truth is played.
        turn: index of the user's request that is being answered.
        steps: answers with calls in this turn.
        called: the calls of this turn; earlier turns are in `calls`.
        calls: the calls of all earlier turns.
        answers: what all calls have answered since the first turn.
        verdicts: of each finished turn: None where it was passed, else the kind of error.
        needless: turns that asked for no call and got one.
    """

    entry: str
    worlds: api.Worlds
    truth: api.Worlds
    turn: int = 0
    steps: int = 0
    called: list[Call] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    verdicts: list[str | None] = field(default_factory=list)
    needless: list[int] = field(default_factory=list)


class BFCL(TextEnv[State]):
    """A user's requests, API functions to call, and hidden worlds that must end up as the user wants them.

    An entry is passed if every turn is; it ends at the first that is not. Score: the share of turns passed so far.
    Success: all of them.

    Args:
        category: "base", "miss_func", "miss_param" or "long_context" for the tasks of this category only; None for all.
        protocol: "exit" for ExIt's tasks and rule (see `protocols.py`); None for the benchmark's.
        docs: "json" for the functions' documentation as the benchmark gives it (3,000 to 9,000 tokens), "brief" for a
            line each.

    Raises:
        BadInput: a category, protocol or form of documentation that there is not, or a category with `exit`.
    """

    def __init__(self, category: str | None = None, protocol: str | None = None, docs: str = "json") -> None:
        super().__init__()
        if category is not None and category not in data.CATEGORIES:
            raise BadInput(f"BFCL has no category {category!r}; it has: {', '.join(data.CATEGORIES)}")
        if protocol is not None and protocol not in protocols.PROTOCOLS:
            raise BadInput(f"BFCL has no protocol {protocol!r}; it has: {', '.join(protocols.PROTOCOLS)}, or None")
        if protocol is not None and category not in (None, "base"):
            raise BadInput(f"protocol {protocol!r} is of the category base, not {category!r}")
        if docs not in ("json", "brief"):
            raise BadInput(f"BFCL's docs are 'json' or 'brief', not {docs!r}")
        self.category, self.protocol, self.docs = category, protocol, docs
        self._cap: int | None = None

    # -- tasks -------------------------------------------------------------------------------------------------------

    def splits(self) -> Sequence[str]:
        return ("train", "test") if self.protocol else super().splits()

    def tasks(self, split: str) -> Sequence[Task]:
        """Raises BadInput for a split that does not exist, and NotInstalled under the protocol `exit`."""
        if self.protocol is None:
            every = super().tasks(split)
            return [task for task in every if not self.category or task.name.startswith(f"{self.category}/")]
        if split not in self.splits():
            raise BadInput(f"protocol {self.protocol!r} has no split {split!r}; it has: {', '.join(self.splits())}")
        env = self.registration.id if self.registration else "palaestra/BFCL-v0"
        return [Task(env=env, name=name, split=split) for name in protocols.names(split)]

    def step_cap(self, task: Task) -> int | None:
        own = super().step_cap(task) if self._cap is None else self._cap
        if self.protocol is None:
            return own
        cap = protocols.STEPS[task.split] if task.split in protocols.STEPS else protocols.STEPS["test"]
        return cap if own is None else min(cap, own)

    def fingerprint(self) -> str:
        cls: type = type(self)
        return code_fingerprint(cls, data.version(), _grammar())

    def instructions(self, task: Task) -> str:
        return _RULES.format(functions=self._documented(data.entry(task.name).functions(0).values()))

    # -- an episode --------------------------------------------------------------------------------------------------

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[State, str]:
        """Build the worlds of an entry. Raises BadInput for a task that is none, NotInstalled."""
        entry = data.entry(task.name)
        if self.protocol is not None:
            if self._cap is None:
                self._cap = self.max_steps
            self.max_steps = self.step_cap(task)
        state = State(entry.name, api.build(entry), api.build(entry))
        return state, self._request(entry, 0)

    def act(self, state: State, action: str) -> Reply:
        entry = data.entry(state.entry)
        functions = entry.functions(len(entry.requests))  # withheld ones too: the runner lets them be called unseen
        reading = grammar.read(action, functions)
        if reading.problem is not None:
            return self._count(state, Reply(reading.problem, valid=False))
        if not reading.calls:
            return self._next_turn(state, entry)
        before = pickle.dumps(state.worlds, pickle.HIGHEST_PROTOCOL)
        answers, valid = [], True
        for call in reading.calls:
            if call.name in functions:
                answer, right = api.make(state.worlds, call)
            else:
                near = ", ".join(entry.functions(state.turn))
                answer, right = (
                    f"Error during execution: there is no function {call.name[:60]!r}; there are: {near}",
                    False,
                )
            answers.append(answer)
            valid = valid and right
        if not _storable(state.worlds, answers):
            state.worlds = pickle.loads(before)
            return self._count(state, Reply("That is more than this world can hold; nothing was changed.", valid=False))
        state.called += reading.calls
        state.answers += answers
        return self._count(state, Reply("\n".join(_plain(answer) for answer in answers), valid=valid))

    def details(self, state: State) -> Mapping[str, Any]:
        """`turn`, `verdicts` of the finished turns, and `needless`: turns that asked for no call and got one."""
        return {"turn": state.turn, "verdicts": tuple(state.verdicts), "needless": tuple(state.needless)}

    # -- inside ------------------------------------------------------------------------------------------------------

    def _count(self, state: State, reply: Reply) -> Reply:
        state.steps += 1
        if state.steps <= STEPS:
            return reply
        state.verdicts.append("multi_turn:force_terminated")
        said = f"{reply.observation}\n\nThis request took more than {STEPS} steps. The conversation ends."
        return Reply(said, valid=reply.valid, over=True)

    def _turns(self, entry: Entry) -> int:
        task = self.task
        return 1 if self.protocol is not None and task.split == "train" else len(entry.requests)

    def _next_turn(self, state: State, entry: Entry) -> Reply:
        turn, turns = state.turn, self._turns(entry)
        expected = judge.play_truth(state.truth, entry.truth[turn])
        if judge.needless(entry, turn, len(state.called)):
            state.needless.append(turn)
        if self.protocol is None:
            failed = judge.why_failed(state.worlds, state.truth, expected, state.answers, len(state.called), turn)
        else:
            failed = protocols.why_failed(entry, turn, state.worlds, state.truth, [*state.calls, *state.called])
        state.verdicts.append(failed)
        state.calls += state.called
        state.called, state.steps, state.turn = [], 0, turn + 1
        passed = sum(verdict is None for verdict in state.verdicts)
        last = state.turn == turns
        if failed is not None and (last or self.protocol is None):
            return Reply("The user is not satisfied. The conversation ends.", over=True, score=passed / turns)
        if last:
            return Reply("The user thanks you. The conversation ends.", score=1.0, success=True, over=True)
        return Reply(self._request(entry, state.turn), score=passed / turns)

    def _request(self, entry: Entry, turn: int) -> str:
        if turn not in entry.withheld:
            return entry.requests[turn]
        from bfcl_eval.constants.default_prompts import DEFAULT_USER_PROMPT_FOR_ADDITIONAL_FUNCTION_PROMPTING as words

        functions = entry.functions(turn)
        shown = self._documented([functions[name] for name in entry.withheld[turn]])
        return str(words.format(functions=shown)).strip()

    def _documented(self, functions: Any) -> str:
        return "\n".join(json.dumps(doc) if self.docs == "json" else _brief(doc) for doc in functions)


def _brief(doc: Mapping[str, Any]) -> str:
    needed = doc["parameters"].get("required", ())
    parts = []
    for name, about in doc["parameters"]["properties"].items():
        parts.append(f"{name}: {about['type']}" + ("" if name in needed else " = optional"))
    about = doc["description"].rpartition("Tool description: ")[2].split(". ")[0].rstrip(".")
    return f"{doc['name']}({', '.join(parts)}) - {about}"


def _storable(worlds: api.Worlds, answers: Sequence[str]) -> bool:
    if sum(map(len, answers)) > MOST_BYTES:
        return False
    try:
        return len(pickle.dumps(worlds, pickle.HIGHEST_PROTOCOL)) <= MOST_BYTES
    except (RecursionError, MemoryError):  # folders in folders in folders
        return False


def _plain(text: str) -> str:
    """Without what no text file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


@lru_cache(maxsize=1)
def _grammar() -> str:
    return digest(Path(grammar.__file__).read_text(encoding="utf-8"))
