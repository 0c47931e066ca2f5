"""The recorded GPT-4o episodes of airline: replaying reproduces them, and they are experts that can be forked.

Every tenth here; all 200: python -m palaestra.envs.taubench.recorded
"""

from __future__ import annotations

import json
from collections import Counter

import pytest

from palaestra.agents.chat_files import read_conversations
from palaestra.agents.collect import collect
from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import Outcome
from palaestra.agents.policies.oracle import OraclePolicy
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, ReplayDiverged, make
from palaestra.envs.taubench import data, recorded

TEXT = Conversation(style="text")


@pytest.fixture(scope="module")
def recordings():
    return recorded.read()


@pytest.fixture(scope="module")
def current(recordings):
    """All of them, replayed in today's databases."""
    env = make("tauairline", user="scripted")
    return [recorded.replay(env, each) for each in recordings]


@pytest.fixture(scope="module")
def experts(tmp_path_factory):
    """An expert file of the training half."""
    file = tmp_path_factory.mktemp("experts") / "experts.jsonl"
    assert recorded.write(file, "halves", ["train"]) == 100
    return file


def test_there_are_200_episodes_four_of_each_task_with_mean_reward_0_42(recordings):
    assert Counter(each.number for each in recordings) == dict.fromkeys(range(50), 4)
    assert sum(each.reward for each in recordings) / 200 == 0.42


def test_replaying_gives_every_tool_output_every_reward_and_every_database(recordings):
    env = make("tauairline", user="scripted", release="recorded")
    chosen = recordings[::10]
    replays = [recorded.replay(env, each) for each in chosen]
    outputs = sum(tool is not None for each in chosen for tool in each.tools)
    assert outputs > 90
    assert sum(played.same for played in replays) == outputs
    assert [played.other for played in replays] == [[]] * len(replays)
    assert [played.score for played in replays] == [each.reward for each in chosen]
    stated = [each for each in replays if each.recording.truth][:3]
    found = recorded.report(stated, env.domain)
    assert (found.hashes, found.hashes_same, found.unexplained) == (3, 3, [])


def test_in_todays_databases_outputs_differ_by_one_renamed_key_and_rewards_not_at_all(current):
    assert sum(played.renamed for played in current) == 120
    assert sum(played.same for played in current) == 1_164 - 120
    assert [played.other for played in current] == [[]] * 200
    assert [played.score for played in current] == [played.recording.reward for played in current]


def test_a_difference_is_reported_with_task_step_and_both_texts(recordings):
    first = recordings[0]
    seen = list(first.observations)
    step = next(step for step, tool in enumerate(first.tools) if tool == "calculate")
    seen[step] = "17"
    env = make("tauairline", user="scripted", release="recorded")
    changed = recorded.Recording(**{**vars(first), "observations": tuple(seen), "reward": 1.0, "truth": None})
    found = recorded.report([recorded.replay(env, changed)], env.domain)
    text = "\n".join(found.lines())
    assert f"task 0, trial {first.trial}, step {step}: '17' then, '255.0' now" in text
    assert f"task 0, trial {first.trial}: reward 1.0 then, 0.0 now" in text
    assert "unexplained: 2" in text


def test_words_beside_a_call_are_kept_and_not_told_to_the_user(recordings):
    both = [action for each in recordings for action in each.actions if "\n<tool_call>" in action]
    assert len(both) == 90
    each = next(each for each in recordings if any("\n<tool_call>" in action for action in each.actions))
    env = make("tauairline", user="scripted", release="recorded")
    recorded.replay(env, each)
    words = next(action for action in each.actions if "\n<tool_call>" in action).split("\n<tool_call>")[0]
    assert all(line.by_user or line.text != words for line in env.state.lines)


def test_the_expert_file_is_read_as_expert_episodes_with_failures(experts):
    episodes = list(read_conversations(experts, env="palaestra/TauAirline-v0", conversation=TEXT, score=None))
    outcomes = Counter(episode.outcome for episode in episodes)
    assert set(outcomes) == {Outcome.SUCCESS, Outcome.FAILURE}
    assert sum(outcomes.values()) == 100
    assert {episode.start.task.split for episode in episodes} == {"train"}
    allowed = {task.id for task in make("tauairline", protocol="halves").tasks("train")}
    assert {episode.start.task.id for episode in episodes} == allowed


def test_forks_of_recorded_episodes_go_on_with_this_environments_user(experts, tmp_path):
    episodes = list(read_conversations(experts, env="palaestra/TauAirline-v0", conversation=TEXT))[:8]
    with EpisodeStore(tmp_path / "store.sqlite") as store:
        store.add_all(episodes)
        forks = [episode.fork(step) for episode in episodes for step in range(1, len(episode.turns), 3)]
        report = collect(
            forks,
            OraclePolicy("tauairline"),
            store,
            conversation=TEXT,
            env_settings={"protocol": "halves", "user": "scripted"},
            progress="quiet",
        )
        assert (report.episodes, report.faults) == (len(forks), 0)
        assert report.successes > 0


def test_replaying_recorded_observations_still_compares_what_tools_answer(experts):
    row = json.loads(experts.read_text(encoding="utf-8").splitlines()[0])
    texts = [message["content"] for message in row["messages"][1:]]
    observations, actions = texts[::2], texts[1::2]
    env = make("tauairline", protocol="halves", user="scripted")
    task = env.tasks("train")[0]
    assert env.replay(task, actions[:4], observations[:5])[0] == observations[4]
    step = next(step for step, action in enumerate(actions) if action.startswith("{"))
    wrong = [*observations[: step + 1], "[]"]
    with pytest.raises(ReplayDiverged):
        make("tauairline", protocol="halves", user="scripted").replay(task, actions[: step + 1], wrong)


def test_the_command_prints_what_it_found_and_writes_the_file(tmp_path, capsys, monkeypatch):
    few = recorded.read()[:3]
    monkeypatch.setattr(recorded, "read", lambda: few)
    assert recorded.main(["--out", str(tmp_path / "all.jsonl")]) == 0
    said = capsys.readouterr().out
    assert "(100.00%)" in said
    assert "3 expert episodes are in" in said
    assert recorded.main(["--out", str(tmp_path), "--split", "train"]) == 2
    assert "no split 'train'" in capsys.readouterr().out


def test_recordings_that_cannot_be_read_are_one_clear_line(tmp_path, monkeypatch):
    folder = tmp_path / data.NAME
    folder.mkdir()
    monkeypatch.setenv("PALAESTRA_DATA", str(tmp_path))
    monkeypatch.setenv("PALAESTRA_CACHE", str(tmp_path / "cache"))
    with pytest.raises(BadInput, match="palaestra data get tau_bench"):
        recorded.read()
    (folder / data.RECORDINGS).write_text('[{"traj": [{"role": "system"}, {"role": "user", "content": "a"}]}]')
    with pytest.raises(BadInput, match=r"episode 0: .*palaestra data get tau_bench"):
        recorded.read()
