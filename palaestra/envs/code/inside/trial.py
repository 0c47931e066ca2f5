"""The process of the tests: runs them one by one against the solution in its process, and says which passed.

Where the job says "together" they run in the solution's process, which says itself how each ended. Else:

The tests never meet an object of the solution's, only data (`wire.py`) and stand-ins that ask for what it does
(`remote.py`), so that nothing that the solution does to its own interpreter (builtins, `assert`, `unittest`, an exit)
reaches them. Where the job says "data" a stand-in has neither operators nor a class, and is handed no function: then
plain data alone decides. A verdict is a line with the secret of this trial in it; the solution's process never gets the
secret and cannot look into this one.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import functools
import importlib.abc
import importlib.machinery
import io
import os
import select
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator, Sequence
from typing import Any, cast

from palaestra.envs.code.inside.pieces import explain, unknown
from palaestra.envs.code.inside.remote import Kind, Unjudged, found, ours
from palaestra.envs.code.inside.wire import MUTABLE, PLAIN, decode, encode, receive, send

MOST_DETAIL = 1500
"""Characters said of a test."""

MOST_WAITS = 4
"""Limits of a test that may pass by the clock while its solution wants to compute and other work gets the turns."""


FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial)
"""What a solution may be handed to call it."""


class Gone(BaseException):
    """The solution's process ended, or took too long."""


BARRED = ("palaestra", "unittest", "doctest", "pytest", "_pytest")
"""Packages whose exceptions a solution cannot raise here: some of them say that a test was left out."""


class Failed(Exception):
    """An exception of the solution's that Python itself does not have."""


