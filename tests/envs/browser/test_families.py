"""MiniWoB++, WebShop's site and task files: what is a success, what an oracle solves, what a file may say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from palaestra.agents.answer_judge import AnswerJudge
from palaestra.agents.policy import Completion, PolicyBase, Request
from palaestra.envs import BadInput, EnvFault, find, make
from palaestra.envs.browser import LIBRARY_TASKS
from palaestra.envs.browser.judging import Case, by_reference
from palaestra.envs.browser.miniwob import pages_folder
from palaestra.envs.browser.miniwob_oracle import SOLVED, UNREACHED, scripted
from palaestra.envs.browser.miniwob_pages import PAGES, SEEDS
from palaestra.envs.browser.miniwob_scene import WAYS
from palaestra.envs.browser.task_file import read
from palaestra.envs.browser.web_tasks import LIBRARY, gold
from palaestra.envs.errors import NoOracle


def test_all_pages_of_the_package_are_tasks_and_the_oracle_knows_a_way_through_each() -> None:
    assert set(PAGES) == {file.stem for file in (pages_folder() / "miniwob").glob("*.html")}
    assert set(WAYS) == set(PAGES)
    assert set(SOLVED) == set(PAGES) - UNREACHED
    assert len(UNREACHED) == 5


def test_the_oracle_solves_every_tenth_of_the_pages_that_it_names() -> None:
    env = make("miniwob")
    for page in SOLVED[::10]:
        env.reset(options={"task": f"{page}/2001"})
        info: dict[str, object] = {}
        for _ in range(20):
            *_, over, truncated, info = env.step(scripted(env))
            if over or truncated:
                break
        assert info["success"], (page, info, env.history)
        assert info["raw_reward"] == 1.0
    env.close()


def test_the_protocol_solved_has_the_pages_that_the_oracle_solves_and_no_others() -> None:
    env = make("miniwob", protocol="solved")
    for split in env.splits():
        pages = [task.name.partition("/")[0] for task in env.tasks(split)]
        assert set(pages) == set(SOLVED)
        assert len(pages) == len(SOLVED) * len(SEEDS[split])
    env.close()
    with pytest.raises(BadInput, match="no protocol 'easy'; it has: solved"):
        make("miniwob", protocol="easy")


def test_the_oracle_says_of_which_page_it_knows_no_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(WAYS, "click-test")
    env = make("miniwob")
    env.reset(options={"task": "click-test/2000"})
    with pytest.raises(NoOracle, match="no way through the page click-test"):
        scripted(env)
    env.close()


def test_a_wrong_answer_has_the_pages_own_reward_and_no_score() -> None:
    env = make("miniwob")
    env.reset(options={"task": "click-test-2/3"})
    wrong = next(each.number for each in env.state.elements if each.name == "TWO")
    _, reward, over, _, info = env.step(f"click [{wrong}]")
    assert (reward, over, info["score"], info["success"]) == (-1.0, True, 0.0, False)
    env.close()


def test_a_page_that_moves_is_the_same_however_long_one_waits() -> None:
    one, other = make("miniwob"), make("miniwob")
    seen = [one.reset(options={"task": "moving-items/1"})[0]]
    seen += [one.step("wait")[0] for _ in range(4)]
    again = [other.reset(options={"task": "moving-items/1"})[0]]
    for _ in range(4):
        other.evaluate("new Promise(done => { const c = new MessageChannel(); c.port1.onmessage = done; "
                       "c.port2.postMessage(0); })")  # type: ignore[attr-defined]  # fmt: skip
        again.append(other.step("wait")[0])
    assert seen == again
    assert len(set(seen)) == 5
    one.close()
    other.close()


def test_a_key_that_scrolls_has_scrolled_when_the_page_is_seen_next() -> None:
    env = make("miniwob")
    seen, _ = env.reset(options={"task": "sign-agreement/2001"})
    assert "button 'Agree' disabled" in seen  # until the end of the text was reached
    text = next(element.number for element in env.state.elements if element.role == "textbox")
    env.step(f"click [{text}]")
    seen = env.step("press [End]")[0]
    assert "button 'Agree'" in seen
    assert "button 'Agree' disabled" not in seen
    env.close()


def test_shopping_on_the_site_is_worth_what_it_is_worth_in_webshop() -> None:
    site, shop = make("webshopsite"), make("webshopsmall")
    towards, target = find("webshopsite").oracle(), find("webshopsmall").oracle()
    for name in ("small-synthetic/3", "small-synthetic/120"):
        scores = []
        for env, oracle in ((site, towards), (shop, target)):
            env.reset(options={"task": name})
            info: dict[str, object] = {}
            for _ in range(20):
                *_, over, _, info = env.step(oracle(env))
                if over:
                    break
            scores.append((info["score"], info["r_att"], info["r_option"], info["r_price"]))
        assert scores[0] == scores[1]
    assert "That is no action" in (site.reset() and site.step("goto [http://webshop.test/done/1/X]")[0])
    site.close()
    shop.close()


def test_the_librarys_tasks_are_those_that_are_registered_and_gold_solves_them() -> None:
    env = make("webtasks")
    assert {split: len(env.tasks(split)) for split in env.splits()} == {k: len(v) for k, v in LIBRARY_TASKS.items()}
    for split in env.splits():
        for task in env.tasks(split):
            env.reset(options={"task": task})
            for _ in range(6):
                *_, over, _, info = env.step(gold(env))
                if over:
                    break
            assert info["success"], task
    env.close()


@pytest.mark.parametrize(
    ("answer", "right"),
    [("It is 12 crowns.", True), ("12 CROWNS", True), ("The answer is: 12 crowns", True), ("112 crowns", False),
     ("12", False), ("", False), ("It is the", False), ("It is not 12 crowns", False),
     ("12 crowns or 25 crowns", False)],
)  # fmt: skip
def test_a_reference_answer_counts_word_for_word(answer: str, right: bool) -> None:
    assert by_reference(Case("?", answer, ("12 crowns",), (), "")) == right


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("{", "line 1: Invalid JSON"),
        ('{"id": "a", "web": "http://a.test/"}', "line 1: ques: Field required"),
        ('{"id": "a", "ques": "?", "web": "ftp://a.test/"}', "line 1: web: .* is no address"),
        ('{"id": "a", "ques": "?", "web": "http://a.test:x/"}', "line 1: web: .* is no address"),
        ('{"id": "a", "ques": "?", "web": "http://a.test/"}\n' * 2, "line 2: the id 'a' stands there twice"),
        ("\n", "holds no task"),
    ],
)
def test_a_task_file_that_cannot_be_read_is_refused_in_one_line(tmp_path: Path, lines: str, said: str) -> None:
    (tmp_path / "t.jsonl").write_text(lines)
    with pytest.raises(BadInput, match=said) as told:
        make("webtasks", file=str(tmp_path / "t.jsonl"))
    assert "\n" not in str(told.value)


def test_webvoyagers_own_form_is_read(tmp_path: Path) -> None:
    line = {"web_name": "Shop", "id": "Shop--3", "ques": "Find it.", "web": "https://www.shop.example/"}
    (tmp_path / "t.jsonl").write_text(json.dumps(line))
    answers = {"Shop": {"notice": "", "answers": [{"id": 3, "type": "possible", "ans": "a red one"}]}}
    (tmp_path / "r.json").write_text(json.dumps(answers))
    task = read(str(tmp_path / "t.jsonl"), str(tmp_path / "r.json")).tasks["Shop--3"]
    assert task.references == ("a red one",)
    assert task.allowed == ("*.shop.example",)


class Says(PolicyBase):
    """A judge that says one thing."""

    def __init__(self, text: str) -> None:
        super().__init__(name="says")
        self.text = text

    def act(self, requests: Sequence[Request]) -> Sequence[Completion]:
        assert "Answer: B5" in requests[0].messages[-1]["content"]
        return [Completion(self.text) for _ in requests]


def test_a_policy_judges_and_one_that_gives_no_verdict_is_a_fault() -> None:
    for text, score in (("Well. Verdict: SUCCESS", 1.0), ("Verdict: NOT SUCCESS", 0.0)):
        env = make("webtasks", judge=AnswerJudge(Says(text)))
        env.reset(options={"task": "Library--4"})
        assert env.step("stop [B5]")[4]["score"] == score
        env.close()
    env = make("webtasks", judge=AnswerJudge(Says("Who knows.")))
    env.reset(options={"task": "Library--4"})
    with pytest.raises(EnvFault, match="no verdict"):
        env.step("stop [B5]")
    env.close()


def test_an_answer_that_lists_all_references_passes_no_task() -> None:
    tasks = read(str(LIBRARY / "tasks.jsonl"), None).tasks.values()
    every = tuple(reference for task in tasks for reference in task.references)
    for said in (", ".join(every), " ".join(every), "; ".join(reversed(every))):
        assert not any(by_reference(Case(task.ques, said, task.references, (), "")) for task in tasks)
    assert all(by_reference(Case(task.ques, task.references[0], task.references, (), "")) for task in tasks)


def test_an_agent_is_told_that_only_the_bare_answer_counts_where_a_reference_decides() -> None:
    for judge, told in (("reference", True), (AnswerJudge(Says("Verdict: SUCCESS")), False)):
        env = make("webtasks", judge=judge)
        assert ("the answer alone" in env.instructions(env.tasks("test")[0])) == told
        env.close()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_task_file_may_hold_what_json_allows_and_begin_with_a_mark(tmp_path: Path, encoding: str, end: str) -> None:
    asked = ["one\u2028two", "three\u0085four\u2029"]
    lines = (json.dumps({"id": q[0], "ques": q, "web": "http://a.test/"}, ensure_ascii=False) + end for q in asked)
    file = tmp_path / "t.jsonl"
    file.write_bytes("".join(lines).encode(encoding))
    assert [task.ques for task in read(str(file)).tasks.values()] == asked


def test_the_library_is_small_and_whole() -> None:
    assert {"index.html", "tasks.jsonl"} <= {file.name for file in LIBRARY.iterdir()}
