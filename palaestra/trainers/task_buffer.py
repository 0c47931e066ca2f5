"""ExIt's task buffer: partial histories to begin again from, by how much the returns differed when they were played.

Scores are variances of the returns of one group under one policy, never pooled over time: a task that is always or
never solved has 0 and is the first to go. Entries are steps of stored episodes, so the buffer holds no text.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from pydantic import Field

from palaestra.agents.episode import Start
from palaestra.trainers.phases import Record


class Entry(Record):
    """A turn that can be taken again.

    Attributes:
        start: the step of the episode in which it was taken last.
        depth: how often it was taken again so far (the paper's k).
        score: variance of the returns, inherited until it is played itself, in [0, 0.25].
    """

    start: Start
    depth: int = Field(ge=0)
    score: float = Field(ge=0.0)


class Played(Record):
    """A group that was played, and the rollout that goes on living as the new iterate.

    Attributes:
        entry: which entry it began at; None for a base task.
        score: variance of the group's returns; None where too few came back to tell.
        steps: the starts of all turns of the chosen rollout, in order; empty where none came back.
        again: did the first of them take the entry's own turn again (improve, diverge), or only go on from there.
    """

    entry: Entry | None = None
    score: float | None = None
    steps: tuple[Start, ...] = ()
    again: bool = False


class TaskBuffer(Record):
    """At most `capacity` entries, in the order they came. Never changed: what changes it gives a new one."""

    capacity: int = Field(ge=1)
    entries: tuple[Entry, ...] = ()

    def __len__(self) -> int:
        return len(self.entries)

    def drawn(self, kappa: float, rng: random.Random) -> Entry:
        """An entry, drawn with probabilities softmax(kappa * score)."""
        highest = max(entry.score for entry in self.entries)
        weights = [math.exp(kappa * (entry.score - highest)) for entry in self.entries]
        return rng.choices(self.entries, weights)[0]

    def after(self, played: Sequence[Played]) -> TaskBuffer:
        """The buffer after a round: played entries have scores of their own, and the new iterates are in, every turn.

        The turns of an iterate inherit the score of the task it was made of. A full buffer takes an entry only for its
        lowest one (of equals the oldest), and only if that one's score is not higher.
        """
        entries = list(self.entries)
        for group in played:
            if group.score is None:
                continue
            entries = [
                entry.model_copy(update={"score": group.score})
                if group.entry is not None and entry.start == group.entry.start
                else entry
                for entry in entries
            ]
            for place, start in enumerate(group.steps):
                again = group.entry is not None and group.again and place == 0
                depth = group.entry.depth + 1 if again and group.entry is not None else 0
                new = Entry(start=start, depth=depth, score=group.score)
                if len(entries) == self.capacity:
                    lowest = min(range(len(entries)), key=lambda i: entries[i].score)
                    if entries[lowest].score > new.score:
                        continue
                    del entries[lowest]
                entries.append(new)
        return TaskBuffer(capacity=self.capacity, entries=tuple(entries))
