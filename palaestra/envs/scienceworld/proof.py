"""Proves that ScienceWorld replays on a Java: the same actions give the same texts and scores in two JVMs.

Without `-XX:hashCode=2` the orders of lists and some measured values differ from load to load. With it they have been
the same on every Java tried (bench/scienceworld_replay.py). Nothing promises that for the next Java, so the first
reset on one that is not yet known runs a short proof and keeps the result in the user's cache, under the hash of the
engine's jar and the version of the Java.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from palaestra.envs.errors import BadInput
from palaestra.envs.jdk import Java
from palaestra.envs.jvm import FLAGS, HASH_FLAG
from palaestra.envs.scienceworld.engine import Engine, jar


@dataclass(frozen=True)
class Case:
    """One episode to compare.

    Attributes:
        task, variation, simplifications: what is loaded.
        steps: how many actions of the gold path at the most; 0 only loads.
    """

    task: str
    variation: int
    simplifications: str
    steps: int


@dataclass(frozen=True)
class Difference:
    """Where two runs of the same actions first differed."""

    case: Case
    step: int
    action: str
    first: str
    second: str


PROBE = (
    Case("lifespan-longest-lived", 1, "easy", 8),
    Case("boil", 1, "", 0),
    Case("test-conductivity", 1, "", 0),
    Case("chemistry-mix", 1, "easy", 0),
)
"""The short proof: seconds. Variation 1 begins where three paint cups are listed in the order of their hashes, so that
JVMs without the flag show one of six orders at each load."""


def replay_proof(
    cases: Iterable[Case] = PROBE, java: Java | None = None, *, fixed_hash: bool = True
) -> Difference | None:
    """Run each case in two fresh JVMs, with other company: free looks here, listed actions there, and once again alone.

    Returns:
        The first difference, or None when all is the same.

    Raises:
        BadInput: no usable Java. EnvFault: an engine broke.
    """
    one = Engine(java, fixed_hash=fixed_hash)
    try:
        other = Engine(java, fixed_hash=fixed_hash)
        try:
            for case in cases:
                found = compare(case, one, other)
                if found is not None:
                    return found
        finally:
            other.close()
    finally:
        one.close()
    return None


def compare(case: Case, one: Engine, other: Engine, actions: Sequence[str] | None = None) -> Difference | None:
    """Run a case in both engines and once more in the first; the first difference, or None.

    Args:
        actions: what to do instead of following the gold path.
    """
    if actions is None:
        actions = gold_actions(case, one)
    first = _run(case, one, actions, looks=True)
    for again in (_run(case, other, actions, looks=True, lists=True), _run(case, one, actions, looks=False)):
        for step, (a, b) in enumerate(zip(first, again, strict=True)):
            if a[0] != b[0] or (a[1] and b[1] and a[1] != b[1]):
                action = actions[step - 1] if step else "(start)"
                return Difference(case, step, action, f"{a[0]} | {a[1]}", f"{b[0]} | {b[1]}")
    return None


def gold_actions(case: Case, engine: Engine) -> list[str]:
    """The first actions of the gold path."""
    return engine.gold(case.task, case.variation, case.simplifications)[: case.steps] if case.steps else []


def _run(
    case: Case, engine: Engine, actions: Sequence[str], *, looks: bool, lists: bool = False
) -> list[tuple[str, str]]:
    """Answers as texts, with what a free look shows after each where `looks`."""
    description, answer = engine.load(case.task, case.variation, case.simplifications)
    seen = [(f"{description} {answer}", engine.look() if looks else "")]
    for number, action in enumerate(actions):
        if lists and number % 8 == 1:
            engine.actions()
        seen.append((str(engine.step(action)), engine.look() if looks else ""))
    return seen


@lru_cache(maxsize=1)
def jar_hash() -> str:
    """The first 12 hexadecimal digits of the SHA-256 of the engine's jar."""
    return hashlib.sha256(jar().read_bytes()).hexdigest()[:12]


_lock = threading.Lock()
_known: dict[str, str] = {}


def require_replay(java: Java) -> None:
    """Make sure that ScienceWorld replays on this Java; proves it the first time, which takes seconds.

    Raises:
        BadInput: it does not; says which Java to use instead.
    """
    key = hashlib.sha256("|".join([jar_hash(), java.version, java.vm, *FLAGS, HASH_FLAG]).encode()).hexdigest()[:16]
    with _lock:
        if key not in _known:
            _known[key] = _remembered(key) or _prove(key, java)
    if _known[key] != "identical":
        raise BadInput(
            f"ScienceWorld does not replay on {java} ({_known[key]}); use a HotSpot JDK 17, 21 or 25: "
            "pip install 'palaestra[jdk]', or set PALAESTRA_JAVA"
        )


def _prove(key: str, java: Java) -> str:
    found = replay_proof(java=java)
    result = "identical" if found is None else f"{found.case.task}/{found.case.variation} differs at step {found.step}"
    record = {"result": result, "java": java.version, "vm": java.vm, "jar": jar_hash(), "flags": [*FLAGS, HASH_FLAG]}
    place = _cache() / f"{key}.json"
    with contextlib.suppress(OSError):  # a cache that cannot be written costs seconds at the next start, no more
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, half = tempfile.mkstemp(dir=place.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(record, file)
        os.replace(half, place)
    return result


def _remembered(key: str) -> str | None:
    try:
        record = json.loads((_cache() / f"{key}.json").read_text(encoding="utf-8"))
        return str(record["result"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "palaestra" / "scienceworld-replay"
