"""ScienceWorld's own engine in a JVM: load a task, take steps, list actions, draw a gold path.

Steps go to the engine's inner interface. It answers word for word what the package's `env.step` answers, without the
two free looks, the action listing and the history that `env.step` makes at every step. Three words (`help`, `objects`,
`task`) are the outer interface's, as in the package.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from palaestra.envs.errors import EnvFault
from palaestra.envs.jdk import Java, find_java
from palaestra.envs.jvm import JavaError, Jvm, Ref
from palaestra.envs.jvm_pool import JvmEngine, Pool

UNKNOWN = "Unknown action.  Type 'help' for a list of actions, and 'objects' for a list of possible object referents. "
"""What the package says where the engine says nothing."""

NO_MATCH = "No known action matches that input."


@dataclass(frozen=True)
class Answer:
    """What the engine says to an action.

    Attributes:
        text: the observation, word for word.
        score: raw score; 1.0 is all, below 0 is a task that was failed for good.
        completed: does the engine say that the task has ended.
        choices: waiting for a number between 0 and this; 0 when it is not waiting.
    """

    text: str
    score: float
    completed: bool
    choices: int = 0


@lru_cache(maxsize=1)
def jar() -> Path:
    """The engine's jar, as the package `scienceworld` brings it."""
    from scienceworld.constants import JAR_PATH

    return Path(JAR_PATH)


class Engine(JvmEngine):
    """One JVM with one ScienceWorld in it.

    Raises:
        BadInput: no usable Java. EnvFault: it did not start.
    """

    def __init__(self, java: Java | None = None, *, fixed_hash: bool = True) -> None:
        jvm = Jvm(java or find_java(), [str(jar())], "ScienceWorld", fixed_hash=fixed_hash)
        super().__init__(jvm, "scienceworld.runtime.pythonapi.PythonInterface")
        self._agent = self._parser = Ref("")
        self._last = Answer("", 0.0, False)

    def load(self, task: str, variation: int, simplifications: str) -> tuple[str, Answer]:
        """Begin a task.

        Returns:
            The task's description, and the answer to a first "look around" (which takes no time in the engine).

        Raises:
            EnvFault: the engine refuses the task, or broke.
        """
        self._load(task, variation, simplifications, gold=False)
        description = str(self.jvm.call(self._agent, "getTaskDescription"))
        self._last = Answer("", 0.0, False)
        return description, self.step("look around")

    def _load(self, task: str, variation: int, simplifications: str, *, gold: bool) -> None:
        self.loads += 1
        if self._agent:
            self.jvm.free(self._agent, self._parser)
            self._agent = self._parser = Ref("")
        try:
            error = self.jvm.call(self._server, "load", task, variation, simplifications, gold)
            if error:
                raise EnvFault(f"ScienceWorld refuses {task}/{variation}: {error}")
            option = self.jvm.reference(self._server, "agentInterface")
            self._agent = self.jvm.reference(option, "get")
            self._parser = self.jvm.reference(self._agent, "inputParser")
            self.jvm.free(option)
        except JavaError as error:
            self.jvm.kill()
            raise EnvFault(f"ScienceWorld failed to load {task}/{variation}: {error}") from error

    def step(self, action: str) -> Answer:
        """Take an action: one line of text without surrogates, not too long.

        Raises:
            EnvFault: the engine broke inside, or the JVM is gone.
        """
        try:
            if action.strip().lower() in ("help", "objects", "task"):
                return replace(self._last, text=str(self.jvm.call(self._server, "step", action)))
            result = self.jvm.reference(self._agent, "step", action)
            text, score, completed = str(self.jvm.call(result, "toString"))[1:-1].rsplit(",", 2)
            self.jvm.free(result)
            waiting = self.jvm.call(self._parser, "getNumAmbiguousMatches")
            if self.jvm.call(self._agent, "isInErrorState"):
                raise JavaError(str(self.jvm.call(self._agent, "getErrorStateMessage")))
        except JavaError as error:
            self.jvm.kill()  # its state can no longer be trusted
            raise EnvFault(f"ScienceWorld broke at the action {action[:80]!r}: {error}") from error
        self._last = Answer(text or UNKNOWN, float(score), completed == "true", int(str(waiting)))
        return self._last

    def look(self) -> str:
        """A free look around: takes no step and changes nothing."""
        return str(self.jvm.call(self._server, "freeActionLook"))

    def actions(self) -> list[str]:
        """The actions that would be understood now, sorted; the numbers to choose from while it waits for one."""
        try:
            listed = self.jvm.lines(self._server, "getValidActionObjectCombinations")
        except JavaError as error:
            raise EnvFault(f"ScienceWorld cannot list its actions: {error}") from error
        return sorted(listed, key=int) if self._last.choices else listed

    def gold(self, task: str, variation: int, simplifications: str) -> list[str]:
        """The gold path that the engine draws for a task; the same one at each drawing. Loads the task."""
        self._load(task, variation, simplifications, gold=True)
        return self.jvm.lines(self._server, "getGoldActionSequence")


pool = Pool("ScienceWorld", Engine)
"""The warm engines of this process."""
