"""Forks are edges: the store rebuilds whole paths and trees, and reads the wins of each fork step."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from store_cases import episode, task

from palaestra.agents.episode import Episode, Outcome, Start, Turn
from palaestra.agents.store import Edge, EpisodeStore, Wins
from palaestra.envs import BadInput


@pytest.fixture
def store(tmp_path: Path) -> EpisodeStore:
    return EpisodeStore(tmp_path / "episodes.sqlite")


def fork_at(parent: Episode, step: int) -> Start:
    """As `Episode.fork`, without its check."""
    return Start(task=parent.start.task, parent=parent.id, fork_step=step)


def test_the_path_of_a_root_is_its_own(store: EpisodeStore) -> None:
    root = episode(says="r")
    store.add(root)
    path = store.path(root.id)
    assert (path.episode, path.turns, path.own) == (root, root.turns, 0)
    assert set(path.origins) == {root.id}
    assert path.observations() == ["room 0", "room 1", "room 2", "the end"]


def test_the_path_of_a_fork_of_a_fork_goes_through_both_ancestors(store: EpisodeStore) -> None:
    root = episode(n=4, says="r")
    child = episode(root.fork(2), n=3, says="c")
    grandchild = episode(child.fork(4), n=2, says="g")
    store.add_all([root, child, grandchild])
    path = store.path(grandchild.id)
    assert path.actions == ("r0", "r1", "c2", "c3", "g4", "g5")
    assert path.origins == (root.id,) * 2 + (child.id,) * 2 + (grandchild.id,) * 2
    assert (path.own, path.actions[path.own :]) == (4, grandchild.actions)
    assert [head.id for head in store.ancestors(grandchild.id)] == [child.id, root.id]


def test_a_fork_before_its_parents_own_turns_takes_its_context_from_the_grandparent(store: EpisodeStore) -> None:
    root = episode(n=4, says="r")
    child = episode(root.fork(3), n=3, says="c")
    early = episode(fork_at(child, 1), n=1, says="e")
    at_reset = episode(fork_at(child, 0), n=1, says="z")
    store.add_all([root, child, early, at_reset])
    assert store.path(early.id).actions == ("r0", "e1")
    assert store.path(early.id).origins == (root.id, early.id)
    assert store.path(at_reset.id).actions == ("z0",)


def test_forks_at_the_very_end_and_episodes_without_turns_have_paths_too(store: EpisodeStore) -> None:
    root = episode(n=2, says="r")
    empty = episode(root.fork(2), n=0)
    after = episode(empty.fork(2), n=1, says="x")
    store.add_all([root, empty, after])
    assert store.path(empty.id).actions == ("r0", "r1")
    assert store.path(after.id).actions == ("r0", "r1", "x2")


def test_random_forests_rebuild_the_paths_that_were_walked(store: EpisodeStore) -> None:
    rng = random.Random(7)
    walked: dict[str, tuple[Turn, ...]] = {}
    grown: list[Episode] = []
    for number in range(300):
        if not grown or rng.random() < 0.1:
            made, before = episode(task(f"t{number}"), n=rng.randint(0, 5), says=f"{number}:"), ()
        else:
            parent = rng.choice(grown)
            step = rng.randint(0, parent.end_step)
            made = episode(fork_at(parent, step), n=rng.randint(0, 5), sample=number, says=f"{number}:")
            before = walked[parent.id][:step]
        walked[made.id] = before + made.turns
        grown.append(made)
        store.add(made)
    assert {path.episode.id: path.turns for path in store.paths()} == walked


def test_a_chain_of_a_thousand_forks_rebuilds(store: EpisodeStore) -> None:
    chain = [episode(n=1, says="a")]
    for _ in range(999):
        chain.append(episode(chain[-1].fork(chain[-1].end_step), n=1, says="a"))
    store.add_all(reversed(chain))
    assert store.path(chain[-1].id).actions == tuple(f"a{step}" for step in range(1000))
    assert len(store.tree(chain[0].id)) == 999


def test_roots_children_and_trees(store: EpisodeStore) -> None:
    root, other = episode(), episode(task("other"))
    late, early = episode(root.fork(3)), episode(root.fork(1))
    below = episode(late.fork(4))
    for each in (root, late, other, early, below):
        store.add(each)
    assert [head.id for head in store.roots()] == [root.id, other.id]
    assert [head.id for head in store.roots(task="other")] == [other.id]
    assert [head.id for head in store.children(root.id)] == [early.id, late.id]
    assert [head.id for head in store.children(root.id, fork_step=3)] == [late.id]
    edges = [Edge(root.id, late.id, 3), Edge(root.id, early.id, 1), Edge(late.id, below.id, 4)]
    assert store.tree(root.id) == edges
    assert store.tree(other.id) == []
    for ask in (store.tree, store.path, store.ancestors):
        with pytest.raises(BadInput, match="no episode 'nope'"):
            ask("nope")  # type: ignore[operator]


def test_wins_are_read_per_fork_step(store: EpisodeStore) -> None:
    expert = episode(actor="expert", policy="gold", n=4)
    store.add(expert)

    def roll(start: Start, sample: int, score: float, **more: object) -> None:
        outcome = Outcome.SUCCESS if score == 1 else Outcome.FAILURE
        store.add(episode(start, sample=sample, score=score, outcome=outcome, **more))

    roll(expert.start, 0, 0.0)
    roll(expert.start, 1, 0.5)
    roll(expert.fork(2), 0, 1.0)
    roll(expert.fork(2), 1, 0.5)
    roll(expert.fork(4), 0, 1.0, iteration=1)
    store.add(episode(expert.fork(3), outcome=Outcome.TIMEOUT))
    wins = store.wins(expert)
    assert wins == {
        0: Wins(0, tries=2, wins=0, mean=0.25, best=0.5),
        2: Wins(2, tries=2, wins=1, mean=0.75, best=1.0),
        4: Wins(4, tries=1, wins=1, mean=1.0, best=1.0),
    }
    assert [wins[step].won for step in wins] == [False, True, True]
    assert store.wins(expert.id) == wins
    assert store.wins(expert, iteration=1) == {4: wins[4]}
    assert store.wins(expert.fork(2)) == {2: wins[2]}
    assert store.wins(expert.start, actor="policy") == {0: wins[0]}
    assert store.wins(expert.start)[0].tries == 3, "a Start counts all that began there, the expert's too"


def test_wins_of_a_fork_count_its_siblings_at_its_own_start(store: EpisodeStore) -> None:
    root = episode(n=4)
    one, two = episode(root.fork(2), sample=0), episode(root.fork(2), sample=1, score=1.0, outcome=Outcome.SUCCESS)
    below = episode(one.fork(3))
    store.add_all([root, one, two, below])
    assert {step: (each.tries, each.wins) for step, each in store.wins(one).items()} == {2: (1, 1), 3: (1, 0)}


def test_a_fork_of_an_unknown_parent_is_refused(store: EpisodeStore) -> None:
    parent = episode()
    with pytest.raises(BadInput, match=rf"forks '{parent.id}', which is not in .*; add the parent first"):
        store.add(episode(parent.fork(1)))
    store.add(parent.model_copy(update={"outcome": Outcome.ENV_ERROR}))
    with pytest.raises(BadInput, match="add the parent first"):
        store.add(episode(parent.fork(1)))  # a fault is no parent
    assert store.count() == 0


def test_a_fork_after_its_parents_end_is_refused(store: EpisodeStore) -> None:
    parent = episode(n=3)
    store.add(parent)
    with pytest.raises(BadInput, match="at step 4, which ends at step 3"):
        store.add(episode(fork_at(parent, 4)))
    assert store.add(episode(fork_at(parent, 3)))


def test_a_fork_of_a_test_task_can_not_become_training_data(store: EpisodeStore) -> None:
    parent = episode(task(split="test"))
    store.add(parent)
    for changed in (task(split="train"), task("other", split="test")):
        with pytest.raises(BadInput, match=r"has the task .*, its parent .* has mine/Lab-v0:test:boil/1:0"):
            store.add(episode(Start(task=changed, parent=parent.id, fork_step=1)))
    assert store.count(split="train") == 0
