"""Folders of ordinary Python tests: right solutions are judged right, and what cannot be judged is a fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from palaestra.agents.collect import collect
from palaestra.agents.policies.oracle import OraclePolicy
from palaestra.agents.store import EpisodeStore
from palaestra.envs import EnvFault, find, make
from palaestra.envs.code.judge import Unjudged, judge
from palaestra.envs.code.problem import Problem, cut
from palaestra.envs.sandbox.interface import Sandbox
from tests.envs.code.conftest import task_file
from tests.envs.code.ordinary import ORDINARY


@pytest.mark.parametrize("way", ["together", "apart"])
def test_the_right_solution_of_each_ordinary_task_passes(folder: Callable[..., str], way: str) -> None:
    files = {f"{name}.toml": task_file(tests, solution, way) for name, (tests, solution) in ORDINARY.items()}
    env = make("codetasks", folder=folder(files))
    oracle = find("codetasks").oracle()
    scores = {}
    for task in env.tasks("test"):
        env.reset(options={"task": task})
        while not (seen := env.step(oracle(env)))[2]:
            pass
        scores[task.name] = seen[4]["score"]
    env.close()
    assert scores == dict.fromkeys(ORDINARY, 1.0)


def test_together_a_wrong_solution_fails_and_says_what_came(folder: Callable[..., str]) -> None:
    tests = "assert double(2) == 4\nassert double(3) == 6"
    task = task_file(tests, "def double(n): return 2 * n", "together")
    files = {"a.toml": f"visible = 'assert double(2) == 4'\n{task}"}
    env = make("codetasks", folder=folder(files), timeout=1.0)
    for code, said in (
        ("def double(n): return n + 2", "1 of 2"),
        ("def double(n): return 1 / 0", "0 of 2"),
        ("def double(n): return n +", "0 of 2"),
        ("import os; os._exit(0)", "0 of 2"),
        ("raise SystemExit(0)", "0 of 2"),
        ("def double(n):\n    while True: pass", "0 of 2"),
    ):
        env.reset()
        env.step(f"```\n{code}\n```")
        assert env.step("submit")[0] == f"{said} hidden tests pass."
    env.reset()
    assert env.step("```\ndef double(n): return n + 1\n```\ntest")[0].endswith("failed: assert double(2) == 4\ngot 3")
    env.close()


def test_a_task_whose_own_solution_fails_is_a_fault_that_names_the_test(
    tmp_path: Any, folder: Callable[..., str]
) -> None:
    files = {
        "right.toml": task_file("assert one() == 1", "def one(): return 1"),
        "wrong.toml": task_file("def test_two():\n    assert double(2) == 5", "def double(n): return 2 * n"),
        "check.toml": 'statement = "Do it."\ncheck = "false"\ncommands = ["true"]\n',
    }
    settings = {"folder": folder(files), "sandbox": "bwrap"}
    with EpisodeStore(tmp_path / "e.sqlite") as store:
        env = make("codetasks", **settings)
        tasks = env.tasks("test")
        env.close()
        report = collect(
            tasks, OraclePolicy("codetasks"), store, env_settings=settings, progress="quiet", max_fault_rate=1.0
        )
        assert (report.episodes, report.successes, report.given_up) == (1, 1, 2)
        said = {fault.start.task.name: fault.error or "" for fault in store.faults()}
    assert "the task wrong: its own solution fails the test test_two: it does not hold; " in said["wrong"]
    assert 'judge = "together"' in said["wrong"]
    assert "the task check: its own solution does not pass its check" in said["check"]
    # another that is wrong has failed, as ever
    env = make("codetasks", **settings)
    env.reset(options={"task": "wrong"})
    assert env.step("```\ndef double(n): return 3 * n\n```\nsubmit")[4]["score"] == 0.0
    env.close()


def test_a_test_that_cannot_be_judged_apart_is_a_fault_whatever_the_solution_is(folder: Callable[..., str]) -> None:
    tests = "import threading\ndef test_lock():\n    assert locked(threading.Lock())"
    env = make("codetasks", folder=folder({"lock.toml": task_file(tests, "def locked(lock): return True")}))
    for code in ("def locked(lock): return True", "def locked(lock): raise ValueError"):
        env.reset()
        with pytest.raises(EnvFault, match="task lock: the test test_lock: it hands a lock to the solution") as told:
            env.step(f"```\n{code}\n```\nsubmit")
        assert "\n" not in str(told.value)
        assert 'judge = "together"' in str(told.value)
    env.close()


MORE = {
    "a named tuple with a field count": (
        "assert word().count == 3 and word() == ('a', 3) and repr(word()) == \"Word(text='a', count=3)\"",
        "from typing import NamedTuple\nclass Word(NamedTuple):\n    text: str\n    count: int\n"
        "def word(): return Word('a', 3)",
    ),
    "an enum of whole numbers": (
        "assert Size.BIG == 2 and Size(2) is Size.BIG and Size['BIG'].name == 'BIG' and len(Size) == 2\n"
        "assert [size.name for size in Size] == ['SMALL', 'BIG'] and isinstance(biggest(), Size)",
        "import enum\nclass Size(enum.IntEnum):\n    SMALL = 1\n    BIG = 2\ndef biggest(): return Size.BIG",
    ),
    "operators": (
        "assert V(1) * 3 == V(3) and 3 * V(1) == V(3) and -V(1) == V(-1) and V(2) @ V(3) == 6 and V(1) != V(2)\n"
        "def test_hash():\n    assert len({V(1), V(1), V(2)}) == 2 and {V(1): 5}[V(1)] == 5\n",
        "class V:\n    def __init__(s, x): s.x = x\n    def __eq__(s, o): return s.x == o.x\n"
        "    def __hash__(s): return hash(s.x)\n    def __mul__(s, k): return V(s.x * k)\n    __rmul__ = __mul__\n"
        "    def __neg__(s): return V(-s.x)\n    def __matmul__(s, o): return s.x * o.x",
    ),
    "an exception with attributes, and one of the test's through the solution": (
        "def test_own():\n    try:\n        run(None)\n    except Refused as error:\n"
        "        assert error.code == 7 and error.args == ('no', 7) and isinstance(error, ValueError)\n"
        "    else:\n        raise AssertionError\n"
        "class Mine(Exception): pass\n"
        "def fails(): raise Mine('x')\n"
        "def test_mine():\n    try:\n        run(fails)\n    except Mine as error:\n        assert str(error) == 'x'\n"
        "    else:\n        raise AssertionError\n",
        "class Refused(ValueError):\n    def __init__(s, why, code):\n        super().__init__(why, code)\n"
        "        s.code = code\ndef run(f):\n    if f is None: raise Refused('no', 7)\n    return f()",
    ),
    "a retry, which catches what the test's function raises": (
        "def test_retry():\n    tries = []\n    def f():\n        tries.append(1)\n        if len(tries) < 3:\n"
        "            raise OSError('not yet')\n        return 'done'\n"
        "    assert retry(f) == 'done' and len(tries) == 3",
        "def retry(f):\n    while True:\n        try:\n            return f()\n        except OSError: pass",
    ),
    "a function of the test's that calls the solution, and iterators both ways": (
        "def test_both():\n    def twice(x): return list(doubled(iter([x])))[0]\n"
        "    assert each(twice, range(3)) == [0, 2, 4]\n"
        "import itertools\nassert first(itertools.count(5)) == 5\nassert list(doubled(x for x in (1, 2))) == [2, 4]",
        "def each(f, items): return [f(x) for x in items]\ndef first(items): return next(items)\n"
        "def doubled(items):\n    for item in items: yield 2 * item",
    ),
    "classes that derive from one another": (
        "assert isinstance(D(), B) and isinstance(D(), C) and isinstance(D(), A) and not isinstance(B(), C)\n"
        "assert issubclass(D, B) and D.kind == 'd' and D.of(4).n == 4 and type(D()).__name__ == 'D'",
        "class A: kind = 'a'\nclass B(A): pass\nclass C(A): pass\nclass D(B, C):\n    kind = 'd'\n"
        "    def __init__(s, n=0): s.n = n\n    @classmethod\n    def of(cls, n): return cls(n)",
    ),
}

MORE |= {
    "a cache that is an ordered dict": (
        "def test_cache():\n    c = LRUCache(1)\n    c.put(1, 2)\n    c.put(3, 4)\n"
        "    assert 1 not in c and c[3] == 4 and len(c) == 1 and c == {3: 4} and list(c) == [3] and c != {}\n"
        "    assert isinstance(c, LRUCache) and isinstance(c, dict) and sorted(c.items()) == [(3, 4)]",
        "from collections import OrderedDict\nclass LRUCache(OrderedDict):\n"
        "    def __init__(s, n):\n        super().__init__()\n        s.n = n\n"
        "    def put(s, k, v):\n        s[k] = v\n        s.move_to_end(k)\n"
        "        if len(s) > s.n: s.popitem(last=False)",
    ),
    "a stack that is a list": (
        "def test_stack():\n    s = Stack()\n    s.push(1)\n    s.append(2)\n    t = s\n    s += [3]\n"
        "    assert s is t and s.peek() == 3 and len(s) == 3 and s == [1, 2, 3] and [1, 2, 3] == s and s != [1]\n"
        "    assert s + [4] == [1, 2, 3, 4] and s[:2] == [1, 2] and s < [2] and isinstance(s, list) and s == Stack(s)\n"
        "    assert total(s) == 6",
        "class Stack(list):\n    def push(s, x): s.append(x)\n    def peek(s): return s[-1]\n"
        "def total(s): return s.peek() + sum(s[:-1])",
    ),
    "sets, deques and dicts of one's own": (
        "assert Bag([1, 2]) - {1} == {2} and {1, 2, 3} - Bag([1]) == {2, 3} and Bag([1]) <= {1, 2}\n"
        "assert D(a=1).a == 1 and D(a=1) == {'a': 1} and groups(['ab', 'ac']) == {'a': ['ab', 'ac']}\n"
        "def test_default():\n    g = groups([])\n    assert g['x'] == [] and g == {'x': []}\n"
        "def test_order():\n    assert list(ordered()) == ['b', 'a']\n"
        "from collections import deque\nassert Line([1]).first() == 1 and Line([1]) == deque([1])",
        "from collections import OrderedDict, defaultdict, deque\nclass Bag(set): pass\n"
        "class D(dict):\n    __getattr__ = dict.__getitem__\n"
        "class Line(deque):\n    def first(s): return s[0]\n"
        "def groups(words):\n    found = defaultdict(list)\n"
        "    for word in words: found[word[0]].append(word)\n    return found\n"
        "def ordered():\n    d = OrderedDict(a=1, b=2)\n    d.move_to_end('a')\n    return d",
    ),
    "threads": (
        "import threading\ndef test_threads():\n    c = Count()\n"
        "    def work():\n        for _ in range(50): c.inc()\n"
        "    threads = [threading.Thread(target=work) for _ in range(8)]\n"
        "    for thread in threads: thread.start()\n    for thread in threads: thread.join()\n    assert c.n == 400\n"
        "from concurrent.futures import ThreadPoolExecutor\ndef test_pool():\n    c = Count()\n"
        "    with ThreadPoolExecutor(4) as pool:\n        found = list(pool.map(lambda _: c.inc(), range(100)))\n"
        "    assert sorted(found) == list(range(1, 101))",
        "class Count:\n    def __init__(s): s.n = 0\n    def inc(s):\n        s.n += 1\n        return s.n",
    ),
    "attributes of any name, what cannot be hashed, `+=`": (
        "assert V(3)._number == 3 and V(3)._data == 3\n"
        "def test_plus():\n    v = V(1)\n    w = v\n    v += 2\n    assert v.x == 3 and v is w\n"
        "def test_hash():\n    try:\n        hash(V(1))\n    except TypeError:\n        return\n    assert False",
        "class V:\n    def __init__(s, x): s.x = s._number = s._data = x\n"
        "    def __eq__(s, o): return s.x == o.x\n    def __iadd__(s, k):\n        s.x += k\n        return s",
    ),
}

MORE |= {
    "exceptions of Python's modules, and what exceptions hold": (
        "import json\nimport queue\nfrom dataclasses import FrozenInstanceError\n"
        "def caught(kind, how):\n    try:\n        fail(how)\n    except kind as error:\n        return error\n"
        "def test_modules():\n"
        "    assert caught(json.JSONDecodeError, 'json').pos == 1 and caught(ValueError, 'json')\n"
        "    assert caught(queue.Empty, 'queue') and caught(FrozenInstanceError, 'frozen')\n"
        "def test_held():\n"
        "    assert caught(KeyError, 'key').args == ('k',) and str(caught(KeyError, 'key')) == \"'k'\"\n"
        "    assert caught(ValueError, 'value').args == ('a', 3)\n"
        "    missing = caught(FileNotFoundError, 'file')\n"
        "    assert (missing.errno, missing.filename) == (2, '/no/such/file')\n"
        "    assert caught(UnicodeDecodeError, 'bytes').start == 1 and caught(ValueError, 'bytes')\n"
        "    assert caught(SystemExit, 'exit').code == 3\n"
        "    assert str(caught(Exception, 'plain')) == 'x'\n",
        "import dataclasses, json, queue, sys\n@dataclasses.dataclass(frozen=True)\nclass Point: x: int = 0\n"
        "def plain(): raise Exception('x')\ndef value(): raise ValueError('a', 3)\n"
        "def fail(how):\n    return {'json': lambda: json.loads('[!'), 'queue': lambda: queue.Queue().get_nowait(),\n"
        "        'frozen': lambda: setattr(Point(), 'x', 1), 'key': lambda: {}['k'], 'value': value, 'plain': plain,\n"
        "        'file': lambda: open('/no/such/file'), 'bytes': lambda: b'a\\xff'.decode(),\n"
        "        'exit': lambda: sys.exit(3)}[how]()",
    ),
    "views of dicts, and a module's own numbers": (
        "assert f(dict(a=1)) == {'a'} and f({}) == set() and f(dict(a=1)) != ['a'] and g(dict(a=1)) == {('a', 1)}\n"
        "import solution\ndef test_rate():\n    solution.RATE = 3\n    assert solution.h(1) == 3 == solution.RATE\n"
        "def test_function():\n    solution.now = lambda: 7\n    assert solution.late() == 7\n",
        "RATE = 2\ndef f(d): return d.keys()\ndef g(d): return d.items()\ndef h(n): return n * RATE\n"
        "def now(): return 1\ndef late(): return now()",
    ),
}


def test_a_list_of_ones_own_is_compared_by_its_data(box: Sandbox) -> None:
    code = (
        "class Yes(list):\n    def __eq__(s, o): return True\n    __ne__ = __lt__ = __add__ = __iter__ = __eq__\n"
        "def f(x): return Yes([7])"
    )
    box.write_file("solution.py", code)
    tests = ("assert f(1) == [1]", "assert [1] == f(1)", "assert f(1) < [1]", "assert f(1) + [1] == [1]")
    assert [verdict.passed for verdict in judge(box, Problem(""), tests, 10.0)] == [False] * 4


def test_more_of_what_tests_do(box: Sandbox) -> None:
    for name, (tests, solution) in MORE.items():
        box.write_file("solution.py", solution)
        found = cut(tests, name)
        problem = Problem("", prelude=found.prelude, hidden=found.tests)
        for verdict in judge(box, problem, found.tests, 10.0):
            assert verdict.passed, (name, verdict.detail)


def test_what_a_solution_returns_makes_no_fault_where_it_is_handed_back(box: Sandbox) -> None:
    tests = ("assert back(make(1))[0:1] == [1]", "assert make(1)[0:1] == [1]")
    for solution, wanted in (
        ("def make(n): return [n]\ndef back(x): return x", [True, True]),
        ("async def make(n): return n\ndef back(x): return x", [False, False]),
        (
            "class make:\n    def __init__(s, n): s.n = n\n"
            "    def __getitem__(s, k): return [s.n][k]\ndef back(x): return x",
            [True, True],
        ),
    ):
        box.write_file("solution.py", solution)
        assert [verdict.passed for verdict in judge(box, Problem(""), tests, 10.0)] == wanted


@pytest.mark.parametrize(
    "test",
    [
        "class Node: pass\nassert f(Node())",
        "class Sub(Base): pass",
        "async def later(): pass\nassert f(later())",
        "import io\nassert f(io.StringIO('x'))",
        "assert f(ValueError('x'))",
    ],
)
def test_what_a_test_hands_over_or_derives_decides_that_it_is_a_fault(box: Sandbox, test: str) -> None:
    for solution in ("class Base: pass\ndef f(x): return True", "class Base: pass\ndef f(x): raise ValueError"):
        box.write_file("solution.py", solution)
        with pytest.raises(Unjudged, match='judge = "together"'):
            judge(box, Problem(""), [test], 10.0)
