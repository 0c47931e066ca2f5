"""RFT: what is kept, what is learnt, that it helps, and that a killed run ends as an undisturbed one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import lamps
import pytest

from palaestra.agents.episode import Actor, Episode, Outcome, Provenance, Start, Turn, episode_id
from palaestra.agents.episode import Path as EpisodePath
from palaestra.agents.export import write_episodes
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, Task, find
from palaestra.trainers.config import config_of
from palaestra.trainers.experts import Experts, gather
from palaestra.trainers.report import rounds, write_report
from palaestra.trainers.rft import RFT, RFTConfig
from palaestra.trainers.rundir import RunDir, read_run

QUICK: dict[str, Any] = {
    "budget": 40,
    "evaluation": {"tasks": 6},
    "objective": {"epochs": 2, "learning_rate": 3e-3, "batch": 4},
    "experts": {"oracle": "solve", "slip": 0.4},
    "constrain": False,
    "sampling": {"max_tokens": 3},
}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lamps.tiny(tmp_path_factory.mktemp("models") / "tiny")


def rft(out: Path, model: str | Path, **more: Any) -> RFT:
    return RFT(config_of(RFTConfig, lamps.settings(model, **more)), out, progress="quiet")


# -- what is kept -----------------------------------------------------------------------------------------------------


def episode(number: int, task: int, actions: str, score: float = 1.0, valid: bool = True) -> Episode:
    turns = tuple(
        Turn(observation="?", completion=action, action=action, valid=valid or place > 0)
        for place, action in enumerate(actions)
    )
    return Episode(
        id=f"{number:016x}",
        start=Start(task=Task(env="toy/Lamps-v0", name=f"two/{task}", split="train")),
        sample=number,
        turns=turns,
        outcome=Outcome.SUCCESS if score == 1 else Outcome.FAILURE,
        score=score,
        provenance=Provenance(policy="p"),
    )


def kept(tmp_path: Path, recorded: list[Episode], cap: int | None = None, **more: Any) -> list[str]:
    """The action sequences that RFT keeps of these episodes."""
    method = rft(tmp_path / "run", "none", **more)
    with EpisodeStore(tmp_path / "episodes.sqlite") as method.store:
        method.store.add_all(recorded)
        return ["".join(e.actions) for e in method.kept([e.id for e in recorded], cap)]


def test_wins_are_kept_once_for_each_sequence_of_actions(tmp_path: Path) -> None:
    recorded = [episode(1, 0, "ab"), episode(2, 0, "ab"), episode(3, 1, "ab"), episode(4, 0, "ba", score=0.5)]
    assert kept(tmp_path, recorded) == ["ab", "ab"]  # the double of task 0 is gone, task 1 has its own
    assert sorted(kept(tmp_path, recorded, threshold=0.5)) == ["ab", "ab", "ba"]


def test_a_task_gives_at_most_its_cap_and_the_shortest_where_preferred(tmp_path: Path) -> None:
    recorded = [episode(n, 0, "abcdef"[: 6 - n]) for n in range(5)]
    assert kept(tmp_path, recorded, cap=2, prefer="shortest") == ["ab", "abc"]
    assert len(kept(tmp_path, recorded, cap=2)) == 2
    assert len({tuple(kept(tmp_path, recorded, cap=2, seed=seed)) for seed in range(8)}) > 1


def test_episodes_with_an_invalid_action_can_be_left_out(tmp_path: Path) -> None:
    recorded = [episode(1, 0, "ab"), episode(2, 0, "cd", valid=False)]
    assert sorted(kept(tmp_path, recorded)) == ["ab", "cd"]
    assert kept(tmp_path, recorded, drop_invalid=True) == ["ab"]


def test_rollouts_go_round_the_tasks_and_on_from_iteration_to_iteration(tmp_path: Path) -> None:
    method = rft(tmp_path / "run", "none", budget=52, iterations=2)
    with RunDir.open(tmp_path / "run", "rft", method.config) as method.run:
        found = [
            Counter({start.task.name: count for start, count in method.starts(number, method._plan(number).rollouts)})
            for number in (1, 2)
        ]
    assert [sum(counts.values()) for counts in found] == [26, 26]
    assert set((found[0] + found[1]).values()) == {2, 3}  # 52 rollouts over 20 tasks, as even as can be
    assert max(found[0].values()) == 2


# -- the whole loop ---------------------------------------------------------------------------------------------------


def test_rft_makes_a_model_better_on_held_out_tasks(tmp_path: Path) -> None:
    """Three fixed seeds, no experts: from the agent's own chance successes to mastery or well on the way."""
    before, after = [], []
    for seed in range(3):
        fresh = lamps.tiny(tmp_path / f"tiny-{seed}", seed)
        rft(tmp_path / f"run-{seed}", fresh, seed=seed).train()
        found = rounds(tmp_path / f"run-{seed}")
        assert [each.evaluation.label for each in found] == ["start model", "iteration 1", "iteration 2"]
        before.append(found[0].evaluation.success.mean)
        after.append(found[-1].evaluation.success.mean)
    assert sum(after) / 3 > sum(before) / 3 + 0.2


