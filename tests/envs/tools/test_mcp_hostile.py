"""Ten thousand generated answers to an MCP server. None raises, hangs, or ends the server."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest

from palaestra.envs import make
from palaestra.envs.tools import Goal, Server, register_mcp
from palaestra.envs.tools.env import LONGEST_ANSWER

TILL = [sys.executable, str(Path(__file__).parent / "mcp_till.py")]
EPISODE = 1_000
"""Answers in an episode: each episode starts a server."""


class Literal(str):
    """A literal that stands in an answer as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def nested(depth: int) -> list:
    """A list in a list in a list."""
    return [nested(depth - 1)] if depth else []


SENT = [
    None,
    True,
    -1,
    0,
    2**64 - 1,
    -(2**63),
    1e308,
    "",
    "x" * 9_000,
    "\x00",
    "\u202e",
    [],
    nested(90),
    {"a": {}},
    (1,),
]
REFUSED = [
    "\ud800",
    {"a": ["\ud800"]},
    {"\ud800": 1},
    2**64,
    [-(2**63) - 1],
    10**999,
    Literal("0x" + "f" * 15_000),
    1e309,
    float("nan"),
    nested(120),
    nested(190),
    {1: 2},
    {(): 2},
]
NOISE = [
    "note(",
    "[]",
    "{}",
    "hello",
    "\x1b[2J",
    "```\nnote(1)\n```",
    "finish()",
    "finish(1, 2)",
    "nothing()",
    "\ud83d",
]


def answer(rng: random.Random) -> str:
    """One generated answer."""
    if rng.random() < 0.1:
        return rng.choice(NOISE)
    name, parameters = rng.choice(
        [("note", ("what", "also", "other")), ("sell", ("item", "amount")), ("tax", ("state",))]
    )
    values = SENT if rng.random() < 0.5 else SENT + REFUSED
    given = {each: rng.choice(values) for each in parameters if rng.random() < 0.6}
    if rng.random() < 0.3:
        return json.dumps({"name": name, "arguments": {k: v for k, v in given.items() if v != {(): 2}}})
    text = f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})"
    cut = rng.randrange(len(text))
    return text if rng.random() < 0.9 else text[:cut] + rng.choice("()[]{}'\"\\,=\n\ud83d") + text[cut + 1 :]


@pytest.fixture
def env(clean_registry):
    goals = {"train": {"on": Goal(["Go on."] * EPISODE, answer="never said")}}
    register_mcp("mine/Notes-v0", Server(command=TILL), goals=goals, max_steps=10 * EPISODE)
    made = make("mine/Notes-v0")
    yield made
    made.close()


def test_what_json_cannot_carry_is_told_and_the_server_goes_on(env):
    env.reset(options={"task": "on"})
    for value in REFUSED:
        assert not env.step(f"note(what=[{value!r}])")[4]["valid"]
        assert env.step("note(what=1)")[0] == "1"


def test_ten_thousand_generated_answers_neither_raise_nor_hang_nor_end_the_server(env):
    rng = random.Random(0)
    kinds = {True: 0, False: 0}
    for count in range(10_000):
        if count % EPISODE == 0:
            env.reset(options={"task": "on"})
        observation, _, over, truncated, info = env.step(answer(rng))
        assert not over
        assert not truncated
        assert len(observation) < 2 * LONGEST_ANSWER
        kinds[info["valid"]] += 1
        if count % EPISODE == EPISODE - 1:
            assert env.step("tax(state='CA')")[0] == "CA 1 "
    assert min(kinds.values()) > 1_000
