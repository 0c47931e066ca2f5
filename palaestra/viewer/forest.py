"""The forest of a task: its episodes as nodes, what a search counted of them, and the splices between their paths."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from palaestra.agents.selection import Head
from palaestra.agents.splice import Splice
from palaestra.viewer.table import Shown

MOST_NODES, MOST_SPLICES = 2000, 200


def forest(store: Shown, id: str, splices: Sequence[Splice] = ()) -> dict[str, Any]:
    """The forest of an episode's task.

    `visits` and `value` of a node are N and Q as a search left them (`counted` is "search"). Of what no search grew
    they are counted from the store: ended episodes at or below the node, pieces that went on left out, and the mean of
    their scores.

    Args:
        splices: of the run; those of this task are drawn.
    """
    heads, total = store.grove(id, MOST_NODES)
    below: dict[str, list[Head]] = defaultdict(list)
    for each in heads:
        if each.parent is not None:
            below[each.parent].append(each)
    counts: dict[str, tuple[int, float]] = {}
    for each in reversed(heads):  # a fork is always added after its parent
        ends, value = (0, 0.0) if below[each.id] and _went_on(each, below[each.id]) else (1, each.score)
        for child in below[each.id]:
            more, worth = counts[child.id]
            ends, value = ends + more, value + worth
        counts[each.id] = (ends, value)
    searched = store.searched()
    nodes = []
    for each in heads:
        by = "search" if each.id in searched else "store"
        visits, value = searched.get(each.id, counts[each.id])
        mean = value / visits if visits else 0.0
        nodes.append({**node(each), "visits": visits, "value": mean, "counted": by})
    known = {each.id for each in heads}
    drawn = [each.model_dump() for each in splices if each.bad in known or each.episode in known][:MOST_SPLICES]
    return {"task": heads[0].task, "name": heads[0].name, "total": total, "nodes": nodes, "splices": drawn}


def _went_on(each: Head, children: list[Head]) -> bool:
    return each.outcome.value == "truncated" and any(child.fork_step == each.end_step for child in children)


def node(each: Head) -> dict[str, Any]:
    """A row of the table, or of the forest."""
    return asdict(each) | {"key": None, "end_step": each.end_step}
