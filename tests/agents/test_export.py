"""Episodes leave a store and come back without loss, and as the chat records that others read and write."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_cases import calm, episode, odd_episodes, task

from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import Actor, Episode, Outcome, TokenRecord
from palaestra.agents.export import (
    CHAT_FORMS,
    export_chats,
    export_episodes,
    import_conversations,
    import_episodes,
    read_episodes,
    write_episodes,
)
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, MissingExtra, Task, find

BOTH = pytest.mark.parametrize("name", ["episodes.jsonl", "episodes.parquet"])


@pytest.fixture
def store(tmp_path: Path) -> EpisodeStore:
    """An expert's failure, a fork of it that wins, and a fork of the fork."""
    store = EpisodeStore(tmp_path / "s.sqlite")
    expert = episode(task(), actor="expert", n=4, says="e")
    won = episode(expert.fork(2), n=2, says="w", outcome=Outcome.SUCCESS, score=1.0)
    store.add_all([expert, won, episode(won.fork(3), n=1, says="x", score=0.5), episode(task("t", split="test"), n=2)])
    store.add(episode(sample=7, outcome=Outcome.ENV_ERROR, error="Traceback"))
    return store


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# -- lossless ----------------------------------------------------------------------------------------------------------


@settings(calm, max_examples=40)
@given(odd=st.lists(odd_episodes(), max_size=3))
@BOTH
def test_files_give_back_equal_episodes_however_odd(
    tmp_path_factory: pytest.TempPathFactory, name: str, odd: list[Episode]
) -> None:
    path = tmp_path_factory.getbasetemp() / f"odd-{name}"
    assert write_episodes(odd, path) == len(odd)
    assert list(read_episodes(path)) == odd


@BOTH
def test_a_store_comes_back_whole_from_a_file_and_importing_again_adds_nothing(
    store: EpisodeStore, tmp_path: Path, name: str
) -> None:
    assert export_episodes(store, tmp_path / name) == 4
    with EpisodeStore(tmp_path / "back.sqlite") as back:
        assert import_episodes(back, tmp_path / name) == 4
        assert import_episodes(back, tmp_path / name) == 0
        assert list(back.episodes()) == list(store.episodes())
        assert list(back.paths()) == list(store.paths())


@BOTH
def test_forks_bring_their_ancestors_so_that_the_file_stands_alone(
    store: EpisodeStore, tmp_path: Path, name: str
) -> None:
    assert export_episodes(store, tmp_path / name, min_score=0.5) == 3
    with EpisodeStore(tmp_path / "back.sqlite") as back:
        assert import_episodes(back, tmp_path / name) == 3
    assert [each.score for each in read_episodes(tmp_path / name)] == [0.0, 1.0, 0.5]


def test_parquet_is_read_by_datasets_with_nested_turns(store: EpisodeStore, tmp_path: Path) -> None:
    import datasets

    tokens = TokenRecord(context=(1, 2), completion=(3,), logprobs=(-0.5,), fresh=True)
    turn = episode(n=1).turns[0].model_copy(update={"tokens": tokens})
    store.add(episode(sample=3).model_copy(update={"turns": (turn,)}))
    export_episodes(store, tmp_path / "e.parquet")
    table = datasets.Dataset.from_parquet(str(tmp_path / "e.parquet"), cache_dir=str(tmp_path / "cache"))
    assert table["outcome"][:2] == ["failure", "success"]
    assert [turn["action"] for turn in table[1]["turns"]] == ["w2", "w3"]
    assert table[1]["parent"] == table[0]["id"]
    assert table[4]["turns"][0]["tokens"] == {"context": [1, 2], "completion": [3], "logprobs": [-0.5], "fresh": True}
    assert table["exact"][:] == [None] * 5


