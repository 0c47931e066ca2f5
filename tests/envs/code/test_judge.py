"""Hidden tests decide, and nothing that a solution does makes them say that it passed."""

from __future__ import annotations

import dataclasses
import json
import textwrap

import pytest

from palaestra.envs.code.inside.trial import further
from palaestra.envs.code.inside.wire import decode, encode
from palaestra.envs.code.judge import check, judge
from palaestra.envs.code.problem import Problem, cut
from palaestra.envs.errors import BadInput
from palaestra.envs.sandbox.interface import Sandbox

TESTS = ("assert double(2) == 4", "assert double([1]) == [1, 1]", "assert abs(double(0.5) - 1) < 1e-9")
PROBLEM = Problem("Write double(n).", entry="double", hidden=TESTS)


def passed(box: Sandbox, code: str, problem: Problem = PROBLEM, timeout: float = 10.0) -> list[bool]:
    """Which hidden tests a solution passes."""
    box.write_file(problem.main, textwrap.dedent(code))
    return [verdict.passed for verdict in judge(box, problem, problem.hidden, timeout)]


def test_a_right_solution_passes_and_a_half_right_one_in_part(box: Sandbox) -> None:
    assert passed(box, "def double(n): return n * 2") == [True, True, True]
    assert passed(box, "def double(n): return int(n) * 2") == [True, False, False]
    assert passed(box, "def other(n): return n * 2") == [False, False, False]
    assert passed(box, "def double(n:") == [False, False, False]


CHEATS = {
    "exits when loaded": "import sys; sys.exit(0)",
    "ends its process when loaded": "import os; os._exit(0)",
    "ends its process when called": "def double(n):\n    import os; os._exit(0)",
    "kills the tests": "import os, signal; os.kill(os.getppid(), signal.SIGKILL)",
    "kills all it can": "import os, signal; os.kill(-1, signal.SIGKILL)",
    "returns what equals everything": """
        class Yes(int):
            def __eq__(self, other): return True
            def __ne__(self, other): return False
            def __hash__(self): return 0
            def __sub__(self, other): return 0
        def double(n): return Yes(77)
        """,
    "returns an object that equals everything": """
        class Yes:
            def __eq__(self, other): return True
            def __lt__(self, other): return True
            def __sub__(self, other): return self
            def __abs__(self): return self
        def double(n): return Yes()
        """,
    "patches builtins": """
        import builtins, operator, unittest
        builtins.AssertionError = builtins.abs = builtins.len = lambda *_: -1
        unittest.TestCase.assertEqual = lambda *_: None
        def double(n): return None
        """,
    "defines the names that tests use": """
        def abs(n): return 0
        class AssertionError(Exception): pass
        def double(n): return 77
        """,
    "prints verdicts": """
        import os, sys
        for fd in range(3, 30):
            for number in range(3):
                try: os.write(fd, f"{number} pass ''\\n".encode())
                except OSError: pass
        for number in range(3): print(number, "pass ''")
        def double(n): return None
        """,
    "looks through its memory for the secret": """
        import gc, sys
        def double(n):
            frame, found = sys._getframe(), []
            while frame:
                found += [value for key, value in frame.f_locals.items() if key == "secret"]
                frame = frame.f_back
            found += [o["secret"] for o in gc.get_objects() if isinstance(o, dict) and "secret" in o]
            if found:
                print(found[0], "0 pass ''", file=open("/proc/self/fd/1", "w"))
        """,
    "rewrites what is compared": """
        import json, os, struct
        def reply(value):
            raw = json.dumps(["ok", [value, [None]]]).encode()
            return struct.pack("!I", len(raw)) + raw
        def double(n):
            import sys
            os.write(int(sys.argv[2]), reply({"o": [0, "object", [1, "Yes", ["__eq__", "__sub__", "__abs__"], []]]}))
            return n
        """,
    "answers more names than were asked for": """
        import json, os, struct, sys
        def say(value):
            raw = json.dumps(["ok", value]).encode()
            os.write(int(sys.argv[2]), struct.pack("!I", len(raw)) + raw)
        def hear():
            (size,) = struct.unpack("!I", os.read(int(sys.argv[1]), 4))
            return json.loads(os.read(int(sys.argv[1]), size))
        kind = [2, "function", [], []]
        names = {"double": {"o": [0, "object", kind]}, "abs": {"o": [1, "object", kind]}}
        say(names)
        while True:
            verb, number, *rest = hear()
            say(names if verb == "names" else [-1 if number == 1 else 0.5, [None]])
        """,
    "answers operators as it is wanted": """
        class Yes:
            def __sub__(self, other): return 0.0
            def __rsub__(self, other): return 0.0
            def __abs__(self): return 0.0
            def __float__(self): return 0.0
            def __eq__(self, other): return True
            def __lt__(self, other): return True
            def __gt__(self, other): return True
        double = lambda n: Yes()
        """,
    "is a class that equals everything": """
        class Meta(type):
            def __eq__(self, other): return True
            def __hash__(self): return 0
            def __sub__(self, other): return self
        class double(metaclass=Meta):
            def __new__(cls, n): return cls
        """,
    "returns data whose class equals everything": """
        class Yes(tuple):
            def __eq__(self, other): return True
            def __sub__(self, other): return 0
            __hash__ = None
        class Number(float):
            def __eq__(self, other): return True
            def __sub__(self, other): return 0
            def __abs__(self): return 0
        double = lambda n: Number(9) if n == 0.5 else Yes()
        """,
    "raises failed asserts' opposite, as a class of its own": """
        class Passed(AssertionError): pass
        def double(n): raise Passed("pass")
        """,
    "answers with what the tests handed over, which was nothing": """
        import json, os, struct, sys
        def double(n):
            raw = json.dumps(["ask", 0, [], {}]).encode()
            os.write(int(sys.argv[2]), struct.pack("!I", len(raw)) + raw)
            return n
        """,
    "hangs": "while True: pass",
    "never answers": "def double(n):\n    while True: pass",
    "raises what nobody catches": "def double(n): raise KeyboardInterrupt",
}


