"""What the viewer's server answers, of runs that were really made, and whom it refuses."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made import HOSTILE_RUN
from odd_texts import HOSTILE, HUGE
from starlette.testclient import TestClient

from palaestra.agents.store import EpisodeStore
from palaestra.cli import run
from palaestra.envs import BadInput
from palaestra.viewer.paths import fault
from palaestra.viewer.runs import Runs
from palaestra.viewer.server import application, view
from palaestra.viewer.table import Shown

Ask = Callable[..., Any]


def test_the_runs_of_a_folder_are_found_with_what_they_are(ask: Ask) -> None:
    found = {run["name"]: run for run in ask("runs")["runs"]}
    assert set(found) == {"eef", "agent-r", "cmp", "cmp/eef-0", "cmp/rft-0", "code", "world", "odd", HOSTILE_RUN}
    assert found["cmp"]["comparison"] is True
    assert found["eef"]["recipe"] == "eef"
    assert found["eef"]["working"] is False
    assert [found["odd"]["made"], found["odd"]["env"]] == ["collect", "mine/Lab-v0"]
    assert found["world"]["env"] is None, "of two environments: the real one, and what was imagined of it"
    assert found["odd"]["episodes"] == 2
    assert found["odd"]["faults"] == 1


def test_a_run_has_its_curve_evaluations_losses_and_log(ask: Ask, place: Path) -> None:
    run = ask("run", run="eef")
    assert sum(point["episodes"] for point in run["curve"]) == run["episodes"] == run["summary"]["episodes"]
    with EpisodeStore(place / "eef/episodes.sqlite", mode="r") as store:
        won = store.count(outcome="success")
    assert round(sum(point["success"] * point["episodes"] for point in run["curve"])) == won > 0
    assert run["evaluations"][0]["label"] == "start model"
    fit = json.loads((place / "eef/iteration-1/fit.json").read_text())["report"]
    assert [loss for _, loss in run["fits"][-1]["losses"]] == fit["losses"]
    assert run["log"][-1]["event"] == "done"


def test_what_measures_and_what_experts_do_is_no_part_of_the_curve_of_what_is_learnt_from(
    ask: Ask, place: Path
) -> None:
    """Of the weights that were measured a point each; the small curve of the list is of the rollouts alone."""
    run = ask("run", run="eef")
    curves: dict[str, list[float]] = {}
    for point in run["curve"]:
        curves.setdefault(point["kind"], []).append(point["success"])
    assert set(curves) == {"held-out", "expert", "rollouts"}
    assert curves["held-out"] == pytest.approx([each["success"]["mean"] for each in run["evaluations"]])
    with EpisodeStore(place / "eef/episodes.sqlite", mode="r") as store:
        won = [head.success for head in store.heads(recipe="eef")]
    size = -(-len(won) // 24)
    assert run["spark"] == pytest.approx(
        [sum(part) / len(part) for part in (won[n : n + size] for n in range(0, len(won), size))], abs=1e-3
    )
    assert {point["kind"] for point in ask("run", run="odd")["curve"]} == {"rollouts", "expert"}
    assert run["env"] == "toy/FlakyLamps-v0"


def test_what_an_evaluation_left_is_shown_with_its_figures(place: Path, tmp_path: Path) -> None:
    (tmp_path / "measured").mkdir()
    for name, file in (("start/evaluation.json", "evaluation.json"), ("episodes.sqlite", "episodes.sqlite")):
        shutil.copy(place / "eef" / name, tmp_path / "measured" / file)
    client = TestClient(application(Runs(tmp_path)), base_url="http://127.0.0.1")
    found = client.get("/api/run", params={"run": "measured"}).json()
    wanted = json.loads((place / "eef/start/evaluation.json").read_text())
    assert [each["success"] for each in found["evaluations"]] == [wanted["success"]]
    assert found["problems"] == []


def test_pages_of_the_table_are_the_stores_own_order_without_gaps(ask: Ask, place: Path) -> None:
    with EpisodeStore(place / "eef/episodes.sqlite", mode="r") as store:
        for order in (
            "added",
            "-score",
            "turns",
            "task",
            "env",
            "outcome",
            "-actor",
            "policy",
            "-iteration",
            "fork_step",
        ):
            wanted = [head.id for head in store.heads(order=order)]
            got: list[str] = []
            while len(got) < len(wanted):
                page = ask("episodes", run="eef", order=order, **{"from": len(got), "count": 7})
                assert page["total"] == len(wanted)
                got += [row["id"] for row in page["rows"]]
            assert got == wanted
        wanted = [head.id for head in store.heads(outcome="failure", actor="policy")]
        rows = ask("episodes", run="eef", order="added", outcome="failure", actor="policy", count=500)["rows"]
        assert [row["id"] for row in rows] == wanted
        assert wanted


def test_a_table_keeps_its_rows_while_others_are_added(tmp_path: Path) -> None:
    from store_cases import episode

    with EpisodeStore(tmp_path / "s.sqlite") as store:
        store.add_all([episode(sample=n) for n in range(5)])
        shown = Shown(tmp_path / "s.sqlite")
        first = shown.page({}, "-added", 0, 2)
        store.add_all([episode(sample=n) for n in range(5, 9)])
        second = shown.page({}, "-added", 2, 3, first.upto)
        assert [row.number for row in (*first.rows, *second.rows)] == [5, 4, 3, 2, 1]
        assert shown.page({}, "-added", 0, 1).rows[0].number == 9
        shown.close()


def test_any_page_of_a_hundred_thousand_reads_as_little_as_the_first(big: Path) -> None:
    """Counted in steps of SQLite's machine, which no load disturbs: a table is made once, then only sliced."""
    size = 100_000
    shown = Shown(big / "episodes.sqlite")
    steps = [0]

    def count() -> int:
        steps[0] += 1
        return 0

    def cost(first: int, order: str) -> int:
        steps[0] = 0
        page = shown.page({"outcome": "failure"}, order, first, 100, size)
        assert (len(page.rows), page.total) == (100, size)
        return steps[0]

    shown._connection.set_progress_handler(count, 10)
    for order in ("-added", "task"):
        made = cost(0, order)
        begin, end = cost(0, order), cost(size - 100, order)
        assert end <= begin * 1.5 < made / 20
    shown.close()


