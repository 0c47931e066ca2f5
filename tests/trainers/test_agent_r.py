"""Agent-R: pairs, transition points, executed splices and every mask, worked out by hand.

The environment asks for the letters of a word; a wrong letter is written too and can be taken back with "undo". Writing
the word wins; giving up ends the episode with the share of the word that stands right.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lamps
import numpy as np
import pytest

from palaestra.agents.collect import collect
from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import Actor
from palaestra.agents.judge import Case, Verdict, judge
from palaestra.agents.policies.hf import HFPolicy
from palaestra.agents.policies.scripted import ScriptedPolicy
from palaestra.agents.policy import Completion, PolicyBase, PolicyFault, Request, Sampling
from palaestra.agents.search import Search, search
from palaestra.agents.splice import Contrast, Splice, execute, lines, pasted
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, Reply, Task, TextEnv, register
from palaestra.trainers.agent_r import AgentR, AgentRConfig
from palaestra.trainers.chat_data import mixed, read_chats
from palaestra.trainers.config import config_of
from palaestra.trainers.phases import Reflection
from palaestra.trainers.rundir import RunDir


@dataclass
class Written:
    """What stands on the paper."""

    letters: list[str] = field(default_factory=list)


class Word(TextEnv[Written]):
    """Write the word abc, letter by letter; "undo" takes the last letter back, "stop" gives up."""

    word = "abc"

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[Written, str]:
        return Written(), "Nothing is written."

    def act(self, state: Written, action: str) -> Reply:
        if action not in self.admissible(state):
            return Reply("That is not possible.", valid=False)
        if action == "undo":
            state.letters = state.letters[:-1]
        elif action != "stop":
            state.letters.append(action)
        text = "".join(state.letters)
        right = len(text) if self.word.startswith(text) else 0
        won = text == self.word
        return Reply(f"Written: {text}.", score=right / 3, success=won, over=won or action == "stop")

    def admissible(self, state: Written) -> Sequence[str]:
        return ["a", "b", "c", "x", "undo", "stop"]


register("toy/Word-v0", Word, splits={"train": ["abc/0"], "test": ["abc/1"]}, max_steps=8)
TASK = Task(env="toy/Word-v0", name="abc/0", split="train")


class Paths(PolicyBase):
    """Says the next action of one of the paths that go on from what was done so far."""

    def __init__(self, *paths: str) -> None:
        super().__init__(name="paths", looks_inside=True)
        self.paths = [path.split() for path in paths]

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        found = []
        for request in requests:
            assert request.env is not None
            done = list(request.env.history)
            ways = [path[len(done)] for path in self.paths if path[: len(done)] == done and len(path) > len(done)]
            action = sorted(set(ways))[request.seed % len(set(ways))]
            found.append(Completion(action, action=action))
        return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from palaestra.agents.tiny import make_tiny

    told = [Word.__doc__ or "", "Answer with one action and nothing else.", "Nothing is written.", "Written: abxc."]
    told += ["system\n", "user\n", "assistant\n", "undo", "stop", "a", "b", "c", "x"]
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return make_tiny(told * 20, folder, vocab=400, hidden=64, layers=2, heads=4, context=512, seed=0)


def method(out: Path, model: Path, **more: Any) -> AgentR:
    fixed = {"env": "toy/Word-v0", "conversation": {}}
    settings = lamps.settings(model, **(fixed | more))
    del settings["per_task"]
    return AgentR(config_of(AgentRConfig, settings), out, progress="quiet")


def ends(tmp_path: Path, *paths: str) -> tuple[EpisodeStore, dict[str, Any]]:
    """A tree that holds these paths, and its ends by their actions. With 40 answers a node no way is missed."""
    store = EpisodeStore(tmp_path / "episodes.sqlite")
    (tree,) = search([TASK], Paths(*paths), store, Search(strategy="beam", beam=9, width=40)).trees
    found = {" ".join(store.path(n.head.id).actions): n for n in tree.ends() if n.head}
    assert sorted(found) == sorted(paths)
    return store, {**found, "tree": tree}


def pair_of(store: EpisodeStore, found: dict[str, Any], bad: str, good: str) -> Contrast:
    return Contrast(store.path(found[bad].head.id), store.path(found[good].head.id), found[good].score)


def splice_of(found: dict[str, Any], bad: str, good: str, kept: int, resumes: int, **more: Any) -> Splice:
    return Splice.model_validate(
        {
            "task": TASK.id,
            "bad": found[bad].head.id,
            "good": found[good].head.id,
            "kept": kept,
            "resumes": resumes,
            "wanted": 1.0,
            **more,
        }
    )


QUIET: dict[str, Any] = {"progress": "quiet", "recipe": "agent-r", "iteration": 1}


def WHOLE(ids: Sequence[int]) -> bool:
    """Every answer ends with its end-of-turn."""
    return True


def trained(agent: AgentR, sample: Any) -> str:
    ids = [id for id, weight in zip(sample.ids, sample.weights, strict=True) if weight]
    return "".join(agent.acting.template.tokenizer.decode(ids, skip_special_tokens=True).split())


# -- pairs ------------------------------------------------------------------------------------------------------------


def test_pairs_are_two_ends_of_one_tree_with_a_gap(tmp_path: Path, model: Path) -> None:
    """Ends: abc = 1, "a b stop" = 2/3, "a stop" = 1/3, "stop" = 0. With alpha = 0.5 and beta = 0.4 the good ends are
    abc (gaps 2/3 and 1 to the last two; 1/3 to 2/3 is too small) and "a b stop" (gap 2/3 to "stop" only)."""
    store, found = ends(tmp_path, "a b c", "a b stop", "a stop", "stop")
    agent = method(tmp_path / "run", model, beta=0.4, pairs=None)
    agent.store = store
    pairs = {(p.bad.actions, p.good.actions) for p in agent._pairs(found["tree"], 0.5)}
    assert pairs == {
        (("a", "stop"), ("a", "b", "c")),
        (("stop",), ("a", "b", "c")),
        (("stop",), ("a", "b", "stop")),
    }
    assert {p.good.actions for p in agent._pairs(found["tree"], 1.0)} == {("a", "b", "c")}
    agent.config = agent.config.model_copy(update={"pairs": 1})
    assert len(agent._pairs(found["tree"], 0.5)) == 1


# -- the transition point ---------------------------------------------------------------------------------------------


class Strict(PolicyBase):
    """A judge that calls some actions bad."""

    def __init__(self, *bad: str) -> None:
        super().__init__(name="strict")
        self.bad, self.asked = bad, 0

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        self.asked += len(requests)
        judged = [str(request.messages[-1]["content"]).split("The action: ")[1].split("\n")[0] for request in requests]
        return [Completion("Reasons.\nJudgement: " + ("Bad" if action in self.bad else "Good")) for action in judged]


def test_the_bad_path_is_left_at_the_first_step_judged_bad(tmp_path: Path, model: Path) -> None:
    """Bad path a x x stop, good path a b c: they share 1 step. The judge calls x bad: kept are a x. A judge that finds
    nothing bad keeps all but the step that ended the episode: a x x, which is direct revision."""
    store, found = ends(tmp_path, "a b c", "a x x stop")
    agent = method(tmp_path / "run", model)
    pair = pair_of(store, found, "a x x stop", "a b c")
    assert (pair.parting, pair.limit) == (1, 3)
    strict = Strict("x")
    assert agent._kept([pair], strict) == ([2], {"good": 1, "bad": 1, "uncertain": 0, "unanswered": 0})
    assert agent._kept([pair, pair], Strict())[0] == [3, 3]
    assert agent._kept([pair], Strict("a", "x"))[0] == [1]  # judged from the first step, as released
    agent.config = agent.config.model_copy(update={"judge_from": "parting"})
    assert agent._kept([pair], Strict("a", "x"))[0] == [2]  # only from where the paths part
    agent.config = agent.config.model_copy(update={"transition": "end"})
    assert agent._kept([pair], strict) == ([3], {})
    assert strict.asked == 2


def test_every_step_is_judged_once_however_many_pairs_have_it(tmp_path: Path, model: Path) -> None:
    store, found = ends(tmp_path, "a b c", "a b x stop")
    judged = Strict()
    method(tmp_path / "run", model)._kept([pair_of(store, found, "a b x stop", "a b c")] * 5, judged)
    assert judged.asked == 3


def test_a_step_that_bad_paths_share_is_judged_once(tmp_path: Path, model: Path) -> None:
    """`a` and `b` lead to both ends, and their last steps differ: x and stop of one, stop of the other."""
    store, found = ends(tmp_path, "a b x stop", "a b stop", "a b c")
    pairs = [pair_of(store, found, bad, "a b c") for bad in ("a b x stop", "a b stop")]
    judged = Strict()
    _, said = method(tmp_path / "run", model)._kept(pairs, judged)
    distinct = {(id, n) for pair in pairs for n, id in enumerate(pair.bad.origins[: pair.limit])}
    assert judged.asked == sum(said.values()) == len(distinct) == 3


def test_a_judge_reads_task_history_action_and_outcome_and_nonsense_is_uncertain(tmp_path: Path) -> None:
    store, found = ends(tmp_path, "a x stop", "a b c")
    path = store.path(found["a x stop"].head.id)
    asked: list[str] = []

    def answer(request: Request) -> str:
        asked.append(str(request.messages[-1]["content"]))
        return "no idea"

    case = Case("Write abc.", path.turns[:1], path.turns[1], path.observations()[2])
    (judged,) = judge([case], ScriptedPolicy(answer))
    assert judged.verdict is Verdict.UNCERTAIN
    assert asked == [
        "Task: Write abc.\nAt the start: Nothing is written.\nDid: a\nSaw: Written: a.\nThe action: x\n"
        "What came of it: Written: ax."
    ]


class Short(PolicyBase):
    """Takes questions of so many lines at the most, as a model takes so many ids."""

    def __init__(self, most: int) -> None:
        super().__init__(name="short")
        self.most = most
        self.asked: list[int] = []

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        lines = [len(str(request.messages[-1]["content"]).splitlines()) for request in requests]
        self.asked += lines
        long = Completion("", error="too long", too_long=True)
        return [long if n > self.most else Completion("Judgement: Good") for n in lines]


def test_a_question_that_is_too_long_is_asked_again_with_fewer_turns(tmp_path: Path) -> None:
    """Six turns came before: task, start, did, five times saw and did, then saw, action and outcome are 16 lines; with
    three turns they are 11, with one 7, with none 5."""
    store, found = ends(tmp_path, "a a a a a a x stop")
    path = store.path(found["a a a a a a x stop"].head.id)
    case = Case("Write abc.", path.turns[:6], path.turns[6], path.observations()[7])
    for most, asked in ((16, [16]), (7, [16, 11, 7])):
        judged = Short(most)
        assert [each.verdict for each in judge([case], judged)] == [Verdict.GOOD]
        assert judged.asked == asked
    (failed,) = judge([case], Short(4))
    assert (failed.verdict, failed.text) == (Verdict.UNANSWERED, "too long")


def test_steps_that_nobody_can_judge_are_counted_apart_and_kept(tmp_path: Path, model: Path) -> None:
    store, found = ends(tmp_path, "a b x stop", "a b c")
    kept, said = method(tmp_path / "run", model)._kept([pair_of(store, found, "a b x stop", "a b c")], Short(0))
    assert kept == [pair_of(store, found, "a b x stop", "a b c").limit]
    assert said == {"good": 0, "bad": 0, "uncertain": 0, "unanswered": 3}


def test_a_judge_whose_questions_are_all_too_long_is_told_of_in_the_progress_and_the_reports(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A window of so few ids that no question fits, though the agent's own prompts do."""
    wide = {"strategy": "best", "width": 24, "iterations": 12}
    settings = {"search": wide, "alpha": [0.3], "beta": 0.1, "budget": 60, "iterations": 1}
    agent = AgentR(method(tmp_path / "run", model, **settings).config, tmp_path / "run", progress="json")
    asked = agent.acting.policy
    monkeypatch.setattr(agent.acting, "policy", lambda m, s, **k: Short(0) if s.max_tokens == 200 else asked(m, s, **k))
    agent.train()
    found = Reflection.model_validate_json((tmp_path / "run/iteration-1/reflection.json").read_text())
    count = found.verdicts["unanswered"]
    assert count == sum(found.verdicts.values()) > 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    ends = [each for each in told if each["stage"] == "iteration 1 of 1, judge" and each["ended"]]
    assert [(each["done"], each["unanswered"]) for each in ends] == [(count, count)]
    for name in ("report.md", "report.html"):
        page = (tmp_path / "run" / name).read_text()
        assert f"Iteration 1: the judge answered none of the {count} questions" in page
        assert "steps unanswered" in page


