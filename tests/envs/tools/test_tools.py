"""An environment of typed functions: schemas, calls, judges, rewind."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from palaestra.envs import BadInput, EnvFault, find, make
from palaestra.envs.check import check
from palaestra.envs.source import load
from palaestra.envs.tools import Goal, register_tools, tool
from palaestra.envs.tools.schema import written

pytestmark = pytest.mark.usefixtures("clean_registry")

EXAMPLE = Path(__file__).parents[3] / "examples" / "till.py"


class Place(BaseModel):
    """A place in the store."""

    row: int = Field(ge=1)
    shelf: str = "a"


@dataclass
class Store:
    """What the tests' tools work on."""

    goods: dict[str, int] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    def put(self, item: str, amount: int = 1, where: Place | None = None, kind: Literal["new", "used"] = "new") -> int:
        """Put goods into the store.

        Args:
            item: what it is called,
                in one word
            amount (int): how many
        """
        self.goods[item] = self.goods.get(item, 0) + amount
        return self.goods[item]

    def quit(self) -> None:
        """Leave."""
        sys.exit("bye")

    def crash(self) -> None:
        """Break."""
        raise KeyError("no such thing")


def look(state: Store, schema: str, _id: float = 0.5) -> list[str]:
    """Look for goods whose name holds a text."""
    state.seen.append(schema)
    return [name for name in state.goods if schema in name]


def shout(text: str) -> str:
    """Say it louder."""
    return text.upper()


def register(**goals: Goal):
    made = goals or {"two": Goal("Store two pens.", judge=lambda store: store.goods == {"pen": 2})}
    return register_tools(
        "mine/Store-v0", [Store.put, Store.quit, Store.crash, look, shout], state=Store, goals={"train": made}
    )


def told(*answers: str):
    """The last observation and info after these answers."""
    register()
    env = make("mine/Store-v0")
    env.reset(options={"task": "two"})
    for answer in answers:
        observation, *_, info = env.step(answer)
    return observation, info


def test_the_example_of_15_lines_keeps_every_promise():
    code = EXAMPLE.read_text(encoding="utf-8").split('"""', 2)[2]
    assert len([line for line in code.splitlines() if line.strip()]) <= 16
    load(str(EXAMPLE))
    report = check("mine/Till-v0", fast=True, cycles=10)
    assert report.passed, f"\n{report}"


def test_a_schema_comes_from_signature_and_docstring_and_hides_the_state():
    schema = tool(Store.put).schema()
    assert schema["name"] == "put"
    assert schema["description"] == "Put goods into the store."
    properties = schema["parameters"]["properties"]
    assert list(properties) == ["item", "amount", "where", "kind"]
    assert properties["item"] == {"type": "string", "description": "what it is called, in one word"}
    assert properties["amount"] == {"type": "integer", "default": 1, "description": "how many"}
    assert properties["kind"]["enum"] == ["new", "used"]
    assert schema["parameters"]["required"] == ["item"]
    assert list(tool(look).schema()["parameters"]["properties"]) == ["schema", "_id"]


class Mute:
    """What cannot be written."""

    def __str__(self) -> str:
        raise RuntimeError("no")


class Torn(BaseModel):
    """What JSON cannot hold."""

    text: str = "\ud800"


def keep(state: dict, item: str) -> int:
    """Keep something."""
    state[item] = item
    return len(state)


def test_a_state_may_be_a_dict():
    register_tools(
        "mine/Dict-v0", [keep], state=dict, goals={"train": {"a": Goal("Keep a.", judge=lambda d: "a" in d)}}
    )
    env = make("mine/Dict-v0")
    env.reset(options={"task": "a"})
    assert env.step("keep('a')")[0] == "1"
    assert env.step("done")[4]["success"]


RESULTS = [10**10_000, [10**10_000], Mute(), {1: {Mute()}}, float("nan"), Torn(), "a", b"\xff"]


@pytest.mark.parametrize("result", RESULTS, ids=range(8))
def test_whatever_a_tool_returns_is_written(result):
    assert written(result)


