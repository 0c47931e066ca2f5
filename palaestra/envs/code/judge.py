"""Runs tests against what lies in a sandbox, so that the solution can neither read them nor say that it passed.

Nothing of the tests is ever written to the work directory: they come on stdin, to a process of their own, and the
agent's code runs in another process that is sent arguments and sends back data (`inside/`). Its classes, objects and
functions stay there; the tests hold stand-ins that ask (`inside/remote.py`). The verdict carries a random secret. There
are three ways (`Problem.judge`):

- "data", of HumanEval, MBPP and the package's own tasks. Plain data alone decides: subclasses of plain types arrive as
  their data, a stand-in can be called and has attributes, items and a length, but no operators and no class, and no
  function is handed to the solution. An exit, a print, a patched `assert` or `unittest`, an object that equals
  everything, forged answers, or a look through its own interpreter's memory gain a solution nothing.
- "apart", of folders where they say nothing else. Classes, exceptions, operators and functions pass, too, so that tests
  may be ordinary ones. With plain data `==`, `<` and what an operator gives are still not decided by the solution, but
  other things that its classes say are believed: see below. A test that cannot be judged so is a fault (`Unjudged`),
  unless something that came out of the solution may have led it there.
- "together": the tests run in the solution's process, and none of this holds.

Not claimed of "apart": a class is believed about its length, what it contains, what it is true as, its text, how its
objects compare with one another, and the objects of its own that its operators give, with all that these say
(`(f(1) - 5).seconds() < 1`, `not (f(1) - 5)`); so is a StopIteration that it raises, which ends a loop of the test's.
Of "data": what an object says of its own length and what it contains. Of both: a name of the solution's may mean any of
Python's types (`Bad = Exception`, which `except Bad` then catches, as in plain Python). A solution may learn the
arguments it is called with, of "apart" what its operators are given (`f(1) - 2.5`), of both what it is asked to contain
(`17 in f(1)`), and give that to a later test that asks for the very same (it cannot keep anything for a later run); and
code that breaks out of the sandbox, or into another process of its own user in spite of the kernel, is the sandbox's
matter. A shell problem's check script runs what the agent left, so it must not trust what that prints.
"""

from __future__ import annotations

import ast
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from palaestra.envs.code.problem import Problem
from palaestra.envs.errors import EnvFault
from palaestra.envs.fingerprint import digest
from palaestra.envs.sandbox.interface import Sandbox

ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}
"""Of everything that runs in the sandbox: the same order of sets every time, no files that nobody asked for."""

MOST_SECONDS = 45.0
"""That all tests of a problem may take together."""

HINT = 'a task whose file says judge = "together" runs its tests in the solution\'s process'
"""What the owner of a task can do about tests that cannot be judged from another process."""

_PACKAGE = "palaestra.envs.code.inside"

_LOADER = """\
import sys
sys.path[:] = [place for place in sys.path if place]
import types
def load(sources):
    for name, source in sources:
        parts = name.split(".")
        for end in range(1, len(parts)):
            parent = sys.modules.setdefault(".".join(parts[:end]), types.ModuleType(parts[end - 1]))
            parent.__path__ = []
        module = sys.modules[name] = types.ModuleType(name)
        exec(compile(source, name, "exec"), vars(module))
    return module
"""

_TRIAL = (
    _LOADER + 'import json\njob = json.loads(sys.stdin.buffer.read())\nload(job.pop("sources")).main(job)\n'
    "import os\nos._exit(0)\n"
)


class Unjudged(EnvFault):
    """A test does what cannot be judged from another process than the solution's. The message names the test."""


@dataclass(frozen=True)
class Verdict:
    """What came of one test. `detail` is for the agent's eyes only where the test itself is."""

    passed: bool
    detail: str = ""


