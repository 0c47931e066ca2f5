"""EEF: the win matrix, the segments, the important states, the solutions and every mask, worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lamps
import pytest

from palaestra.agents.episode import Actor, Episode, Outcome, Provenance, Start, Turn, episode_id, episode_key
from palaestra.agents.episode import Path as PathOf
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, Task
from palaestra.trainers.config import config_of
from palaestra.trainers.eef import EEF, EEFConfig
from palaestra.trainers.phases import Collected, Plan
from palaestra.trainers.rft import RFT, RFTConfig
from palaestra.trainers.rundir import RunDir
from palaestra.trainers.sample import Sample
from palaestra.trainers.wins import WinMatrix

TASK = Task(env="toy/Lamps-v0", name="two/0", split="train")
OTHER = Task(env="toy/Lamps-v0", name="two/1", split="train")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lamps.tiny(tmp_path_factory.mktemp("models") / "tiny")


def eef(out: Path, model: Path, **more: Any) -> EEF:
    whole = {"conversation": {}, "tasks": ("two/0", "two/1"), "experts": {"oracle": "solve"}, "states": 3}
    settings = lamps.settings(model, **(whole | more))
    del settings["per_task"]
    return EEF(config_of(EEFConfig, settings), out, progress="quiet")


def episode(start: Start, actions: str, won: bool, by: str = "policy", sample: int = 0) -> Episode:
    """One action a letter; the observation before the action x is "see x"."""
    provenance = Provenance(actor=Actor(by), policy=by, recipe="eef", iteration=0 if by == "expert" else 1)
    return Episode(
        id=episode_id(episode_key(start, provenance, sample)),
        start=start,
        sample=sample,
        turns=tuple(Turn(observation=f"see {letter}", completion=letter, action=letter) for letter in actions),
        outcome=Outcome.SUCCESS if won else Outcome.FAILURE,
        score=float(won),
        provenance=provenance,
    )


def explored(
    tmp_path: Path, model: Path, experts: list[Episode], rollouts: list[Episode], **more: Any
) -> tuple[list[Sample], WinMatrix, Mapping[str, list[str]]]:
    """What EEF mines of these, its win matrix, and of each kind of sample the actions that have a weight."""
    method = eef(tmp_path / "run", model, **more)
    with (
        EpisodeStore(tmp_path / "episodes.sqlite") as method.store,
        RunDir.open(tmp_path / "run", "eef", method.config) as method.run,
    ):
        method.store.add_all([*experts, *rollouts])
        for number, made in enumerate([experts, rollouts]):
            record = Collected(episodes=tuple(e.id for e in made), successes=0, faults=0)
            method.run.save(f"iteration-{number}/collected.json", record)
        samples = method.mine(1)
        tokenizer = method.acting.template.tokenizer
        trained: dict[str, list[str]] = {}
        for sample in samples:
            ids = [id for id, weight in zip(sample.ids, sample.weights, strict=True) if weight]
            text = tokenizer.decode(ids, skip_special_tokens=True)
            trained.setdefault(sample.kind, []).append("".join(text.split()))
        return samples, method.run.load("iteration-1/wins.json", WinMatrix), trained


def test_the_case_of_figure_1(tmp_path: Path, model: Path) -> None:
    """The expert fails with ABCDEFGH. With M = 3 its states lie 8 // 4 = 2 actions apart: s_0, 2, 4 and 6.

    Rollouts: s_0 xy loses, state 1 (after AB) pq wins, state 2 (after ABCD) xx loses, state 3 (after ABCDEF) rs wins.
    So w = 0 1 0 1. The expert's AB helped (0 -> 1) and EF helped (2 -> 3); CD harmed, so state 2 is a recovery state.
    s_0 learns AB and the rollout from state 1: ABpq. State 2 learns EF and the rollout from state 3: EFrs, and the
    four actions before it are context. The expert lost and teaches nothing itself.
    """
    expert = episode(Start(task=TASK), "ABCDEFGH", won=False, by="expert")
    rollouts = [
        episode(Start(task=TASK), "xy", won=False),
        episode(expert.fork(2), "pq", won=True),
        episode(expert.fork(4), "xx", won=False),
        episode(expert.fork(6), "rs", won=True),
        episode(Start(task=OTHER), "zz", won=False),
    ]
    samples, matrix, trained = explored(tmp_path, model, [expert], rollouts)
    (row,) = matrix.rows
    assert (row.steps, row.tries, row.won) == ((0, 2, 4, 6), (1, 1, 1, 1), (False, True, False, True))
    assert (row.beneficial, row.harmful) == (((0, 1), (2, 3)), (1,))
    assert trained == {"initial": ["ABpq"], "recovery": ["EFrs"]}
    assert (matrix.initial, matrix.recovery, matrix.success_by_state) == (1, 1, (0.0, 1.0, 0.0, 1.0))
    recovery = samples[1]
    assert recovery.weights[0] == 0
    assert recovery.episodes == (expert.id, rollouts[3].id)


def test_a_rollout_that_won_from_the_state_itself_comes_first(tmp_path: Path, model: Path) -> None:
    """s_0 wins with xy: it needs no help of the expert, who won too and is cloned. No state lost, none recovers."""
    expert = episode(Start(task=TASK), "ABCDEFGH", won=True, by="expert")
    rollouts = [episode(Start(task=TASK), "xy", won=True), episode(expert.fork(2), "p", won=True)]
    _, matrix, trained = explored(tmp_path, model, [expert], rollouts)
    assert trained == {"expert": ["ABCDEFGH"], "initial": ["xy"]}
    assert matrix.rows[0].won == (True, True, None, None)  # the budget ended before states 2 and 3


def test_tasks_without_an_expert_learn_from_their_own_wins(tmp_path: Path, model: Path) -> None:
    rollouts = [episode(Start(task=OTHER), "abc", won=True), episode(Start(task=OTHER), "ab", won=True, sample=1)]
    _, matrix, trained = explored(tmp_path, model, [], rollouts)
    assert trained == {"initial": ["ab"]}  # the shortest
    assert matrix.rows == ()


def test_of_two_experts_the_earliest_winning_state_counts(tmp_path: Path, model: Path) -> None:
    """Expert 1 helps from state 2 on, expert 2 from state 1 on: s_0 learns from expert 2."""
    one = episode(Start(task=TASK), "ABCDEFGH", won=False, by="expert")
    two = episode(Start(task=TASK), "IJKLMNOP", won=False, by="expert", sample=1)
    rollouts = [
        episode(Start(task=TASK), "x", won=False),
        *(episode(one.fork(step), "y", won=step == 4) for step in (2, 4, 6)),
        *(episode(two.fork(step), "z", won=step == 2) for step in (2, 4, 6)),
    ]
    _, matrix, trained = explored(tmp_path, model, [one, two], rollouts)
    assert trained == {"initial": ["IJz"]}
    assert [row.harmful for row in matrix.rows] == [(2,), (1,)]  # what follows the wins is lost again,
    assert matrix.recovery == 0  # and no later state wins it back


def test_an_expert_that_is_a_fork_of_another_has_its_states_on_the_whole_path(tmp_path: Path, model: Path) -> None:
    """F goes on from P's fourth action with UVWX: its path ABCDUVWX has the states 0, 2 and 4 of P and its own 6.

    s_0 loses, P's states win and lose, so s_0 learns ABy, P's state 4 is to be recovered once, though both paths have
    it, and learns the shorter of the two ways on: the expert F's UV and the rollout from there.
    """
    p = episode(Start(task=TASK), "ABCDEFGH", won=False, by="expert")
    f = episode(p.fork(4), "UVWX", won=False, by="expert", sample=1)
    rollouts = [
        episode(Start(task=TASK), "x", won=False),
        episode(p.fork(2), "y", won=True),
        episode(p.fork(4), "z", won=False),
        episode(p.fork(6), "qqq", won=True),
        episode(f.fork(6), "r", won=True),
    ]
    samples, matrix, trained = explored(tmp_path, model, [p, f], rollouts)
    assert [row.steps for row in matrix.rows] == [(0, 2, 4, 6)] * 2
    assert [row.won for row in matrix.rows] == [(False, True, False, True)] * 2
    assert matrix.success_by_state == (0.0, 1.0, 0.0, 1.0)
    assert trained == {"initial": ["ABy"], "recovery": ["UVr"]}
    assert samples[1].episodes == (p.id, f.id, rollouts[4].id)


def test_rft_clones_the_very_experts_that_the_others_clone(tmp_path: Path, model: Path) -> None:
    """Two that act alike, and two forks whose own actions are alike but not their paths: four clones, and no method
    leaves one out, as a comparison begins with the same clones for all. A rollout that does as one of them is none."""
    p = episode(Start(task=TASK), "ABCDEFGH", won=True, by="expert")
    alike = episode(Start(task=TASK), "ABCDEFGH", won=True, by="expert", sample=1)
    forks = [episode(p.fork(step), "Z", won=True, by="expert", sample=step) for step in (2, 4)]
    rollouts = [episode(Start(task=TASK), actions, won=True, sample=n) for n, actions in enumerate(("ABZ", "ABY"))]
    settings = lamps.settings(model, conversation={}, tasks=("two/0",), experts={"oracle": "solve"})
    method = RFT(config_of(RFTConfig, settings), tmp_path / "run", progress="quiet")
    with (
        EpisodeStore(tmp_path / "episodes.sqlite") as method.store,
        RunDir.open(tmp_path / "run", "rft", method.config) as method.run,
    ):
        experts = [p, alike, *forks]
        method.store.add_all([*experts, *rollouts])
        for number, made in enumerate([experts, rollouts]):
            record = Collected(episodes=tuple(e.id for e in made), successes=len(made), faults=0)
            method.run.save(f"iteration-{number}/collected.json", record)
        assert method.mine(0) == method.cloned()
        assert len(method.mine(0)) == 4
        assert [sample.episodes[-1] for sample in method.mine(1)[4:]] == [rollouts[1].id]


def test_half_an_answer_of_an_expert_stays_context_behind_a_fork(tmp_path: Path, model: Path) -> None:
    """The server cut the expert's second answer, B: the way AB and y teaches A and y, but never to stop within B."""
    expert = episode(Start(task=TASK), "ABCDEFGH", won=False, by="expert")
    expert = expert.model_copy(update={"labels": {"unfinished_turns": [1, 5]}})
    rollouts = [episode(Start(task=TASK), "x", won=False), episode(expert.fork(2), "y", won=True)]
    _, _, trained = explored(tmp_path, model, [expert], rollouts)
    assert trained == {"initial": ["Ay"]}


