"""The engine answers as the package does, and replays: every task, both settings, two JVMs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from palaestra.envs import BadInput
from palaestra.envs.jdk import find_java
from palaestra.envs.jvm import FLAGS, HASH_FLAG
from palaestra.envs.scienceworld import proof
from palaestra.envs.scienceworld.engine import Engine
from palaestra.envs.scienceworld.tasks import ELECTRICAL, TASKS

WALK = (
    "look around",
    "open door",
    "0",
    "pick up cup",
    "teleport to kitchen",
    "open cupboard",
    "look in cupboard",
    "pour sugar in sink",
    "wait1",
)


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[Engine, Engine]]:
    pair = Engine(), Engine()
    yield pair
    for engine in pair:
        engine.close()


def test_the_engine_answers_word_for_word_as_the_package_does(
    engines: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    from scienceworld import ScienceWorldEnv

    monkeypatch.setenv("JAVA_TOOL_OPTIONS", " ".join([*FLAGS, "-XX:+UnlockExperimentalVMOptions", HASH_FLAG]))
    package = ScienceWorldEnv("")
    ours = engines[0]
    try:
        for task, simplifications in (("find-plant", ""), ("chemistry-mix", "easy")):
            path = ours.gold(task, 2, simplifications)[:8]
            odd = ("help", "TASK ", "objects", "fly", "", "open door", "task", "5", "close door", "1", "mix inventory")
            package.load(task, 2, simplifications)
            first, info = package.reset()
            description, answer = ours.load(task, 2, simplifications)
            assert description in info["taskDesc"]
            assert answer.text == first
            for action in (*odd, *path, *odd):
                text, _, done, info = package.step(action)
                answer = ours.step(action)
                raw = round(100 * answer.score)
                assert (answer.text, raw, answer.completed or raw < 0) == (text, info["score"], done), action
                if action in ("1", "open door", path[2]):
                    assert ours.actions() == (sorted(info["valid"], key=int) if answer.choices else info["valid"])
    finally:
        package.close()


@pytest.mark.parametrize("task", TASKS)
def test_every_task_replays_in_another_jvm_and_in_the_same_one(task: str, engines: tuple[Engine, Engine]) -> None:
    last = TASKS[task][1] - 1
    turn = list(TASKS).index(task)
    for simplifications, variation in (("easy", 1), ("", 1 + (7 * turn) % last)):
        case = proof.Case(task, variation, simplifications, len(WALK))
        assert proof.compare(case, *engines, actions=WALK) is None


@pytest.mark.parametrize("task", ["lifespan-shortest-lived", "find-animal", "chemistry-mix-paint-secondary-color"])
def test_gold_paths_replay_to_the_end(task: str, engines: tuple[Engine, Engine]) -> None:
    for simplifications in ("", "easy"):
        assert proof.compare(proof.Case(task, 3, simplifications, 40), *engines) is None


def test_simplifications_do_not_leak_into_the_next_task(engines: tuple[Engine, Engine]) -> None:
    one, other = engines
    for simplifications in ("openContainers,openDoors", "", "easy", "teleportAction", ""):
        one.load("find-plant", 4, simplifications)
    assert one.load("find-plant", 4, "") == other.load("find-plant", 4, "")
    assert set(ELECTRICAL) < set(TASKS)


def test_the_proof_holds_with_the_flag_and_fails_without() -> None:
    assert proof.replay_proof(proof.PROBE[:2]) is None
    found = proof.replay_proof(fixed_hash=False)
    assert found is not None
    assert found.first != found.second


def test_a_proof_is_made_once_for_a_java_and_a_failed_one_refuses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(proof, "_known", {})
    java = find_java()
    proof.require_replay(java)
    (record,) = (tmp_path / "palaestra" / "scienceworld-replay").iterdir()
    said = json.loads(record.read_text())
    assert (said["result"], said["java"], said["jar"]) == ("identical", java.version, proof.jar_hash())
    written = record.stat().st_mtime_ns
    monkeypatch.setattr(proof, "_known", {})
    proof.require_replay(java)
    assert record.stat().st_mtime_ns == written
    said["result"] = "boil/1 differs at step 0"
    record.write_text(json.dumps(said))
    monkeypatch.setattr(proof, "_known", {})
    with pytest.raises(BadInput, match=r"does not replay on Java .* use a HotSpot JDK 17, 21 or 25"):
        proof.require_replay(java)
    record.write_text("{half")
    assert proof._remembered(record.stem) is None
