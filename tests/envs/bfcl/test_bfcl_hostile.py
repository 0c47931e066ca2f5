"""Ten thousand generated answers: calls with odd arguments, broken calls, noise. None raises, hangs or grows."""

from __future__ import annotations

import gc
import random
import sys
from pathlib import Path

from palaestra.envs import make
from palaestra.envs.bfcl import data


class Literal(str):
    """A literal that stands in an answer as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


VALUES = [
    None, True, -1, 0, 3, 10**40, 10**999, Literal("0x" + "f" * 15_000),
    -(10**9), 1e308, 1e309, "", ".", "..", "/", "a", "document", "x" * 500, "\ud800",
    "\x00", "USD", "rw", [], [1, "a"], [[[[]]]], {}, {"a": {"b": None}}, (1,), "2024-01-01", "%s%n", "12345",
    "AAPL", "fuel",
]  # fmt: skip
NOISE = [
    "",
    "done",
    "cd(",
    "[]",
    "{}",
    "[ls(), ]",
    "ls() or ls()",
    "((((((",
    "\x1b[2J",
    "```\nls()\n```",
    "<tool_call>",
    '{"name": 1}',
]


def answer(rng: random.Random, functions: dict) -> str:
    """One generated answer."""
    if rng.random() < 0.1:
        return rng.choice(NOISE)
    calls = []
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        name = rng.choice([*functions])
        known = [*functions[name]["parameters"]["properties"]]
        names = [other for other in known if rng.random() < 0.9] + (["extra"] if rng.random() < 0.05 else [])
        calls.append(f"{name}({', '.join(f'{other}={rng.choice(VALUES)!r}' for other in names)})")
    text = f"[{', '.join(calls)}]"
    cut = rng.randrange(len(text))
    return text if rng.random() < 0.9 else text[:cut] + rng.choice("()[]{}'\"\\,=\n\ud83d") + text[cut + 1 :]


def held() -> tuple[int, int]:
    """What this process holds: small blocks that Python gave out, without garbage, and bytes of memory."""
    gc.collect()
    return sys.getallocatedblocks(), int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_ten_thousand_generated_answers_neither_raise_nor_hang_nor_grow():
    rng = random.Random(0)
    env = make("bfcl")
    names = [name for category in data.CATEGORIES for name in data.NAMES[category][::10]]
    refused = made = 0
    middle = (0, 0)
    over = True
    for count in range(10_000):
        if over:
            env.reset(options={"task": rng.choice(names)})
        functions = data.entry(env.state.entry).functions(env.state.turn)
        observation, _, over, truncated, info = env.step(answer(rng, functions))
        over = over or truncated
        assert isinstance(observation, str)
        assert len(observation) < 500_000
        assert 0 <= info["score"] <= 1
        refused += not info["valid"]
        made += info["valid"]
        if count % 100 == 0 and not over:
            assert len(env.snapshot().payload) < 2_000_000
        if count == 5_000:
            middle = held()
    assert refused > 1_000
    assert made > 1_000
    small, whole = (now - before for now, before in zip(held(), middle, strict=True))
    assert small < 2_500, "one kept object for each of 5,000 answers would be seen"
    assert whole < 5_000_000