class Gone(PolicyBase):
    """Answers so many questions, then is gone for so many, as a server is that is started again."""

    def __init__(self, answers: int, lost: int) -> None:
        super().__init__(name="gone", batch_size=1)
        self.left, self.lost = answers, lost

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        (_,) = requests
        if self.left or not self.lost:
            self.left = max(0, self.left - 1)
            return [Completion("Judgement: Good")]
        self.lost -= 1
        return [Completion("", error="connection failed")]


def test_a_judge_that_is_gone_for_a_moment_is_asked_again_and_one_that_stays_away_is_a_fault(tmp_path: Path) -> None:
    """Three questions; the second and the third are lost, and asked twice more each."""
    store, found = ends(tmp_path, "a b x stop")
    path = store.path(found["a b x stop"].head.id)
    cases = [Case("Write abc.", path.turns[:n], path.turns[n], path.observations()[n + 1]) for n in range(3)]
    assert [each.verdict for each in judge(cases, Gone(1, 4))] == [Verdict.GOOD] * 3
    with pytest.raises(PolicyFault, match=r"gone left 1 of 3 questions without an answer, asked 3 times; .*connection"):
        judge(cases, Gone(1, 5))


def test_a_judge_that_is_gone_stops_the_round_before_anything_is_spliced_or_learnt(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its silence is no judgement: the bad paths would be kept to their ends. Resuming goes on with the same trees."""
    wide = {"strategy": "best", "width": 24, "iterations": 12}
    settings = {"search": wide, "alpha": [0.3], "beta": 0.1, "budget": 60, "iterations": 1}
    agent = method(tmp_path / "run", model, **settings)
    asked = agent.acting.policy
    gone = Gone(0, 1_000_000)
    with monkeypatch.context() as patch:
        patch.setattr(agent.acting, "policy", lambda m, s, **k: gone if s.max_tokens == 200 else asked(m, s, **k))
        with pytest.raises(PolicyFault, match=r"gone left .* connection failed"):
            agent.train()
    assert not (tmp_path / "run/iteration-1/reflection.json").exists()
    with EpisodeStore(tmp_path / "run/episodes.sqlite") as store:
        searched = len(store)
        assert not [head for head in store.heads() if head.actor is Actor.SPLICED]
    assert searched > 0
    AgentR(agent.config, tmp_path / "run").train()
    found = Reflection.model_validate_json((tmp_path / "run/iteration-1/reflection.json").read_text())
    assert found.splices
    assert found.verdicts["unanswered"] == 0


def test_the_judge_reads_observations_as_the_agent_does(tmp_path: Path, model: Path) -> None:
    store, found = ends(tmp_path, "a b x stop", "a b c")
    asked: list[str] = []

    def answer(request: Request) -> str:
        asked.append(str(request.messages[-1]["content"]))
        return "Judgement: Good"

    agent = method(tmp_path / "run", model, conversation={"max_observation": 6})
    agent._kept([pair_of(store, found, "a b x stop", "a b c")], ScriptedPolicy(answer))
    shown = agent.config.conversation.observation("Written: a.")
    assert shown != "Written: a."
    assert f"What came of it: {shown}" in asked[0]
    assert not any("Written: a." in question for question in asked)


def test_a_judge_that_only_writes_what_is_listed_is_given_the_verdicts(tmp_path: Path, model: Path) -> None:
    """As in a run with `constrain`: without a list such a policy answers nothing, and every step would be uncertain."""
    store, found = ends(tmp_path, "a x stop", "a b c")
    path = store.path(found["a x stop"].head.id)
    case = Case("Write abc.", path.turns[:1], path.turns[1], path.observations()[2])
    policy = HFPolicy(model, sampling=Sampling(temperature=0.0, max_tokens=40), constrain=True)
    (judged,) = judge([case], policy)
    assert judged.text in {"Judgement: Good", "Judgement: Bad", "Judgement: Uncertain"}
    assert judged.text.endswith(judged.verdict.value.capitalize())


# -- splices ----------------------------------------------------------------------------------------------------------


def test_a_splice_goes_through_the_environment_and_only_what_holds_is_kept(tmp_path: Path, model: Path) -> None:
    """Good path: x undo a b c wins. Bad path: x a stop.

    Kept "x", resumed at step 1: x | undo a b c wins and is accepted. Kept "x a" and resumed at step 1: x a | undo a b c
    writes xa -> x -> xa -> xab -> xabc: nothing is won, so it is refused, though the joined texts look alike.
    """
    store, found = ends(tmp_path, "x undo a b c", "x a stop")
    agent = method(tmp_path / "run", model)
    splices = [splice_of(found, "x a stop", "x undo a b c", kept, 1) for kept in (1, 2)]
    done = execute(splices, store, agent.config.conversation, ends=WHOLE, version="v", **QUIET)
    assert [splice.accepted for splice in done] == [True, False]
    assert [splice.score for splice in done] == [1.0, 0.0]
    path = store.path(done[0].episode or "")
    assert path.actions == ("x", "undo", "a", "b", "c")
    assert path.own == 1
    assert path.episode.provenance.actor == "spliced"
    (sample,) = agent.samples_of(path, kind="revision")
    assert trained(agent, sample) == "undoabc"  # the bad step is context


def test_several_splices_may_go_on_from_one_step(tmp_path: Path, model: Path) -> None:
    store, found = ends(tmp_path, "a b c", "x undo a b c", "x stop")
    agent = method(tmp_path / "run", model)
    splices = [
        splice_of(found, "x stop", "x undo a b c", 1, 1),
        splice_of(found, "x stop", "a b c", 1, 0),
        splice_of(found, "x stop", "a b c", 1, 0, wanted=0.0),
    ]
    done = execute(splices, store, agent.config.conversation, ends=WHOLE, version="v", **QUIET)
    assert [splice.accepted for splice in done] == [True, False, True]
    assert len({splice.episode for splice in done}) == 3


def test_the_textual_control_joins_texts_and_stores_nothing(tmp_path: Path, model: Path) -> None:
    store, found = ends(tmp_path, "x undo a b c", "x a stop")
    agent = method(tmp_path / "run", model)
    before = len(store)
    path = pasted(splice_of(found, "x a stop", "x undo a b c", 2, 1), store, agent.config.conversation, WHOLE)
    assert path.actions == ("x", "a", "undo", "a", "b", "c")
    assert [turn.observation for turn in path.turns[1:3]] == ["Written: x.", "Written: xa."]  # of the bad path
    assert [turn.observation for turn in path.turns[3:]] == ["Written: .", "Written: a.", "Written: ab."]  # of the good
    (sample,) = agent.samples_of(path, kind="revision")
    assert trained(agent, sample) == "undoabc"
    assert len(store) == before
    turn = splice_of(found, "x a stop", "x undo a b c", 2, 1, thought="I go back.")
    path = pasted(turn.model_copy(update={"place": "turn"}), store, Conversation(style="react"), WHOLE)
    assert [turn.completion for turn in path.turns[2:4]] == ["Thought: I go back.\nAction: wait", "undo"]
    assert [turn.observation for turn in path.turns[2:5]] == ["Written: xa.", "ok.", "Written: ."]


def test_a_half_answer_of_the_good_path_is_context_in_the_splice_too(tmp_path: Path, model: Path) -> None:
    """A server cuts "b" in the middle of a second line and gives no ids. Recited as a whole answer it would be learnt,
    with an end-of-turn that nobody wrote. Of the good path a, b, c both splices teach a and c."""

    class Cut(Paths):
        def act(self, requests: Sequence[Request]) -> list[Completion]:
            told = [each.text for each in super().act(requests)]
            return [Completion("b\nand the", finished=False) if text == "b" else Completion(text) for text in told]

    store = EpisodeStore(tmp_path / "episodes.sqlite")
    plan = Search(strategy="beam", beam=9, width=40)
    (tree,) = search([TASK], Cut("x stop", "a b c"), store, plan).trees
    found = {" ".join(store.path(end.head.id).actions): end for end in tree.ends() if end.head}
    agent = method(tmp_path / "run", model)
    good = store.path(found["a b c"].head.id)
    assert sorted(good.half) == [1]
    splice = splice_of(found, "x stop", "a b c", 1, 0, wanted=0.0)
    (done,) = execute([splice], store, Conversation(), ends=agent.acting.template.ends, version="v", **QUIET)
    assert done.episode is not None
    for path in (store.path(done.episode), pasted(splice, store, Conversation(), agent.acting.template.ends)):
        assert "b\nand the" in [turn.completion for turn in path.turns]
        (sample,) = agent.samples_of(path, kind="revision")
        assert trained(agent, sample) == "ac"


def test_an_answer_whose_ids_have_no_end_is_recited_as_half_an_answer(tmp_path: Path, model: Path) -> None:
    """A local model with room for one id: nearly all of its answers are cut."""
    agent, policy = method(tmp_path / "run", model), HFPolicy(model, sampling=Sampling(temperature=1.0, max_tokens=1))
    with EpisodeStore(tmp_path / "episodes.sqlite") as store:
        collect([TASK], policy, store, **QUIET)
        (path,) = store.paths()
        ended = [agent.acting.template.ends(turn.tokens.completion) for turn in path.turns if turn.tokens]
        assert len(ended) == len(path.turns)
        assert not all(ended)
        splice = Splice(task=TASK.id, bad=path.episode.id, good=path.episode.id, kept=1, resumes=0, wanted=0.0)
        said = lines(splice, store, Conversation(), agent.acting.template.ends)
        assert [answer.finished for answer in said] == ended


def test_a_revision_stands_before_the_next_action_or_is_a_turn_of_its_own(tmp_path: Path) -> None:
    store, found = ends(tmp_path, "a b c", "x stop")
    splice, react = splice_of(found, "x stop", "a b c", 1, 0, thought="I go back."), Conversation(style="react")
    assert lines(splice, store, react, WHOLE)[0].text == "Thought: I go back.\nAction: a"
    turn = splice.model_copy(update={"place": "turn"})
    assert lines(turn, store, react, WHOLE)[0].text == "Thought: I go back.\nAction: wait"
    assert len(lines(turn, store, react, WHOLE)) == 4


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("revision", "thought", r"a revision 'thought' needs conversation\.style 'react'"),
        ("revision", "turn", r"a revision 'turn' needs conversation\.style 'react'"),
        ("search", {"max_calls": 4}, r"search\.max_calls: the trees take as many calls as the rollouts of 'budget'"),
        ("alpha", [0.5, 1.5], r"alpha: scores lie between 0 and 1, got \[0\.5, 1\.5\]"),
    ],
)
def test_settings_that_could_only_be_passed_over_are_refused(key: str, value: object, says: str) -> None:
    with pytest.raises(BadInput, match=f"^configuration.*{says}"):
        config_of(AgentRConfig, {"env": "toy/Word-v0", "budget": 1, key: value})


def test_a_file_of_general_chat_that_is_not_there_is_refused_before_anything_is_made(
    tmp_path: Path, model: Path
) -> None:
    with pytest.raises(BadInput, match=r"nope\.jsonl"):
        method(tmp_path / "run", model, general=str(tmp_path / "nope.jsonl")).train()
    assert not (tmp_path / "run").exists()


def test_an_objective_of_pairs_is_refused_before_anything_is_made(tmp_path: Path, model: Path) -> None:
    with pytest.raises(
        BadInput, match=r"objective\.kind 'preference' learns from Pair data, and agent-r gives it samples"
    ):
        method(tmp_path / "run", model, objective={"kind": "preference"}).train()
    assert not (tmp_path / "run").exists()


# -- trees ------------------------------------------------------------------------------------------------------------


def test_an_iteration_searches_so_many_tasks_and_the_next_one_goes_on(tmp_path: Path, model: Path) -> None:
    few = method(tmp_path / "few", model, env="toy/Lamps-v0", tasks=5, searched=2)
    names = [task.name for task in few.tasks]
    chosen = [[task.name for task in few.searched(number)] for number in (1, 2, 3)]
    assert chosen == [names[:2], names[2:4], [names[4], names[0]]]
    for wanted in (None, 5, 9):
        whole = method(tmp_path / str(wanted), model, env="toy/Lamps-v0", tasks=5, searched=wanted)
        assert [task.name for task in whole.searched(2)] == names


# -- training ---------------------------------------------------------------------------------------------------------


def test_general_chat_has_its_share_of_the_weight(tmp_path: Path, model: Path) -> None:
    agent = method(tmp_path / "run", model)
    chats = read_chats("own", agent.acting.template, "train")
    assert len(chats) >= 20
    store, found = ends(tmp_path, "a b c", "stop")
    own = agent.samples_of(store.path(found["a b c"].head.id), range(3))
    whole = mixed(own, chats, 0.2)
    ours = sum(sum(sample.weights) for sample in whole if sample.kind != "general")
    assert ours / sum(sum(sample.weights) for sample in whole) == pytest.approx(0.2)
    (tmp_path / "bad.jsonl").write_text('{"messages": [{"role": "assistant", "content": "hello"}]}\n')
    with pytest.raises(BadInput, match="line 1: message 1 is an answer to nothing"):
        read_chats(str(tmp_path / "bad.jsonl"), agent.acting.template, "train")


def test_general_chat_is_learnt_with_the_cloned_experts_too(tmp_path: Path, model: Path) -> None:
    """Of the clones' fit the general chat has the share 1 - eta, as of every other."""
    chats = tmp_path / "chats.jsonl"
    said = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "good day"}]
    chats.write_text(json.dumps({"messages": said}) + "\n")
    told = {"env": "toy/Lamps-v0", "experts": {"oracle": "solve"}, "budget": 0, "general": str(chats), "eta": 0.4}
    agent = method(tmp_path / "run", model, **told, tasks=4, evaluation={"split": "test", "tasks": 1})
    agent.train()
    with RunDir.open(tmp_path / "run", "agent-r", agent.config) as run:
        samples = run.load_samples("iteration-0/samples.jsonl.gz")
    weight = {kind: sum(sum(s.weights) for s in samples if s.kind == kind) for kind in ("expert", "general")}
    assert {sample.kind for sample in samples} == set(weight)
    assert weight["expert"] / sum(weight.values()) == pytest.approx(0.4)