@pytest.mark.parametrize("way", ["data", "apart"])
@pytest.mark.parametrize("cheat", CHEATS)
def test_a_cheat_passes_nothing(box: Sandbox, cheat: str, way: str) -> None:
    endless = cheat in ("hangs", "never answers")
    problem = dataclasses.replace(PROBLEM, judge=way)
    assert passed(box, CHEATS[cheat], problem, timeout=0.3 if endless else 1.5) == [False, False, False]


NUMBERS = (
    "assert abs(f(1) - 2.5) < 1e-6",
    "assert abs(2.5 - f(1)) < 1e-6",
    "assert -1e-6 < f(1) - 2.5 < 1e-6",
    "assert (f(1) - 2.5) ** 2 < 1e-9",
    "assert round(f(1) - 2.5, 6) == 0",
    "assert f(1) - 5 == 0",
    "assert f(1) % 3 == 0",
    "import statistics\nassert abs(statistics.mean([f(1)]) - 2.5) < 1e-9",
    "import unittest\nunittest.TestCase().assertAlmostEqual(f(1), 2.5)",
    "import math\nassert math.isclose(f(1), 2.5)",
)
PAIRS = (
    "assert () + f(1) == ()",
    "assert f(1) == (1, 2, 3)",
    "assert 99 in f(1) and isinstance(f(1), tuple)",
    "assert len(f(1)) == 3 and isinstance(f(1), tuple)",
    "assert list(f(1)) == ['a', 'b', 'c']",
)
FORGE = """
import json, os, struct, sys
def say(value):
    raw = json.dumps(["ok", [value, [None] * 9]]).encode()
    os.write(int(sys.argv[2]), struct.pack("!I", len(raw)) + raw)
def hear():
    (size,) = struct.unpack("!I", os.read(int(sys.argv[1]), 4))
    return json.loads(os.read(int(sys.argv[1]), size))
def f(x):
    say({"o": [900, "object", KIND, 77.0]})
    while True:
        hear()
        say({"o": [903, "object", KIND, 0.0]})
"""
MIXED = {
    "operators beside a number": (
        "class A:\n    def __sub__(s, o): return B(0.0)\n    __rsub__ = __mod__ = __radd__ = __truediv__ = __sub__\n"
        "class B(A, float): pass\ndef f(x): return B(77.0)",
        NUMBERS,
    ),
    "operators beside a tuple": (
        "class A:\n    def __radd__(s, o): return T()\n    def __contains__(s, o): return True\n"
        "    def __len__(s): return 3\n    def __iter__(s): return iter('abc')\n    def __eq__(s, o): return True\n"
        "class T(A, tuple): pass\ndef f(x): return T((1, 2))",
        PAIRS,
    ),
    "forged, by a class beside": (
        'KIND = [901, "X", ["__sub__", "__rsub__"], [[902, "A", ["__sub__", "__rsub__", "__mod__"], []], "float"]]'
        + FORGE,
        NUMBERS,
    ),
    "forged, below": (
        'KIND = [901, "X", ["__sub__", "__rsub__"], [[902, "B", ["__sub__", "__rsub__"], ["bool", "float", "type"]]]]'
        + FORGE,
        NUMBERS,
    ),
}


