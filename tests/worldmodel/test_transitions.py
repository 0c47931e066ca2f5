"""Transitions: a five-step episode written out, what is left out, balance, and the page format there and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import rooms
from hypothesis import given
from hypothesis import strategies as st
from rooms import page, task

from palaestra.agents.collect import collect
from palaestra.agents.episode import Actor, Episode, Outcome, Provenance, Start, Turn
from palaestra.agents.policies.scripted import ScriptedPolicy
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, make
from palaestra.worldmodel.judging import question
from palaestra.worldmodel.page import PageFormat, Problem, Status
from palaestra.worldmodel.transitions import (
    Transition,
    again,
    balanced,
    gather,
    packed,
    read,
    set_aside,
    transitions_of,
)

FIVE = ["right", "fly", "right", "left", "leave"]


@pytest.fixture
def store(tmp_path: Path) -> EpisodeStore:
    """Three episodes: one of five steps that ends lost, one that wins, and a fork of the first one that wins."""
    made = EpisodeStore(tmp_path / "episodes.sqlite")
    collect([task("1-3")], ScriptedPolicy(FIVE, name="five"), made, progress="quiet")
    collect([task("0-1")], ScriptedPolicy(["right", "leave"], name="two"), made, progress="quiet")
    (first,) = made.episodes(policy="five")
    script = [*FIVE[:3], "leave"]
    collect([first.fork(3)], ScriptedPolicy(script, name="fork"), made, progress="quiet")
    return made


def test_a_five_step_episode_written_out(store: EpisodeStore) -> None:
    (episode,) = store.episodes(policy="five")
    assert [turn.score for turn in episode.turns] == [0.0] * 5
    assert episode.outcome is Outcome.FAILURE
    one, two, three = page(1, 3), page(2, 3), page(3, 3)

    def wanted(step: int, before: str, after: str, status: Status, actions: tuple[str, ...]) -> Transition:
        return Transition(
            task=task("1-3"),
            episode=episode.id,
            step=step,
            first=one,
            done=tuple(FIVE[:step]),
            page=before,
            action=FIVE[step],
            next=after,
            status=status,
            actions=actions,
            score=0.0,
            success=False,
            worth=0.0,
        )

    env = make("toy/Rooms-v0")
    assert transitions_of(store.path(episode.id), env, PageFormat(actions=3)) == [
        wanted(0, one, two, Status.GOING, rooms.ACTIONS),
        wanted(1, two, "There is no such way.", Status.REFUSED, rooms.ACTIONS),
        wanted(2, "There is no such way.", three, Status.GOING, rooms.ACTIONS),
        wanted(3, three, two, Status.GOING, rooms.ACTIONS),
        wanted(4, two, "You are lost.", Status.OVER, ()),
    ]
    assert [t.actions for t in transitions_of(store.path(episode.id))] == [None] * 5


def test_a_fork_gives_its_own_steps_only_and_success_gives_worth(store: EpisodeStore) -> None:
    (fork,) = store.episodes(policy="fork")
    (last,) = transitions_of(store.path(fork.id))
    assert (last.step, last.done, last.page) == (3, ("right", "fly", "right"), page(3, 3))
    assert (last.status, last.score, last.success, last.worth) == (Status.OVER, 1.0, True, 1.0)
    (won,) = store.episodes(policy="two")
    assert [t.worth for t in transitions_of(store.path(won.id))] == [0.5, 1.0]


def test_an_episode_that_was_only_cut_off_does_not_end_its_world(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path / "episodes.sqlite")
    collect([task("0-4")], ScriptedPolicy(["left"] * 9), store, progress="quiet")
    (episode,) = store.episodes()
    assert episode.outcome is Outcome.TRUNCATED
    assert {t.status for t in transitions_of(store.path(episode.id))} == {Status.GOING}


def test_what_was_imagined_and_what_broke_teaches_nothing(store: EpisodeStore) -> None:
    (episode,) = store.episodes(policy="two")
    path = store.path(episode.id)
    assert len(transitions_of(path)) == 2
    imagined = episode.model_copy(
        update={"provenance": episode.provenance.model_copy(update={"actor": Actor.IMAGINED})}
    )
    assert transitions_of(path.model_copy(update={"episode": imagined})) == []
    broken = episode.model_copy(update={"outcome": Outcome.ENV_ERROR})
    assert transitions_of(path.model_copy(update={"episode": broken})) == []


def test_a_store_gives_all_its_real_transitions_or_an_error(store: EpisodeStore) -> None:
    found = list(gather(store, "toy/Rooms-v0", ("train",)))
    assert [len([t for t in found if t.task == each]) for each in (task("1-3"), task("0-1"))] == [6, 2]
    with pytest.raises(BadInput, match="holds no transitions of palaestra/Crafting-v0 in split train; it has episodes"):
        list(gather(store, "palaestra/Crafting-v0", ("train",)))
    with pytest.raises(BadInput, match="holds no transitions of toy/Rooms-v0 in split test"):
        list(gather(store, "toy/Rooms-v0", ("test",)))


def transition(step: int, action: str, of: str = "1-3", episode: str = "e") -> Transition:
    made: dict[str, Any] = {"task": task(of), "episode": episode, "step": step, "first": "f", "done": ("x",) * step}
    return Transition(**made, page="p", action=action, next="n", status=Status.GOING, score=0, success=False, worth=0)


def test_balance_caps_each_start_and_each_kind_of_action() -> None:
    plenty = [transition(step, f"get 2 item{step}") for step in range(30)]
    rare = [transition(step, "craft 1 thing", of="0-1", episode="other") for step in range(3)]
    assert transition(0, "get 2 big logs").kind == "get 2"
    kept = balanced([*plenty, *rare], per_start=20, per_kind=50)
    assert len([t for t in kept if t.episode == "e"]) == 20
    assert [t for t in kept if t.episode == "other"] == rare
    assert len(balanced(plenty, per_start=None, per_kind=7)) == 7
    assert balanced(plenty, per_start=None, per_kind=None) == plenty
    assert balanced(plenty[::-1], per_kind=7) == balanced(plenty, per_kind=7)  # whatever the order
    assert balanced(plenty, per_kind=7, seed=1) != balanced(plenty, per_kind=7, seed=2)
    assert balanced([plenty[0], plenty[0]]) == [plenty[0]]  # equal ones count once


def test_a_step_that_episodes_share_is_worth_the_mean_of_what_became_of_them() -> None:
    """And that does not hang on the names of the episodes."""
    for names in ("abcd", "dcba"):
        shared = [
            transition(0, "open", episode=name).model_copy(
                update={"worth": worth, "score": worth, "success": worth == 1}
            )
            for name, worth in zip(names, (0.5, 0.0, 0.0, 1.0), strict=True)
        ]
        (one,) = balanced(shared)
        assert (one.worth, one.score, one.success) == (0.375, 0.375, False)
        (sure,) = balanced(shared[3:] * 3)
        assert sure == shared[3]


def test_an_action_that_ends_some_episodes_and_not_others_is_learnt_as_often_with_the_end_as_without() -> None:
    def cake(count: int, over: bool, action: str = "craft cake") -> list[Transition]:
        status = Status.OVER if over else Status.REFUSED
        return [
            transition(step, action, episode=f"{over}").model_copy(update={"status": status}) for step in range(count)
        ]

    two, five = cake(2, True), cake(5, False)
    assert again([*two, *five]) == [two[0], two[1], two[0]]  # the rarer ones in turn: five of each now
    assert again([*cake(5, True), *cake(2, False)]) == [*cake(2, False), cake(2, False)[0]]  # either may be the rarer
    assert again([*two, *cake(2, False)]) == []
    assert again([*cake(3, True, "buy"), *cake(9, False, "craft pie")]) == []  # these tell by themselves what comes
    assert again([*cake(1, True), *cake(40, False)]) == cake(1, True) * 9  # ten times each, no more
    assert again([*cake(1, True), *cake(40, False)], most=3) == cake(1, True) * 2


def test_beyond_the_step_limit_of_the_environment_at_hand_no_actions_are_known(tmp_path: Path) -> None:
    """Recorded under a longer limit: what the shorter one cuts is not taught as a page without a way on."""
    form = PageFormat(actions=3)
    with EpisodeStore(tmp_path / "episodes.sqlite") as store:
        collect([task("0-4")], ScriptedPolicy(["left"] * 8), store, progress="quiet")
        (episode,) = store.episodes()
        for most, known in ((3, 2), (20, 8)):
            found = transitions_of(store.path(episode.id), make("toy/Rooms-v0", max_steps=most), form)
            assert [t.actions for t in found] == [rooms.ACTIONS] * known + [None] * (8 - known)


def test_the_same_share_of_tasks_is_set_aside_for_the_same_seed() -> None:
    tasks = [task(pair) for pair in rooms.PAIRS]
    aside = [t for t in tasks if set_aside(t, 0.4, seed=3)]
    assert 4 <= len(aside) <= 16
    assert aside == [t for t in tasks if set_aside(t, 0.4, seed=3)]
    assert aside != [t for t in tasks if set_aside(t, 0.4, seed=4)]
    assert not any(set_aside(t, 0.0) for t in tasks)


def test_transitions_are_written_and_read_back(tmp_path: Path) -> None:
    many = [transition(step, "go") for step in range(3)]
    file = tmp_path / "t.jsonl.gz"
    file.write_bytes(packed(many))
    assert read(file) == many
    file.write_bytes(packed(many)[:20])
    with pytest.raises(BadInput, match="delete it to have the transitions mined again"):
        read(file)


def test_half_a_surrogate_pair_does_not_stop_a_file_from_being_written() -> None:
    turns = (Turn(observation="a\ud800b", completion="go", action="go"),)
    episode = Episode(
        id="x",
        start=Start(task=task("1-3")),
        turns=turns,
        final_observation="end",
        outcome=Outcome.FAILURE,
        provenance=Provenance(policy="p"),
    )
    from palaestra.agents.episode import Path as EpisodePath

    found = transitions_of(EpisodePath(episode=episode, turns=turns, origins=("x",)))
    assert found[0].page == "a?b"
    assert packed(found)


# -- the page format ---------------------------------------------------------------------------------------------------

LINES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=12)
PAGES = st.lists(LINES | st.sampled_from(["== actions", "== going", "== page", "", "Thought: x"])).map("\n".join)


@given(PAGES, st.sampled_from(list(Status)), st.lists(LINES, unique=True), st.booleans())
def test_every_page_is_read_back_as_it_was_written(
    text: str, status: Status, actions: list[str], rationale: bool
) -> None:
    form = PageFormat(max_page=0, actions=50, rationale=rationale)
    found = form.read(form.write(text, status, actions, "since it does"))
    assert (found.page, found.status, found.problem) == (text, status, None)
    assert found.actions == form.listed(actions)


@pytest.mark.parametrize("text", ["", "   ", "You are in room 2.", "page\n== perhaps", "== going"])
def test_nonsense_is_malformed(text: str) -> None:
    assert PageFormat().read(text).problem is Problem.MALFORMED


def test_a_world_model_is_asked_in_these_words() -> None:
    (first, second, *_) = (transition(0, "go\nnorth"), transition(2, "sit"))
    form = PageFormat(actions=2, history=1)
    said = form.messages(first.branch("Rules.").asked(first.action))
    assert said[0]["content"].endswith("or '== over' if the episode ends there.\nRules.")
    assert said[1]["content"] == "Task: f\nAction: go north"
    said = form.messages(second.branch("Rules.").asked(second.action))
    assert said[1]["content"] == "Task: f\nDone: x\nPage: p\nAction: sit"
    assert form.listed(["a", "b\nc", "== x", "d", "e"]) == ("a", "d")
    long = "x" * 3000
    assert form.cut(long).startswith("x" * 1333 + " [... 1000 characters ...] x")


def test_a_model_of_one_environment_can_do_without_the_rules() -> None:
    first = transition(2, "sit")
    brief, whole = PageFormat(rules=False), PageFormat()
    asked, case = first.branch("Rules.").asked(first.action), first.case("Rules.")
    for short, told in (
        (brief.messages(asked), whole.messages(asked)),
        (question(case, brief), question(case, whole)),
    ):
        assert "Rules." in told[0]["content"]
        assert len(short[0]["content"].split()) < 8
        assert short[1:] == told[1:]
    assert brief.messages(asked)[0] != question(case, brief)[0]  # pages and judgements are told apart