def cities(state: str, least: int = 0) -> str:
    """Cities of a state of the union."""
    return f"{state} {least}"


def ship(item: str, state: Literal["CA", "NY"]) -> str:
    """Ship somewhere."""
    return f"{item} {state}"


def rivers(state: list[str]) -> int:
    """Rivers of some states."""
    return len(state)


@pytest.mark.parametrize("state", [None, Store])
def test_an_argument_may_be_called_state(state):
    judged = {"train": {"any": Goal("Go.", answer="x")}}
    register_tools("mine/Atlas-v0", [cities, ship, *([] if state else [rivers])], state=state, goals=judged)
    env = make("mine/Atlas-v0")
    env.reset(options={"task": "any"})
    assert env.step("cities(state='CA')")[0] == "CA 0"
    assert env.step("cities('CA', 2)")[0] == "CA 2"
    assert env.step("ship('pen', state='NY')")[0] == "pen NY"
    if state is None:
        assert env.step("rivers(state=['CA', 'NY'])")[0] == "2"


def untyped(state: Store, item, amount: int) -> None: ...
def open_ended(**rest: int) -> None: ...
def nameless(item: Nowhere) -> None: ...  # noqa: F821
def misspelt(item: "str |") -> None: ...  # noqa: F722
def astray(item: sys.Nowhere) -> None: ...
def unschemable(item: Mute) -> None: ...
def uncheckable(item: Callable[[int], int]) -> None: ...


@pytest.mark.parametrize(
    ("function", "line"),
    [
        (untyped, "tool untyped: argument 'item' has no type; write one, for instance item: str"),
        (open_ended, "tool open_ended: argument 'rest' cannot be called by its name"),
        (nameless, "tool nameless: a type cannot be resolved"),
        (misspelt, "tool misspelt: a type cannot be resolved"),
        (astray, "tool astray: a type cannot be resolved"),
        (unschemable, "tool unschemable: an argument has a type without a JSON schema"),
        (uncheckable, "tool uncheckable: an argument has a type without a JSON schema"),
        (int, "tool int: Python does not know its arguments; wrap it in a typed function"),
        (lambda item: item, "is no function with a name"),
        (3, "is no function with a name"),
    ],
)
def test_a_function_that_makes_no_tool_is_one_clear_line(function, line):
    with pytest.raises(BadInput) as caught:
        tool(function)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("put()", "argument 'item': is missing"),
        ("put('pen', 'many')", "argument 'amount': Input should be a valid integer"),
        ("put('pen', colour='red')", "argument 'colour': is none of its arguments"),
        ("put('pen', item='pen')", "argument 'item' was given twice"),
        ("put(1, 2, 3, 4, 5, 6)", "takes 4 arguments, not 6"),
        ("put('pen', where={'row': 0})", "argument 'where.row'"),
        ("put('pen', kind='old')", "Input should be 'new' or 'used'"),
        ("steal('pen')", "There is no tool 'steal'; there are: put, quit, crash, look, shout, finish."),
        ("finish(1, 2)", "finish takes one argument"),
        ("[put('pen'), finish('x'), put('pen')]", "finish comes last, for it ends the answer. No call was made."),
        ("put(item", "was never closed"),
        ("", "The answer was empty"),
    ],
)
def test_wrong_calls_are_told_and_cost_a_step(answer, words):
    observation, info = told(answer)
    assert words in observation
    assert not info["valid"]


def test_what_a_tool_raises_is_told():
    observation, info = told("quit()")
    assert observation == "Error: SystemExit: bye"
    observation, info = told("crash()")
    assert observation == "Error: KeyError: 'no such thing'"
    assert info["valid"]


class Own(BaseException):
    """Of a library that means to get past `except Exception`."""