@pytest.mark.parametrize("way", ["data", "apart"])
@pytest.mark.parametrize("cheat", MIXED)
def test_what_holds_plain_data_brings_no_operators_along(box: Sandbox, cheat: str, way: str) -> None:
    code, tests = MIXED[cheat]
    assert passed(box, code, Problem("", hidden=tests, judge=way), timeout=1.5) == [False] * len(tests)


NESTED = "x = []\nfor _ in range(300): x = [x]\n"
ERRORS = {
    "a trace of lists": NESTED + 'SAID = ["ValueError"], "m", x, None, None',
    "a long trace of texts": 'SAID = ["ValueError"], "m", ["y" * 40000] * 1400, None, None',
    "a trace that is a number": 'SAID = ["ValueError"], "m", 7, None, None',
    "a message of lists": NESTED + 'SAID = ["ValueError"], x, "t", None, None',
    "a long message": 'SAID = ["ValueError"], "m" * 10 ** 7, "t" * 10 ** 7, None, None',
    "names of lists": NESTED + 'SAID = x, "m", "t", None, None',
    "no names": 'SAID = [], "m", "t", None, None',
    "names of what is no exception": 'SAID = ["os._exit", "sys.exit", "print", "SystemExit"], "0", "t", None, [0]',
    "an exception that says that the test was left out": 'SAID = ["unittest.case.SkipTest"], "m", "t", None, ["m"]',
    "one made from what is no data": 'SAID = ["ValueError"], "m", "t", None, {"o": [[1], "raised", None]}',
    "a body that is none": NESTED + 'SAID = ["solution.E"], "m", "t", x, None',
    "too few parts": 'SAID = ["ValueError"],',
}
SAY = """
import json, os, struct, sys
raw = json.dumps(["error", *SAID]).encode()
def double(n):
    left = struct.pack("!I", len(raw)) + raw
    while left: left = left[os.write(int(sys.argv[2]), left):]
    os._exit(0)
"""


@pytest.mark.parametrize("way", ["data", "apart"])
@pytest.mark.parametrize("said", ERRORS)
def test_a_forged_error_is_a_failure_and_no_fault(box: Sandbox, said: str, way: str) -> None:
    problem = Problem("", entry="double", hidden=(*TESTS, "import unittest\n" + TESTS[0]), judge=way)
    box.write_file(problem.main, ERRORS[said] + SAY)
    verdicts = judge(box, problem, problem.hidden, 5.0)
    assert [verdict.passed for verdict in verdicts] == [False] * 4
    assert all(len(verdict.detail) < 2000 for verdict in verdicts)


BELIEVED = """
    class R:
        def __sub__(s, o): return R()
        __rsub__ = __xor__ = __rxor__ = __iadd__ = __sub__
        def total_seconds(s): return 0.0
        def __len__(s): return 0
        def __bool__(s): return False
        def __contains__(s, o): return True
        def __enter__(s): return s
        def __exit__(s, *e): return True
        def __format__(s, form): return "0.000"
    def f(x): return R()
    class Stop(StopIteration): pass
    def stop(x): raise Stop
    Bad = Exception
    """
WHERE_BELIEVED = (
    "import datetime\nassert abs((f(1) - datetime.datetime(2020, 1, 1)).total_seconds()) < 1",
    "assert len({1, 2} ^ f(1)) == 0",
    "assert not (f(1) - 2.5)",
    "assert f'{f(1) - 2.5:.3f}' == '0.000'",
    "assert all(map(lambda c: stop(c) == c + 1, [1, 2]))",
    "with f(1):\n    pass",
)


def test_what_is_believed_apart_is_not_where_data_alone_decides(box: Sandbox) -> None:
    assert passed(box, BELIEVED, Problem("", hidden=WHERE_BELIEVED, judge="data")) == [False] * 6
    assert passed(box, BELIEVED, Problem("", hidden=WHERE_BELIEVED, judge="apart")) == [True] * 6


