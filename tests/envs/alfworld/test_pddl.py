"""PDDL is read as the original's translator reads it, and what cannot be read is refused in one line."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palaestra.envs.alfworld.games import SPLITS, names, release
from palaestra.envs.alfworld.pddl import Condition, Junction, Literal, Quantified, read_domain, read_problem
from palaestra.envs.errors import BadInput

DOMAIN = """
; a room with boxes
(define (domain Boxes)
  (:requirements :adl :typing)
  (:types thing - object box - thing place)     ; box is a kind of thing
  (:predicates (At ?x - thing ?p - place) (open ?b - box) (seen ?x))
  (:functions (total-cost) - number)
  (:action Open
    :parameters (?b - box ?p - place)
    :precondition (and (at ?b ?p) (not (open ?b)))
    :effect (and (open ?b) (increase (total-cost) 1)))
  (:action wave :parameters () :precondition () :effect (forall (?x - thing) (when (seen ?x) (not (seen ?x)))))
)
"""
PROBLEM = """
(define (problem one) (:domain boxes)
  (:objects red blue - box hall - place stone)
  (:init (at red hall) (AT blue hall) (= (distance hall hall) 3) (not (open red)))
  (:goal (exists (?b - box) (open ?b)))
  (:metric minimize (total-cost)))
"""


def precondition(text: str) -> Condition:
    """The precondition of an action with this one."""
    whole = DOMAIN.replace("(and (at ?b ?p) (not (open ?b)))", text)
    return read_domain(whole).actions[0].precondition


def test_a_domain_has_types_predicates_and_actions_in_lower_case() -> None:
    domain = read_domain(DOMAIN)
    assert domain.name == "boxes"
    assert domain.above("box") == ("box", "thing", "object")
    assert domain.above("cupboard") == ("cupboard",)
    assert domain.arity == {"=": 2, "at": 2, "open": 1, "seen": 1}
    opening, waving = domain.actions
    assert (opening.name, opening.parameters) == ("open", (("?b", "box"), ("?p", "place")))
    assert [effect.literal for effect in opening.effects] == [Literal("open", ("?b",))]
    (effect,) = waving.effects
    assert effect.variables == (("?x", "thing"),)
    assert effect.condition == Literal("seen", ("?x",))
    assert effect.literal == Literal("seen", ("?x",), negated=True)


def test_a_problem_has_objects_facts_and_a_goal() -> None:
    problem = read_problem(PROBLEM, read_domain(DOMAIN))
    assert problem.objects == (("red", "box"), ("blue", "box"), ("hall", "place"), ("stone", "object"))
    assert problem.facts == (("at", "red", "hall"), ("at", "blue", "hall"))
    assert problem.named == {"hall"}
    assert problem.goal == Quantified((("?b", "box"),), Literal("open", ("?b",)), every=False)


def test_negations_move_inwards() -> None:
    seen, unseen = Literal("open", ("?b",)), Literal("open", ("?b",), negated=True)
    assert precondition("(not (and (open ?b) (not (open ?b))))") == Junction((unseen, seen), every=False)
    assert precondition("(imply (open ?b) (open ?b))") == Junction((unseen, seen), every=False)
    assert precondition("(not (forall (?x - box) (open ?x)))") == Quantified(
        (("?x", "box"),), Literal("open", ("?x",), negated=True), every=False
    )
    assert precondition("()") == Junction((), every=True)


def test_a_comma_belongs_to_the_word_before_it() -> None:
    """The original's own domain has one, and so a type that no object is of."""
    found = precondition("(exists (?x - box, ?y - place) (at ?x ?y))")
    assert isinstance(found, Quantified)
    assert found.variables == (("?x", "box,"), ("?y", "place"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("(open ?b) (increase", "(opened ?b) (increase", r"domain line 11: the domain has no predicate 'opened'"),
        ("(at ?b ?p) (not", "(at ?b) (not", r"domain line 10: predicate 'at' takes 2 arguments"),
        ("  (:functions", "  (:derived (x) (seen y))\n  (:functions", r"line 7: ':derived' is not supported"),
        (":effect (and", ":efect (and", r"line 8: action 'open' cannot be read"),
        ("(not (open ?b)))\n", "(not (open ?b))\n", r"domain line \d+: "),
        ("(define (domain Boxes)", "(define (problem Boxes)", r"line 3: .*'\(define \(domain NAME\)' expected"),
        ("?p - place)\n    :pre", "?p - )\n    :pre", r"line 9: a type is missing after '-'"),
    ],
)
def test_a_domain_that_cannot_be_read_is_refused_with_its_line(old: str, new: str, message: str) -> None:
    assert old in DOMAIN
    with pytest.raises(BadInput, match=message) as refused:
        read_domain(DOMAIN.replace(old, new), "domain")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("(at red hall)", "(at red kitchen)", r"names 'kitchen', which is no object"),
        ("(at red hall)", "(near red hall)", r"problem line 4: the domain has no predicate 'near red hall'"),
        ("boxes", "balls", r"problem line 2: the problem is not of domain 'boxes'"),
        ("red blue", "red red", r"an object is declared twice"),
        ("(:goal (exists (?b - box) (open ?b)))", "", r"the problem has no goal"),
        ("(total-cost)))", "(total-cost))", r"problem line 7: a '\)' is missing"),
        ("(total-cost)))", "(total-cost)))) x", r"problem line 6: text goes on after its last '\)'"),
        ("(open ?b)))", "(open ?b)" + "(and " * 80 + ")" * 80 + "))", r"line 5: brackets are nested deeper than 60"),
    ],
)
def test_a_problem_that_cannot_be_read_is_refused_with_its_line(old: str, new: str, message: str) -> None:
    assert old in PROBLEM
    with pytest.raises(BadInput, match=message) as refused:
        read_problem(PROBLEM.replace(old, new), read_domain(DOMAIN), "problem")
    assert "\n" not in str(refused.value)


@given(st.integers(min_value=0, max_value=len(PROBLEM.rstrip()) - 1))
def test_a_problem_that_is_cut_off_is_refused(length: int) -> None:
    with pytest.raises(BadInput, match=r"^problem line \d+: "):
        read_problem(PROBLEM.rstrip()[:length], read_domain(DOMAIN), "problem")


@settings(max_examples=300)
@given(st.text(alphabet="()?-:;= \n\tabx,", max_size=60).map(lambda noise: DOMAIN[:200] + noise + DOMAIN[200:]))
def test_noise_is_read_or_refused_and_nothing_else(text: str) -> None:
    message = ""
    try:
        read_domain(text, "noise")
    except BadInput as error:
        message = str(error)
    assert re.fullmatch(r"(noise line \d+: .*)?", message)


def test_the_released_games_are_read() -> None:
    """A spread of all splits, and a game with the other of the two domains that the release has."""
    games = release()
    other = games.name(
        "valid_seen/pick_clean_then_place_in_recep-Mug-None-CoffeeMachine-26/trial_T20190907_233056_022802"
    )
    chosen = [other, *(name for split in SPLITS for name in names(split)[:: 200 if split == "train" else 20])]
    domains = set()
    for name in chosen:
        file = games.file(name)
        domain = read_domain(file.domain)
        problem = read_problem(file.problem, domain)
        domains.add(file.domain)
        assert domain.name == "alfred"
        assert len(domain.actions) == 14
        assert len(problem.facts) > 100
    assert len(domains) == 2