def test_a_row_that_parquet_can_not_hold_is_shown_and_kept_exactly(tmp_path: Path) -> None:
    import pyarrow.parquet

    odd = [episode(task("a\ud800b")), episode(), episode(Task(env="e", name="n", split="train", seed=2**90))]
    write_episodes(odd, tmp_path / "e.parquet")
    rows = pyarrow.parquet.read_table(tmp_path / "e.parquet").to_pylist()
    assert [row["exact"] is not None for row in rows] == [True, False, True]
    assert rows[0]["task"] == "a\ufffdb"
    assert list(read_episodes(tmp_path / "e.parquet")) == odd


def test_json_lines_are_utf8_that_anything_can_read(tmp_path: Path) -> None:
    write_episodes([episode(task("größe😀")), episode(task("\ud800"))], tmp_path / "e.jsonl")
    raw = (tmp_path / "e.jsonl").read_bytes()
    assert "größe😀" in raw.decode("utf-8")
    assert len(raw.splitlines()) == 2


def test_without_pyarrow_one_line_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'palaestra\[parquet\]'"):
        write_episodes([episode()], tmp_path / "e.parquet")
    assert write_episodes([episode()], tmp_path / "e.jsonl") == 1


# -- what is wrong with a file -----------------------------------------------------------------------------------------


def good_line() -> str:
    return json.dumps(episode().model_dump())


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"id": "x", ', r"line 3: not JSON \(.* at character"),
        ("[1, 2]", "line 3: a JSON object is expected, not list"),
        ("null", "line 3: a JSON object is expected, not NoneType"),
        ("{}", "line 3: not an episode .id: Field required"),
        (good_line().replace('"score": 0.0', '"score": 7'), "line 3: not an episode .*score: Input should be less"),
        (good_line().replace('"sample"', '"smaple"'), "line 3: not an episode .smaple: Extra inputs"),
        (json.dumps({**json.loads(good_line()), "exact": "AAAA"}), "line 3: its field 'exact' is damaged"),
        ("[" * 100_000, "line 3: JSON nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "line 3: not JSON that can be read"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_imported(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text(f"{good_line()}\n\n{line}\n{good_line()}\n")
    with EpisodeStore(tmp_path / "s.sqlite") as store:
        with pytest.raises(BadInput, match=why) as caught:
            import_episodes(store, path)
        assert store.count() == 0
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_damage_is_named_too(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path / "s.sqlite")
    cases: list[tuple[str, bytes, str]] = [
        ("a.jsonl", good_line().encode() + b"\n\xff\xfe\n", "line 2: not UTF-8"),
        ("b.parquet", b"PAR1 and no more", "not a whole Parquet file"),
        ("c.parquet", b"", "not a whole Parquet file"),
    ]
    for name, content, why in cases:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadInput, match=why):
            import_episodes(store, tmp_path / name)
    for name in ("none.jsonl", "none.parquet"):
        with pytest.raises(BadInput, match=r"cannot be read: .*No such file"):
            import_episodes(store, tmp_path / name)
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"x": [1]}), tmp_path / "d.parquet")
    with pytest.raises(BadInput, match="holds no episodes: it lacks the column 'id'"):
        import_episodes(store, tmp_path / "d.parquet")
    write_episodes([episode(), episode(sample=1)], tmp_path / "e.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "e.parquet")
    bad = table.set_column(table.column_names.index("outcome"), "outcome", [["failure", "lost"]])
    pyarrow.parquet.write_table(bad, tmp_path / "e.parquet")
    with pytest.raises(BadInput, match=r"row 2: not an episode .outcome: Input should be"):
        import_episodes(store, tmp_path / "e.parquet")
    assert store.count() == 0


def test_a_fork_without_its_parent_is_not_imported_nor_anything_with_it(tmp_path: Path) -> None:
    parent = episode()
    write_episodes([episode(sample=1), episode(parent.fork(1))], tmp_path / "e.jsonl")
    with EpisodeStore(tmp_path / "s.sqlite") as store:
        with pytest.raises(BadInput, match="neither stored nor among those added"):
            import_episodes(store, tmp_path / "e.jsonl")
        assert store.count() == 0


@BOTH
def test_an_export_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, name: str) -> None:
    write_episodes([episode()], tmp_path / name)

    def breaking() -> object:
        yield episode(sample=1)
        raise OSError(28, "No space left on device")

    with pytest.raises(BadInput, match="cannot be written: No space left on device"):
        write_episodes(breaking(), tmp_path / name)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == [name]
    assert list(read_episodes(tmp_path / name)) == [episode()]


