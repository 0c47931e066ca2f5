"""Strategies that choose among answers, each against a case that is worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from safe import INSTRUCTIONS, Says, request, said

from palaestra.agents.policy import Completion
from palaestra.agents.strategies.best_of_n import BestOfN, PTrueJudging, PTruePlan
from palaestra.agents.strategies.deepening import Deepening, DeepeningPlan, limits
from palaestra.agents.strategies.iad import IAD
from palaestra.agents.strategies.self_certainty import SelfCertainty, SelfCertaintyPlan, borda
from palaestra.agents.strategies.self_consistency import SelfConsistency, SelfConsistencyPlan, blend
from palaestra.agents.strategies.strategy import Plan
from palaestra.agents.strategies.verified import VerifiedPlan
from palaestra.agents.strategies.verifier import Case, PTrue
from palaestra.agents.template import ChatTemplate
from palaestra.agents.tiny import make_tiny
from palaestra.envs import BadInput


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    """Of a small tokenizer in which a letter after a bracket is an id of its own."""
    from transformers import AutoTokenizer

    folder = make_tiny([INSTRUCTIONS] * 3, tmp_path_factory.mktemp("tiny"), vocab=320, hidden=16, layers=1, heads=2)
    return ChatTemplate(AutoTokenizer.from_pretrained(folder))


def test_best_of_n_takes_the_likeliest_answer() -> None:
    """Four answers with mean log-probs -1, -0.5, -0.2, -0.9; the third says what the first says, so it does not count;
    of "1" (-1), "2" (-0.5) and "3" (-0.9) the second is the likeliest. Four calls for a budget of four."""
    policy = Says(said("1", -1.0), said("2", -0.5), said(" 1 ", -0.2), said("3", -0.9))
    best = BestOfN(policy, VerifiedPlan(calls=4))
    (answer,) = best.act([request()])
    assert (answer.text, answer.calls, len(policy.asked)) == ("2", 4, 4)
    assert answer.logprobs == ()  # it was chosen, not drawn
    assert len({asked.seed for asked in policy.asked}) == 4
    assert policy.asked[0].seed == request().seed
    assert (best.spent.calls, best.spent.batches, best.spent.changed) == (4, 1, 1)


def test_best_of_n_with_a_judge_takes_two_calls_an_answer() -> None:
    """A budget of 5 is two answers of two calls each. "1" is judged B and "2" A, so P(True) is 0 and 1."""
    policy = Says("1", "2", "B", "(A)")
    (answer,) = BestOfN(policy, VerifiedPlan(calls=5, verifier="p-true")).act([request()])
    assert (answer.text, answer.calls, len(policy.asked)) == ("2", 4, 4)


def test_what_is_alone_is_not_judged() -> None:
    """Both answers say the same: nothing to choose, so two of the four calls are saved."""
    policy = Says("1", "1")
    (answer,) = BestOfN(policy, VerifiedPlan(calls=4, verifier="p-true")).act([request()])
    assert (answer.text, answer.calls) == ("1", 2)


def test_p_true_is_the_probability_of_the_letter(template: ChatTemplate) -> None:
    """ "(A" with log-probs (-0.1, ln 0.8): P(True) = 0.8, whatever the bracket's. "B" with ln 0.7: 1 - 0.7 = 0.3. Words
    without a letter of its own say nothing: 0.5. So of the three the first is taken."""
    bracket, a, b = (template.encode_inside(text) for text in ("(", "A", "B"))
    assert len(bracket) == len(a) == len(b) == 1
    case = Case(request(), said("1"))
    yes = Completion("(A", ids=(*bracket, *a), logprobs=(-0.1, math.log(0.8)))
    no = Completion("B", ids=tuple(b), logprobs=(math.log(0.7),))
    assert PTrue().worth(case, yes, template) == pytest.approx(0.8)
    assert PTrue().worth(case, no, template) == pytest.approx(0.3)
    assert PTrue().worth(case, said("A man, a plan"), None) == 1.0
    assert PTrue().worth(case, said("ABBA"), template) == 0.5
    assert PTrue().worth(case, Completion("A", error="no room"), template) == 0.5
    policy = Says("1", "2", "3", yes, no, said("Well"), template=template)
    (answer,) = PTrueJudging(policy, PTruePlan(calls=6)).act([request()])
    assert (answer.text, answer.calls) == ("1", 6)


def test_the_judge_reads_the_task_the_answer_and_the_others() -> None:
    """Three different answers, of which the judge is shown two beside each that it judges."""
    policy = Says("1", "2", "3", "B", "B", "A")
    (answer,) = PTrueJudging(policy, PTruePlan(calls=6, shown=2)).act([request()])
    assert answer.text == "3"
    asked = policy.told(4)
    assert INSTRUCTIONS in asked
    assert "The safe is shut." in asked
    assert "Proposed answer: 2\n" in asked
    assert "Another answer: 1\nAnother answer: 3\n" in asked
    assert policy.asked[4].max_tokens == 4


@pytest.mark.parametrize(
    ("votes", "spent", "expected"),
    [
        ((0, 0), 0.0, 1 / 2),  # nothing known: P(share > 1/2) = 1/2
        ((1, 0), 0.0, 3 / 4),  # Beta(2, 1): 1 - (1/2)^2
        ((2, 0), 0.0, 7 / 8),  # Beta(3, 1): 1 - (1/2)^3
        ((2, 1), 0.0, 11 / 16),  # Bin(4, 1/2) <= 2: (1 + 4 + 6) / 16
        ((2, 0), 1.0, 1 / 4),  # f(1/2) = 3!/(2! 0!) / 4 = 3/4 at Beta(3, 1)
        ((2, 1), 1.0, 0.0),  # f(1/2) = 4!/(2! 1!) / 8 = 3/2: as good as even
        ((2, 0), 0.5, 9 / 16),
    ],
)
def test_how_sure_one_is_of_a_leader(votes: tuple[int, int], spent: float, expected: float) -> None:
    assert blend(*votes, spent) == pytest.approx(expected)


def test_blend_asc_spends_the_budget_where_votes_differ() -> None:
    """Two decisions, four calls each, one at a time. Both begin with "1": c = 3/4 (1 - w), equal, so the first gets the
    next sample, "1": (2, 0). From then on it is the surer one:

        spent   first (2, 0)                   second           the second hears
        3/8     5/8 7/8 + 3/8 1/4 = 0.641      (1, 0)  0.469    "2"
        4/8     0.563                          (1, 1)  0.250    "1"
        5/8     0.484                          (2, 1)  0.258    "2"
        6/8     0.406                          (2, 2)  0.125    "1"
        7/8     0.328                          (3, 2)  0.082    "1"

    So the first gets two samples and the second six, eight in all, and both say "1"."""
    policy = Says("1", "1", "1", "2", "1", "2", "1", "1")
    plan = SelfConsistencyPlan(calls=4, share=0.1)
    answers = SelfConsistency(policy, plan).act([request(1), request(2)])
    assert [(answer.text, answer.calls) for answer in answers] == [("1", 2), ("1", 6)]
    assert len(policy.asked) == 8


def test_even_self_consistency_is_a_plain_vote() -> None:
    """Three samples of each: "2" has two of three, and in a tie what was said first stands; what cannot be read does
    not vote."""
    policy = Says("1", "2", " 2", "4", "", "5")
    plan = SelfConsistencyPlan(calls=3, allocation="even")
    answers = SelfConsistency(policy, plan).act([request(1), request(2)])
    assert [(answer.text, answer.calls) for answer in answers] == [("2", 3), ("4", 3)]


def test_a_request_that_fails_takes_no_budget_from_the_others() -> None:
    """The first fails at once and is asked no more; the second gets all that is left of the eight."""
    policy = Says(Completion("", error="too long"), *["1"] * 7)
    answers = SelfConsistency(policy, SelfConsistencyPlan(calls=4)).act([request(1), request(2)])
    assert answers[0].error == "too long"
    assert [answer.calls for answer in answers] == [1, 7]


@pytest.mark.parametrize(("power", "winner"), [(0.0, "1"), (0.5, "1"), (2.0, "2")])
def test_borda_votes_weigh_by_rank_of_certainty(power: float, winner: str) -> None:
    """Certainties 0.2, 0.9, 0.5 of "1", "2", "1": ranks 3, 1, 2, weights 1, 3, 2 to the power. "1" against "2" is 2 : 1
    at power 0, 1 + sqrt 2 = 2.41 : 1.73 at 0.5, and 1 + 4 = 5 : 9 at power 2."""
    assert borda([0.2, 0.9, 0.5], 1.0) == [1.0, 3.0, 2.0]
    policy = Says(*(said(text, certainty=value) for text, value in (("1", 0.2), ("2", 0.9), ("1", 0.5))))
    strategy = SelfCertainty(policy, SelfCertaintyPlan(calls=3, power=power))
    assert policy.certainty
    (answer,) = strategy.act([request()])
    assert (answer.text, answer.calls) == (winner, 3)


def test_certainty_is_the_distance_from_knowing_nothing() -> None:
    """Of two ids p = (0.9, 0.1): -(ln 1.8 + ln 0.2) / 2 = -ln(0.36) / 2 = 0.5108; of (1/2, 1/2) nothing."""
    torch = pytest.importorskip("torch")
    from palaestra.agents.policies.decoding import certainties

    found = certainties(torch.tensor([[math.log(0.9), math.log(0.1)], [3.0, 3.0]]))
    assert found == pytest.approx([0.5108, 0.0], abs=1e-4)


def test_a_policy_without_distributions_votes_by_likelihood() -> None:
    """Log-probs -0.2 and -1 and -3 of "1", "2", "2" at power 2: 9 against 4 + 1."""
    policy = Says(said("1", -0.2), said("2", -1.0), said("2", -3.0))
    del policy.certainty
    with pytest.raises(BadInput, match="measure=likelihood"):
        SelfCertainty(policy)
    (answer,) = SelfCertainty(policy, SelfCertaintyPlan(calls=3, power=2, measure="likelihood")).act([request()])
    assert answer.text == "1"


def test_deepening_goes_on_to_limits_that_grow(template: ChatTemplate) -> None:
    """max_tokens 16, gamma 2, three calls: limits 4, 8, 16. The first piece fills 4 ids; with a trigger of one id the
    second call may write 8 - 4 - 1 = 3, the third 16 - 8 - 1 = 7, and it ends there. Of another answer the first piece
    ends by itself: one call, nothing put in."""
    word = template.encode_inside("!")
    assert len(word) == 1
    assert limits(DeepeningPlan(calls=3), 16) == [4, 8, 16]
    assert limits(DeepeningPlan(calls=3, first=5, gamma=3), 16) == [5, 15, 16]
    assert limits(DeepeningPlan(calls=1), 16) == [16]

    def piece(text: str, finished: bool = False) -> Completion:
        ids = (*template.encode_inside(text), *([template.end_id] if finished else []))
        return Completion(text, ids=ids, logprobs=(-1.0,) * len(ids), finished=finished)

    policy = Says(piece("abcd"), piece("done", True), piece("efg"), piece("hi", True), template=template)
    deep = Deepening(policy, DeepeningPlan(calls=3, trigger="!"))
    long, short = deep.act([request(1, "text"), request(2, "text")])
    assert (long.text, long.calls, long.finished, long.logprobs) == ("abcd!efg!hi", 3, True, ())
    assert (short.text, short.calls, len(short.logprobs)) == ("done", 1, len(template.encode_inside("done")) + 1)
    assert [asked.max_tokens for asked in policy.asked] == [4, 4, 3, 7]
    opened = list(policy.asked[2].prompt_ids)
    assert opened[-5:] == template.encode_inside("abcd!")
    assert len(opened) == len(template.opening(request(1, "text").messages)) + 5


def test_deepening_needs_ids() -> None:
    with pytest.raises(BadInput, match="tells no token ids"):
        Deepening(Says())


def test_iad_answers_with_its_best_and_worst_in_view() -> None:
    """Four rounds: "1" (-0.9), "2" (-0.5) is better, "3" (-2) is the worst, "2" was rated before. Round 2 sees "1"
    alone, round 3 "2" and "1", round 4 "2" and "3"; "2" is taken."""
    policy = Says(said("1", -0.9), said("2", -0.5), said("3", -2.0), said("2", -0.1))
    (answer,) = IAD(policy, VerifiedPlan(calls=4)).act([request()])
    assert (answer.text, answer.calls) == ("2", 4)
    assert "best" not in policy.told(0)
    assert "Your answer so far (rated -0.90):\n1\n" in policy.told(1)
    assert "best answer so far (rated -0.50):\n2\nYour worst answer so far (rated -0.90):\n1\n" in policy.told(2)
    assert "best answer so far (rated -0.50):\n2\nYour worst answer so far (rated -2.00):\n3\n" in policy.told(3)


def test_iad_rates_by_a_judge_within_its_calls() -> None:
    """Six calls are three rounds of an answer and its rating: "1" B, "2" A, and "2" again, which is not rated twice."""
    policy = Says("1", "B", "2", "A", "2")
    (answer,) = IAD(policy, VerifiedPlan(calls=6, verifier="p-true")).act([request()])
    assert (answer.text, answer.calls, len(policy.asked)) == ("2", 5, 5)


def test_a_budget_that_compares_nothing_is_refused() -> None:
    for plan in (VerifiedPlan(calls=1), VerifiedPlan(calls=3, verifier="p-true")):
        for strategy in (BestOfN, IAD):
            with pytest.raises(BadInput, match="at least two answers"):
                strategy(Says(), plan)
    with pytest.raises(BadInput, match="no verifier 'luck'"):
        BestOfN(Says(), VerifiedPlan(verifier="luck"))
    with pytest.raises(BadInput, match="without log-probs"):
        BestOfN(Says("1", "2"), VerifiedPlan(calls=2)).act([request()])
    with pytest.raises(BadInput, match="takes a VerifiedPlan"):
        BestOfN(Says(), Plan())  # type: ignore[arg-type]


def test_answers_that_cannot_be_read_leave_the_policy_its_own() -> None:
    policy = Says(said("", -1.0), said("  ", -0.5))
    (answer,) = BestOfN(policy, VerifiedPlan(calls=2)).act([request()])
    assert (answer.text, answer.calls) == ("", 2)


def test_where_a_strategy_and_its_budget_are_kept(tmp_path: Path) -> None:
    """Name, version and `extra` differ by strategy, budget, option, judge and the policy inside; nested ones too."""
    variants = [
        BestOfN(Says(), VerifiedPlan(calls=4)),
        BestOfN(Says(), VerifiedPlan(calls=5)),
        BestOfN(Says(), VerifiedPlan(calls=4, verifier="p-true")),
        BestOfN(Says(), VerifiedPlan(calls=4), judge=Says(version="other")),
        IAD(Says(), VerifiedPlan(calls=4)),
        SelfConsistency(Says(), SelfConsistencyPlan(calls=4)),
        SelfConsistency(BestOfN(Says(), VerifiedPlan(calls=4)), SelfConsistencyPlan(calls=4)),
    ]
    assert len({(strategy.name, strategy.version) for strategy in variants}) == len(variants)
    assert variants[0].name == "says+best-of-n"
    told = Says(replace(said("1", -1.0), version="0"), said("2", -2.0))  # by weights that its engine names
    strategy = BestOfN(told, VerifiedPlan(calls=2))
    assert strategy.act([request()])[0].version == strategy.version
    assert variants[0].extra["strategy"] == {"name": "best-of-n", "calls": 4, "verifier": "likelihood"}
    assert variants[-1].extra["strategy"]["around"]["name"] == "best-of-n"
