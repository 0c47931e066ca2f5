"""ScienceWorld as a TextEnv: the original engine, one JVM for each running instance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from typing import ClassVar

import numpy as np

from palaestra.envs.core import Fidelity, Reply, Task
from palaestra.envs.errors import BadInput
from palaestra.envs.fingerprint import code_fingerprint
from palaestra.envs.jdk import find_java
from palaestra.envs.jvm import HASH_FLAG, LONGEST_ACTION, clean
from palaestra.envs.jvm_pool import JvmEnv, Pool
from palaestra.envs.scienceworld.engine import NO_MATCH, UNKNOWN, Answer, Engine, pool
from palaestra.envs.scienceworld.proof import jar_hash, require_replay
from palaestra.envs.scienceworld.protocols import protocol as named_protocol
from palaestra.envs.scienceworld.tasks import ELECTRICAL, parse

SIMPLIFICATIONS = ("teleportAction", "selfWateringFlowerPots", "openContainers", "openDoors", "noElectricalAction")
"""What the engine makes easier. "easy" is all but openContainers, and keeps electricity where a task needs it."""

_RULES = """\
You do a science task in a text world. Answer with one action.
Actions: look around; look at OBJ; look in OBJ; {go}open OBJ; close OBJ; pick up OBJ; put down OBJ; move OBJ to OBJ; \
pour OBJ in OBJ; dunk OBJ in OBJ; mix OBJ; use OBJ on OBJ; {wire}activate OBJ; deactivate OBJ; read OBJ; eat OBJ; \
flush OBJ; focus on OBJ; inventory; task; wait; wait1
OBJ is a thing you see. Focus only on what the task names: a wrong focus fails it."""


@dataclass
class State:
    """What is known of the episode on this side; the world itself is in the JVM.

    Attributes:
        task, variation: which one.
        raw: the engine's score, from -1 to 1.
        best: the best raw score so far, not below 0.
        choices: the engine waits for a number below this; 0 when it does not.
    """

    task: str
    variation: int
    raw: float = 0.0
    best: float = 0.0
    choices: int = 0


class ScienceWorld(JvmEnv[State, Engine]):
    """ScienceWorld (Wang et al., arXiv 2203.07540): science tasks in a house with ten places.

    The score is the engine's, in [0, 1]; a negative one (a wrong focus) ends the episode as failed, with score 0 in
    the environment's own protocol. `info["raw_score"]` has the engine's number after each step. Some tasks grant a
    little for where one stands at the start; it comes with the first step, so that rewards sum up to the score.

    "Ambiguous request: Please enter the number" is a question of the engine: until a number is given, the admissible
    actions are the numbers (`info["ambiguous"]` is True); anything else cancels the action.

    Args:
        simplifications: "", "easy", or some of `SIMPLIFICATIONS` separated by commas.
        protocol: "eto" or "agentgym" for the tasks, caps and score of these; None for the environment's own.

    Raises:
        BadInput: an unknown simplification or protocol, or one against the other.
    """

    fidelity: ClassVar[Fidelity] = Fidelity.REPLAY
    pool: ClassVar[Pool[Engine]] = pool
    loose_listing: ClassVar[float] = 0.5  # the engine refuses some of what it lists: 29 of 189 drawn at random

    def __init__(self, simplifications: str = "", protocol: str | None = None) -> None:
        super().__init__()
        self.protocol = named_protocol(protocol) if protocol is not None else None
        self.simplifications = _checked(simplifications)
        if self.protocol is not None:
            if self.simplifications not in ("", self.protocol.simplifications):
                wanted = self.protocol.simplifications or "none"
                raise BadInput(f"protocol {protocol!r} sets simplifications itself ({wanted}), got {simplifications!r}")
            self.simplifications = self.protocol.simplifications

    # -- what an environment writes ---------------------------------------------------------------------------------

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[State, str]:
        """Load the task. Raises BadInput for an unknown one or where there is no usable Java, EnvFault if it broke."""
        name, variation = parse(task.name)
        if name in ELECTRICAL and "noElectricalAction" in self.simplifications:
            raise BadInput(f"ScienceWorld task {name} needs electrical actions; leave out noElectricalAction")
        if self.protocol is not None:
            self.protocol.cap(name)  # refuses a task that it leaves out
            self.max_steps = self.step_cap(task)
        require_replay(find_java())
        engine = self.borrowed()
        description, first = engine.load(name, variation, self.simplifications)
        state = State(name, variation)
        self._note(state, first)
        return state, f"{description}\n\n{first.text}"

    def act(self, state: State, action: str) -> Reply:
        """Take an action. Raises EnvFault when the engine broke."""
        cleaned = clean(action)
        if cleaned is None:
            said = f"That is too long for an action (more than {LONGEST_ACTION} characters). {NO_MATCH}"
            return Reply(said, valid=False, extra={"raw_score": state.raw, "ambiguous": state.choices > 0})
        answer = self.engine().step(cleaned)
        self._note(state, answer)
        best = self.protocol is not None and self.protocol.best_score
        success = answer.completed and answer.score >= 1.0
        return Reply(
            answer.text,
            score=state.best if best else max(0.0, state.raw),
            success=success,
            over=answer.completed or answer.score < 0,
            valid=answer.text not in (NO_MATCH, UNKNOWN),
            extra={"raw_score": state.raw, "ambiguous": state.choices > 0},
        )

    def admissible(self, state: State) -> Sequence[str] | None:
        """What the engine lists (hundreds to thousands; 20 to 60 ms and more), or the numbers of an open question.

        As in the package, the list also names things inside closed containers, which the parser does not know while
        they are closed: of random picks some 80 % were understood.
        """
        return self._engine.actions() if self._engine is not None else None

    def instructions(self, task: Task) -> str:
        """Rules and the grammar of actions under these simplifications: some 130 tokens."""
        easy, name = self.simplifications == "easy", task.name.partition("/")[0]
        teleport = easy or "teleportAction" in self.simplifications
        wires = name in ELECTRICAL if easy else "noElectricalAction" not in self.simplifications
        return _RULES.format(
            go="teleport to PLACE; go to PLACE; " if teleport else "go to PLACE; ",
            wire="connect OBJ to OBJ; disconnect OBJ; " if wires else "",
        )

    def tasks(self, split: str) -> Sequence[Task]:
        """All tasks of a split, of the protocol where one is set."""
        if self.protocol is None or self.registration is None:
            return super().tasks(split)
        if split not in self.protocol.splits:
            known = ", ".join(self.protocol.splits)
            raise BadInput(f"protocol {self.protocol.name!r} has no split {split!r}; it has: {known}")
        return [Task(env=self.registration.id, name=name, split=split) for name in self.protocol.splits[split]]

    def step_cap(self, task: Task) -> int | None:
        """The protocol's cap of this task, unless `max_steps` was set."""
        if self.protocol is None or "max_steps" in self.settings:
            return self.max_steps
        return self.protocol.cap(parse(task.name)[0])

    def fingerprint(self) -> str:
        """Versions of this class and of the engine, hash of its jar, major version of the Java, the flag."""
        return _fingerprint(find_java().major)

    @staticmethod
    def _note(state: State, answer: Answer) -> None:
        state.raw, state.choices = answer.score, answer.choices
        state.best = max(state.best, answer.score)


@lru_cache(maxsize=8)
def _fingerprint(java: int) -> str:
    engine = f"scienceworld {metadata.version('scienceworld')} jar {jar_hash()}"
    return f"{code_fingerprint(ScienceWorld)} {engine} java {java} {HASH_FLAG}"


def _checked(simplifications: str) -> str:
    if not isinstance(simplifications, str):
        raise BadInput(f"simplifications is one text with commas, got {simplifications!r}")
    parts = [part.strip() for part in simplifications.split(",") if part.strip()]
    unknown = [part for part in parts if part not in (*SIMPLIFICATIONS, "easy")]
    if unknown:
        raise BadInput(
            f"ScienceWorld has no simplification {unknown[0]!r}; it has: easy, or some of {', '.join(SIMPLIFICATIONS)}"
        )
    if "easy" in parts and len(parts) > 1:
        raise BadInput(f"simplification 'easy' stands alone, got {simplifications!r}")
    return ",".join(sorted(set(parts)))
