"""Coding in many turns: write files, run them, try the examples, submit; hidden tests decide."""

from __future__ import annotations

import re
import weakref
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import numpy as np

from palaestra.envs import sandbox as sandboxes
from palaestra.envs.code import judge
from palaestra.envs.code.actions import Act, Write, parse
from palaestra.envs.code.oracle import block, steps
from palaestra.envs.code.problem import Problem
from palaestra.envs.core import Fidelity, Reply, Snapshot, Task, TextEnv
from palaestra.envs.errors import BadInput, EnvFault
from palaestra.envs.fingerprint import code_fingerprint, digest
from palaestra.envs.sandbox import pool
from palaestra.envs.sandbox.interface import Limits, Sandbox, WorkCopy

LONGEST_OBSERVATION = 4000
"""Characters; the middle of a longer one is cut."""
MOST_LISTED = 8
"""Files that are offered to be read."""

_RULES = """\
You solve a programming task by writing files and running them (Python 3, no network).
Actions:
write PATH  and below it the whole file between two lines of ```
read PATH
list
run COMMAND  (in a shell)
test  (runs the visible examples)
submit  (ends the task: hidden tests decide)
A block without a path goes to {main}. Below a block one more action may stand on a line of its own."""

_RULES_ALONE = """\
You solve a programming task. You have one answer: the whole file {main} between two lines of ```."""

_HINT = "Actions: write PATH with a block of ```, read PATH, list, run COMMAND, test, submit."


@dataclass
class State:
    """What changes besides the work directory.

    Attributes:
        problem: what is to be done, hidden tests included.
        steps: actions so far.
        work: the work directory, in a snapshot only.
    """

    problem: Problem
    steps: int = 0
    work: WorkCopy | None = None


