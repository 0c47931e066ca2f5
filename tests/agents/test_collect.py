"""What collecting promises: every planned episode once, the same ones in any order, batched without lock-step."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from odd_env import CountingPolicy, World, many, tasks

import palaestra
from palaestra.agents.collect import CollectReport, Interrupted, TooManyFaults, collect
from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import Actor, Episode, Outcome, Start, episode_id
from palaestra.agents.policies.human import HumanPolicy
from palaestra.agents.policies.oracle import OraclePolicy, flawed
from palaestra.agents.policies.random import RandomPolicy
from palaestra.agents.policies.scripted import ScriptedPolicy
from palaestra.agents.policy import Completion, Policy, PolicyBase, Request
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, Task


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EpisodeStore]:
    with EpisodeStore(tmp_path / "episodes.sqlite") as opened:
        yield opened


def run(starts: Any, policy: Policy, store: EpisodeStore, **rest: Any) -> CollectReport:
    return collect(starts, policy, store, progress="quiet", **rest)


def bandits(count: int) -> list[Task]:
    return list(palaestra.find("bandit").split("train"))[:count]


def gist(store: EpisodeStore) -> dict[str, Any]:
    """All that must not depend on when and where an episode was made."""
    return {
        episode.id: (episode.start, episode.sample, episode.turns, episode.outcome, episode.score, episode.labels)
        for episode in store.episodes()
    }


# -- what is stored ------------------------------------------------------------------------------------------------


def test_each_start_may_have_a_number_of_samples_of_its_own(store: EpisodeStore) -> None:
    tasks = bandits(3)
    assert run(tasks, RandomPolicy(), store, samples=[2, 1, 3]).episodes == 6
    assert [store.count(task=task.name) for task in tasks] == [2, 1, 3]
    assert run(tasks, RandomPolicy(), store, samples=3).episodes == 3
    with pytest.raises(BadInput, match="2 numbers of samples need as many starts"):
        run(tasks, RandomPolicy(), store, samples=[1, 1])
    with pytest.raises(BadInput, match="samples must be at least 1, got 0"):
        run(tasks, RandomPolicy(), store, samples=[1, 0, 1])


def test_every_start_gets_its_samples_with_outcome_score_and_whole_provenance(store: EpisodeStore) -> None:
    world = World()
    report = run(
        [*tasks("good/0", "bad/0")], CountingPolicy(), store, samples=2, env_factory=world.make,
        recipe="rft", iteration=3, seed=7, labels={"group": "g"}, conversation=Conversation(window=1),
    )  # fmt: skip
    assert (report.episodes, report.successes, report.mean_score) == (4, 2, 0.75)
    assert (report.env_steps, report.model_calls, report.completion_tokens, report.prompt_tokens) == (12, 12, 24, 60)
    episodes = sorted(store.episodes(), key=lambda episode: (episode.start.task.name, episode.sample))
    assert [(e.start.task.name, e.sample, e.outcome, e.score) for e in episodes] == [
        ("bad/0", 0, Outcome.FAILURE, 0.5),
        ("bad/0", 1, Outcome.FAILURE, 0.5),
        ("good/0", 0, Outcome.SUCCESS, 1.0),
        ("good/0", 1, Outcome.SUCCESS, 1.0),
    ]
    good = episodes[2]
    assert good.id == episode_id(good.key)
    assert good.actions == ("count", "count", "count")
    assert [turn.observation for turn in good.turns] == ["Count. (good/0)", "1", "2"]
    assert good.final_observation == "Done."
    assert [turn.reward for turn in good.turns] == pytest.approx([1 / 6, 1 / 6, 2 / 3])
    origin = good.provenance
    assert (origin.actor, origin.policy, origin.recipe, origin.iteration) == (Actor.POLICY, "counting", "rft", 3)
    assert origin.conversation["window"] == 1
    assert origin.sampling["run_seed"] == 7
    assert origin.palaestra == palaestra.__version__
    assert origin.env_fingerprint == world.make().fingerprint()
    assert (origin.cost.env_steps, origin.cost.model_calls, origin.cost.completion_tokens) == (3, 3, 6)
    assert good.labels == {"group": "g"}


def test_the_step_limit_truncates(store: EpisodeStore) -> None:
    settings = {"max_steps": 2}
    run(bandits(1), OraclePolicy("bandit"), store, env_settings=settings)
    (episode,) = store.episodes()
    assert (episode.outcome, len(episode.turns)) == (Outcome.TRUNCATED, 2)
    assert episode.provenance.env_settings == settings
    assert episode.provenance.actor is Actor.EXPERT


def test_collecting_again_makes_nothing_twice_and_another_version_makes_its_own(store: EpisodeStore) -> None:
    plan = bandits(5)
    first = run(plan, RandomPolicy(), store)
    before = gist(store)
    again = run([*plan, *plan], RandomPolicy(), store)
    assert (first.episodes, again.episodes, again.skipped) == (5, 0, 10)
    assert gist(store) == before
    newer = RandomPolicy()
    newer.version = "1"
    assert run(plan, newer, store).episodes == 5


@pytest.mark.parametrize(
    ("otherwise", "named"),
    [
        ({"seed": 99}, "run_seed=99"),
        ({"env_settings": {"max_steps": 2}}, "max_steps=2"),
        ({"conversation": Conversation(window=1)}, "window=1"),
    ],
)
def test_episodes_made_otherwise_are_never_taken_for_those_asked_for(
    store: EpisodeStore, otherwise: dict[str, Any], named: str
) -> None:
    run(bandits(2), RandomPolicy(), store)
    before = gist(store)
    with pytest.raises(BadInput, match=named):
        run(bandits(2), RandomPolicy(), store, **otherwise)
    assert gist(store) == before


def test_every_stored_episode_is_compared_and_before_the_first_one_is_made(store: EpisodeStore) -> None:
    plan = bandits(5)
    run(plan[:1], RandomPolicy(), store)
    run(plan[4:], RandomPolicy(), store, seed=1)
    before = gist(store)
    with pytest.raises(BadInput, match="run_seed=1"):
        run(plan, RandomPolicy(), store, concurrency=1)
    assert gist(store) == before, "the first stored one is as asked, the last one is not, and nothing was made"
    with pytest.raises(BadInput, match="run_seed=1"):
        run(iter(plan), RandomPolicy(), store, concurrency=1)


def test_a_server_at_another_address_is_no_other_policy(store: EpisodeStore) -> None:
    policy = RandomPolicy()
    for port in (1, 2):
        policy.extra = {"url": f"http://localhost:{port}/v1"}
        report = run(bandits(2), policy, store)
    assert report.skipped == 2


def test_another_version_of_the_environment_is_refused_before_anything_is_made(store: EpisodeStore) -> None:
    world = World()
    run(many("good", 1), CountingPolicy(), store, env_factory=world.make)

    def newer(_env: str) -> Any:
        env = world.make()
        env.fingerprint = lambda: "newer"  # type: ignore[method-assign]
        return env

    with pytest.raises(BadInput, match=r"env_fingerprint=.* here it is 'newer'"):
        run(many("good", 3), CountingPolicy(), store, env_factory=newer)
    assert (len(store), store.n_faults) == (1, 0)


def test_turns_that_were_cut_are_noted_where_no_ids_tell(store: EpisodeStore) -> None:
    class Cut(CountingPolicy):
        def act(self, requests: Sequence[Request]) -> list[Completion]:
            return [Completion("count", finished=len(request.messages) > 2) for request in requests]

    run(many("good", 1), Cut(), store, env_factory=World().make)
    (episode,) = store.episodes()
    assert episode.labels == {"unfinished_turns": [0]}


def test_a_plan_may_name_the_same_start_twice(store: EpisodeStore) -> None:
    report = run([*many("good", 4), *many("good", 4)], CountingPolicy(), store, env_factory=World().make)
    assert (report.episodes, report.skipped, len(store)) == (4, 4, 4)


@pytest.mark.parametrize("policy", [RandomPolicy(), flawed("bandit", 0.5), OraclePolicy("bandit", "ucb")])
def test_neither_order_nor_concurrency_nor_an_interruption_changes_an_episode(policy: Policy, tmp_path: Path) -> None:
    plan = bandits(12)
    runs: list[dict[str, Any]] = []
    for name, starts, rest in (
        ("one", [plan], {"concurrency": 1}),
        ("many", [plan[::-1]], {"concurrency": 6}),
        ("parts", [plan[4:7], plan], {"concurrency": 3}),
    ):
        with EpisodeStore(tmp_path / name) as store:
            for part in starts:
                run(part, policy, store, samples=2, seed=5, env_settings={"max_steps": 8}, **rest)
            runs.append(gist(store))
    assert len(runs[0]) == 24
    assert runs[0] == runs[1] == runs[2]


def test_the_runs_seed_and_the_sample_change_what_is_random(tmp_path: Path) -> None:
    actions = []
    for seed in (0, 1):
        with EpisodeStore(tmp_path / str(seed)) as store:
            run(bandits(1), RandomPolicy(), store, samples=3, seed=seed)
            actions += [episode.actions for episode in store.episodes()]
    assert len(set(actions)) == 6


# -- many at once --------------------------------------------------------------------------------------------------


def test_starts_are_read_no_further_than_needed(store: EpisodeStore) -> None:
    ahead: list[int] = []

    def endless() -> Iterator[Task]:
        for number in range(60):
            ahead.append(number + 1 - len(store))
            yield tasks(f"good/{number}")[0]

    report = run(endless(), CountingPolicy(), store, concurrency=4, env_factory=World().make)
    assert report.episodes == 60
    assert max(ahead) <= 4


def test_instances_are_reused_and_in_the_end_closed_with_their_threads(store: EpisodeStore) -> None:
    world, before = World(), threading.active_count()
    run(many("good", 30), CountingPolicy(), store, concurrency=3, env_factory=world.make)
    assert len(world.made) == 3
    assert set(map(id, world.closed)) == set(map(id, world.made))
    assert threading.active_count() == before


def test_no_more_instances_than_episodes_at_once_even_with_several_environments(store: EpisodeStore) -> None:
    alive, most = [0], [0]
    lock = threading.Lock()
    world = World()

    def make(_env: str) -> Any:
        env = world.make()
        with lock:
            alive[0] += 1
            most[0] = max(most[0], alive[0])
        close = env.close

        def closing() -> None:
            with lock:
                alive[0] -= 1
            close()

        env.close = closing  # type: ignore[method-assign]
        return env

    plan = [Task(env=f"odd/Odd{n % 5}-v0", name=f"good/{n}", split="train") for n in range(40)]
    assert run(plan, CountingPolicy(), store, concurrency=2, env_factory=make).episodes == 40
    assert most[0] <= 2 + 2, "two at work, and two that are being closed"


def test_the_policy_gets_all_that_wait_and_never_more_than_its_batch(store: EpisodeStore) -> None:
    world = World()

    class Slow(CountingPolicy):
        def act(self, requests: Sequence[Request]) -> list[Completion]:
            if not self.batches:
                while sum(world.tries.values()) < 8:
                    threading.Event().wait(0.001)
                threading.Event().wait(0.2)  # the last one's result is on its way to the collector
            return super().act(requests)

    policy = Slow(batch_size=4)
    run(many("good", 8), policy, store, concurrency=8, env_factory=world.make)
    sizes = [len(batch) for batch in policy.batches]
    assert sum(sizes) == 24
    assert max(sizes) == 4
    assert sizes[1] == 4, "all that came while the policy was busy are asked together"


def test_a_slow_episode_holds_nobody_up(store: EpisodeStore) -> None:
    """The gate opens when all others have ended: in lock-step, or waiting for the slow one, this would never end."""
    world = World(open_after=20)
    plan = [*tasks("gated/0"), *many("good", 20)]
    report = run(plan, CountingPolicy(), store, concurrency=2, deadline=None, env_factory=world.make)
    assert report.episodes == 21
    assert world.ended[-1] == "gated/0"


# -- how it is shown and read --------------------------------------------------------------------------------------


class Writer(PolicyBase):
    """Writes given texts, one a turn, and keeps what it was shown."""

    def __init__(self, *texts: str) -> None:
        super().__init__(name="writer")
        self.texts, self.shown = texts, list[Sequence[Any]]()

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        self.shown += [request.messages for request in requests]
        return [Completion(self.texts[len(request.messages) // 2 - 1]) for request in requests]


def test_what_cannot_be_read_costs_a_step_is_told_and_leaves_the_path_replayable(store: EpisodeStore) -> None:
    world = World()
    policy = Writer("no idea", "Thought: ok\nAction: count", "Action:", "Action: dance", *["Action: count"] * 2)
    report = run(tasks("good/0"), policy, store, conversation=Conversation(style="react"), env_factory=world.make)
    assert (report.episodes, report.successes) == (1, 1)
    (episode,) = store.episodes()
    assert episode.actions == ("", "count", "", "dance", "count", "count")
    assert [turn.valid for turn in episode.turns] == [False, True, False, False, True, True]
    assert [turn.completion for turn in episode.turns] == list(policy.texts)
    assert episode.turns[1].thought == "ok"
    assert episode.turns[1].observation == "Say count.", "as the environment said it"
    told = policy.shown[1][-1]["content"]
    assert told.startswith("No 'Action:' line was found.")
    assert told.endswith("\nSay count.")
    assert policy.shown[5][3]["content"] == told, "and it still stands there later"
    assert policy.shown[4][-1]["content"] == "Say count.", "what was read is the environment's to judge"
    path = store.path(episode.id)
    assert world.make().replay(path.episode.start.task, path.actions, path.observations())[0] == "Done."


def test_an_oracle_speaks_in_the_style_of_the_conversation(store: EpisodeStore) -> None:
    policy = ScriptedPolicy(["count"] * 3)
    run(tasks("good/0"), policy, store, conversation=Conversation(style="react"), env_factory=World().make)
    (episode,) = store.episodes()
    assert episode.actions == ("count",) * 3
    assert episode.turns[0].completion == Conversation(style="react").write("count")


def test_admissible_actions_are_handed_over_and_shown_when_asked_for(store: EpisodeStore) -> None:
    policy = CountingPolicy()
    run(tasks("good/0"), policy, store, env_factory=World().make)
    assert policy.batches[0][0].actions is None
    assert policy.batches[0][0].env is None
    policy = CountingPolicy()
    policy.wants_actions, policy.version = True, "1"
    run(tasks("good/0"), policy, store, env_factory=World().make, conversation=Conversation(actions=1))
    assert policy.batches[0][0].actions == ["count", "wait"]
    assert policy.batches[1][0].messages[-1]["content"] == "1\nActions: count; and 1 more"


# -- forks ---------------------------------------------------------------------------------------------------------


def forkable(store: EpisodeStore, world: World) -> Episode:
    script = ScriptedPolicy(["wait", "count", "wait", "dance", "count", "count"], name="parent")
    run(tasks("good/0"), script, store, env_factory=world.make)
    (parent,) = store.episodes()
    return parent


def test_a_fork_goes_on_from_its_step_with_the_parents_path_as_context(store: EpisodeStore) -> None:
    world = World()
    parent = forkable(store, world)
    policy = CountingPolicy()
    forks = [parent.fork(step) for step in range(parent.end_step)]
    report = run(forks, policy, store, concurrency=3, env_factory=world.make)
    assert (report.episodes, report.successes, report.replayed_steps) == (6, 6, 0 + 1 + 2 + 3 + 4 + 5)
    for step in range(6):
        (child,) = (store.get(head.id) for head in store.children(parent.id) if head.fork_step == step)
        assert child.start == parent.fork(step)
        counted = parent.actions[:step].count("count")
        assert child.actions == ("count",) * (3 - counted), "only its own turns"
        path = store.path(child.id)
        assert path.actions == (*parent.actions[:step], *child.actions)
        assert world.make().replay(child.start.task, path.actions, path.observations())[1]["success"]
    asked = [[message["content"] for message in request.messages[1:]] for batch in policy.batches for request in batch]
    assert ["Count. (good/0)", "wait", "You wait.", "count", "1", "wait", "You wait."] in asked


def test_a_fork_of_a_fork_stands_on_the_whole_path(store: EpisodeStore) -> None:
    world = World()
    parent = forkable(store, world)
    run([parent.fork(2)], ScriptedPolicy(["-", "-", "wait", "wait", "count", "count"]), store, env_factory=world.make)
    (child,) = (store.get(head.id) for head in store.children(parent.id))
    run([child.fork(4)], CountingPolicy(), store, env_factory=world.make)
    (grandchild,) = (store.get(head.id) for head in store.children(child.id))
    assert store.path(grandchild.id).actions == ("wait", "count", "wait", "wait", "count", "count")


def test_a_fork_takes_the_instance_that_is_nearest(store: EpisodeStore) -> None:
    """An episode that was given up in the middle leaves its instance there; a fork of that step replays nothing."""
    world = World()
    parent = forkable(store, world)

    class Fails(PolicyBase):
        def act(self, requests: Sequence[Request]) -> list[Completion]:
            return [Completion("", error="no")]

    plan = [parent.fork(4), parent.fork(5)]
    with pytest.raises(TooManyFaults):
        run(plan, Fails(), store, concurrency=1, retries=0, env_factory=world.make)
    faults = list(store.faults())
    assert [fault.provenance.cost.replayed_steps for fault in faults] == [4, 1]


def test_forks_that_cannot_be_are_refused(store: EpisodeStore) -> None:
    world = World()
    parent = forkable(store, world)
    other = tasks("good/0", split="test")[0]
    for start, message in (
        (parent.fork(parent.end_step), "ends after 6 actions"),
        (Start(task=parent.start.task, parent=parent.id, fork_step=9), "ends after 6 actions"),
        (Start(task=parent.start.task, parent="0" * 16, fork_step=1), "no episode"),
        (Start(task=other, parent=parent.id, fork_step=1), "its parent's task is"),
    ):
        with pytest.raises(BadInput, match=message):
            run([start], CountingPolicy(), store, env_factory=world.make)
    assert len(store) == 1

    def short(_env: str) -> Any:
        env = world.make()
        env.max_steps = 3
        return env

    with pytest.raises(BadInput, match="the episode is over at this step"):
        run([parent.fork(3)], CountingPolicy(), store, env_factory=short)


# -- people, bad input ---------------------------------------------------------------------------------------------


def test_a_person_is_asked_for_one_episode_at_a_time_and_may_take_longer_than_any_deadline(store: EpisodeStore) -> None:
    world, typed = World(), iter(["count"] * 6)

    def read(_prompt: str) -> str:
        threading.Event().wait(0.4)
        return next(typed)

    person = HumanPolicy(read=read, show=lambda text: None)
    report = run(tasks("good/0", "good/1"), person, store, deadline=0.3, env_factory=world.make)
    assert (report.episodes, report.faults, len(world.made)) == (2, 0, 1)
    assert {episode.provenance.actor for episode in store.episodes()} == {Actor.HUMAN}


def test_a_person_who_leaves_stops_the_run_and_keeps_what_is_done(store: EpisodeStore) -> None:
    typed = iter(["count", "count", "count", "count", "quit"])
    person = HumanPolicy(read=lambda _prompt: next(typed), show=lambda text: None)
    with pytest.raises(Interrupted, match="1 episodes were made and are stored, 1 in flight were dropped") as caught:
        run(many("good", 3), person, store, env_factory=World().make)
    assert caught.value.report.episodes == len(store) == 1


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ({"samples": 0}, "samples must be at least 1"),
        ({"concurrency": 0}, "concurrency must be at least 1"),
        ({"deadline": 0}, "deadline"),
        ({"retries": -1}, "retries"),
        ({"max_fault_rate": 1.5}, "max_fault_rate"),
        ({"min_faults": 0}, "min_faults"),
        ({"progress": "loud"}, "progress is one of"),
        ({"env_settings": {"colour": "red"}}, "no setting 'colour'"),
        ({"env_settings": {"max_steps": object()}}, "is not of a kind that JSON can hold"),
        ({"labels": {"a": object()}}, "labels: object .* is not of a kind that JSON can hold"),
    ],
)
def test_arguments_that_cannot_be_used_are_named(store: EpisodeStore, rest: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        collect(bandits(1), RandomPolicy(), store, **{"progress": "quiet", **rest})
    assert (len(store), store.n_faults) == (0, 0)


def test_a_policy_that_writes_actions_only_is_refused_for_other_styles(store: EpisodeStore) -> None:
    class Constrained(CountingPolicy):
        constrain = True

    with pytest.raises(BadInput, match="needs style='action', not 'react'"):
        run(many("good", 1), Constrained(), store, conversation=Conversation(style="react"), env_factory=World().make)
    assert len(store) == 0


def test_starts_that_cannot_be_used_are_named(store: EpisodeStore) -> None:
    with pytest.raises(BadInput, match="a start is a Task or a Start, got str"):
        run(["bandit"], RandomPolicy(), store)
    with pytest.raises(BadInput, match="unknown environment 'none/None-v0'"):
        run([Task(env="none/None-v0", name="0", split="train")], RandomPolicy(), store)
    with pytest.raises(BadInput, match="lists none"):
        run(bandits(1), NoActions(), store)


class NoActions(RandomPolicy):
    """Asks for nothing, so it is given nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.wants_actions = False


def test_an_empty_plan_is_done_at_once(store: EpisodeStore) -> None:
    report = run([], RandomPolicy(), store)
    assert (report.episodes, report.success_rate, report.mean_score) == (0, None, None)
