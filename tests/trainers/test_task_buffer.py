"""ExIt's task buffer: ten rounds worked out by hand, and how entries are drawn."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from palaestra.agents.episode import Start
from palaestra.envs import Task
from palaestra.trainers.task_buffer import Entry, Played, TaskBuffer

TASK = Task(env="toy/Lamps-v0", name="two/0", split="train")


def step(name: str) -> Start:
    """Turn 1 of episode a is "a1"."""
    return Start(task=TASK, parent=name[0], fork_step=int(name[1:]))


def played(entry: Entry | None, score: float | None, *steps: str, again: bool = False) -> Played:
    return Played(entry=entry, score=score, steps=tuple(map(step, steps)), again=again)


def shown(buffer: TaskBuffer) -> list[tuple[str, int, float]]:
    return [(f"{e.start.parent}{e.start.fork_step}", e.depth, e.score) for e in buffer.entries]


def entry(buffer: TaskBuffer, name: str) -> Entry:
    return next(found for found in buffer.entries if found.start == step(name))


def test_ten_rounds() -> None:
    """A buffer of four. Each round plays one group; its score S is the variance of the group's returns.

    round  played                 S      the iterate's turns  the buffer after it (turn depth score)
    1      a task                 .10    a0 a1                a0 0 .10  a1 0 .10
    2      a task, never solved   0      b0                   a0 0 .10  a1 0 .10  b0 0 0
    3      improve a1, solved     .20    c1                   a0 0 .10  a1 0 .20  b0 0 0  c1 1 .20
           half of the times             (a1 has its own score now; c1 is a1 taken again)
    4      a task                 .05    d0                   full: d0 drives out the lowest, b0 (0 <= .05)
                                                              a0 0 .10  a1 0 .20  c1 1 .20  d0 0 .05
    5      diverge from c1        .15    e1 e2                c1 falls to .15; e1 (depth 2) drives out d0 (.05), and
                                                              e2, a turn never taken again, a0 (.10)
                                                              a1 0 .20  c1 1 .15  e1 2 .15  e2 0 .15
    6      a task, always solved  0      f0                   0 < .15: f0 stays outside, nothing changes
    7      continue from a1       .25    g1 g2                a1 rises to .25; g1 goes on, it is not a1 taken again:
                                                              depth 0. Of the three lowest the oldest, c1, then e1 go
                                                              a1 0 .25  e2 0 .15  g1 0 .25  g2 0 .25
    8      improve e2, and all    none   -                    nobody knows: nothing changes
           but one rollout broke
    9      improve e2             .15    h2                   h2 is as good as the lowest, e2 itself: it takes its place
                                                              a1 0 .25  g1 0 .25  g2 0 .25  h2 1 .15
    10     two groups: improve    .01    i1                   g1 falls to .01, and i1 (depth 1, .01) takes its place;
           g1, and a task         .01    j0                   then j0 takes the place of i1
                                                              a1 0 .25  g2 0 .25  h2 1 .15  j0 0 .01
    """
    buffer = TaskBuffer(capacity=4)
    buffer = buffer.after([played(None, 0.10, "a0", "a1")])
    assert shown(buffer) == [("a0", 0, 0.10), ("a1", 0, 0.10)]
    buffer = buffer.after([played(None, 0.0, "b0")])
    assert shown(buffer) == [("a0", 0, 0.10), ("a1", 0, 0.10), ("b0", 0, 0.0)]
    buffer = buffer.after([played(entry(buffer, "a1"), 0.20, "c1", again=True)])
    assert shown(buffer) == [("a0", 0, 0.10), ("a1", 0, 0.20), ("b0", 0, 0.0), ("c1", 1, 0.20)]
    buffer = buffer.after([played(None, 0.05, "d0")])
    assert shown(buffer) == [("a0", 0, 0.10), ("a1", 0, 0.20), ("c1", 1, 0.20), ("d0", 0, 0.05)]
    buffer = buffer.after([played(entry(buffer, "c1"), 0.15, "e1", "e2", again=True)])
    assert shown(buffer) == [("a1", 0, 0.20), ("c1", 1, 0.15), ("e1", 2, 0.15), ("e2", 0, 0.15)]
    buffer = buffer.after([played(None, 0.0, "f0")])
    assert shown(buffer) == [("a1", 0, 0.20), ("c1", 1, 0.15), ("e1", 2, 0.15), ("e2", 0, 0.15)]
    buffer = buffer.after([played(entry(buffer, "a1"), 0.25, "g1", "g2")])
    assert shown(buffer) == [("a1", 0, 0.25), ("e2", 0, 0.15), ("g1", 0, 0.25), ("g2", 0, 0.25)]
    assert buffer.after([played(entry(buffer, "e2"), None, again=True)]) == buffer
    buffer = buffer.after([played(entry(buffer, "e2"), 0.15, "h2", again=True)])
    assert shown(buffer) == [("a1", 0, 0.25), ("g1", 0, 0.25), ("g2", 0, 0.25), ("h2", 1, 0.15)]
    groups = [played(entry(buffer, "g1"), 0.01, "i1", again=True), played(None, 0.01, "j0")]
    assert shown(buffer.after(groups)) == [("a1", 0, 0.25), ("g2", 0, 0.25), ("h2", 1, 0.15), ("j0", 0, 0.01)]


def test_entries_are_drawn_by_the_softmax_of_their_scores() -> None:
    """exp(8 * .25) : exp(8 * 0) is 7.39 : 1, so the first is drawn in 88 % of 4000 draws, give or take 3 errors."""
    two = (Entry(start=step("a0"), depth=0, score=0.25), Entry(start=step("b0"), depth=0, score=0.0))
    buffer, rng = TaskBuffer(capacity=2, entries=two), random.Random(0)
    counts = Counter(buffer.drawn(8.0, rng).start.parent for _ in range(4000))
    assert counts["a"] / 4000 == pytest.approx(0.881, abs=0.016)
    even = Counter(buffer.drawn(0.0, rng).start.parent for _ in range(4000))
    assert even["a"] / 4000 == pytest.approx(0.5, abs=0.024)