def test_states_that_two_experts_share_are_tried_once(tmp_path: Path, model: Path) -> None:
    p = episode(Start(task=TASK), "ABCDEFGH", won=False, by="expert")
    f = episode(p.fork(4), "UVWX", won=False, by="expert", sample=1)
    method = eef(tmp_path / "run", model)
    with (
        EpisodeStore(tmp_path / "episodes.sqlite") as method.store,
        RunDir.open(tmp_path / "run", "eef", method.config) as method.run,
    ):
        method.store.add_all([p, f])
        method.run.save("iteration-0/collected.json", Collected(episodes=(p.id, f.id), successes=0, faults=0))
        forks = [p.fork(2), p.fork(4), p.fork(6), f.fork(6)]
        assert method.beginnings() == [Start(task=TASK), *forks, Start(task=OTHER)]


def test_half_of_the_rollouts_must_win_where_that_is_asked_for(tmp_path: Path, model: Path) -> None:
    expert = episode(Start(task=TASK), "ABCDEFGH", won=False, by="expert")
    rollouts = [
        *(episode(Start(task=TASK), "x", won=False, sample=n) for n in range(3)),
        *(episode(expert.fork(2), "y", won=n == 0, sample=n) for n in range(3)),
        *(episode(expert.fork(4), "z", won=n < 2, sample=n) for n in range(3)),
    ]
    _, lenient, trained = explored(tmp_path / "any", model, [expert], rollouts)
    assert (lenient.rows[0].won, trained) == ((False, True, True, None), {"initial": ["ABy"]})
    _, strict, trained = explored(tmp_path / "half", model, [expert], rollouts, win="half")
    assert (strict.rows[0].won, trained) == ((False, False, True, None), {"initial": ["ABCDz"]})


