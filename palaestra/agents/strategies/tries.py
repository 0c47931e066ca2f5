"""Best of n through rewind: whole tries in a rewound instance, of which the best by the environment's score is done.

    tau_1 .. tau_n ~ pi from here to the end        tau = argmax_i R(tau_i)

n is as many as the calls allow; the first success ends it.
"""

from __future__ import annotations

from collections.abc import Sequence

from palaestra.agents.strategies.rehearsal import Course, Rehearsing, TriesPlan
from palaestra.agents.strategies.strategy import Bill


class Tries(Rehearsing[TriesPlan]):
    """Tries, and does the best try."""

    kind = "best-of-n-rewind"
    plan_type = TriesPlan

    def prepare(self, courses: Sequence[Course], bills: Sequence[Bill]) -> None:
        """Every try begins as the one before."""
