"""Ten thousand generated answers: calls with odd arguments, broken calls, noise. None raises, hangs or grows."""

from __future__ import annotations

import copy
import gc
import json
import random
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palaestra.envs import make
from palaestra.envs.taubench import data, toolbox
from palaestra.envs.taubench.world import World
from palaestra.envs.tools.calls import Call

pytestmark = pytest.mark.filterwarnings("ignore:invalid (octal )?escape sequence")  # of broken calls, read by `ast`


class Literal(str):
    """A literal that stands in an answer as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


VALUES = [
    None, True, -1, 0, 3, 10**40, Literal("0x" + "f" * 15_000), Literal("{0x" + "f" * 15_000 + ": 1}"),
    -(10**9), 1e308, 1e309, float("nan"), "", "x" * 500, "\ud800", "\x00", "yes",
    "economy", "2024-05-20", "2024-05-99", "SFO", "#W2378156", "gift_card_8190333", [], [1, "a"], [[[[]]]], {},
    {"a": {"b": None}}, (1,), "1+1", "9" * 5_000, [{}] * 101, {1: 2},
]  # fmt: skip
NOISE = [
    "",
    "done",
    "Shall I?",
    "think(",
    "[]",
    "{}",
    "((((",
    "\x1b[2J",
    "<tool_call>",
    '{"name": 1}',
    "x" * 30_000,
    "\ud83d",
]


def answer(rng: random.Random, domain: data.Domain, truths: list[Call]) -> str:
    """One generated answer: a call of some task's ground truth with odd arguments, a broken one, or noise."""
    if rng.random() < 0.1:
        return rng.choice(NOISE)
    call = rng.choice(truths) if rng.random() < 0.7 else Call(rng.choice([*toolbox.tools(domain)]))
    arguments = dict(call.arguments)
    for name in toolbox.tools(domain)[call.name].order:
        if rng.random() < 0.15:
            arguments[name] = rng.choice(VALUES)
        elif rng.random() < 0.05:
            arguments.pop(name, None)
        elif name in arguments and rng.random() < 0.2:
            arguments[name] = rng.choice([other.arguments[name] for other in truths if name in other.arguments])
    if rng.random() < 0.05:
        arguments["extra"] = rng.choice(VALUES)
    text = str(Call(call.name, arguments))
    cut = rng.randrange(len(text))
    return text if rng.random() < 0.9 else text[:cut] + rng.choice("()[]{}'\"\\,=\n\ud83d") + text[cut + 1 :]


def held() -> tuple[int, int]:
    """What this process holds: small blocks that Python gave out, without garbage, and bytes of memory."""
    gc.collect()
    return sys.getallocatedblocks(), int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("name", ["tauairline", "tauretail"])
def test_ten_thousand_generated_answers_neither_raise_nor_hang_nor_grow(name):
    rng = random.Random(0)
    env = make(name, user="scripted")
    truths = [call for tasks in env.domain.tasks.values() for task in tasks for call in task.actions]
    tasks = [task for split in env.splits() for task in env.tasks(split)[::5]]  # what is kept of each, by the middle
    refused = understood = 0
    middle = (0, 0)
    over = True
    for count in range(10_000):
        if over:
            env.reset(options={"task": rng.choice(tasks)})
        before = copy.deepcopy(env.state.changes)
        observation, _, over, truncated, info = env.step(answer(rng, env.domain, truths))
        over = over or truncated
        observation.encode()
        assert len(observation) < 100_000
        assert info["score"] in (0.0, 1.0)
        if observation.startswith(("Error", "Wrong call")):
            assert env.state.changes == before
        refused += not info["valid"]
        understood += info["valid"]
        if count % 100 == 0:
            assert len(env.snapshot().payload) < 500_000
        if count == 5_000:
            middle = held()
    assert refused > 1_000
    assert understood > 1_000
    small, whole = (now - before for now, before in zip(held(), middle, strict=True))
    assert small < 2_500, "one kept object for each of 5,000 answers would be seen"
    assert whole < 5_000_000


@pytest.mark.parametrize("name", ["tauairline", "tauretail"])
def test_a_call_of_every_tool_forty_times_grows_by_no_more_than_its_answers(name):
    """Agents that loop on a call are common. The calls are those of the tasks' ground truth."""
    env = make(name, user="scripted")
    seen = {call.name: call for tasks in env.domain.tasks.values() for task in tasks for call in task.actions}
    for call in seen.values():
        here, sizes = World(env.domain.tables, {}), []
        for _ in range(40):
            toolbox.make(env.domain, here, call)
            sizes.append(len(json.dumps(here.changes)))
        assert sizes[-1] < 10 * sizes[0] + 20_000, call
    assert len(seen) > 10


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("name", ["airline", "retail"])
@settings(max_examples=120, deadline=None)
@given(drawn=st.data())
def test_whatever_arguments_a_tool_is_called_with_it_answers(name, drawn):
    domain = data.load(name)
    box = toolbox.tools(domain)
    tool = box[drawn.draw(st.sampled_from(sorted(box)))]
    known = st.sampled_from(tool.order) if tool.order else st.just("extra")
    arguments = drawn.draw(st.dictionaries(known | st.text(max_size=8), JSON, max_size=12))
    said, right = toolbox.make(domain, World(domain.tables, {}), Call(tool.name, arguments))
    assert isinstance(said, str)
    assert right or said.startswith("Wrong call")
    json.dumps(said)


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(st.text(max_size=200), min_size=1, max_size=5))
def test_whatever_an_agent_writes_is_answered(texts):
    env = make("tauretail", user="scripted")
    env.reset(options={"task": "test/0"})
    over = False
    for text in texts:
        if not over:
            observation, _, over, truncated, _ = env.step(text)
            over = over or truncated
            assert observation
            observation.encode()