def judge(box: Sandbox, problem: Problem, tests: Sequence[str], timeout: float) -> list[Verdict]:
    """Run tests against the work directory of a sandbox.

    Args:
        tests: pieces of Python; each passes if it ends without an exception.
        timeout: seconds for one test. All together have 5 more than two of them, and at most `MOST_SECONDS`; those that
            do not begin by then have failed, and after three times that all is stopped. A solution that computes, and
            gets few turns on a busy machine, has these seconds of CPU, which may be four times as many by the clock
            (`inside.trial.Watch`).

    Raises:
        EnvFault: the tests' process did not even start. Unjudged: a test does what cannot be judged apart.
    """
    secret = secrets.token_hex(16)
    budget = min(MOST_SECONDS, 5.0 + timeout * min(2, len(tests)))
    job = {
        "secret": secret,
        "sources": _sources("wire", "remote", "pieces", "trial"),
        "boot": _solution(),
        "main": problem.main.removesuffix(".py"),
        "setup": problem.setup,
        "prelude": problem.prelude,
        "tests": list(tests),
        "entry": problem.entry,
        "judge": problem.judge,
        "timeout": timeout,
        "budget": budget,
    }
    result = box.exec(
        ["python3", "-s", "-B", "-c", _TRIAL],
        input=json.dumps(job),
        env=ENVIRONMENT,
        timeout=3.0 * budget,
    )
    verdicts: dict[int, Verdict] = {}
    ready = False
    for line in result.raw_stdout.decode("ascii", "replace").splitlines():
        mark, _, rest = line.partition(" ")
        if mark != secret:
            continue
        ready = True
        number, _, rest = rest.partition(" ")
        word, _, detail = rest.partition(" ")
        if word == "fault":
            raise Unjudged(f"{title(tests[int(number)])}: {_said(detail)}; {HINT}")
        if number.isdigit():
            verdicts[int(number)] = Verdict(word == "pass", _said(detail))
    if not ready:
        last = result.shown().strip().splitlines()[-1:] or ["it said nothing"]
        raise EnvFault(f"the tests did not start in the {box.backend} sandbox (status {result.rc}): {last[0][:200]}")
    return [
        verdicts.get(index, Verdict(False, "the tests were stopped before this one")) for index in range(len(tests))
    ]


def _said(detail: str) -> str:
    """What a verdict says of its test; nothing where the line was cut, for a solution may have made it long."""
    try:
        return str(ast.literal_eval(detail))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""


def failed(problem: Problem, verdicts: Sequence[Verdict]) -> str:
    """The first hidden test that failed, why, and what its task's owner can do, in one line."""
    index = [verdict.passed for verdict in verdicts].index(False)
    why = verdicts[index].detail.strip().split("\n")[-1][:200] or "it does not hold"
    return f"{title(problem.hidden[index])}: {why}" + ("" if problem.judge == "together" else f"; {HINT}")


def title(test: str) -> str:
    """What a test is called in a message."""
    first = test.strip().split("\n")[0]
    name = re.match(r"def (test_\w+)", first)
    return f"the test {name[1]}" if name else f"the test `{first[:80]}`"


def check(box: Sandbox, problem: Problem, timeout: float) -> bool:
    """Run a problem's check script in the work directory: status 0 is success."""
    return box.exec(problem.check, env=ENVIRONMENT, timeout=min(MOST_SECONDS, 2 * timeout)).ok


def _sources(*names: str) -> list[tuple[str, str]]:
    return [(f"{_PACKAGE}.{name}", _source(name)) for name in names]


@lru_cache(maxsize=8)
def _source(name: str) -> str:
    return resources.files(_PACKAGE).joinpath(f"{name}.py").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _solution() -> str:
    call = "served = load({!r}).Server(*sys.argv[3:7])\n"
    return (
        _LOADER
        + call.format(_sources("wire", "pieces", "solution"))
        + "served.serve(int(sys.argv[1]), int(sys.argv[2]))\n"
        "import os\nos._exit(0)\n"
    )


@lru_cache(maxsize=1)
def fingerprint() -> str:
    """Of what runs in the sandbox."""
    return digest("|".join(_source(name) for name in ("wire", "remote", "pieces", "solution", "trial")))