# -- chat forms out ----------------------------------------------------------------------------------------------------

TOLD = "Solve it."


def export(store: EpisodeStore, path: Path, form: str, conversation: Conversation, **where: object) -> list[dict]:  # type: ignore[type-arg]
    export_chats(store, path, form=form, conversation=conversation, instructions=TOLD, **where)  # type: ignore[arg-type]
    return lines(path)


def test_messages_hold_the_whole_path_and_mark_what_came_before_the_fork(store: EpisodeStore, tmp_path: Path) -> None:
    (record,) = export(store, tmp_path / "m.jsonl", "messages", Conversation(), outcome="success")
    system, *rest = record["messages"]
    assert system["role"] == "system"
    assert system["content"].startswith(TOLD)
    assert rest == [
        {"role": "user", "content": "room 0"},
        {"role": "assistant", "content": "e0", "weight": 0},
        {"role": "user", "content": "room 1"},
        {"role": "assistant", "content": "e1", "weight": 0},
        {"role": "user", "content": "room 2"},
        {"role": "assistant", "content": "w2"},
        {"role": "user", "content": "room 3"},
        {"role": "assistant", "content": "w3"},
    ]
    assert (record["reward"], record["task"]["split"]) == (1.0, "train")


def test_eto_and_agentgym_forms_begin_with_instructions_and_ok(store: EpisodeStore, tmp_path: Path) -> None:
    (eto,) = export(store, tmp_path / "e.jsonl", "eto", Conversation(), outcome="success")
    assert [turn["from"] for turn in eto["conversations"]] == ["human", "gpt"] * 5
    assert eto["conversations"][1] == {"from": "gpt", "value": "OK"}
    assert eto["conversations"][-1] == {"from": "gpt", "value": "w3"}
    assert eto["reward"] == 1.0
    (gym,) = export(store, tmp_path / "g.jsonl", "agentgym", Conversation(), outcome="success")
    assert gym["item_id"] == "lab_boil/1"
    assert [turn["loss"] for turn in gym["conversations"]] == [None, False] * 3 + [None, True] * 2


def test_a_conversation_that_forgets_gives_a_record_for_each_transcript(store: EpisodeStore, tmp_path: Path) -> None:
    records = export(store, tmp_path / "m.jsonl", "messages", Conversation(window=1), task="t")
    assert len(records) == 1
    records = export(store, tmp_path / "m.jsonl", "messages", Conversation(window=1), actor="expert")
    said = [[m["content"] for m in record["messages"][1:]] for record in records]
    assert said == [
        ["room 0", "e0", "room 1", "e1"],
        ["room 1", "e1", "room 2", "e2"],
        ["room 2", "e2", "room 3", "e3"],
    ]
    trained = [[m["content"] for m in r["messages"] if m["role"] == "assistant" and "weight" not in m] for r in records]
    assert trained == [["e0", "e1"], ["e2"], ["e3"]], "each answer is trained once"


def test_faults_are_never_exported(store: EpisodeStore, tmp_path: Path) -> None:
    assert len(export(store, tmp_path / "m.jsonl", "messages", Conversation())) == store.count() == 4


def test_what_can_not_be_exported_says_why_before_anything_is_written(store: EpisodeStore, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="unknown chat form 'alpaca'; there are: messages, eto, agentgym"):
        export(store, tmp_path / "x.jsonl", "alpaca", Conversation())
    with pytest.raises(BadInput, match="do not hold the admissible actions"):
        export(store, tmp_path / "x.jsonl", "eto", Conversation(actions=5))
    with pytest.raises(BadInput, match="unknown environment 'mine/Lab-v0'"):
        export_chats(store, tmp_path / "x.jsonl", form="eto", conversation=Conversation())
    with pytest.raises(BadInput, match="no filter 'spilt'"):
        export(store, tmp_path / "x.jsonl", "eto", Conversation(), spilt="train")
    assert not (tmp_path / "x.jsonl").exists()