def state(run: Path) -> dict[str, Any]:
    """All results of a run but the time they took."""
    found: dict[str, Any] = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if name.endswith("samples.jsonl.gz"):
            found[name] = path.read_bytes()
        if path.name in ("fit.json", "evaluation.json", "plan.json", "collected.json"):
            text = path.read_text().replace(str(run), "RUN")
            record = json.loads(text)
            record.pop("minutes", None)
            (record.get("report") or {}).pop("seconds", None)
            found[name] = record
    return found


KILLER = """
import json, os, signal, sys, time
sys.path.insert(0, sys.argv[1])
import lamps
import palaestra.agents.policies.hf, palaestra.trainers.cross_entropy
from palaestra.trainers.config import config_of
from palaestra.trainers.rft import RFT, RFTConfig
out, model, quick, moments = sys.argv[2], sys.argv[3], json.loads(sys.argv[4]), json.loads(sys.argv[5])
for moment in [*moments, None]:
    child = os.fork()
    if child == 0:
        RFT(config_of(RFTConfig, lamps.settings(model, **quick)), out, progress="quiet").train()
        os._exit(0)
    while moment is not None:
        try:
            lines = open(out + "/log.jsonl").read().count(chr(10))
        except FileNotFoundError:
            lines = 0
        if lines >= moment:
            time.sleep(0.02)
            os.kill(child, signal.SIGKILL)
            break
        time.sleep(0.002)
    killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    print("killed" if killed else "finished", flush=True)
"""
"""Trains again and again in children that it kills as soon as the log has so many lines; the last one may finish."""