def test_agent_r_runs_from_trees_to_weights(tmp_path: Path, model: Path) -> None:
    """The whole loop on the word: splices are executed, and the run directory says which hold."""
    wide = {"strategy": "best", "width": 24, "iterations": 12}  # 24 answers: hardly one of the six actions is missed
    settings = {"search": wide, "alpha": [0.3], "beta": 0.1, "budget": 60, "iterations": 1}
    agent = method(tmp_path / "run", model, transition="end", **settings)
    agent.train()
    found = Reflection.model_validate_json((tmp_path / "run/iteration-1/reflection.json").read_text())
    assert found.splices
    for splice in found.splices:
        assert splice.accepted == (splice.score is not None and splice.score >= splice.wanted)
    with RunDir.open(tmp_path / "run", "agent-r", agent.config) as run:
        kinds = {sample.kind for sample in run.load_samples("iteration-1/samples.jsonl.gz")}
    assert "good" in kinds


def test_a_budget_below_one_expansion_is_told_in_the_log(tmp_path: Path, model: Path) -> None:
    """One rollout is at most as many calls as the word has steps, and an expansion takes 24."""
    agent = method(tmp_path / "run", model, transition="end", search={"width": 24}, budget=1, iterations=1)
    agent.train()
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    (line,) = [line for line in log if line["event"] == "searched"]
    assert (line["waves"], line["model_calls"], line["stopped"]) == (0, 0, "max_calls")
