"""Ten thousand generated answers to an environment of functions. None raises or hangs; what it makes stays short."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field

import pytest

from palaestra.envs import make
from palaestra.envs.tools import Goal, register_tools


@dataclass
class Till:
    """A stock of fruit."""

    stock: dict[str, int] = field(default_factory=lambda: {"apple": 3, "pear": 5})

    def sell(self, item: str, amount: int = 1) -> str:
        """Sell some of an item."""
        self.stock[item] -= amount
        return f"{self.stock[item]} left"

    def power(self, base: int) -> int:
        """The fifth power of a number, which may have more digits than Python writes."""
        return base**5


GOALS = {
    "two": Goal("Sell two apples.", judge=lambda till: till.stock == {"apple": 1, "pear": 5}),
    "left": Goal("How many pears are left once you sell one?", answer="4"),
}


class Hex(str):
    """A literal that stands in an answer as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


VALUES = [
    None,
    True,
    -1,
    0,
    10**40,
    10**999,
    Hex("0x" + "f" * 15_000),
    Hex("9" * 4_200),
    Hex("[{'a': -0b" + "1" * 15_000 + "}]"),
    1e309,
    "",
    "apple",
    "pear",
    "x" * 500,
    "\ud800",
    "\x00",
    [],
    [[[1]]],
    {"a": {}},
    (1,),
]
WORDS = [
    "done",
    "",
    "sell(",
    "finish()",
    "finish(1, 2)",
    "[]",
    "{}",
    "sell",
    "hello",
    "\x1b[2J",
    "```\nsell('pear')\n```",
]


def called(rng: random.Random) -> str:
    """A call with odd arguments, in the Python form or as JSON."""
    name, parameters = rng.choice(
        [("sell", ("item", "amount", "other")), ("power", ("base",)), ("finish", ("answer",))],
    )
    given = {each: rng.choice(VALUES) for each in parameters if rng.random() < 0.5}
    if rng.random() < 0.2:
        return json.dumps({"name": name, "arguments": given})
    return f"{name}({', '.join(f'{each}={value!r}' for each, value in given.items())})"


@pytest.mark.usefixtures("clean_registry")
def test_ten_thousand_generated_answers_neither_raise_nor_hang_nor_make_a_long_observation_or_snapshot():
    register_tools("mine/Fruit-v0", [Till.sell, Till.power], state=Till, goals={"train": GOALS})
    rng = random.Random(0)
    env = make("mine/Fruit-v0")
    kinds = {True: 0, False: 0}
    over = True
    for _ in range(10_000):
        if over:
            env.reset(options={"task": rng.choice(["two", "left"])})
        answer = called(rng)
        if rng.random() < 0.3:
            place = rng.randrange(len(answer))
            answer = answer[:place] + rng.choice("()[]{}'\"\\,=\n\ud83d") + answer[place + 1 :]
        observation, _, over, truncated, info = env.step(rng.choice(WORDS) if rng.random() < 0.1 else answer)
        over = over or truncated
        assert len(observation) < 50_000
        assert len(env.snapshot().payload) < 500_000
        kinds[info["valid"]] += 1
    assert min(kinds.values()) > 1_000