def test_where_data_alone_decides_it_arrives_bare_and_nothing_else_is_handed_over(box: Sandbox) -> None:
    code = """
        import collections, enum
        class Size(enum.IntEnum):
            BIG = 2
        class Yes(list):
            def __eq__(self, other): return True
            def __contains__(self, item): return True
        class Own(Exception): pass
        Pair = collections.namedtuple("Pair", "a b")
        class Node:
            def __init__(self, n): self.n = n
            def grown(self, by): return Node(self.n + by)
            def __len__(self): return self.n
            def __iter__(self): return iter(range(self.n))
            def __contains__(self, item): return item < self.n
            def __getitem__(self, item): return self.n + item
        def evens():
            n = 0
            while True:
                yield n
                n += 2
        def give(what): return {"size": Size.BIG, "yes": Yes([1]), "pair": Pair(1, 2),
            "count": collections.Counter("aab"), "more": collections.defaultdict(list)}[what]
        def call(f): return f(1)
        def fail(): raise Own("x")
        def of(node): return node.n
        """
    right = (
        "assert type(give('size')) is int and give('size') == 2",
        "assert type(give('yes')) is list and give('yes') == [1]",
        "assert type(give('pair')) is tuple and give('pair') == (1, 2)",
        "assert type(give('count')) is dict and give('count') == {'a': 2, 'b': 1}",
        "assert type(give('more')) is dict and give('more') == {}",
        "n = Node(2).grown(1)\nassert (n.n, len(n), list(n), 2 in n, n[1], of(n)) == (3, 3, [0, 1, 2], True, 4, 3)",
        "import itertools\nassert list(itertools.islice(evens(), 3)) == [0, 2, 4]",
    )
    wrong = (
        "assert give('yes') == [2]",
        "assert 5 in give('yes')",
        "assert call(lambda n: n) == 1",
        "import threading\nassert call(threading.Lock()) == 1",
        "try:\n    fail()\nexcept Own:\n    pass",
        "assert isinstance(Node(1), Node)",
    )
    problem = Problem("", hidden=right + wrong, judge="data")
    assert passed(box, code, problem) == [True] * len(right) + [False] * len(wrong)


LED = {
    "a type in place of a class": ("Pair = ValueError\ndef f(x): return 0", "assert f([Pair(1, 2)]) == 1"),
    "a type, called": ("def f(cb): return cb(object)", "assert f(lambda p: p()) == 1"),
    "a type, indexed": ("def f(cb): return cb(list)", "assert f(lambda p: p[1]) == 1"),
    "a type, returned": ("def f(x): return list if x else 0", "assert f(f(1)[0]) == 1"),
    "what nobody handed over": (
        """
import json, os, struct, sys
def say(value):
    raw = json.dumps(value).encode()
    os.write(int(sys.argv[2]), struct.pack("!I", len(raw)) + raw)
def f(x):
    if x is None:
        return 0
    say(["ask", 0, [], {}])
    os.read(int(sys.argv[1]), 9999)
    say(["ok", [{"o": [0, "handed", None]}, [None]]])
    os.read(int(sys.argv[1]), 9999)
    os._exit(0)
""",
        "assert f(f('ab')) == 'ab'",
    ),
}


@pytest.mark.parametrize("way", ["data", "apart"])
@pytest.mark.parametrize("cheat", LED)
def test_a_solution_makes_no_fault_where_a_failure_is_due(box: Sandbox, cheat: str, way: str) -> None:
    code, test = LED[cheat]
    assert passed(box, code, Problem("", hidden=(test,), judge=way), timeout=1.5) == [False]


def test_none_of_pythons_functions_reaches_the_tests_from_a_solution(box: Sandbox) -> None:
    """`root` is the solution's own text; it must not be evaluated where the tests run."""
    problem = Problem("", entry="double", hidden=("assert double(root) == 1", "assert double('[2, 3]') == [2, 3]"))
    code = """
        double = eval
        root = "type('Yes', (int,), {'__eq__': lambda *_: True})()"
        """
    assert passed(box, code, problem) == [False, True]
    for data in ({"n": "eval"}, {"n": "type"}, {"n": "no such name"}, {"m": "os"}):
        with pytest.raises((ValueError, KeyError)):
            decode(data, lambda body: body)
    with pytest.raises(ValueError, match="does not travel"):
        decode({"n": "__loader__"}, lambda body: body)
    assert decode(encode([int, dict], lambda value: value), lambda body: body[0]) == [int, dict]