def test_an_episode_is_its_whole_path_turn_by_turn(ask: Ask, place: Path) -> None:
    with EpisodeStore(place / "eef/episodes.sqlite", mode="r") as store:
        fork = next(head for head in store.heads() if head.parent is not None)
        path = store.path(fork.id)
    found = ask("episode", run="eef", id=fork.id)
    assert found["own"] == fork.fork_step
    assert [turn["action"]["text"] for turn in found["turns"]] == list(path.actions)
    assert [turn["origin"] for turn in found["turns"]] == list(path.origins)
    assert [turn["valid"] for turn in found["turns"]] == [turn.valid for turn in path.turns]


def test_a_huge_observation_comes_cut_and_its_rest_in_pieces(ask: Ask) -> None:
    root = ask("episodes", run="odd", order="added")["rows"][0]["id"]
    seen = ask("episode", run="odd", id=root)["turns"][1]["observation"]
    assert seen["length"] == len(HUGE)
    assert len(seen["text"]) < 10_000
    text = ""
    while len(text) < seen["length"]:
        text += ask("text", run="odd", id=root, step=1, field="observation", **{"from": len(text)})["text"]
    assert text == HUGE


def test_hostile_and_broken_text_passes_letter_by_letter(ask: Ask) -> None:
    root = ask("episodes", run="odd", order="added")["rows"][0]["id"]
    assert ask("episode", run="odd", id=root)["turns"][0]["observation"]["text"] == HOSTILE
    broken = ask("faults", run="odd")["rows"][0]
    assert broken["outcome"] == "env_error"
    assert HOSTILE in ask("episode", run="odd", fault=broken["number"])["error"]["text"]


def test_a_fault_is_listed_with_what_went_wrong_and_no_path_to_a_class(place: Path) -> None:
    with EpisodeStore(place / "odd/episodes.sqlite", mode="r") as store:
        broken = next(store.faults())
    trace = "Traceback (most recent call last):\n  ...\npalaestra.envs.errors.EnvFault: the page did not load"
    assert fault(0, broken.model_copy(update={"error": trace}))["error"] == "the page did not load"
    assert fault(0, broken)["error"] == HOSTILE