# -- chat forms in -----------------------------------------------------------------------------------------------------

ETO = {
    "id": "sciworld_12",
    "conversations": [
        {"from": "human", "value": "You are a helpful assistant. Thought: ... Action: ..."},
        {"from": "gpt", "value": "OK"},
        {"from": "human", "value": "Your task is to boil water."},
        {"from": "gpt", "value": "Thought: I look first.\nAction: look around"},
        {"from": "human", "value": "This room is called the kitchen."},
        {"from": "gpt", "value": "Thought:\nDone.\n\nAction:\nwait"},
    ],
}
GYM = {
    "item_id": "sciworld_13",
    "conversations": [
        {"from": "human", "loss": None, "value": "Instructions."},
        {"from": "gpt", "loss": False, "value": "OK. I'll follow your instructions and try my best to solve the task."},
        {"from": "human", "loss": None, "value": "Your task is to melt ice."},
        {"from": "gpt", "loss": True, "value": "I will not say which action."},
        {"from": "human", "loss": None, "value": "No known action matches that input."},
    ],
    "reward": 0.25,
}


def test_only_a_plain_ok_after_the_instructions_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "experts.json"
    answers = ["ok", "OK.", "Ok!", "ok, pull 2", "OK\nAction: wait"]
    for form, who, what, names in (
        ("conversations", "from", "value", ("human", "gpt")),
        ("messages", "role", "content", ("user", "assistant")),
    ):
        records = []
        for answer in answers:
            texts = ("Instructions.", answer, "You see a lever.", "pull 1")
            records.append({form: [{who: names[n % 2], what: text} for n, text in enumerate(texts)], "id": "12"})
        path.write_text(json.dumps(records))
        with EpisodeStore(tmp_path / f"{form}.sqlite") as store:
            import_conversations(store, path, naming=by_number, conversation=Conversation())
            kept = [len(episode.turns) for episode in store.episodes()]
        assert kept == ([1, 1, 1, 2, 2] if form == "conversations" else [2] * 5)


def by_number(record: dict[str, object]) -> Task:
    return task(str(record.get("id", record.get("item_id"))).removeprefix("sciworld_"))


@pytest.mark.parametrize("whole", [True, False], ids=["one array", "lines"])
def test_recorded_conversations_become_expert_episodes(tmp_path: Path, whole: bool) -> None:
    path = tmp_path / "experts.json"
    path.write_text(json.dumps([ETO, GYM, ETO]) if whole else "\n".join(map(json.dumps, [ETO, GYM, ETO])))
    with EpisodeStore(tmp_path / "s.sqlite") as store:
        assert import_conversations(store, path, naming=by_number) == 3
        assert import_conversations(store, path, naming=by_number) == 0, "the same file again adds nothing"
        eto, gym, again = store.episodes()
    assert [turn.observation for turn in eto.turns] == [
        "Your task is to boil water.",
        "This room is called the kitchen.",
    ]
    assert [(turn.action, turn.thought) for turn in eto.turns] == [("look around", "I look first."), ("wait", "Done.")]
    assert (eto.outcome, eto.score, eto.provenance.actor) == (Outcome.SUCCESS, 1.0, Actor.EXPERT)
    assert (eto.start.task, again.sample, again.turns) == (task("12"), 1, eto.turns)
    assert (gym.outcome, gym.score, gym.final_observation) == (
        Outcome.FAILURE,
        0.25,
        "No known action matches that input.",
    )
    assert [(turn.valid, turn.score) for turn in gym.turns] == [(False, 0.25)]
    assert gym.labels["record"] == "sciworld_13"


