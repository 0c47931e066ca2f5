"""`ToolEnv`: a user's requests, tools to call on a state, and a goal that judges what came of it."""

from __future__ import annotations

import inspect
import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from palaestra.envs.core import Fidelity, Reply, Task, TextEnv
from palaestra.envs.errors import BadInput, EnvFault
from palaestra.envs.registry import EnvSpec, register
from palaestra.envs.tools import calls as grammar
from palaestra.envs.tools.calls import Call
from palaestra.envs.tools.schema import Tool, WrongArguments, told, tool, written

FINISH = "finish"
"""The call that answers the user, beside plain words."""

LONGEST_ANSWER = 20_000
"""Characters of a tool's answer that are shown; the middle of a longer one is left out."""

_RULES = """\
{about}
To call tools, answer with nothing but the calls: name(argument=value), several as [name(argument=value), name()], or as
JSON {{"name": ..., "arguments": {{...}}}}. Values are literals. You then see what they returned. To answer the user,
write words, or finish(answer="..."); when a request is fulfilled and there is nothing to say: done. The tools:
{tools}"""


@dataclass(frozen=True)
class Goal:
    """What a user wants in one task, and how it is judged.

    Attributes:
        requests: what the user says: one text, or several that come one after another, each when the last is answered.
        judge: given the state at the end, says how well it is done, in [0, 1] or as a bool.
        answer: the text that the last answer must be (letter case and blanks at its ends do not count), or a function
            of it that says so. With `judge` as well, the smaller verdict counts.
        solution: answers that reach the goal, for the oracle.
    """

    requests: str | Sequence[str]
    judge: Callable[[Any], float | bool] | None = None
    answer: str | Callable[[str], float | bool] | None = None
    solution: Sequence[str] = ()

    @property
    def turns(self) -> tuple[str, ...]:
        """The requests, one a turn."""
        return (self.requests,) if isinstance(self.requests, str) else tuple(self.requests)

    def score(self, state: object, answer: str) -> float:
        """How well it is done, in [0, 1]. Raises EnvFault where the judge itself breaks, or says anything else."""
        verdicts: list[float] = []
        try:
            if self.judge is not None:
                verdicts.append(float(self.judge(state)))
            if callable(self.answer):
                verdicts.append(float(self.answer(answer)))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise EnvFault(f"the judge of {self.turns[0]!r:.60} raised {told(error)}") from error
        for verdict in verdicts:
            if not 0.0 <= verdict <= 1.0:  # NaN neither
                raise EnvFault(f"the judge of {self.turns[0]!r:.60} gave {verdict}, which is not within 0 and 1")
        if isinstance(self.answer, str):
            verdicts.append(float(answer.strip().casefold() == self.answer.strip().casefold()))
        return min(verdicts)


@dataclass
class Session:
    """All of an episode.

    Attributes:
        goal: name of the task, by which the goal is looked up.
        state: what the tools work on.
        turn: index of the request that is being answered.
        calls: every call that was made.
        answers: what the user was told, in turn.
    """

    goal: str
    state: Any
    turn: int = 0
    calls: list[Call] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)