def test_a_lucky_win_from_s_0_teaches_nothing_where_half_must_win(tmp_path: Path, model: Path) -> None:
    """One of four rollouts from s_0 wins, three of four from state 2: w = (0, 1), so s_0 learns the expert's AB and y.
    Of the other task, without an expert, two of four win: w_0 = 1."""
    expert = episode(Start(task=TASK), "ABCDEFGH", won=False, by="expert")
    rollouts = [
        *(episode(Start(task=TASK), "x", won=n == 0, sample=n) for n in range(4)),
        *(episode(expert.fork(2), "y", won=n > 0, sample=n) for n in range(4)),
        *(episode(Start(task=OTHER), "v", won=n < 2, sample=n) for n in range(4)),
    ]
    _, matrix, trained = explored(tmp_path / "half", model, [expert], rollouts, win="half")
    assert matrix.rows[0].won[:2] == (False, True)
    assert trained == {"initial": ["ABy", "v"]}
    _, _, trained = explored(tmp_path / "any", model, [expert], rollouts)
    assert trained == {"initial": ["x", "v"]}
    _, _, trained = explored(tmp_path / "less", model, [], rollouts[-3:], win="half")  # one of three
    assert trained == {}


def test_only_the_asked_for_targets_are_learnt(tmp_path: Path, model: Path) -> None:
    expert = episode(Start(task=TASK), "ABCDEFGH", won=False, by="expert")
    rollouts = [
        episode(expert.fork(step), letter, won=won) for step, letter, won in ((2, "p", 1), (4, "q", 0), (6, "r", 1))
    ]
    for target, expected in (("initial", {"initial": ["ABp"]}), ("recovery", {"recovery": ["EFr"]})):
        _, matrix, trained = explored(tmp_path / target, model, [expert], rollouts, targets=[target])
        assert (trained, matrix.initial, matrix.recovery) == (expected, 1, 1)