class Mute(Exception):
    """One that cannot be written."""

    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Own("x"), "Error: Own: x"),
        (asyncio.CancelledError(), "Error: CancelledError: "),
        (GeneratorExit(), "Error: GeneratorExit: "),
        (BaseExceptionGroup("several", [Own("x")]), "Error: BaseExceptionGroup: several (1 sub-exception)"),
        (SystemExit(3), "Error: SystemExit: 3"),
        (Mute(), "Error: Mute (without a text that can be written)"),
    ],
    ids=repr,
)
def test_nothing_that_a_tool_or_a_judge_raises_gets_past_the_environment(error, words):
    def fail() -> None:
        raise error

    def judge(answer):
        raise error

    register_tools("mine/Fail-v0", [fail], goals={"train": {"a": Goal("Go.", answer=judge)}})
    env = make("mine/Fail-v0")
    env.reset()
    assert env.step("fail()")[0] == words
    with pytest.raises(EnvFault, match=f"the judge of 'Go.' raised {type(error).__name__}"):
        env.step("done")


def test_ctrl_c_in_a_tool_ends_what_runs():
    def fail() -> None:
        raise KeyboardInterrupt

    register_tools("mine/Fail-v0", [fail], goals={"train": {"a": Goal("Go.", answer="x")}})
    env = make("mine/Fail-v0")
    env.reset()
    with pytest.raises(KeyboardInterrupt):
        env.step("fail()")


@pytest.mark.parametrize("verdict", [float("nan"), 2.0, -1, float("inf")])
@pytest.mark.parametrize("by", ["judge", "answer"])
def test_a_verdict_that_is_not_within_0_and_1_is_a_fault_and_no_reward(verdict, by):
    register(two=Goal("Store.", **{by: lambda given: verdict}))
    env = make("mine/Store-v0")
    env.reset()
    with pytest.raises(EnvFault, match=f"the judge of 'Store.' gave {float(verdict)}, which is not within 0 and 1"):
        env.step("done")


async def later(number: int) -> int:
    """Give it back, later."""
    return number


def bit_by_bit(number: int) -> Iterator[int]:
    """Count."""
    yield from range(number)


async def both(number: int) -> AsyncIterator[int]:
    """Count, later."""
    yield number


class Called:
    """An object that is called."""

    async def __call__(self, number: int) -> int:
        """Give it back."""
        return number


@pytest.mark.parametrize("function", [later, bit_by_bit, both, Called()])
def test_a_function_whose_result_is_not_what_it_returns_makes_no_tool(function):
    with pytest.raises(BadInput, match="tool later: it is asynchronous or a generator; wrap it"):
        tool(function, "later")


def test_arguments_arrive_as_their_types():
    observation, _ = told("[put('pen', '2', where={'row': 3}), look(schema='e'), shout(text='é')]")
    assert observation.splitlines() == ["2", '["pen"]', "É"]


def test_arguments_are_converted_where_pydantic_does_it_by_default():
    for amount, stored in (("'2'", "2"), ("2.0", "2"), ("True", "1")):
        assert told(f"put('pen', amount={amount})")[0] == stored
    observation, info = told("put('pen', amount=2.5)")
    assert observation.startswith("Wrong call: put: argument 'amount': Input should be a valid integer")
    assert not info["valid"]


@pytest.mark.parametrize("answer", ["`put('pen')`", "```put('pen')```", "n = put('pen')", "I do:\n`put('pen')`"])
def test_a_call_in_backticks_or_with_a_name_for_its_result_is_made_and_ends_nothing(answer):
    register()
    env = make("mine/Store-v0")
    env.reset(options={"task": "two"})
    for number in ("1", "2"):
        observation, _, over, _, info = env.step(answer)
        assert (observation, over, info["valid"]) == (number, False, True)
    assert env.step("done")[4]["success"]


@pytest.mark.parametrize("answer", ["a, b = put('pen')", "print(put('pen'))", "`put(item)`", "n = put(item)"])
def test_what_is_meant_as_a_call_and_is_none_is_no_answer_to_the_user(answer):
    register()
    env = make("mine/Store-v0")
    env.reset(options={"task": "two"})
    observation, _, over, _, info = env.step(answer)
    assert (over, info["valid"]) == (False, False)
    assert observation.endswith('Write name(argument=value) with literal values, or {"name": ..., "arguments": {...}}.')