class Solution:
    """The solution's process, started anew after it ended.

    Args:
        boot: the program that becomes it.
        arguments: for `boot`.
        strict: plain data alone decides.

    Attributes:
        led: something came out of the solution that may have led the test to what cannot be judged: a type of Python's,
            what the test itself had handed over, or a call of it. Such a test has failed: its text is not to blame.
    """

    def __init__(self, boot: str, arguments: Sequence[str], strict: bool = False) -> None:
        self.boot, self.arguments, self.strict = boot, arguments, strict
        self.turn = threading.RLock()  # of a test's threads, and of calls within calls
        self.led = False
        self.process: Any = None
        self.gone = ""
        self.trace = ""
        self.unjudged = ""
        self.classes: dict[int, Any] = {}
        self.objects: dict[int, Any] = {}
        self.handed: list[Any] = []
        self.raised: list[BaseException] = []

    def start(self) -> None:
        """A fresh process, if there is none."""
        self.gone = self.trace = self.unjudged = ""
        self.handed, self.raised, self.led = [], [], False
        if self.process is not None:
            return
        here, there = os.pipe(), os.pipe()
        ours, self.to = there[0], here[1]
        self.process = subprocess.Popen(
            [sys.executable, "-s", "-B", "-c", self.boot, str(here[0]), str(there[1]), *self.arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(here[0], there[1]),
        )
        self.since = ours
        os.close(here[0])
        os.close(there[1])

    def end(self, why: str) -> None:
        """Kill it."""
        self.gone = self.gone or why
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            waited = self.turn.acquire(timeout=1.0)  # a thread that waits for the answer is to see its end
            os.close(self.to)
            os.close(self.since)
            self.process = None
            self.classes, self.objects = {}, {}
            if waited:
                self.turn.release()

    def read(self, data: Any) -> Any:
        """What it answered, of which nothing runs here."""
        return decode(data, functools.partial(found, self))

    def ask(self, *request: Any) -> Any:
        """Ask it, and wait; one thread at a time. Raises what its code raised, or Gone."""
        with self.turn:
            return self._ask(*request)

    def _ask(self, *request: Any) -> Any:
        if self.gone:
            raise Gone(self.gone)
        try:
            send(self.to, request)
            while True:
                kind, *rest = receive(self.since)
                if kind == "ok":
                    return rest[0]
                if kind != "ask" or self.strict:
                    break
                send(self.to, self.called(*rest))
            names, message, trace, body, made = rest
            if not names or not all(isinstance(said, str) for said in (message, trace, *names)):
                raise ValueError("no error of Python's")
            self.trace = trace
        except (EOFError, OSError, ValueError, TypeError):
            self.end("the solution ended its process")
            raise Gone(self.gone) from None
        raise self.error(str(request[0]), names, message, body, made)

    def error(self, verb: str, names: Sequence[str], message: str, body: Any, made: Any) -> BaseException:
        """What its code raised: an exception of the tests' own, of its own, or one of Python's."""
        exact = self.known(names[0])
        if body is not None and not self.strict and (exact is None or body[1] == "raised"):
            own = found(self, body)
            if isinstance(own, (Exception, SystemExit)):
                return own
        for name in names:
            kind = self.known(name)
            if kind is StopIteration and self.strict and verb != "next":
                break  # it would end a loop of the test's before its asserts
            if kind is Exception and exact is None:
                break
            if kind is not None:
                with contextlib.suppress(Exception):  # one of Python's that is made from more than a text
                    given = self.read(made) if kind is exact and made is not None else [message]
                    return cast("BaseException", kind(*given))
        return Failed(f"{names[0].rpartition('.')[2]}: {message}")

    def known(self, name: str) -> Any:
        """An exception of Python's, or of a module that the tests have imported, or None."""
        package, _, last = name.rpartition(".")
        holder = sys.modules.get(package or "builtins")
        if isinstance(holder, Module) or (package and (self.strict or package.split(".")[0] in BARRED)):
            return None
        kind = vars(holder).get(last) if holder is not None else None
        possible = Exception if self.strict else (Exception, SystemExit)
        return kind if isinstance(kind, type) and issubclass(kind, possible) else None

    def called(self, number: int, given: Any, named: Any) -> Any:
        """Call what the tests handed over: the reply. An assert that fails in it ends the test."""
        self.led = True
        try:
            target = self.handed[number]
            plain = [self.read(item) for item in given], {key: self.read(item) for key, item in named.items()}
            value = next(target) if isinstance(target, Iterator) else target(*plain[0], **plain[1])
            return ["ok", encode(value, self.number)]
        except AssertionError as error:
            self.end(f"AssertionError: {error}")
            raise
        except (Exception, SystemExit) as error:
            self.raised.append(error)
            names = [kind.__name__ for kind in type(error).__mro__]
            return ["error", names, str(error), len(self.raised) - 1]

    def refuse(self, why: str) -> BaseException:
        """For a test that cannot be judged: to be raised."""
        self.unjudged = "" if self.led else why
        self.end(why)
        return Unjudged(why)

    def number(self, value: Any) -> Any:
        """What stands for a value that is no plain data, and goes to the solution. Raises Unjudged."""
        if ours(value) or isinstance(type(value), Kind):
            return [vars(value)["_number_"], "kept", ""]
        if isinstance(value, types.CoroutineType):
            for number, thing in self.objects.items():
                if thing is value:
                    return [number, "kept", ""]
        name = str(getattr(value, "__name__", ""))
        if isinstance(value, types.BuiltinFunctionType) and vars(builtins).get(name) is value:
            return [name, "builtin", ""]  # as the solution has it: `sorted_by(words, len)`
        if isinstance(value, (*PLAIN, *MUTABLE)):
            return None  # its data alone
        if self.strict:
            raise TypeError(f"a test cannot hand {type(value).__name__} to a solution; hand it plain data")
        function = isinstance(value, FUNCTIONS)
        if not function and (not isinstance(value, Iterator) or isinstance(value, io.IOBase)):
            raise self.refuse(f"it hands a {type(value).__name__} to the solution")
        places = [place for place, each in enumerate(self.handed) if each is value]
        if not places:
            self.handed.append(value)
        return [places[0] if places else len(self.handed) - 1, "call" if function else "next", name]


class Module(types.ModuleType):
    """A module of the agent's, as the tests import it."""

    def __init__(self, name: str, solution: Solution) -> None:
        super().__init__(name)
        self.__dict__["_solution"] = solution

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        said = names_of(self._solution, self.__name__, [name])
        if name not in said:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return said[name]

    def __setattr__(self, name: str, value: Any) -> None:
        """A test that replaces what a module has replaces it for the solution."""
        if name.startswith("__"):
            super().__setattr__(name, value)
        else:
            self._solution.ask("assign", self.__name__, name, encode(value, self._solution.number))


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Lets the tests import what lies in the work directory; Python's own modules come first."""

    def __init__(self, solution: Solution) -> None:
        self.solution = solution

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        """A spec for a file of the agent's."""
        if path is None and os.path.isfile(name + ".py"):
            return importlib.machinery.ModuleSpec(name, self)
        return None

    def create_module(self, spec: Any) -> Any:
        """The stand-in."""
        return Module(spec.name, self.solution)

    def exec_module(self, module: Any) -> None:
        """Load it, so that what is wrong with it is known at the import."""
        names_of(self.solution, module.__name__, [])


def names_of(solution: Solution, module: str, names: Sequence[str]) -> dict[str, Any]:
    """Those of the names that a module of the solution has; "" is its main one. No other, whatever it answers."""
    said = solution.ask("names", module, list(names))
    return {name: solution.read(said[name]) for name in names if name in said}


def run(code: str, solution: Solution, job: dict[str, Any], watch: Watch) -> tuple[str, str]:
    """One test: "pass", "fail" or "fault", and what is to be said of it."""
    prelude = job["prelude"]
    scope: dict[str, Any] = {"__name__": "tests"}
    detail = ""
    try:
        watch.start()
        solution.start()
        if job["judge"] == "together":
            passed, detail = solution.ask("test", prelude, code, job["entry"])
            return "pass" if passed is True and not solution.gone else "fail", str(detail)[-MOST_DETAIL:]
        for name in [name for name in sys.modules if isinstance(sys.modules[name], Module)]:
            del sys.modules[name]
        wanted = [*unknown(prelude, code), *([job["entry"]] if job["entry"] else [])]
        if "sys" in wanted:  # which MBPP/596 uses and does not import
            scope["sys"] = sys
            wanted.remove("sys")
        if wanted:  # else the tests import what they need, or run it as a program
            scope.update(names_of(solution, "", wanted))
        exec(compile(prelude, "<tests>", "exec"), scope)
        exec(compile(code, "<test>", "exec"), scope)
        passed = not solution.gone
    except AssertionError as error:
        passed, detail = False, str(error)
        try:
            detail = detail or explain(code, scope)
        except BaseException as second:
            detail = f"{type(second).__name__}: {second}"
    except BaseException as error:
        passed, detail = False, solution.trace or f"{type(error).__name__}: {error}"
    finally:
        watch.stop()
    if solution.gone:
        detail = solution.gone
        solution.end(solution.gone)
    if solution.unjudged:
        return "fault", solution.unjudged[-MOST_DETAIL:]
    return "pass" if passed else "fail", detail[-MOST_DETAIL:]


class Watch:
    """The time of a test. It runs out for a solution that waits, and for one that has computed for so long.

    One that wanted to compute and got no turn, on a machine with much other work, is given more: else its verdict would
    say how busy the machine was.

    Attributes:
        given: seconds that were given beyond the limit, over all tests.
    """

    def __init__(self, solution: Solution, limit: float) -> None:
        self.solution, self.limit = solution, limit
        self.given = 0.0
        self._began = self._used = 0.0
        signal.signal(signal.SIGALRM, self._late)

    def start(self) -> None:
        """A test begins."""
        self._began, self._used = time.monotonic(), self._about()[1]
        signal.setitimer(signal.ITIMER_REAL, self.limit)

    def stop(self) -> None:
        """It has ended."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _late(self, *_: Any) -> None:
        state, used = self._about()
        more = further(state, used - self._used, time.monotonic() - self._began, self.limit)
        if more > 0:
            self.given += more
            signal.setitimer(signal.ITIMER_REAL, more)
            return
        self.solution.end(f"it took longer than {self.limit:g} s")
        raise Gone(self.solution.gone)

    def _about(self) -> tuple[str, float]:
        """State of the solution's process and its seconds of CPU; of one that is not there "" and 0.

        One that has answered counts as if it computed: then it is this process that got no turn.
        """
        process = self.solution.process
        try:
            with open(f"/proc/{process.pid if process is not None else 0}/stat") as file:
                state, *rest = file.read().rpartition(")")[2].split()
            answered = bool(select.select([self.solution.since], [], [], 0)[0])
            return "R" if answered else state, (int(rest[10]) + int(rest[11])) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, IndexError):
            return "", 0.0


def further(state: str, used: float, waited: float, limit: float) -> float:
    """Seconds that a test may go on for; 0 if its time is over.

    Args:
        state: of the solution's process, as the kernel says it: "R" wants to compute, "D" reads from a disk.
        used, waited: its seconds of CPU, and by the clock, since the test began.
        limit: of a test.
    """
    if state not in ("R", "D") or used >= limit or waited >= MOST_WAITS * limit:
        return 0.0
    return min(max(0.1, limit - used), MOST_WAITS * limit - waited)


def hide() -> None:
    """Let no other process look into this one (PR_SET_DUMPABLE)."""
    with contextlib.suppress(OSError, AttributeError):  # not Linux
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)


def main(job: dict[str, Any]) -> None:
    """Run all tests; one line each on stdout: secret, number, pass or fail, what is to be said of it as a literal."""
    hide()
    verdicts = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    print(job["secret"], "ready", file=verdicts, flush=True)
    arguments = [job["main"], job["setup"], os.getcwd(), job["judge"]]
    solution = Solution(job["boot"], arguments, strict=job["judge"] == "data")
    sys.meta_path.append(Finder(solution))

    watch, end = Watch(solution, job["timeout"]), time.monotonic() + job["budget"]
    for index, test in enumerate(job["tests"]):
        if time.monotonic() > end + watch.given:
            break  # those that are not reached have failed
        word, detail = run(test, solution, job, watch)
        print(job["secret"], index, word, ascii(detail), file=verdicts, flush=True)
    solution.end("all tests are done")