class ToolEnv(TextEnv[Session]):
    """You help a user by calling tools."""

    # Subclasses are made by `register_tools`, which fills these in.
    toolbox: ClassVar[Mapping[str, Tool]] = {}
    goals: ClassVar[Mapping[str, Mapping[str, Goal]]] = {}
    about: ClassVar[str] = ""

    def fresh(self, task: Task, rng: np.random.Generator) -> Any:
        """A new state for an episode."""
        return None

    def tools(self, state: Any) -> Mapping[str, Tool]:
        """The tools that can be called."""
        return self.toolbox

    def tool(self, state: Any, name: str) -> Tool | None:
        """The tool of a name, None where there is none."""
        return self.tools(state).get(name)

    def goal(self, task: Task) -> Goal:
        """The goal of a task. Raises BadInput for a task that has none."""
        try:
            return self.goals[task.split][task.name]
        except KeyError:
            raise BadInput(f"there is no goal for the task {task.id}") from None

    def instructions(self, task: Task) -> str:
        return rules(self.about, self.tools(None).values())

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[Session, str]:
        """Start a task. Raises BadInput for one that has no goal, or a state that cannot be copied."""
        goal, state = self.goal(task), self.fresh(task, rng)
        if self.fidelity is Fidelity.EXACT:
            _check_copies(state)
        return Session(task.name, state), goal.turns[0]

    def act(self, state: Session, action: str) -> Reply:
        tools = self.tools(state.state)
        reading = grammar.read(action, {*tools, FINISH})
        if reading.problem is not None:
            return Reply(reading.problem, valid=False)
        if not reading.calls:
            return self._answered(state, "" if action.strip().lower() == "done" else action.strip())
        if any(call.name == FINISH for call in reading.calls[:-1]):
            return Reply(f"Wrong call: {FINISH} comes last, for it ends the answer. No call was made.", valid=False)
        said: list[str] = []
        valid = True
        for call in reading.calls:
            if call.name == FINISH:
                given = [*call.positional, *call.arguments.values()]
                if len(given) > 1 or call.arguments.keys() - {"answer"}:
                    return Reply("\n".join([*said, f"Wrong call: {FINISH} takes one argument, answer."]), valid=False)
                answer = given[0] if given else ""
                reply = self._answered(state, answer if isinstance(answer, str) else written(answer))
                text = "\n".join([*said, reply.observation])
                return Reply(text, reply.score, success=reply.success, over=reply.over, valid=valid)
            text, right = self._called(state, call)
            state.calls.append(call)
            said.append(text)
            valid = valid and right
        return Reply("\n".join(said), valid=valid)

    def _called(self, session: Session, call: Call) -> tuple[str, bool]:
        known = self.tool(session.state, call.name)
        if known is None:
            names = ", ".join([*self.tools(session.state), FINISH])
            return f"There is no tool {call.name[:60]!r}; there are: {names}.", False
        try:
            arguments = known.arguments(call)
        except WrongArguments as error:
            return f"Wrong call: {error}.", False
        except RecursionError:
            return f"Wrong call: {call.name}: an argument is nested too deep.", False
        try:
            return _shown(written(known.run(session.state, **arguments))), True
        except (EnvFault, KeyboardInterrupt):  # the latter is whoever runs this
            raise
        except BaseException as error:  # SystemExit, asyncio.CancelledError and own ones, too
            return _shown(f"Error: {told(error)}"), True

    def _answered(self, session: Session, answer: str) -> Reply:
        goal = self.goal(self.task)
        session.answers.append(answer)
        session.turn += 1
        if session.turn < len(goal.turns):
            return Reply(goal.turns[session.turn])
        score = goal.score(session.state, answer)
        return Reply("The conversation ends.", score=score, success=score >= 1.0, over=True)


def rules(about: str, tools: Any) -> str:
    """What an agent is told first: what it is for, how to call, the schemas of the tools."""
    return _RULES.format(about=about, tools="\n".join(json.dumps(each.schema(), ensure_ascii=False) for each in tools))


def solved(env: TextEnv[Session]) -> str:
    """The oracle: the answers of the goal's `solution`, in turn; `done` after them."""
    if not isinstance(env, ToolEnv):
        raise BadInput(f"{type(env).__name__} is no environment of tools")
    solution, step = env.goal(env.task).solution, len(env.history)
    return solution[step] if step < len(solution) else "done"