def test_a_run_that_is_killed_again_and_again_ends_as_an_undisturbed_one(tmp_path: Path, model: Path) -> None:
    whole, run = tmp_path / "whole", tmp_path / "killed"
    rft(whole, model, **QUICK).train()
    # as the start model is measured, experts and rollouts are made, models are fitted, and measured
    moments = [
        1,
        *(next_event(whole, event, nth) for event, nth in (("collect", 1), ("fit", 1), ("evaluate", 2))),
        *(next_event(whole, event, nth) for event, nth in (("collect", 2), ("mined", 2), ("fitted", 2), ("fit", 3))),
    ]
    call = [sys.executable, "-c", KILLER, str(Path(lamps.__file__).parent), str(run), str(model)]
    done = subprocess.run(
        [*call, json.dumps(QUICK), json.dumps(moments)], check=True, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.split() == ["killed"] * len(moments) + ["finished"]
    assert state(run) == state(whole)
    with (
        EpisodeStore(run / "episodes.sqlite", mode="r") as one,
        EpisodeStore(whole / "episodes.sqlite", mode="r") as two,
    ):
        assert sorted(one.keys()) == sorted(two.keys())
        for key in list(one.keys()):
            first, second = one.get(episode_id(key)).turns, two.get(episode_id(key)).turns
            assert [without_logprobs(turn) for turn in first] == [without_logprobs(turn) for turn in second]
            for a, b in zip(first, second, strict=True):  # what else was in a batch changes the last digits
                if a.tokens is not None and b.tokens is not None:
                    assert a.tokens.logprobs == pytest.approx(b.tokens.logprobs, abs=1e-4)


def without_logprobs(turn: Turn) -> dict[str, Any]:
    return turn.model_dump(exclude={"tokens": {"logprobs"}})


def next_event(run: Path, event: str, nth: int) -> int:
    """Number of log lines up to the nth line of an event."""
    lines = [json.loads(line)["event"] for line in (run / "log.jsonl").read_text().splitlines()]
    return [number for number, name in enumerate(lines, 1) if name == event][nth - 1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    out = tmp_path_factory.mktemp("runs") / "rft"
    rft(out, model, **QUICK).train()
    return out


def test_going_on_in_a_finished_run_changes_nothing(finished: Path, model: Path) -> None:
    before = state(finished)
    rft(finished, model, **QUICK).train()
    assert state(finished) == before


def test_a_changed_configuration_is_refused_by_its_key(finished: Path, model: Path) -> None:
    with pytest.raises(BadInput, match=r"objective\.epochs=2, now it is 3"):
        rft(finished, model, **{**QUICK, "objective": {**QUICK["objective"], "epochs": 3}}).train()
    with pytest.raises(BadInput, match="raise 'iterations' as well"):
        rft(finished, model, **{**QUICK, "budget": 60}).train()
    assert read_run(finished)["config"]["budget"] == 40


def test_more_budget_and_iterations_go_on_from_where_the_run_ended(tmp_path: Path, model: Path, finished: Path) -> None:
    rft(tmp_path / "run", model, **{**QUICK, "budget": 20, "iterations": 1}).train()
    first = state(tmp_path / "run")
    rft(tmp_path / "run", model, **QUICK).train()
    grown = state(tmp_path / "run")
    assert {name: grown[name] for name in first} == first
    assert grown["iteration-2/plan.json"] == {"rollouts": 20, "before": 20}


def test_only_training_tasks_and_wins_are_learnt_and_the_experts_are_marked(finished: Path, model: Path) -> None:
    with EpisodeStore(finished / "episodes.sqlite", mode="r") as store:
        held_out = list(store.heads(split="test"))
        assert len(held_out) >= 6
        for number in range(3):
            with RunDir.open(finished, "rft", config_of(RFTConfig, lamps.settings(model, **QUICK))) as run:
                samples = run.load_samples(f"iteration-{number}/samples.jsonl.gz")
            assert samples
            assert {sample.split for sample in samples} == {"train"}
            for sample in samples:
                assert all(store.get(id).success for id in sample.episodes)
            experts = [sample for sample in samples if sample.kind == "expert"]
            assert experts
            assert all(store.get(sample.episodes[0]).provenance.actor is Actor.EXPERT for sample in experts)
        # flawed experts: their failures are stored, and not learnt
        assert any(not head.success for head in store.heads(actor="expert", split="train"))


def test_the_report_says_before_and_after_and_stands_alone(finished: Path) -> None:
    text, page = (finished / "report.md").read_text(), (finished / "report.html").read_text()
    for label in ("start model", "cloned experts", "iteration 1", "iteration 2"):
        assert label in text
        assert label in page
    first = rounds(finished)[-1].evaluation
    assert first.success.text(percent=True) in text
    assert f"| env fingerprint | {first.card.env_fingerprint} |" in text
    assert "on the same 6 tasks" in text
    for figure in ("Success", "Score", "Episodes", "Faults", "Tokens trained", "Loss, experts", "Loss, iteration 2"):
        assert f"<b>{figure}</b>" in page
    for outside in ("http://", "https://", "<script", "<link", "@import"):
        assert outside not in page.replace("http://www.w3.org", "")


def test_other_folders_and_a_configuration_without_some_keys_do_not_stop_a_report(
    tmp_path: Path, finished: Path
) -> None:
    import shutil

    shutil.copytree(finished, tmp_path / "run")
    for name in ("iteration-2-old", "iteration-best"):
        shutil.copytree(finished / "iteration-2", tmp_path / "run" / name)
    record = json.loads((finished / "run.json").read_text())
    (tmp_path / "run/run.json").write_text(json.dumps({**record, "config": {}}))
    write_report(tmp_path / "run")
    assert [each.number for each in rounds(tmp_path / "run")] == [-1, 0, 1, 2]
    assert "RFT on an unknown environment" in (tmp_path / "run/report.md").read_text()


def test_a_damaged_result_is_named(tmp_path: Path, finished: Path) -> None:
    import shutil

    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run/iteration-1/fit.json").write_text("{")
    with pytest.raises(BadInput, match=r"iteration-1/fit\.json cannot be read .*delete it"):
        write_report(tmp_path / "run")


def test_experts_can_be_recorded_episodes_but_never_of_held_out_tasks(tmp_path: Path, model: Path) -> None:
    tasks = {split: find("toy/Lamps-v0").split(split) for split in ("train", "test")}

    def recorded(task: Task, number: int) -> Episode:
        turns = (Turn(observation="The lamp is red.", completion="press red", action="press red", score=1.0),)
        by = Provenance(actor=Actor.EXPERT, policy="person")
        return Episode(
            id=f"{number:016x}", start=Start(task=task), turns=turns, outcome=Outcome.SUCCESS, score=1.0, provenance=by
        )

    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    write_episodes([recorded(task, n) for n, task in enumerate(tasks["train"][:4])], good)
    write_episodes([recorded(tasks["test"][0], 9)], bad)
    quick = {**QUICK, "budget": 8, "iterations": 1, "evaluation": {"tasks": 2}}
    rft(tmp_path / "run", model, **{**quick, "experts": {"file": str(good), "replay": False}}).train()
    cloned = rounds(tmp_path / "run")[1]
    assert cloned.evaluation.label == "cloned experts"
    assert cloned.fitted is not None
    assert cloned.fitted.samples == 4
    with pytest.raises(BadInput, match="is of split 'test' and may not be trained on"):
        rft(tmp_path / "other", model, **{**quick, "experts": {"file": str(bad), "replay": False}}).train()
    claimed = tasks["test"][0].model_copy(
        update={"split": "train"}
    )  # a held-out task that the file calls a training one
    write_episodes([recorded(claimed, 9)], bad)
    with pytest.raises(BadInput, match=r"of task 'two/20' .* not among this run's training tasks"):
        rft(tmp_path / "other2", model, **{**quick, "experts": {"file": str(bad), "replay": False}}).train()
    with pytest.raises(BadInput, match="does not exist"):
        rft(tmp_path / "third", model, **{**quick, "experts": {"file": str(tmp_path / "none.jsonl")}}).train()


def test_recorded_chats_are_read_in_the_style_of_the_run_and_need_a_reward(tmp_path: Path) -> None:
    name, split = "two/0", "train"
    chat = {
        "task": {"env": "toy/Lamps-v0", "name": name, "split": split},
        "reward": 1.0,
        "conversations": [
            {"from": "human", "value": "Press the button of the lamp's colour."},
            {"from": "gpt", "value": "OK"},
            {"from": "human", "value": "The lamp is red."},
            {"from": "gpt", "value": "press red"},
        ],
    }
    file = tmp_path / "chats.jsonl"
    file.write_text(json.dumps(chat))

    def gathered(store: EpisodeStore, score: float | None = None) -> list[str]:
        method = rft(tmp_path / "run", "none", experts={"file": str(file)})
        return gather(
            Experts(file=str(file), score=score, replay=False),
            method.spec,
            method.tasks,
            store,
            env=method.env,
            splits=method.splits,
            env_settings={},
            conversation=method.config.conversation,
            sampling=method.config.sampling,
            recipe="rft",
            seed=0,
            concurrency=1,
            progress="quiet",
        )

    with EpisodeStore(tmp_path / "episodes.sqlite") as store:
        (found,) = gathered(store)
        assert [(turn.action, turn.valid) for turn in store.get(found).turns] == [("press red", True)]
        unrewarded = {key: value for key, value in chat.items() if key != "reward"}
        file.write_text(f"{json.dumps(chat)}\n{json.dumps(unrewarded)}\n")
        assert len(gathered(store)) == 1
        assert store.get(gathered(store, score=1.0)[1]).success
        file.write_text(json.dumps(unrewarded))
        with pytest.raises(BadInput, match="line 1: holds neither 'reward' nor 'score'; give it one"):
            gathered(store)
        thinking = {"from": "gpt", "value": "Thought: it is red\nAction: press red"}
        file.write_text(json.dumps({**chat, "conversations": [*chat["conversations"][:3], thinking]}))
        with pytest.raises(BadInput, match=r"line 1: every answer is a thought and an action; read it with .*react"):
            gathered(store)


def test_weights_can_be_shared_out_among_tasks(tmp_path: Path, model: Path) -> None:
    method = rft(tmp_path / "run", model, task_weight="inverse", per_task=None)
    method.collected = lambda number: type("", (), {"episodes": [e.id for e in recorded]})()  # type: ignore
    recorded = [episode(1, 0, "ab"), episode(2, 0, "ba"), episode(3, 1, "ab")]
    with EpisodeStore(tmp_path / "episodes.sqlite") as method.store:
        method.store.add_all(recorded)
        assert isinstance(method.store.path(recorded[0].id), EpisodePath)
        weights = {sample.episodes[0]: max(sample.weights) for sample in method.mine(1)}
    assert weights == {recorded[0].id: 0.5, recorded[1].id: 0.5, recorded[2].id: 1.0}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"budgett": 3}, "unknown configuration key 'budgett'"),
        ({"budget": -1}, "key 'budget'"),
        ({"budget": 0}, "a 'budget' of 0 only clones experts"),
        ({"budget": None}, "give 'budget'"),
        ({"experts": {"oracle": "solve", "file": "x"}}, "give one of them"),
        ({"evaluation": {"split": "train"}}, "never happens on training tasks"),
        ({"env": "toy/Lampen-v0"}, "unknown environment"),
        ({"tasks": ["two/30"]}, "has no task 'two/30'"),
        ({"experts": {"oracle": "sage"}}, "no oracle 'sage'"),
        ({"conversation": {"style": "react"}}, "'constrain' writes .* needs conversation.style 'action', not 'react'"),
        ({"objective": {"kind": "hinge"}}, "unknown objective 'hinge'"),
        ({"objective": {"epoch": 3}}, "objective cross_entropy, key 'epoch'"),
        ({"experts": {"file": "/nowhere.jsonl"}}, "does not exist"),
        ({"model": "/nowhere/model"}, "unknown model"),
    ],
)
def test_bad_configurations_are_told_before_anything_is_written(
    tmp_path: Path, model: Path, more: dict[str, Any], says: str
) -> None:
    with pytest.raises(BadInput, match=says):
        rft(tmp_path / "run", **{"model": model, **more}).train()
    assert not (tmp_path / "run").exists()
