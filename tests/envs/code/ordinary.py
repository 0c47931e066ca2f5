"""Ordinary Python tests with right solutions, as people write them: they must be judged right."""

from __future__ import annotations

ORDINARY: dict[str, tuple[str, str]] = {
    "infinite-generator": (
        """
from itertools import islice
assert list(islice(primes(), 5)) == [2, 3, 5, 7, 11]
""",
        """
def primes():
    n, found = 2, []
    while True:
        if all(n % p for p in found):
            found.append(n)
            yield n
        n += 1
""",
    ),
    "next": (
        """
c = counter()
assert next(c) == 0
""",
        """
def counter():
    n=0
    while True:
        yield n
        n+=1
""",
    ),
    "callback": (
        """
assert apply(lambda x: x + 1, [1, 2]) == [2, 3]
""",
        """
def apply(f, xs):
    return [f(x) for x in xs]
""",
    ),
    "vector": (
        """
assert V(1, 2) + V(3, 4) == V(4, 6)
""",
        """
class V:
    def __init__(s,x,y): s.x,s.y=x,y
    def __add__(s,o): return V(s.x+o.x,s.y+o.y)
    def __eq__(s,o): return (s.x,s.y)==(o.x,o.y)
""",
    ),
    "dataclass": (
        """
from solution import P
assert P(1) == P(1)
""",
        """
from dataclasses import dataclass
@dataclass
class P:
    x: int
""",
    ),
    "with": (
        """
log = []
def test_a():
    with opened() as o:
        assert o.n() == 1
""",
        """
class opened:
    def __enter__(s): return s
    def __exit__(s,*a): return False
    def n(s): return 1
""",
    ),
    "custom-error": (
        """
from solution import Bad, f
def test_bad():
    try:
        f(-1)
    except Bad:
        return
    raise AssertionError
""",
        """
class Bad(Exception): pass
def f(x):
    if x<0: raise Bad("no")
    return x
""",
    ),
    "isinst": (
        """
assert isinstance(make(), A)
""",
        """
class A: pass
def make(): return A()
""",
    ),
    "iterproto": (
        """
b = Bag([1,2])
assert list(b) == [1,2] and len(b) == 2 and 1 in b
""",
        """
class Bag:
    def __init__(s,x): s.x=x
    def __iter__(s): return iter(s.x)
    def __len__(s): return len(s.x)
    def __contains__(s,i): return i in s.x
""",
    ),
    "setitem": (
        """
def test_g():
    g = Grid()
    g[1, 2] = 5
    assert g[1, 2] == 5
""",
        """
class Grid:
    def __init__(s): s.d={}
    def __setitem__(s,k,v): s.d[k]=v
    def __getitem__(s,k): return s.d[k]
""",
    ),
    "decorator": (
        """
calls = []
def test_memo():
    def f(x):
        calls.append(x)
        return x
    g = memo(f)
    assert g(1) == 1 and g(1) == 1 and calls == [1]
""",
        """
def memo(f):
    seen={}
    def g(x):
        if x not in seen: seen[x]=f(x)
        return seen[x]
    return g
""",
    ),
    "asyncf": (
        """
import asyncio
assert asyncio.run(go(2)) == 4
""",
        """
async def go(x):
    return x*2
""",
    ),
    "nested-mutate": (
        """
def test_p():
    d = {"a": []}
    a = d["a"]
    push(d)
    assert a == [1]
""",
        """
def push(d):
    d["a"].append(1)
""",
    ),
    "compare": (
        """
assert Ver(1) < Ver(2)
assert sorted([Ver(2), Ver(1)])[0].n == 1
""",
        """
class Ver:
    def __init__(s,n): s.n=n
    def __lt__(s,o): return s.n<o.n
""",
    ),
    "falsy": (
        """
assert not Empty()
""",
        """
class Empty:
    def __bool__(s): return False
""",
    ),
    "repr": (
        """
assert repr(R()) == "R!"

""",
        """
class R:
    def __repr__(s): return "R!"

""",
    ),
    "named": (
        """
assert point().x == 1
""",
        """
from collections import namedtuple
def point(): return namedtuple("P","x y")(1,2)
""",
    ),
    "enum": (
        """
from solution import Color
assert Color.RED.value == 1 and Color(1) is Color.RED
""",
        """
import enum
class Color(enum.Enum):
    RED=1
""",
    ),
    "counter": (
        """
assert count("aab").most_common(1) == [("a", 2)]
""",
        """
from collections import Counter
def count(s): return Counter(s)
""",
    ),
}
"""Name: tests, solution."""