def test_a_forest_holds_every_fork_and_counts_what_ended_below(ask: Ask, place: Path) -> None:
    with EpisodeStore(place / "eef/episodes.sqlite", mode="r") as store:
        parent = next(str(head.parent) for head in store.heads() if head.parent is not None)
        edges = {(edge.parent, edge.child) for edge in store.tree(parent)}
        task = store.head(parent).task
        count = store.count(task=task)
    found = ask("forest", run="eef", id=parent)
    assert found["total"] == count == len(found["nodes"])
    assert edges <= {(node["parent"], node["id"]) for node in found["nodes"]}
    by_id = {node["id"]: node for node in found["nodes"]}
    assert by_id[parent]["visits"] >= 1 + len(edges) - 1
    assert all(0 <= node["value"] <= 1 for node in found["nodes"])


def test_two_branches_are_told_apart_from_their_fork(ask: Ask) -> None:
    root, branch = (row["id"] for row in ask("episodes", run="odd", order="added")["rows"])
    found = ask("branches", run="odd", a=root, b=branch)
    assert found["parting"] == 1
    one, other = found["sides"]
    assert [turn["action"]["text"] for turn in one["turns"]] == ["a0", "a1", "a2"]  # the last they share, and theirs
    assert [turn["action"]["text"] for turn in other["turns"]] == ["a0", "b1", "b2", "b3"]


def test_what_was_imagined_of_a_task_stands_in_its_forest_with_words_that_differ(tmp_path: Path) -> None:
    from store_cases import episode, task

    from palaestra.viewer.branches import beside, branches
    from palaestra.viewer.forest import forest

    with EpisodeStore(tmp_path / "s.sqlite") as store:
        real, other = episode(n=2), episode(task("else"), n=2)
        made = episode(task(env="mine/Dream-v0"), n=2, actor="imagined")
        turn = made.turns[1].model_copy(update={"observation": "room 1 with a door"})
        made = made.model_copy(update={"turns": (made.turns[0], turn)})
        store.add_all([real, other, made])
    shown = Shown(tmp_path / "s.sqlite")
    for side in (real, made):
        assert {node["id"] for node in forest(shown, side.id)["nodes"]} == {real.id, made.id}
    found = branches(shown, real.id, made.id)
    assert found["parting"] == 1
    changed = [part for part in found["differences"][0]["parts"] if part[0] != "equal"]
    assert "".join(new for _, _, new in changed).strip() == "with a door"
    with pytest.raises(BadInput, match="two tasks"):
        branches(shown, real.id, other.id)
    assert beside(shown, made.id) == {"id": real.id, "shared": 2, "imagined": True}
    assert beside(shown, real.id) == {"id": made.id, "shared": 2, "imagined": False}
    assert beside(shown, other.id)["id"] is None
    shown.close()


def test_screenshots_are_found_by_their_names_and_only_png_files_are_given(tmp_path: Path) -> None:
    from odd_texts import PNG
    from store_cases import episode

    from palaestra.envs.browser.env import screenshot_name

    shots = tmp_path / "shots"
    shots.mkdir()
    seen = episode(n=3, env_settings={"screenshots": str(shots)})
    names = [screenshot_name(seen.start.task, seen.actions[:step]) for step in range(3)]
    (shots / names[0]).write_bytes(PNG)
    (shots / names[1]).write_text("a secret, not a picture")
    (tmp_path / "run").mkdir()
    with EpisodeStore(tmp_path / "run/episodes.sqlite") as store:
        store.add(seen)
    client = TestClient(application(Runs(tmp_path / "run")), base_url="http://127.0.0.1")
    answers = [client.get("/api/picture", params={"run": ".", "id": seen.id, "step": step}) for step in range(4)]
    assert (answers[0].content, answers[0].headers["content-type"]) == (PNG, "image/png")
    assert [(each.status_code, each.content) for each in answers[1:]] == [(204, b"")] * 3