def test_the_random_control_draws_among_all_winning_ways(tmp_path: Path, model: Path) -> None:
    expert = episode(Start(task=TASK), "ABCDEFGH", won=False, by="expert")
    rollouts = [episode(expert.fork(step), letter, won=True) for step, letter in ((2, "p"), (4, "q"), (6, "r"))]
    found = set()
    for seed in range(8):
        _, _, trained = explored(tmp_path / str(seed), model, [expert], rollouts, selection="random", seed=seed)
        found.add(trained["initial"][0])
    assert found == {"ABp", "ABCDq", "ABCDEFr"}


def test_short_experts_have_fewer_states(tmp_path: Path, model: Path) -> None:
    method = eef(tmp_path / "run", model)
    for actions, steps in (("A", [0]), ("AB", [0, 1]), ("ABCD", [0, 1, 2, 3]), ("ABCDEFG", [0, 1, 2, 3])):
        expert = episode(Start(task=TASK), actions, won=False, by="expert")
        path = PathOf(episode=expert, turns=expert.turns, origins=(expert.id,) * len(actions))
        assert [start.fork_step for start in method._states(path)] == steps


def test_a_budget_goes_round_tasks_and_states(tmp_path: Path, model: Path) -> None:
    """Two tasks with one expert of two actions each: s_0 and one state a task, four beginnings, six rollouts."""
    method = eef(tmp_path / "run", model, budget=12, iterations=2)
    experts = [episode(Start(task=task), "AB", won=False, by="expert") for task in (TASK, OTHER)]
    with (
        EpisodeStore(tmp_path / "episodes.sqlite") as method.store,
        RunDir.open(tmp_path / "run", "eef", method.config) as method.run,
    ):
        method.store.add_all(experts)
        record = Collected(episodes=tuple(e.id for e in experts), successes=0, faults=0)
        method.run.save("iteration-0/collected.json", record)
        plans = [method._plan(number) for number in (1, 2)]
        assert plans == [Plan(rollouts=6, before=0), Plan(rollouts=6, before=6)]
        counts = [[n for _, n in method.starts(number, 6)] for number in (1, 2)]
        names = [(s.task.name, s.fork_step) for s, _ in method.starts(2, 6)]
    assert counts == [[2, 2, 1, 1], [2, 2, 1, 1]]
    assert names == [("two/1", 0), ("two/1", 1), ("two/0", 0), ("two/0", 1)]


def test_without_experts_there_is_nothing_to_explore(tmp_path: Path) -> None:
    settings = lamps.settings("tiny")
    del settings["per_task"]
    with pytest.raises(BadInput, match="EEF explores expert episodes: give 'experts'"):
        config_of(EEFConfig, settings)


def test_eef_runs_on_failed_experts_and_learns(tmp_path: Path, model: Path) -> None:
    """Experts that slip at half of their turns: the whole loop, from the start model to the report."""
    settings = lamps.settings(model, experts={"oracle": "solve", "slip": 0.5}, states=1, budget=80)
    del settings["per_task"]
    run = tmp_path / "run"
    EEF(config_of(EEFConfig, settings), run, progress="quiet").train()
    from palaestra.trainers.report import rounds

    found = rounds(run)
    assert found[-1].evaluation.success.mean > found[0].evaluation.success.mean
    matrix = WinMatrix.model_validate_json((run / "iteration-1" / "wins.json").read_text())
    assert len(matrix.rows) == 20
    assert matrix.initial > 0
