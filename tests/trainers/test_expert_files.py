"""Files of recorded experts: what cannot be used is counted, listed and left out, and the rest is used. Seconds."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Literal

import lamps
import pytest

from palaestra.agents.collect import collect, planned_keys
from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import Episode, Start, episode_id
from palaestra.agents.export import write_episodes
from palaestra.agents.policies.hf import HFPolicy
from palaestra.agents.policies.oracle import OraclePolicy, flawed
from palaestra.agents.store import EpisodeStore
from palaestra.agents.tiny import env_texts, make_tiny
from palaestra.envs import BadInput, find
from palaestra.trainers.config import config_of
from palaestra.trainers.phases import Collected
from palaestra.trainers.rft import RFT, RFTConfig
from palaestra.trainers.rundir import read_record
from palaestra.trainers.sample import Sample


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lamps.tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[Episode]:
    """Six episodes of the lamps by a flawed oracle: both outcomes."""
    spec = find("toy/Lamps-v0")
    with EpisodeStore(tmp_path_factory.mktemp("store") / "episodes.sqlite") as store:
        collect(spec.split("train")[:6], flawed(OraclePolicy(spec, None), 0.4), store, progress="quiet")
        found = [store.get(head.id) for head in store.heads()]
    assert len({episode.success for episode in found}) == 2
    return found


def lines(file: Path, episodes: list[Episode]) -> Iterator[dict[str, Any]]:
    write_episodes(episodes, file)
    for line in file.read_text().splitlines():
        record = json.loads(line)
        record.pop("exact", None)
        yield record


def trained(out: Path, model: Path, file: Path, **more: Any) -> RFT:
    settings = lamps.settings(
        model, experts={"file": str(file), **more}, budget=0, evaluation={"tasks": 1}, objective={"epochs": 1}
    )
    run = RFT(config_of(RFTConfig, settings), out, progress="quiet")
    run.train()
    return run


def used(run: Path) -> int:
    return len(read_record(run / "iteration-0/collected.json", Collected).episodes)


def problems(run: Path) -> list[str]:
    text = (run / "iteration-0/left-out.jsonl").read_text()
    return [json.loads(line)["problem"] for line in text.splitlines()]


def test_what_replays_is_used_whole(tmp_path: Path, model: Path, recorded: list[Episode]) -> None:
    write_episodes(recorded, tmp_path / "experts.jsonl")
    trained(tmp_path / "run", model, tmp_path / "experts.jsonl")
    assert used(tmp_path / "run") == 6
    assert not (tmp_path / "run/iteration-0/left-out.jsonl").exists()


def test_bad_records_are_counted_listed_and_left_out(tmp_path: Path, model: Path, recorded: list[Episode]) -> None:
    """Six records: an unknown task, a malformed turn, an observation that is not so, an outcome that is not so, no JSON
    at all, and one that is as it was."""
    file = tmp_path / "experts.jsonl"
    records = list(lines(file, recorded))
    records[0]["start"]["task"]["name"] = "two/99"
    del records[1]["turns"][0]["observation"]
    records[2]["turns"][1]["observation"] = "The lamp is pink."
    won = recorded[3].success
    records[3]["outcome"] = "failure" if won else "success"
    texts = [json.dumps(record) for record in records]
    texts[4] = texts[4][:50]
    file.write_text("\n".join(texts))
    trained(tmp_path / "run", model, file)
    assert used(tmp_path / "run") == 1
    found = problems(tmp_path / "run")
    assert len(found) == 5
    for part in (
        "line 2: not an episode (turns.0.observation",
        "line 5: not JSON",
        "of task 'two/99'",
        "at turn 2 the environment says 'The lamp is ",
        f"it says that the task is {'not solved' if won else 'solved'}",
    ):
        assert sum(part in problem for problem in found) == 1, part
    events = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [event["records"] for event in events if event["event"] == "left out"] == [5]


@pytest.mark.parametrize(
    "bad", ['{"id": "a"}', '{"messages": [{"role": "user", "content": "x"}], "task": "two/0"}', "[]"]
)
def test_what_a_file_holds_is_not_told_by_a_malformed_first_record(
    tmp_path: Path, model: Path, recorded: list[Episode], bad: str
) -> None:
    file = tmp_path / "experts.jsonl"
    file.write_text("\n".join([bad, *map(json.dumps, lines(file, recorded))]))
    trained(tmp_path / "run", model, file)
    assert used(tmp_path / "run") == 6
    (problem,) = problems(tmp_path / "run")
    assert re.search("line 1: (not an episode|a JSON object is expected)", problem)


def test_an_episode_that_claims_a_higher_score_than_it_had_is_left_out(
    tmp_path: Path, model: Path, recorded: list[Episode]
) -> None:
    """A lost one that would pass RFT's `threshold`."""
    file = tmp_path / "experts.jsonl"
    records = list(lines(file, recorded))
    lost = next(place for place, episode in enumerate(recorded) if not episode.success)
    records[lost]["score"] = 0.99
    file.write_text("\n".join(json.dumps(record) for record in records))
    trained(tmp_path / "run", model, file)
    assert used(tmp_path / "run") == 5
    (problem,) = problems(tmp_path / "run")
    assert f"it says that it is worth 0.99, and the environment {recorded[lost].score:.3g}" in problem