def test_the_token_view_has_every_id_with_its_weight_and_its_turn(ask: Ask, place: Path) -> None:
    import gzip

    lines = gzip.decompress((place / "eef/iteration-1/samples.jsonl.gz").read_bytes()).decode().splitlines()
    page = ask("samples", run="eef", iteration=1)
    assert page["total"] == len(lines) > 0
    for number, line in enumerate(lines):
        stored = json.loads(line)
        sequence = ask("sample", run="eef", iteration=1, number=number)["sequences"][0]
        tokens = [(id, span["weight"]) for span in sequence["spans"] for id, _ in span["tokens"]]
        assert [id for id, _ in tokens] == stored["ids"]
        assert [weight for _, weight in tokens] == stored["weights"]
        learnt = [span for span in sequence["spans"] if span["weight"]]
        assert all("eef learns this" in span["why"] for span in learnt)
        assert all(span.get("origin") in stored["episodes"] for span in learnt)
        text = "".join(text for span in learnt for _, text in span["tokens"])
        assert "press" in text


@pytest.mark.parametrize(
    ("what", "parameters", "said"),
    [
        ("run", {"run": "../eef"}, "no run"),
        ("run", {"run": "/etc"}, "no run"),
        ("run", {}, "'run' is missing"),
        ("episodes", {"run": "eef", "order": "colour"}, "no order"),
        ("episodes", {"run": "eef", "count": 10**6}, "500 rows"),
        ("episodes", {"run": "eef", "from": "x"}, "whole number"),
        ("episode", {"run": "eef", "id": "nope"}, "no episode"),
        ("sample", {"run": "eef", "iteration": 1, "number": 10**6}, "no sample"),
        ("samples", {"run": "odd", "iteration": 1}, "no stored samples"),
        ("nothing", {}, "nothing called"),
    ],
)
def test_what_cannot_be_answered_is_told_in_a_line(ask: Ask, what: str, parameters: dict[str, Any], said: str) -> None:
    assert said in ask(what, 404, **parameters)["error"]


def test_what_is_no_run_and_a_store_of_another_version_are_refused_in_a_line(tmp_path: Path) -> None:
    for wrong in (tmp_path / "nope", tmp_path):
        with pytest.raises(BadInput, match=r"^[^\n]+$"):
            Runs(wrong)
    (tmp_path / "r").mkdir()
    EpisodeStore(tmp_path / "r/episodes.sqlite").close()
    raw = sqlite3.connect(tmp_path / "r/episodes.sqlite")
    raw.execute("UPDATE meta SET value = CAST('99' AS BLOB) WHERE key = 'schema'")
    raw.commit()
    raw.close()
    with pytest.raises(BadInput, match="schema version 99"):
        Runs(tmp_path / "r")
    assert "schema version 99" in Runs(tmp_path).listed()[0]["error"]


def test_the_command_refuses_what_is_no_run_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["view", str(tmp_path)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert "is not a run directory" in told.err
    assert told.err.count("\n") == 1


def test_a_port_in_use_and_a_network_address_without_a_token_are_refused(place: Path) -> None:
    import socket

    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(BadInput, match=r"^port \d+ of 127.0.0.1 is in use[^\n]*--port 0 for a free one$"),
    ):
        view(place, port=taken.getsockname()[1])
    with pytest.raises(BadInput, match="choose another --host or --port"):
        view(place, port=70_000)
    with pytest.raises(BadInput, match="opens these runs to the network, which needs a token"):
        view(place, host="0.0.0.0")


def test_the_api_wants_the_token_the_pages_do_not_and_foreign_hosts_get_neither(place: Path) -> None:
    token = "0123456789abcdef"
    client = TestClient(application(Runs(place), "0.0.0.0", token), base_url="http://10.0.0.1")
    assert client.get("/").status_code == 200
    assert client.get("/api/runs").status_code == 401
    assert client.get("/api/runs", headers={"authorization": f"Bearer {token}"}).status_code == 200
    rebound = TestClient(application(Runs(place)), base_url="http://evil.example")
    assert rebound.get("/").status_code == rebound.get("/api/runs").status_code == 403
    foreign = TestClient(application(Runs(place)), base_url="http://127.0.0.1")
    assert foreign.get("/api/runs", headers={"origin": "http://evil.example"}).status_code == 403
    for path in ("/", "/api/runs", "/nothing"):
        policy = foreign.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
