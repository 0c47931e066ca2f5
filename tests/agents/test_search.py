"""Search: trees worked out by hand on two lamps with three buttons each, so that there are nine ways to the end.

Pressing the right button of both lamps wins with score 1; one of two scores 0.5 and none 0. With 64 answers a node
every button is tried, so that each node has exactly three children.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "trainers"))
import lamps

from palaestra.agents.episode import Start
from palaestra.agents.policies.random import RandomPolicy
from palaestra.agents.policy import Completion, Request
from palaestra.agents.search import Node, Search, SearchReport, _uct, noted, path_to, search
from palaestra.agents.store import EpisodeStore
from palaestra.envs import Task

TASKS = [Task(env="toy/Lamps-v0", name=f"two/{number}", split="train") for number in range(3)]


def grow(
    store: EpisodeStore, tasks: Sequence[Task] = TASKS[:1], policy: RandomPolicy | None = None, **plan: object
) -> SearchReport:
    return search(tasks, policy or RandomPolicy(), store, Search.model_validate({"width": 64, **plan}))


@pytest.fixture
def store(tmp_path: Path) -> EpisodeStore:
    return EpisodeStore(tmp_path / "episodes.sqlite")


def test_three_descents_see_all_nine_ends_and_back_up_their_scores(store: EpisodeStore) -> None:
    """Ends below "first lamp right": 1, 0.5, 0.5. Below each of the two wrong ones: 0.5, 0, 0. The root: 3 / 9."""
    (tree,) = grow(store, iterations=3).trees
    assert tree.root.visits == 9
    assert tree.root.mean == pytest.approx(3 / 9)
    assert sorted(child.mean for child in tree.root.children or ()) == pytest.approx([0.5 / 3, 0.5 / 3, 2 / 3])
    assert sum(node.disaster for node in tree.ends()) == 4
    assert tree.root.ended
    best = tree.best()
    assert best is not None
    assert best.score == 1
    found = path_to(best, store)
    assert [turn.action for turn in found.turns] == [
        f"press {c}" for c in lamps.Lamps().begin(tree.task, tree.task.rng())[0].lamps
    ]


def test_one_descent_goes_down_one_branch(store: EpisodeStore) -> None:
    (tree,) = grow(store, iterations=1).trees
    assert (tree.root.visits, len(tree.ends())) == (3, 3)
    assert [len(child.children or ()) for child in tree.root.children or ()].count(3) == 1
    assert not tree.root.ended


def test_a_tree_is_nothing_but_forks_in_the_store(store: EpisodeStore) -> None:
    (tree,) = grow(store, iterations=3).trees
    for node in tree.root.below():
        if node.parent is not None and node.parent.head is not None and node.head is not None:
            assert store.head(node.head.id).parent == node.parent.head.id
            assert node.head.fork_step == node.parent.depth
    assert store.count() == 4 * 64  # the root and its three children, each with 64 answers


def test_every_fork_is_a_restore_that_is_counted_by_how_it_came_back(store: EpisodeStore) -> None:
    """Three children with 64 answers each are 192 forks at step 1, each by one action that is taken again."""
    report = grow(store, iterations=3)
    assert (report.exact_restores, report.replay_restores, report.replayed_steps) == (0, 3 * 64, 3 * 64)
    assert report.costs["replay_restores"] == 3 * 64


def test_what_was_counted_of_every_node_is_noted_in_the_store_and_stays_when_other_tasks_are_searched(
    store: EpisodeStore,
) -> None:
    trees = [*grow(store, iterations=3).trees, *grow(store, TASKS[1:2], iterations=1).trees]
    nodes = [node for tree in trees for node in tree.root.below()]
    wanted = {node.head.id: [node.visits, node.total] for node in nodes if node.head is not None}
    assert store.meta()[noted("search", None)] == wanted
    assert len(wanted) == 12 + 6


def test_uct_takes_unvisited_children_first_then_mean_plus_exploration() -> None:
    """N = 10, c = 0.25: A 0.5 + 0.25 sqrt(ln 10 / 8) = 0.634; B 0.3 + 0.25 sqrt(ln 10 / 2) = 0.568. C is new."""
    a, b, c = (
        Node(Start(task=TASKS[0]), visits=visits, total=total) for visits, total in ((8, 4.0), (2, 0.6), (0, 0.0))
    )
    node = Node(Start(task=TASKS[0]), children=[a, b, c], visits=10)
    assert _uct(node, random.Random(0), 0.25) is c
    c.ended = True
    assert _uct(node, random.Random(0), 0.25) is a
    assert _uct(node, random.Random(0), 1.0) is b  # 1.036 against 1.373
    a.ended = True
    assert _uct(node, random.Random(0), 0.25) is b


def test_the_depth_ends_what_the_environment_would_go_on_with(store: EpisodeStore) -> None:
    (tree,) = grow(store, iterations=1, depth=1).trees
    assert sorted(node.score for node in tree.ends()) == [0.0, 0.0, 0.5]
    assert not any(node.disaster for node in tree.ends())  # cut off is not lost


def test_best_first_opens_the_best_node_and_beam_the_best_of_each_level(store: EpisodeStore, tmp_path: Path) -> None:
    (tree,) = grow(store, strategy="best", iterations=2).trees
    opened = [node for node in tree.root.below() if node.children]
    assert [node.score for node in opened] == [0.0, 0.5]  # the root, then "first lamp right"
    with EpisodeStore(tmp_path / "beam.sqlite") as other:
        (tree,) = grow(other, strategy="beam", beam=2).trees
        assert [node.depth for node in tree.root.below() if node.children].count(1) == 2
        assert len(tree.ends()) == 6


class Counting(RandomPolicy):
    """Counts how many requests came together."""

    batches: list[int]

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        self.batches.append(len(requests))
        return list(super().act(requests))


def test_a_wave_expands_all_trees_together(store: EpisodeStore) -> None:
    report = grow(store, TASKS, iterations=1)
    assert report.waves == 2  # the three roots, then one node of each
    assert report.model_calls == 2 * 3 * 64


def test_searching_again_asks_nothing_again_and_goes_on(store: EpisodeStore) -> None:
    first = grow(store, iterations=1)
    again = grow(store, iterations=1)
    assert (again.model_calls, again.env_steps) == (0, 0)
    assert [n.head and n.head.id for n in again.trees[0].root.below()] == [
        n.head and n.head.id for n in first.trees[0].root.below()
    ]
    more = grow(store, iterations=3)
    assert (more.model_calls, more.trees[0].root.visits) == (2 * 64, 9)


@pytest.mark.parametrize(
    ("budget", "roots", "calls"),
    [
        ({"max_calls": 192}, 3, 192),  # exactly the roots of three trees, with 64 answers each
        ({"max_calls": 191}, 2, 128),
        ({"max_calls": 64}, 1, 64),
        ({"max_steps": 319}, 3, 192),  # 64 steps a root, and 128 for the first node below, the fourth expansion
        ({"max_steps": 320}, 3, 256),
    ],
)
def test_a_budget_ends_the_search_before_the_expansion_that_would_go_beyond(
    store: EpisodeStore, budget: dict[str, int], roots: int, calls: int
) -> None:
    report = grow(store, TASKS, iterations=3, **budget)
    assert report.stopped == next(iter(budget))
    assert sum(tree.root.children is not None for tree in report.trees) == roots
    assert report.model_calls == calls
    again = grow(store, TASKS, iterations=3, **budget)
    assert (again.stopped, again.model_calls) == (report.stopped, 0)
    assert [[len(node.children or ()) for node in tree.root.below()] for tree in again.trees] == [
        [len(node.children or ()) for node in tree.root.below()] for tree in report.trees
    ]


def test_a_budget_that_is_enough_ends_nothing(store: EpisodeStore) -> None:
    """The root and its three children are all there is to expand: 4 * 64 calls, 64 + 3 * 128 steps."""
    report = grow(store, iterations=3, max_calls=256, max_steps=448)
    assert (report.stopped, report.model_calls) == (None, 256)


@pytest.mark.parametrize("budget", ["max_calls", "max_steps"])
def test_a_budget_below_one_expansion_is_refused(budget: str) -> None:
    with pytest.raises(ValueError, match=f"{budget}: 3 is less than one expansion takes, which is the width, 4"):
        Search.model_validate({budget: 3})