def test_two_files_of_the_same_tasks_are_both_kept(tmp_path: Path) -> None:
    with EpisodeStore(tmp_path / "s.sqlite") as store:
        for number, record in enumerate([ETO, {**ETO, "reward": 0.5}]):
            (tmp_path / f"{number}.jsonl").write_text(json.dumps(record))
            assert import_conversations(store, tmp_path / f"{number}.jsonl", naming=by_number, policy="gpt-4") == 1
        assert store.count(policy="gpt-4") == 2


@pytest.mark.parametrize("form", CHAT_FORMS)
def test_our_own_chat_files_come_back_with_their_tasks(store: EpisodeStore, tmp_path: Path, form: str) -> None:
    export(store, tmp_path / "c.jsonl", form, Conversation(), actor="expert")
    with EpisodeStore(tmp_path / "back.sqlite") as back:
        import_conversations(back, tmp_path / "c.jsonl", conversation=Conversation())
        (one,) = back.episodes()
    (expert,) = store.episodes(actor="expert")
    assert (one.start, one.actions, one.score, one.outcome) == (expert.start, expert.actions, 0.0, Outcome.FAILURE)
    assert [turn.observation for turn in one.turns] == [turn.observation for turn in expert.turns]


def test_a_task_name_is_looked_up_in_the_splits_of_its_environment(tmp_path: Path) -> None:
    spec = find("bandit")
    split = list(spec.splits)[-1]
    name = next(
        name for name in map(str, spec.splits[split]) if sum(name in map(str, n) for n in spec.splits.values()) == 1
    )
    path = tmp_path / "e.jsonl"
    path.write_text(json.dumps({**ETO, "task": name}))
    with EpisodeStore(tmp_path / "s.sqlite") as store:
        import_conversations(store, path, env="bandit")
        assert next(store.episodes()).start.task == Task(env=spec.id, name=name, split=split)
        with pytest.raises(BadInput, match="has no environment; pass env="):
            import_conversations(store, path)
        with pytest.raises(BadInput, match=r"line 1: task 'nope' of bandit is in none of its splits"):
            import_conversations(store, path, env="bandit", naming=lambda record: "nope")


Change = Callable[[dict[str, object]], dict[str, object]]
CHANGES: list[tuple[Change, str]] = [
    (lambda record: {**record, "conversations": None}, "holds no list 'conversations' or 'messages'"),
    (lambda record: {**record, "conversations": []}, "holds no answer of an agent"),
    (lambda record: {**record, "conversations": ETO["conversations"][:3]}, "holds no answer of an agent"),
    (
        lambda record: {**record, "conversations": [ETO["conversations"][2]] * 2},
        "observations and answers do not alternate",
    ),
    (lambda record: {**record, "conversations": [{"from": "tool", "value": ""}]}, "turn 1 needs 'from'"),
    (lambda record: {**record, "conversations": [{"from": "human"}]}, "turn 1 needs 'from'"),
    (lambda record: {**record, "reward": 70.2}, "its score is 70.2, a number from 0 to 1"),
    (lambda record: {**record, "reward": "high"}, "its score is 'high'"),
]


@pytest.mark.parametrize(("change", "why"), CHANGES, ids=[why for _, why in CHANGES])
def test_a_bad_record_is_named_and_nothing_is_imported(tmp_path: Path, change: Change, why: str) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text(f"{json.dumps(ETO)}\n{json.dumps(change(ETO))}\n")
    with EpisodeStore(tmp_path / "s.sqlite") as store:
        with pytest.raises(BadInput, match=f"line 2: {why}"):
            import_conversations(store, path, naming=by_number)
        with pytest.raises(BadInput, match="line 1: which task this is about is not said"):
            import_conversations(store, path)
        with pytest.raises(BadInput, match="line 1: holds neither 'reward' nor 'score'"):
            import_conversations(store, path, naming=by_number, score=None)
        assert store.count() == 0