class Coding(TextEnv[State]):
    """Write files and run them in a sandbox, see the output, try again, submit.

    `score` is the share of hidden tests that pass when the agent submits (of a problem with one test: 0 or 1), and
    success is that all pass. What is there when the step limit is reached is judged as if it were submitted.

    Args:
        sandbox: what runs the agent's code: "bwrap" or "docker" (or "unsafe": this machine, as you); None for the one
            that is there.
        timeout: seconds that one command, and one test, may take.
        protocol: "single": one answer holds the whole solution, as pass@1 is measured in the field.

    Raises:
        BadInput: an unknown protocol or sandbox, a timeout out of range.
    """

    fidelity: ClassVar[Fidelity] = Fidelity.EXACT
    shell: ClassVar[bool] = False

    def __init__(self, sandbox: str | None = None, timeout: float = 10.0, protocol: str | None = None) -> None:
        super().__init__()
        if protocol not in (None, "single"):
            raise BadInput(f"unknown protocol {protocol!r}; {type(self).__name__} has: single")
        if (
            isinstance(timeout, bool)
            or not isinstance(timeout, int | float)
            or not 0.1 <= timeout <= judge.MOST_SECONDS
        ):
            raise BadInput(f"timeout is from 0.1 to {judge.MOST_SECONDS:g} seconds, got {timeout!r}")
        if sandbox is not None:
            sandboxes.sandbox_class(sandbox)
        self.sandbox, self.timeout, self.alone = sandbox, float(timeout), protocol == "single"
        self._box: Sandbox | None = None
        self._end: weakref.finalize[[], Coding] | None = None

    # -- what a set of problems says ---------------------------------------------------------------------------------

    @abstractmethod
    def problems(self) -> Mapping[str, Problem]:
        """All problems by task name. Raises BadInput where the data is not here."""

    def told(self, problem: Problem) -> str:
        """The first observation."""
        others = [name for name in problem.files if name != problem.main]
        return problem.statement + (f"\n\nFiles: {', '.join(others)}" if others else "")

    def whole(self, problem: Problem, answer: str) -> str:
        """The main file, out of the answer of the protocol `single`."""
        return python_in(answer, problem.entry)

    # -- what an environment writes ----------------------------------------------------------------------------------

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[State, str]:
        """Start a sandbox with the starting files.

        Raises:
            BadInput: no such task, no data, or the sandbox cannot start here. SandboxDied: it broke.
        """
        problem = self._problem(task)
        self._give_up()
        box = self._begun(problem)
        try:
            for path, content in problem.files.items():
                box.write_file(path, content)
        except BadInput as error:
            self._give_up()
            raise BadInput(f"a starting file of the task {task.name} cannot be written: {error}") from error
        return State(problem), self.told(problem)

    def act(self, state: State, action: str) -> Reply:
        """Do what the action says. Raises SandboxDied when the sandbox is gone."""
        state.steps += 1
        if self.alone:
            return self._answered(state, action)
        steps = parse(action, state.problem.main, shell=self.shell)
        if isinstance(steps, str):
            return self._last(state, Reply(f"{steps} {_HINT}", valid=False))
        said: list[str] = []
        for step in steps:
            try:
                if not isinstance(step, Write) and step.verb == "submit":
                    return self._submitted(state, said, action)
                said.append(self._do(state.problem, step))
            except BadInput as error:  # of the sandbox: a path outside, a folder where a file should be, ...
                said.append(str(error))
                return self._last(state, Reply(shorten("\n".join(said)), valid=False))
        if isinstance(steps[-1], Write):
            said.append(f"Next: {'run' if self.shell else 'test'} or submit.")
        return self._last(state, Reply(shorten("\n".join(said))))

    def admissible(self, state: State) -> Sequence[str] | None:
        """Those that need no words of the agent's own: an agent also writes files and runs commands."""
        if self.alone:
            return ()
        names = [entry.path for entry in self._here().list() if entry.kind == "file"]
        plain = [name for name in names if re.fullmatch(r"\w[\w.-]{0,60}", name)]
        return ["test", "list", *(f"read {name}" for name in plain[:MOST_LISTED]), "submit"]

    def instructions(self, task: Task) -> str:
        """The grammar of actions: some 110 tokens."""
        return (_RULES_ALONE if self.alone else self.rules).format(main="solution.py")

    rules: ClassVar[str] = _RULES

    def step_cap(self, task: Task) -> int | None:
        """One under the protocol `single`."""
        return 1 if self.alone else super().step_cap(task)

    def fingerprint(self) -> str:
        """Versions of this class and of what judges, hash of the data, and the Python in the sandbox."""
        cls: type = type(self)
        return f"{code_fingerprint(cls, self._data, judge.fingerprint())} {self.backend} {python_of(self.backend)}"

    @cached_property
    def _data(self) -> str:
        problems = self.problems()
        return digest("\n".join(f"{name}: {problems[name]!r}" for name in sorted(problems)))

    def _problem(self, task: Task) -> Problem:
        problem = self.problems().get(task.name)
        if problem is None:
            raise BadInput(
                f"{type(self).__name__} has no task {task.name!r}; `palaestra envs ENV --split NAME` lists them"
            )
        return problem

    # -- actions -----------------------------------------------------------------------------------------------------

    def _do(self, problem: Problem, step: Act) -> str:
        box = self._here()
        if isinstance(step, Write):
            box.write_file(step.path, step.text)
            count = step.text.count("\n")
            return f"wrote {step.path} ({count} line{'s' if count != 1 else ''}){self._misspelt(step.path)}"
        if step.verb == "read":
            return box.read_bytes(step.argument).decode("utf-8", "backslashreplace") or "(empty)"
        if step.verb == "list":
            return "\n".join(f"{e.path}/" if e.kind == "folder" else e.path for e in box.list()) or "(nothing)"
        if step.verb == "test":
            return self._tried(problem)
        result = box.exec(step.argument, env=judge.ENVIRONMENT, timeout=self.timeout)
        output = result.shown().rstrip("\n")
        if result.timed_out:
            return f"{output}\n[killed after {self.timeout:g} s]".lstrip("\n")
        status = f"[exit status {result.rc}]" if result.rc else "" if output else "(no output)"
        return f"{output}\n{status}".strip("\n")

    def _misspelt(self, path: str) -> str:
        """What Python says of a file that it cannot read: an agent that only writes learns of it too."""
        if not path.endswith(".py"):
            return ""
        read = "import sys; compile(open(sys.argv[1], 'rb').read(), sys.argv[1], 'exec')"
        result = self._here().exec(
            ["python3", "-I", "-S", "-W", "ignore", "-c", read, f"./{path}"], timeout=self.timeout
        )
        said = result.shown().strip().splitlines()[-4:] if result.rc == 1 else []
        return "\n" + "\n".join(said).replace('"./', '"') if said else ""

    def _tried(self, problem: Problem) -> str:
        tests = problem.visible or ((problem.entry,) if problem.entry else ())
        if not tests:
            return "There are no visible examples; run something of your own."
        verdicts = self._ran(problem, tests)
        if not problem.visible:
            bad = "" if verdicts[0].passed else f"\n{verdicts[0].detail}"
            return f"There are no visible examples. {problem.main} {'does not load' if bad else 'loads'}.{bad}"
        passed = sum(verdict.passed for verdict in verdicts)
        lines = [f"{passed} of {len(tests)} visible examples pass."]
        for test, verdict in zip(tests, verdicts, strict=True):
            if not verdict.passed:
                lines.append(f"failed: {test}\n{verdict.detail}".rstrip())
        return "\n".join(lines)

    def _judged(self, problem: Problem, *, own: bool = False) -> tuple[str, float, bool]:
        """What is said, the score, is it a success. What the agent made impossible to judge has failed.

        Args:
            own: the task's own solution is judged: where it fails the task is faulty, not the agent.
        """
        try:
            return self._verdict(problem, own)
        except BadInput as error:
            return f"It cannot be judged: {error}", 0.0, False

    def _verdict(self, problem: Problem, own: bool) -> tuple[str, float, bool]:
        if problem.check:
            fine = judge.check(self._here(), problem, self.timeout)
            if own and not fine:
                raise EnvFault(f"the task {self.task.name}: its own solution does not pass its check")
            return f"The check {'passes' if fine else 'fails'}.", float(fine), fine
        verdicts = self._ran(problem, problem.hidden)
        passed, count = sum(verdict.passed for verdict in verdicts), len(verdicts)
        if own and passed < count:
            raise EnvFault(f"the task {self.task.name}: its own solution fails {judge.failed(problem, verdicts)}")
        if count == 1:
            return f"The hidden tests {'pass' if passed else 'fail'}.", float(passed), bool(passed)
        return f"{passed} of {count} hidden tests pass.", passed / count, passed == count

    def _ran(self, problem: Problem, tests: Sequence[str]) -> list[judge.Verdict]:
        """The verdicts of tests. Raises EnvFault that names the task where a test cannot be judged."""
        try:
            return judge.judge(self._here(), problem, tests, self.timeout)
        except judge.Unjudged as error:
            raise EnvFault(f"the task {self.task.name}: {error}") from error

    def _submitted(self, state: State, said: list[str], action: str) -> Reply:
        text, score, success = self._judged(state.problem, own=self._canonical(state.problem, action))
        return Reply(shorten("\n".join([*said, text])), score=score, success=success, over=True)

    def _answered(self, state: State, action: str) -> Reply:
        """The protocol `single`."""
        clean = action[:100_000].replace("\x00", "").encode("utf-8", "replace").decode()
        self._here().write_file(state.problem.main, self.whole(state.problem, clean))
        return self._submitted(state, [], action)

    def _canonical(self, problem: Problem, action: str) -> bool:
        """Was the task played as its own solution says?"""
        if self.alone:
            return problem.main in problem.solution and action == block(problem.solution[problem.main], "python")
        return bool(problem.solution or problem.commands) and [*self.history, action] == steps(problem)

    def _last(self, state: State, reply: Reply) -> Reply:
        """At the step limit what is there is judged."""
        if self.max_steps is None or state.steps < self.max_steps:
            return reply
        text, score, success = self._judged(state.problem)
        said = f"{reply.observation}\nThat was the last step. {text}"
        return Reply(said, score=score, success=success, valid=reply.valid)

    # -- the sandbox -------------------------------------------------------------------------------------------------

    def _sandbox(self, problem: Problem) -> Sandbox:
        """A fresh sandbox, from those that are kept ready. Raises BadInput for an image that it could not have."""
        if problem.image and self.backend != "docker":
            raise BadInput(
                f"this task wants the container image {problem.image!r}, which the sandbox {self.backend} has none of; "
                "use --sandbox docker, or take `image` out of the task file"
            )
        return pool.lend(self.backend, LIMITS, **({"image": problem.image} if problem.image else {}))

    @cached_property
    def backend(self) -> str:
        """Name of the sandbox's backend."""
        return self.sandbox or sandboxes.choose()

    def _begun(self, problem: Problem) -> Sandbox:
        """A fresh sandbox as that of this instance; it ends with the instance at the latest."""
        box = self._sandbox(problem)
        self._box, self._end = box, weakref.finalize(self, box.close)
        return box

    def _here(self) -> Sandbox:
        if self._box is None:
            raise EnvFault("the sandbox of this instance is closed; reset or restore begins another")
        return self._box

    def _give_up(self) -> None:
        end, self._end, self._box = self._end, None, None
        if end is not None:
            end()

    def snapshot(self) -> Snapshot:
        """As in the base class, with the work directory."""
        state = self.state
        state.work = self._here().snapshot()
        try:
            return super().snapshot()
        finally:
            state.work = None

    def restore(self, snapshot: Snapshot) -> tuple[str, dict[str, Any]]:
        """As in the base class; the work directory becomes what it was, and no process of before goes on."""
        answer = super().restore(snapshot)
        try:
            state = self.state
            box = self._box or self._begun(state.problem)
            if state.work is not None:
                box.restore(state.work)
            state.work = None
        except BaseException:
            self._now = None  # the state is there, the files are not
            self._give_up()
            raise
        return answer

    def to_bytes(self, state: State, most: int) -> bytes:
        """Number of steps and work directory: commands may read the clock or random numbers, so replay diverges."""
        try:
            copy = self._here().snapshot(most)
            return b"%d %s\n" % (state.steps, copy.digest.encode()) + copy.archive
        except BadInput as error:
            raise BadInput(f"the work directory is not kept: {error}") from error

    def from_bytes(self, task: Task, raw: bytes) -> State:
        """In this instance's sandbox, or a fresh one. Raises BadInput, SandboxDied: as `begin` and `restore`."""
        head, _, archive = raw.partition(b"\n")
        steps, _, digest = head.partition(b" ")  # there is none in what was kept by earlier versions
        if not steps.isdigit():
            raise BadInput(f"what was kept of a step of {task.id} is damaged: it holds no number of steps")
        problem = self._problem(task)
        box = self._box or self._begun(problem)
        try:
            box.restore(WorkCopy(archive, digest.decode("ascii", "replace")))
        except BaseException:
            self._give_up()
            raise
        return State(problem, int(steps))

    def distance(self, task: Task, actions: Sequence[str]) -> int | None:
        """As in the base class; None where the sandbox is gone."""
        return super().distance(task, actions) if self._box is not None else None

    def abort(self) -> None:
        """Kill this instance's sandbox, from any thread."""
        box = self._box
        if box is not None:
            box.close()

    def close(self) -> None:
        """Give the sandbox back. May be called twice; a later reset begins another."""
        super().close()
        self._give_up()