def test_a_goal_is_judged_by_the_state_when_the_user_is_answered():
    for last in ("done", "I stored them.", "finish(answer='stored')", '{"name": "finish", "arguments": {}}'):
        _, info = told("put('pen')", "put('pen')", last)
        assert info["success"]
    _, info = told("put('pen')", "done")
    assert not info["success"]


def test_a_goal_is_judged_by_the_answer():
    register(
        exact=Goal("How many?", answer="Four"),
        free=Goal("How many?", answer=lambda text: 0.5 * ("4" in text)),
        both=Goal("Store one.", judge=lambda store: bool(store.goods), answer="ok"),
    )
    env = make("mine/Store-v0")
    for task, answer, score in (("exact", " four", 1), ("exact", "5", 0), ("free", "about 4", 0.5), ("both", "ok", 0)):
        env.reset(options={"task": task})
        *_, info = env.step(answer)
        assert info["score"] == score


def test_the_requests_of_a_user_come_one_after_another():
    register(two=Goal(["Store a pen.", "And another."], judge=lambda store: store.goods == {"pen": 2}))
    env = make("mine/Store-v0")
    assert env.reset(options={"task": "two"})[0] == "Store a pen."
    env.step("put('pen')")
    observation, _, over, _, _ = env.step("Done.")
    assert (observation, over) == ("And another.", False)
    env.step("put('pen')")
    *_, info = env.step("done")
    assert info["success"]


def test_a_fork_does_not_see_what_the_other_branch_did():
    register()
    env, other = make("mine/Store-v0"), make("mine/Store-v0")
    env.reset(options={"task": "two"})
    env.step("put('pen')")
    snapshot = env.snapshot()
    env.step("put('pen', 5)")
    other.restore(snapshot)
    other.step("put('pen')")
    assert other.step("done")[4]["success"]
    assert env.state.state.goods == {"pen": 6}


def test_a_judge_that_breaks_is_a_fault_and_no_reward():
    register(two=Goal("Store.", judge=lambda store: store.nothing))
    env = make("mine/Store-v0")
    env.reset(options={"task": "two"})
    with pytest.raises(EnvFault, match="the judge of"):
        env.step("done")


@dataclass
class Unpicklable:
    """A state that cannot be copied."""

    file: object = field(default_factory=lambda: (line for line in "ab"))


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"tools": []}, "needs at least one"),
        ({"tools": [shout, shout]}, "two tools are called 'shout'"),
        ({"goals": {"train": {"a": Goal("Do it.")}}}, "nothing judges the goal 'a' of split 'train'"),
        ({"goals": {"train": {"a": Goal("", answer="x")}}}, "a request without words"),
        ({"state": lambda one: one}, "`state` takes nothing, or the task and its random generator"),
    ],
)
def test_what_makes_no_environment_is_one_clear_line(settings, line):
    given = {"tools": [shout], "goals": {"train": {"a": Goal("Shout.", answer="A")}}, **settings}
    with pytest.raises(BadInput) as caught:
        register_tools("mine/Bad-v0", given.pop("tools"), **given)
    assert line in str(caught.value)


def test_a_state_that_cannot_be_copied_is_one_clear_line():
    goals = {"train": {"a": Goal("Shout.", answer="A")}}
    register_tools("mine/Held-v0", [shout], state=Unpicklable, goals=goals)
    with pytest.raises(BadInput, match="the state, a Unpicklable, cannot be pickled"):
        make("mine/Held-v0").reset(options={"task": "a"})


def test_the_oracle_answers_with_the_solution():
    register(two=Goal("Store two.", judge=lambda store: len(store.goods) == 2, solution=["[put('a'), put('b')]"]))
    env = make("mine/Store-v0")
    oracle = find("mine/Store-v0").oracle()
    env.reset(options={"task": "two"})
    while not (answer := env.step(oracle(env)))[2]:
        pass
    assert answer[4]["success"]


def test_nothing_of_mcp_is_imported_with_the_package():
    code = "import sys, palaestra.envs.tools; sys.exit(any(name.split('.')[0] == 'mcp' for name in sys.modules))"
    assert subprocess.call([sys.executable, "-c", code]) == 0