class Reads(BaseHTTPRequestHandler):
    """A chat model that reads the lamp, and takes green for blue."""

    asked: ClassVar[list[dict[str, Any]]] = []

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def send(self, body: object) -> None:
        raw = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def do_GET(self) -> None:
        self.send({"data": [{"id": "reader"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        seen = next(colour for colour in lamps.COLOURS if f"is {colour}" in body["messages"][-1]["content"])
        said = f"press {'blue' if seen == 'green' else seen}"
        self.send({"choices": [{"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}]})


@pytest.fixture
def reader() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Reads)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"openai:reader@http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_model_behind_a_server_is_an_expert_whose_failures_are_kept(tmp_path: Path, model: Path, reader: str) -> None:
    """It wins where no lamp is green; what it won is cloned, and its temperature is its own."""
    whole = lamps.settings(model, experts={"policy": reader, "tasks": 12, "temperature": 0.25}, budget=0)
    config = config_of(RFTConfig, {**whole, "objective": {"epochs": 1}, "evaluation": {"tasks": 2}})
    Reads.asked.clear()
    RFT(config, tmp_path / "run", progress="quiet").train()
    found = read_record(tmp_path / "run/iteration-0/collected.json", Collected).episodes
    with EpisodeStore(tmp_path / "run/episodes.sqlite", mode="r") as store:
        made = [store.get(id) for id in found]
    greens = ["is green" in "".join(turn.observation for turn in episode.turns) for episode in made]
    assert [episode.success for episode in made] == [not green for green in greens]
    assert {True, False} == set(greens)
    assert len(made) == 12
    assert {episode.provenance.policy for episode in made} == {"reader"}
    assert {(body["temperature"], body["max_tokens"]) for body in Reads.asked} == {(0.25, 12)}
    with gzip.open(tmp_path / "run/iteration-0/samples.jsonl.gz", "rt") as samples:
        cloned = {id for line in samples for id in json.loads(line)["episodes"]}
    assert cloned == {episode.id for episode in made if episode.success}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"policy": "openai:m@http://127.0.0.1:9/v1"}, "cannot be reached"),
        ({"policy": "oracle:nobody"}, "nobody"),
        ({"policy": "random", "slip": 0.5}, "'slip' is of an oracle"),
        ({"oracle": "solve", "temperature": 1.0}, "'temperature' is of a 'policy'"),
        ({"oracle": "solve", "policy": "random"}, "give one of them"),
    ],
)
def test_a_policy_that_is_no_expert_is_refused_before_anything_is_made(
    tmp_path: Path, model: Path, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(BadInput, match=says):
        RFT(config_of(RFTConfig, lamps.settings(model, experts=given)), tmp_path / "run", progress="quiet").train()
    assert not (tmp_path / "run").exists()


def test_a_fork_of_another_tasks_episode_is_left_out(tmp_path: Path, model: Path, recorded: list[Episode]) -> None:
    """Its path would begin in one task and end in another."""
    file = tmp_path / "experts.jsonl"
    records = list(lines(file, recorded))
    fork = json.loads(json.dumps(records[1]))
    fork.update(
        id="0" * 16, start={**fork["start"], "parent": records[0]["id"], "fork_step": 1}, turns=fork["turns"][1:]
    )
    file.write_text("\n".join(json.dumps(record) for record in [*records, fork]))
    trained(tmp_path / "run", model, file)
    assert used(tmp_path / "run") == 6
    (problem,) = problems(tmp_path / "run")
    assert f"is a fork of {records[0]['id']}, an episode of another task" in problem


def forked(record: dict[str, Any], parent: str, step: int, id: str) -> dict[str, Any]:
    """The rest of a record, as a fork of `parent` at one of its steps."""
    fork: dict[str, Any] = json.loads(json.dumps(record))
    fork.update(id=id, start={**fork["start"], "parent": parent, "fork_step": step}, turns=fork["turns"][step:])
    return fork


@pytest.mark.parametrize("replay", [True, False])
def test_a_fork_whose_parent_is_not_in_the_file_is_left_out(
    tmp_path: Path, model: Path, recorded: list[Episode], replay: bool
) -> None:
    """And what forks it; and one that begins behind its parent's end."""
    file = tmp_path / "experts.jsonl"
    records = list(lines(file, recorded))
    orphan = forked(records[0], "f" * 16, 1, "0" * 16)
    its_own = forked(records[0], "0" * 16, 1, "1" * 16)
    length = len(records[0]["turns"])
    late = forked(records[0], records[0]["id"], length + 1, "2" * 16)
    file.write_text("\n".join(json.dumps(record) for record in [*records, orphan, its_own, late]))
    trained(tmp_path / "run", model, file, replay=replay)
    assert used(tmp_path / "run") == 6
    found = problems(tmp_path / "run")
    assert len(found) == 3
    for part in (
        f"is a fork of {'f' * 16}, which is not in the file",
        f"is a fork of {'0' * 16}, which is not in the file or was left out",
        f"is a fork of {records[0]['id']} at step {length + 1}, which ends at step {length}",
    ):
        assert sum(part in problem for problem in found) == 1, part


@pytest.mark.parametrize("replay", [True, False])
def test_a_fork_may_stand_before_its_parent(tmp_path: Path, model: Path, recorded: list[Episode], replay: bool) -> None:
    file = tmp_path / "experts.jsonl"
    records = list(lines(file, recorded))
    forks = [forked(record, record["id"], 1, f"{place}" * 16) for place, record in enumerate(records[:2])]
    deeper = forked(records[0], forks[0]["id"], 1, "9" * 16)
    file.write_text("\n".join(json.dumps(record) for record in [deeper, *forks, *records]))
    trained(tmp_path / "run", model, file, replay=replay)
    assert used(tmp_path / "run") == 9
    assert not (tmp_path / "run/iteration-0/left-out.jsonl").exists()


def test_another_episode_under_an_id_that_was_read_before_is_left_out(
    tmp_path: Path, model: Path, recorded: list[Episode]
) -> None:
    """Else what forks the first would go on from the second, or two would fork one another without end."""
    file = tmp_path / "experts.jsonl"
    records = list(lines(file, recorded))
    fork = forked(records[0], records[0]["id"], 1, "0" * 16)
    circle = forked(records[0], fork["id"], 1, records[0]["id"])
    after = {**forked(records[0], records[0]["id"], 1, "1" * 16), "sample": 1}
    file.write_text("\n".join(json.dumps(record) for record in [*records, fork, circle, after]))
    trained(tmp_path / "run", model, file)
    assert used(tmp_path / "run") == 8
    (problem,) = problems(tmp_path / "run")
    assert f"episode {records[0]['id']} has the id of another episode of the file" in problem


@pytest.mark.parametrize(
    ("written", "read", "learnt"),
    [
        ("react", "action", "press red"),
        ("action", "react", "Thought: I take the next step.\nAction: press red"),
    ],
)
def test_what_was_written_in_another_style_is_learnt_in_the_runs_own(
    tmp_path: Path, written: Literal["react", "action"], read: str, learnt: str
) -> None:
    """An oracle's episodes of one style, cloned by a run of the other: the thought is left out, or put in."""
    spec, file = find("toy/Lamps-v0"), tmp_path / "experts.jsonl"
    tasks = spec.split("train")[:3]
    with EpisodeStore(":memory:") as store:
        collect(tasks, OraclePolicy(spec), store, conversation=Conversation(style=written), progress="quiet")
        write_episodes(store.episodes(), file)
    model = make_tiny(env_texts("toy/Lamps-v0", episodes=20), tmp_path / "model", vocab=400, context=512, seed=0)
    settings = lamps.settings(
        model,
        tasks=[task.name for task in tasks],
        experts={"file": str(file)},
        budget=0,
        constrain=False,
        conversation={"style": read},
        evaluation={"tasks": 1},
        objective={"epochs": 1},
    )
    run = RFT(config_of(RFTConfig, settings), tmp_path / "run", progress="quiet")
    run.train()
    with gzip.open(tmp_path / "run/iteration-0/samples.jsonl.gz", "rt") as samples:
        found = [Sample.model_validate_json(line) for line in samples]
    decode = HFPolicy(model).template.decode
    said = [decode([id for id, w in zip(s.ids, s.weights, strict=True) if w]) for s in found]
    assert len(said) == 3
    assert any(text.startswith(learnt) for text in said)
    assert all(text.startswith("press ") == (read == "action") for text in said)


def test_a_fork_may_begin_before_its_parent_does(tmp_path: Path, model: Path) -> None:
    """The parent is itself a fork, at step 1; a fork of it at step 0 begins with nothing done."""
    spec, file = find("toy/Lamps-v0"), tmp_path / "experts.jsonl"
    task, policy = spec.split("train")[0], OraclePolicy(spec)
    with EpisodeStore(":memory:") as store:

        def made(start: Start) -> Episode:
            (key,) = planned_keys([(start, 1)], policy)
            collect([start], policy, store, progress="quiet")
            return store.get(episode_id(key))

        root = made(Start(task=task))
        fork = made(root.fork(1))
        again = made(Start(task=task, parent=fork.id, fork_step=0))
        assert again.actions == root.actions != fork.actions
        write_episodes([root, fork, again], file)
    trained(tmp_path / "run", model, file)
    assert used(tmp_path / "run") == 3


def test_a_fault_is_listed_and_left_out(tmp_path: Path, model: Path, recorded: list[Episode]) -> None:
    file = tmp_path / "experts.jsonl"
    fault, *others = lines(file, recorded)
    fault.update(outcome="env_error")
    file.write_text("\n".join(json.dumps(record) for record in [fault, *others]))
    trained(tmp_path / "run", model, file)
    assert used(tmp_path / "run") == 5
    (problem,) = problems(tmp_path / "run")
    assert "ended in a fault (env_error), which says nothing of how its task is done" in problem
    file.write_text(json.dumps(fault))
    with pytest.raises(BadInput, match=r"ended in a fault \(env_error\)"):
        trained(tmp_path / "faults", model, file)
    assert not (tmp_path / "faults").exists()


def test_nothing_but_bad_records_is_an_error(tmp_path: Path, model: Path, recorded: list[Episode]) -> None:
    file = tmp_path / "experts.jsonl"
    records = list(lines(file, recorded))
    for record in records:
        record["turns"][0]["observation"] = "Darkness."
    file.write_text("\n".join(json.dumps(record) for record in records))
    with pytest.raises(BadInput, match=r"does not replay: at turn 1 .* not 'Darkness.' \(and 5 more records"):
        trained(tmp_path / "run", model, file)
    assert "evaluate" not in (tmp_path / "run/log.jsonl").read_text()  # the start model has not played yet
    assert used(trained(tmp_path / "other", model, file, replay=False).out) == 6
    file.write_text("")
    with pytest.raises(BadInput, match="holds no episodes"):
        trained(tmp_path / "third", model, file)
    assert not (tmp_path / "third").exists()
