"""The games' text grammar says what the original's says, letter by letter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palaestra.envs.alfworld.game import Game, GameFile
from palaestra.envs.alfworld.grammar import (
    Call,
    Each,
    Entity,
    Mapped,
    Placeholder,
    Query,
    Words,
    read_grammar,
    read_query,
    read_symbols,
)
from palaestra.envs.errors import BadInput

DOMAIN = """
(define (domain toys)
  (:types agent thing place - object toy - thing)
  (:predicates (at ?a - agent ?p - place) (in ?x - thing ?p - place) (held ?x - thing) (used))
  (:action take :parameters (?a - agent ?x - thing ?p - place)
    :precondition (and (at ?a ?p) (in ?x ?p)) :effect (and (held ?x) (not (in ?x ?p))))
)
"""
OBJECTS = "me - agent box_bar_1 box_bar_2 - place cup_bar_1 cup_bar_2 cup_bar_3 - thing ant_bar_1 - toy"
THINGS = (("cup", 1), ("cup", 2), ("cup", 3), ("ant", 1))
FACTS = "(at me box_bar_1) " + " ".join(f"(in {each}_bar_{n} box_bar_1)" for each, n in THINGS)
TAKE = 'action take { template :: "take {x} from {p}"; feedback :: "#taken#"; }'
Rule = list[dict[str, str]]
LISTS: dict[str, Rule] = {
    "list_empty": [{"rhs": "nothing"}],
    "list_separator": [{"rhs": ", "}],
    "list_last_separator": [{"rhs": ", and "}],
}


def game(intro: str, facts: str, rules: Mapping[str, Rule]) -> Game:
    """A game of toys whose intro is this text."""
    whole = {**LISTS, "intro": [{"rhs": intro}], "taken": [{"rhs": "Taken."}], **rules}
    grammar = f'grammar :: """{json.dumps(whole)}""";\n{TAKE}'
    problem = f"(define (problem p) (:domain toys) (:objects {OBJECTS}) (:init {facts}) (:goal (held cup_bar_1)))"
    return Game(GameFile("test", DOMAIN, grammar, problem, "", {}))


def said(intro: str, facts: str = FACTS, **rules: Rule) -> str:
    return game(intro, facts, rules).intro()


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ("(at me box_bar_1)", "nothing"),
        ("(in cup_bar_1 box_bar_1)", "cup 1"),
        ("(in cup_bar_1 box_bar_1) (in cup_bar_2 box_bar_1)", "cup 2, and cup 1"),
        ("(in cup_bar_1 box_bar_1) (in cup_bar_2 box_bar_1) (in cup_bar_3 box_bar_1)", "cup 3, cup 2, and cup 1"),
    ],
)
def test_lists_have_commas_and_an_and_or_say_that_they_are_empty(facts: str, text: str) -> None:
    assert said("[{x.name | in(x:thing, p:place)}]", facts) == text


def test_objects_of_the_type_come_before_those_of_narrower_types() -> None:
    assert said("[{x.name | in(x:thing, p:place)}]") == "cup 3, cup 2, cup 1, and ant 1"
    assert said("[{x.name | in(x:toy, p:place)}]") == "ant 1"


def test_without_a_list_the_texts_follow_each_other() -> None:
    one: Rule = [{"rhs": "({x.name})"}]
    assert said("in it: {#one# | in(x:thing, p:place)}.", one=one) == "in it: (cup 3)(cup 2)(cup 1)(ant 1)."


def test_no_two_placeholders_get_the_same_object() -> None:
    pair = [{"rhs": "{x.name}+{y.name} "}]
    pairs = said("{#pair# | in(x:thing, p:place) & in(y:thing, p:place)}", pair=pair)
    assert len(pairs.split("+")) - 1 == 4 * 3
    assert "cup 1+cup 1" not in pairs


def test_a_rule_takes_its_first_alternative_whose_condition_holds() -> None:
    alternatives = [{"condition": "held(x:thing)", "rhs": "full"}, {"rhs": "empty"}, {"rhs": "never"}]
    assert said("#hands#", hands=alternatives) == "empty"
    assert said("#hands#", FACTS + " (held cup_bar_2)", hands=alternatives) == "full"


def test_expressions_put_texts_together() -> None:
    shown = "{#each# | in(x:toy, p:place)}"
    for rhs, text in [
        ("{x.indefinite + ' ' + x.name}", "a ant 1"),
        ("{x.id or x.name}", "ant_bar_1"),
        ("{'' or x.definite}", "the"),
        ("{x.name and x.type}", "toy"),
        ("{x}", "ant 1"),
    ]:
        assert said(shown, each=[{"rhs": rhs}]) == text


@pytest.mark.parametrize(
    "expression", ["x.__class__", "len(x.name)", "(lambda: 1)()", "x.name * 9", "1", "x.name +", "x if x else x"]
)
def test_expressions_do_nothing_else(expression: str) -> None:
    with pytest.raises(BadInput, match="the grammar's expression"):
        read_symbols("{" + expression + "}")


def test_text_is_cut_where_it_cannot_be_read_on_and_loses_blanks_at_its_beginning() -> None:
    assert read_symbols("  in it") == (Words("in it"),)
    assert read_symbols("one; two") == (Words("one"),)
    assert read_symbols("one} two") == (Words("one"),)
    assert read_symbols('say "this" now') == (Words("say "), Words("this"), Words(" now"))
    assert read_symbols("#a#\n\n#b(x)#.") == (Call("a"), Words("\n\n"), Call("b(x)"), Words("."))
    assert read_symbols("") == ()


def test_a_list_of_a_rule_is_read() -> None:
    (symbol,) = read_symbols("[{#show(o)# | on(o:thing, p)}]")
    assert isinstance(symbol, Each)
    assert symbol.inner == Call("show(o)")
    assert symbol.listed
    assert symbol.query == read_query(" on(o:thing,p:p) ")
    assert symbol.query[0].parameters == (Placeholder("o", "thing"), Placeholder("p", "p"))


@pytest.mark.parametrize("query", ["on(o", "on o", "on(o) &", "& on(o)", "on(o) | in(o)", ""])
def test_a_query_that_cannot_be_read_is_refused(query: str) -> None:
    with pytest.raises(BadInput, match="the grammar's query"):
        read_query(query)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('grammar :: """{"a": [}""";', r"g line 1: Expecting value"),
        ('\n\ngrammar :: """{"a": 3}""";', r"g line 3: rules of the form"),
        ('grammar :: """{"a": [{"rhs": "{x()}"}]}""";', r"g line 1: the grammar's expression 'x\(\)'"),
        ("# only this\nverb x {}", r"g line 2: 'grammar ::' or 'action NAME \{' expected"),
        ('action take {\n template : "x"; }', r"g line 2: action 'take' cannot be read"),
        ('action take { template :: "take"; ', r"g line 1: action 'take' cannot be read"),
    ],
)
def test_a_grammar_that_cannot_be_read_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as refused:
        read_grammar(text, "g")
    assert "\n" not in str(refused.value)


def test_comments_and_later_rules() -> None:
    text = """
    # a comment
    grammar :: \"\"\" {"a": [{"rhs": "first"}], "b": [{"rhs": "kept"}]} \"\"\";
    action Take {
        template :: "take"; # and another
        feedback :: "#a#";
        grammar :: \"\"\"
          # within, too
          {"a": [{"rhs": "second"}]}
        \"\"\";
    }
    """
    grammar = read_grammar(text)
    assert [alternative.symbols for alternative in grammar.rules["a"]] == [(Words("second"),)]
    assert grammar.actions["take"].feedback == (Call("a"),)


class Nothing:
    """A scene in which nothing is true."""

    def answers(self, query: Query, mapped: Mapped) -> Iterator[Mapped]:
        return iter(())

    def entity(self, number: int) -> Entity:
        raise AssertionError(number)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"intro": [{"rhs": "#intro#"}]}, "a rule calls itself"),
        ({"intro": [{"rhs": "#gone#"}]}, "no rule #gone#"),
        (
            {"intro": [{"rhs": "x", "condition": "held(x:thing)"}]},
            "no alternative of the grammar's rule #intro# applies",
        ),
        ({"intro": [{"rhs": "{x.name}"}]}, "names 'x', which is not chosen"),
        ({"intro": [{"rhs": "[{x.name | held(x:thing)}]"}]}, "no rule #list_empty#"),
    ],
)
def test_texts_that_cannot_be_made_are_refused(rules: Mapping[str, object], message: str) -> None:
    grammar = read_grammar(f'grammar :: """{json.dumps(rules)}""";')
    with pytest.raises(BadInput, match=re.escape(message)):
        grammar.derive(read_symbols("#intro#"), Nothing(), {})


def test_a_game_with_a_broken_grammar_is_refused_when_it_is_loaded() -> None:
    with pytest.raises(BadInput, match=r"^test/game.tw-pddl line 1: the grammar has no rule #gone#$"):
        game("#gone#", FACTS, {})


@given(st.text(alphabet="ab#{}[]|<>;\" \n\t:.,'+()", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        symbols = read_symbols(text)
    except BadInput as error:
        symbols = ()
        assert str(error).startswith("the grammar's ")  # noqa: PT017  # the one way in which it may fail
    assert all(isinstance(symbol, Words | Call | Each) or hasattr(symbol, "source") for symbol in symbols)