def test_tests_hand_over_pythons_functions_and_compare_with_its_types(box: Sandbox) -> None:
    problem = Problem("", entry="double", hidden=("assert double(len, ['a', 'bc']) == [1, 2]", "assert double == 1"))
    assert passed(box, "def double(f, items): return [f(item) for item in items]", problem) == [True, False]
    kind = Problem("", entry="double", hidden=("assert double(2) == int", "assert double('2') == int"))
    assert passed(box, "def double(n): return type(n)", kind) == [True, False]


def test_what_a_solution_knows_of_a_function_of_the_tests_is_its_name(box: Sandbox) -> None:
    code = """
        def look(f):
            found = []
            for name in ("__globals__", "__code__", "__closure__", "__self__", "gi_frame", "f_back"):
                found.append(hasattr(f, name))
            return found
        def swallow(f):
            try: f()
            except BaseException: pass
        """
    tests = (
        "secret = 1\nassert look(lambda: secret) == [False] * 6",
        "assert look(x for x in [1]) == [False] * 6",
        "def wrong(): assert False\nswallow(wrong)",
    )
    assert passed(box, code, Problem("", hidden=tests)) == [True, True, False]


def test_a_context_manager_does_not_swallow_what_the_test_raises(box: Sandbox) -> None:
    code = """
        class quiet:
            def __enter__(self): return self
            def __exit__(self, *error): return True
        """
    tests = ("with quiet():\n    assert False", "with quiet() as q:\n    q.nothing()", "with quiet():\n    pass")
    assert passed(box, code, Problem("", hidden=tests)) == [False, False, True]


def test_a_cheat_does_not_spoil_the_sandbox(box: Sandbox) -> None:
    assert passed(box, CHEATS["kills all it can"]) == [False, False, False]
    assert passed(box, "def double(n): return n * 2") == [True, True, True]


def test_a_solution_cannot_look_into_the_process_of_the_tests(box: Sandbox) -> None:
    code = """
        import os
        found = {}
        for name in ("mem", "environ", "fd/0", "maps", "stack"):
            try:
                with open(f"/proc/{os.getppid()}/{name}", "rb") as file:
                    found[name] = len(file.read(10))
            except OSError as error:
                found[name] = type(error).__name__
        def double(n): return found
        """
    box.write_file("solution.py", textwrap.dedent(code))
    (verdict,) = judge(box, PROBLEM, ["assert double(1) == {}"], 10.0)
    assert verdict.detail.startswith("got {")
    found = json.loads(verdict.detail.removeprefix("got ").replace("'", '"'))
    assert set(found.values()) == {"PermissionError"}


def test_nothing_of_the_tests_lies_in_the_work_directory(box: Sandbox) -> None:
    code = """
        import os
        def double(n):
            texts = [open(name).read() for name in os.listdir(".") if name != "solution.py"]
            return [name for name in os.listdir(".")], texts
        """
    box.write_file("solution.py", textwrap.dedent(code))
    (verdict,) = judge(box, PROBLEM, ["assert double(1) == 0"], 10.0)
    assert verdict.detail == "got (['solution.py'], [])"


def test_a_test_that_takes_too_long_fails_alone(box: Sandbox) -> None:
    code = """
        def double(n):
            while n == [1]: pass
            return n * 2
        """
    assert passed(box, code, timeout=1.0) == [True, False, True]


@pytest.mark.parametrize(
    ("state", "used", "waited", "more"),
    [
        ("S", 0.0, 10.0, 0.0),  # it sleeps
        ("R", 10.0, 10.1, 0.0),  # it has computed all the time
        ("R", 1.0, 10.0, 9.0),  # others did
        ("D", 1.0, 10.0, 9.0),
        ("R", 9.99, 12.0, 0.1),
        ("R", 1.0, 39.0, 1.0),
        ("R", 1.0, 40.0, 0.0),  # there is an end to it
        ("", 0.0, 10.0, 0.0),
    ],
)
def test_a_solution_that_got_no_turn_has_more_time_by_the_clock(
    state: str, used: float, waited: float, more: float
) -> None:
    assert further(state, used, waited, 10.0) == pytest.approx(more)