def register_tools(
    id: str,
    tools: Sequence[Callable[..., object]],
    *,
    goals: Mapping[str, Mapping[str, Goal]],
    state: Callable[..., Any] | None = None,
    instructions: str = "You help a user by calling tools.",
    max_steps: int = 20,
    **rest: Any,
) -> EnvSpec:
    """Make an environment of Python functions.

    Args:
        id: of the environment, such as `mine/Shop-v0`.
        tools: typed functions, or methods of the state's class. A first parameter called `self` or `state` gets the
            state; see `tool` for one of that name that is an argument.
        goals: split -> task name -> goal; the training split first.
        state: makes the state of an episode: a class or function without arguments, or one that takes the task and its
            random generator. Whatever changes must be in it, and it must pickle: that is what makes rewind exact.
        instructions: one or two sentences for the agent; how to call and the tools' schemas are added.
        max_steps: answers until an episode is truncated.
        rest: other fields of `EnvSpec`, such as `summary`.

    Raises:
        BadInput: an untyped argument (with tool and argument), two tools of one name, a goal that nothing judges.
    """
    box = toolbox(tools, state=state is not None)
    check_goals(id, goals)
    try:
        takes = [p for p in inspect.signature(state).parameters.values() if p.default is p.empty] if state else []
    except ValueError:  # dict and others that are written in C, which can be made without arguments
        takes = []
    if len(takes) not in (0, 2):
        raise BadInput(f"{id}: `state` takes nothing, or the task and its random generator, not {len(takes)} arguments")

    def fresh(self: ToolEnv, task: Task, rng: np.random.Generator) -> Any:
        if state is None:
            return None
        return state(task, rng) if takes else state()

    home = getattr(tools[0], "__module__", __name__)
    body = {"toolbox": box, "goals": goals, "about": instructions, "fresh": fresh, "__module__": home}
    return register_class(id, type(id.split("/")[-1].split("-v")[0], (ToolEnv,), body), goals, max_steps, rest)


def register_class(
    id: str, cls: type[ToolEnv], goals: Mapping[str, Mapping[str, Goal]], max_steps: int, rest: Mapping[str, Any]
) -> EnvSpec:
    """Register a class of tools with the tasks of its goals; an oracle if every goal has a solution."""
    every = [goal for named in goals.values() for goal in named.values()]
    fields: dict[str, Any] = {"style": "text", "answer_tokens": 256}
    if all(goal.solution for goal in every):
        fields["oracles"] = {"solution": solved}
    splits = {split: tuple(named) for split, named in goals.items()}
    return register(id, cls, splits=splits, max_steps=max_steps, **{**fields, **rest})


def toolbox(tools: Sequence[Callable[..., object]], *, state: bool = True) -> dict[str, Tool]:
    """The tools of functions by name. Raises BadInput as `tool` does, and for none or two of one name."""
    box: dict[str, Tool] = {}
    for function in tools:
        made = tool(function, state=state)
        if made.name in box or made.name == FINISH:
            raise BadInput(f"two tools are called {made.name!r}" + (", which ends an answer" * (made.name == FINISH)))
        box[made.name] = made
    if not box:
        raise BadInput("an environment of tools needs at least one")
    return box


def check_goals(id: str, goals: Mapping[str, Mapping[str, Goal]]) -> None:
    """Raises BadInput for a goal without words, or without anything that judges it."""
    for split, named in goals.items():
        for name, goal in named.items():
            if goal.judge is None and goal.answer is None:
                raise BadInput(
                    f"{id}: nothing judges the goal {name!r} of split {split!r}; give it a judge or an answer"
                )
            if not goal.turns or not all(isinstance(text, str) and text.strip() for text in goal.turns):
                raise BadInput(f"{id}: the goal {name!r} of split {split!r} has a request without words")


def _check_copies(state: object) -> None:
    try:
        pickle.dumps(state)
    except Exception as error:
        raise BadInput(
            f"the state, a {type(state).__name__}, cannot be pickled ({error}); keep plain data in it, and open files "
            "or connections inside the tools"
        ) from error


def _shown(text: str) -> str:
    text = text.encode("utf-8", "replace").decode("utf-8")
    if len(text) <= LONGEST_ANSWER:
        return text
    half = LONGEST_ANSWER // 2
    return f"{text[:half]} [... {len(text) - 2 * half} characters ...] {text[-half:]}"