def shorten(text: str, most: int = LONGEST_OBSERVATION) -> str:
    """A text of at most some `most` characters: the middle of a longer one is cut, and the cut is marked."""
    if len(text) <= most:
        return text
    head, tail = most * 2 // 3, most - most * 2 // 3
    return f"{text[:head]}\n[... {len(text) - most} characters are left out ...]\n{text[-tail:]}"


def python_in(answer: str, entry: str = "") -> str:
    """The Python of an answer: its block that defines `entry`, else its longest block, else all of it."""
    blocks = [step.text for step in parse(answer, "answer") if isinstance(step, Write)] if "```" in answer else []
    return next((block for block in blocks if entry and defines(block, entry)), max(blocks, key=len, default=answer))


def defines(code: str, entry: str) -> bool:
    """Does code define a function or class of this name at its top."""
    return re.search(rf"^(async def|def|class) {re.escape(entry)}\b", code, re.MULTILINE) is not None


LIMITS = Limits(pids=64, wall=30.0)
"""Of every sandbox of this family."""


@lru_cache(maxsize=8)
def python_of(backend: str) -> str:
    """Which Python runs in the sandbox: what programs print depends on it."""
    with sandboxes.start(backend, LIMITS) as box:
        found = box.exec(["python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
    if not found.ok:
        raise BadInput(f"the {backend} sandbox has no python3: {found.shown().strip()[:200]}")
    return f"python {found.stdout.strip()}"