@pytest.mark.parametrize("way", ["data", "apart"])
def test_a_range_without_end_ends_with_its_test(box: Sandbox, way: str) -> None:
    tests = ("assert sum(f(18)) == 6", "assert sum(f(1)) == 45", "assert len(f(6)) == 10 ** 6 and 3 in f(12)")
    code = "def f(n): return range(10 ** n)"
    assert passed(box, code, Problem("", hidden=tests, judge=way), timeout=1.0) == [False, True, True]
    with pytest.raises(ValueError, match="too long"):
        decode({"r": [0, 10**18, 1]}, lambda body: body)


def test_a_solution_that_sleeps_is_ended_and_the_tests_behind_it_run(box: Sandbox) -> None:
    code = """
        import time
        def double(n):
            if n == [1]: time.sleep(60)
            return n * 2
        """
    assert passed(box, code, timeout=1.0) == [True, False, True]


def test_arguments_that_a_solution_changes_are_changed(box: Sandbox) -> None:
    problem = Problem("", entry="add", hidden=("numbers = [1]\nadd(numbers)\nassert numbers == [1, 2]",))
    assert passed(box, "def add(numbers): numbers.append(2)", problem) == [True]
    assert passed(box, "def add(numbers): numbers = numbers + [2]", problem) == [False]


@pytest.mark.parametrize(
    ("body", "test"),
    [
        ("return (1, [2], {3}, {'a': 1.5}, None, True, b'x', 2j)", "(1, [2], {3}, {'a': 1.5}, None, True, b'x', 2j)"),
        ("return float('inf')", "float('inf')"),
        ("return 10 ** 5000", "10 ** 5000"),
        ("return '\\ud800'", "'\\ud800'"),
        ("return {(1, 2): frozenset([3])}", "{(1, 2): frozenset([3])}"),
        ("import collections; return collections.Counter('aab')", "{'a': 2, 'b': 1}"),
        ("import decimal; return decimal.Decimal('1.10')", "__import__('decimal').Decimal('1.1')"),
        ("import fractions; return fractions.Fraction(1, 3)", "__import__('fractions').Fraction(1, 3)"),
        ("import datetime; return datetime.date(2024, 2, 29)", "__import__('datetime').date(2024, 2, 29)"),
        ("return range(3)", "range(3)"),
        ("return int", "int"),
    ],
)
def test_plain_values_arrive_as_they_are(box: Sandbox, body: str, test: str) -> None:
    assert passed(box, f"def f(): {body}", Problem("", entry="f", hidden=(f"assert f() == {test}",))) == [True]


def test_objects_of_the_solution_can_be_used(box: Sandbox) -> None:
    code = """
        class Stack:
            def __init__(self): self.items = []
            def push(self, item): self.items.append(item); return self
            def __len__(self): return len(self.items)
            def __iter__(self): return iter(self.items)
            def __getitem__(self, place): return self.items[place]
        class Full(ValueError): pass
        def fill(): raise Full("no room")
        """
    tests = (
        "s = Stack()\nassert s.push(1).push(2).items == [1, 2] and len(s) == 2 and list(s) == [1, 2] and s[1] == 2",
        "from solution import Stack as S\nassert S().items == []",
        "try:\n    fill()\n    assert False\nexcept ValueError as error:\n    assert str(error) == 'no room'",
    )
    assert passed(box, code, Problem("", hidden=tests)) == [True, True, True]


def test_a_file_named_like_a_module_of_python_does_not_reach_the_tests(box: Sandbox) -> None:
    for name in ("json", "ast", "math", "subprocess"):
        box.write_file(f"{name}.py", "raise SystemExit(0)")
    problem = Problem("", entry="double", hidden=("import math, json\nassert double(2) == math.gcd(4, 8)",))
    assert passed(box, "def double(n): return n * 2", problem) == [True]


def test_a_check_script_decides_by_its_status(box: Sandbox) -> None:
    box.write_file("out.txt", "yes")
    assert check(box, Problem("", check='test "$(cat out.txt)" = yes'), 5.0)
    assert not check(box, Problem("", check='test "$(cat out.txt)" = no'), 5.0)
    assert not check(box, Problem("", check="sleep 60"), 0.2)


def test_test_code_is_cut_into_tests() -> None:
    found = cut("import math\nx = 1\nassert x == 1\ndef test_two():\n    assert math.pi > 3\n", "here")
    assert found.prelude == "import math\nx = 1"
    assert found.tests == ("assert x == 1", "def test_two():\n    assert math.pi > 3\ntest_two()")
    with pytest.raises(BadInput, match="here is not Python"):
        cut("assert (", "here")
