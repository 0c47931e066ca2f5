"""Our engine plays ALFWorld's games as the original does: rules, listings, texts, and experts' records."""

from __future__ import annotations

import pickle
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palaestra.envs.alfworld import proof
from palaestra.envs.alfworld.engine import NativeEngine, engine
from palaestra.envs.alfworld.game import NOTHING, Game, GameFile, World, compiled
from palaestra.envs.alfworld.games import SPLITS, TYPES, names, release
from palaestra.envs.alfworld.protocols import protocol
from palaestra.envs.errors import BadInput, EnvFault

DOMAIN = """
(define (domain lamps)
  (:types lamp room - object)
  (:predicates (on ?l - lamp) (in ?l - lamp ?r - room) (broken ?l - lamp) (dark ?r - room) (told) (here ?r - room))
  (:action flip :parameters (?l - lamp)
    :precondition (not (broken ?l))
    :effect (and (when (on ?l) (not (on ?l))) (when (not (on ?l)) (on ?l))))
  (:action storm :parameters (?r - room)
    :precondition (exists (?l - lamp) (and (in ?l ?r) (not (broken ?l))))
    :effect (forall (?l - lamp) (when (in ?l ?r) (broken ?l))))
  (:action move :parameters (?from - room ?to - room)
    :precondition (here ?from)
    :effect (and (not (here ?from)) (here ?to)))
  (:action say :parameters () :precondition () :effect (told))
  (:action shout :parameters () :precondition (not (told)) :effect (told))
)
"""
GRAMMAR = '''
grammar :: """{
  "intro": [{"rhs": "Lamps: [{l.name | in(l:lamp, r:room)}]."}],
  "state": [{"condition": "not_on(l:lamp)", "rhs": "{l.name} went out."}, {"condition": "on(l:lamp)", "rhs": "{l.name} is on."},
            {"rhs": "{l.name} is dark."}],
  "list_empty": [{"rhs": "nothing"}], "list_separator": [{"rhs": ", "}], "list_last_separator": [{"rhs": " and "}]
}""";
action flip { template :: "flip {l}"; feedback :: "#state#"; }
action storm { template :: "storm over {r}"; feedback :: "Crash: [{l.name | broken(l:lamp)}]"; }
action move { template :: "go to {to}"; feedback :: "You go to {to.name}."; }
action say { template :: "say it"; feedback :: "Said."; }
action shout { template :: "say it"; feedback :: "Shouted."; }
'''  # noqa: E501  # a rule is a line
PROBLEM = """
(define (problem p) (:domain lamps)
  (:objects lamp_bar_1 lamp_bar_2 lamp_bar_3 - lamp hall_bar_1 loft_bar_1 - room)
  (:init (in lamp_bar_1 hall_bar_1) (in lamp_bar_2 hall_bar_1) (in lamp_bar_3 loft_bar_1) (here hall_bar_1))
  (:goal {goal}))
"""


MANY = "precondition (and" + " (or (told) (here ?from))" * 9 + ")"


def lamps(goal: str = "(on lamp_bar_1)") -> Game:
    return Game(GameFile("lamps", DOMAIN, GRAMMAR, PROBLEM.replace("{goal}", goal), "", {}))


def played(game: Game, *commands: str) -> tuple[World, str, bool]:
    """State, last text and whether it is won, after some commands that all have to be admissible."""
    world, text, won = game.start, "", game.won(game.start)
    for command in commands:
        world, text, valid, won = game.step(world, command)
        assert valid, command
    return world, text, won


# -- rules -------------------------------------------------------------------------------------------------------------


def test_commands_are_sorted_and_an_action_that_could_change_nothing_is_none() -> None:
    game = lamps()
    assert game.names["lamp_bar_1"] == "lamp 3"  # the first in order gets the highest number
    assert game.admissible(game.start) == (
        "flip lamp 1", "flip lamp 2", "flip lamp 3", "go to loft 1", "say it", "storm over hall 1", "storm over loft 1",
    )  # fmt: skip  # and not: go to hall 1


def test_what_is_not_admissible_changes_nothing_and_blanks_around_a_command_do_not_matter() -> None:
    game = lamps()
    for command in ("go to hall 1", "Flip lamp 1", "flip  lamp 1", "", "flip lamp 1 now"):
        assert game.step(game.start, command) == (game.start, NOTHING, False, False)
    assert game.step(game.start, " \tgo to loft 1\n").text == "You go to loft 1."


def test_effects_with_conditions_happen_where_they_hold() -> None:
    game = lamps()
    once, _, _ = played(game, "flip lamp 3")
    assert game.true(once, "on") == {("lamp_bar_1",)}
    twice, _, _ = played(game, "flip lamp 3", "flip lamp 3")
    assert game.true(twice, "on") == frozenset()


def test_texts_believe_every_effect_that_has_a_condition() -> None:
    """The original reports both effects of the switch, the one that turns off last."""
    assert played(lamps(), "flip lamp 3")[1] == "lamp 3 went out."


def test_effects_for_all_objects_happen_to_those_for_which_their_condition_holds() -> None:
    game = lamps()
    world, text, _ = played(game, "storm over hall 1")
    assert game.true(world, "broken") == {("lamp_bar_1",), ("lamp_bar_2",)}
    assert text.startswith("Crash: ")
    assert "flip lamp 3" not in game.admissible(world)
    assert "storm over hall 1" not in game.admissible(world)


def test_of_commands_spelt_alike_the_domains_first_is_taken() -> None:
    assert played(lamps(), "say it")[1] == "Said."


@pytest.mark.parametrize(
    ("goal", "commands"),
    [
        ("(on lamp_bar_3)", ["flip lamp 1"]),
        ("(and (on lamp_bar_1) (on lamp_bar_2))", ["flip lamp 3", "flip lamp 2"]),
        ("(or (broken lamp_bar_1) (on lamp_bar_2))", ["flip lamp 2"]),
        ("(forall (?l - lamp) (on ?l))", ["flip lamp 1", "flip lamp 2", "flip lamp 3"]),
        ("(forall (?l - lamp) (imply (in ?l hall_bar_1) (on ?l)))", ["flip lamp 2", "flip lamp 3"]),
        ("(exists (?l - lamp) (and (on ?l) (here loft_bar_1)))", ["flip lamp 1", "go to loft 1"]),
        ("(exists (?a - lamp ?b - lamp) (and (on ?a) (on ?b) (not (= ?a ?b))))", ["flip lamp 1", "flip lamp 3"]),
        ("(exists (?r - room) (forall (?l - lamp) (or (not (in ?l ?r)) (broken ?l))))", ["storm over loft 1"]),
        ("(not (here hall_bar_1))", ["go to loft 1"]),
        ("(exists (?r - room) (and (here ?r) (= ?r loft_bar_1)))", ["go to loft 1"]),
    ],
)
def test_a_game_is_won_exactly_when_its_goal_holds(goal: str, commands: list[str]) -> None:
    game = lamps(goal)
    for length in range(len(commands)):
        assert not played(game, *commands[:length])[2]
    assert played(game, *commands)[2]


def test_a_game_that_is_won_goes_on() -> None:
    assert played(lamps(), "flip lamp 3")[2]
    assert not played(lamps(), "flip lamp 3", "flip lamp 3")[2]


@pytest.mark.parametrize(
    ("field", "old", "new", "message"),
    [
        ("domain", "(here ?from)", "(there ?from)", r"game.tw-pddl: pddl_domain line 12: the domain has no predicate"),
        ("problem", "(here hall_bar_1)", "(here cellar)", r"game.tw-pddl: pddl_problem line \d+: .* names 'cellar'"),
        ("grammar", "action say", "verb say", r"game.tw-pddl: grammar line 11: 'grammar ::' or"),
        (
            "grammar",
            "action say",
            "action speak",
            r"game.tw-pddl line 1: the grammar has no texts for the action 'say'",
        ),
        (
            "problem",
            "(on lamp_bar_1)",
            "(on lamp_bar_9)",
            r"line 1: a condition names 'lamp_bar_9', which is no object",
        ),
        ("domain", "precondition (here ?from)", MANY, r"line 1: a condition has more than 256 alternatives"),
    ],
)
def test_a_game_that_cannot_be_read_is_refused_in_one_line(field: str, old: str, new: str, message: str) -> None:
    file = lamps().file
    text = getattr(file, field)
    assert old in text
    with pytest.raises(BadInput, match=message) as refused:
        compiled(replace(file, **{field: text.replace(old, new)}))
    assert "\n" not in str(refused.value)


# -- states ------------------------------------------------------------------------------------------------------------


def test_a_state_stays_as_it_was_and_can_be_sent_elsewhere() -> None:
    game = lamps()
    kept = game.start
    after, _, _ = played(game, "flip lamp 3", "go to loft 1")
    assert after != kept
    assert game.admissible(kept) == lamps().admissible(lamps().start)
    sent: World = pickle.loads(pickle.dumps(after))
    assert sent == after
    assert hash(sent) == hash(after)
    elsewhere = Game(game.file)
    assert elsewhere.admissible(sent) == game.admissible(after)
    assert elsewhere.step(sent, "go to hall 1") == game.step(after, "go to hall 1")


@given(st.lists(st.sampled_from(["flip lamp 1", "flip lamp 2", "go to loft 1", "go to hall 1", "storm over hall 1"])))
def test_the_same_commands_lead_to_the_same_state(commands: list[str]) -> None:
    game, other = lamps(), lamps()
    worlds = game.start, other.start
    for command in commands:
        moves = game.step(worlds[0], command), other.step(worlds[1], command)
        assert moves[0] == moves[1]
        worlds = moves[0].world, moves[1].world


def test_games_with_the_same_texts_are_compiled_once() -> None:
    file = lamps().file
    assert compiled(file) is compiled(replace(file, where="elsewhere"))


def test_an_engine_has_a_name() -> None:
    native = engine("native")
    assert isinstance(native, NativeEngine)
    begun = native.begin(lamps().file)
    assert (begun.text, begun.valid, begun.won) == (lamps().intro(), True, False)
    assert native.admissible(lamps().file, begun.world) == lamps().admissible(lamps().start)
    with pytest.raises(BadInput, match="ALFWorld has no engine 'quick'; it has: native, textworld"):
        engine("quick")


def test_a_text_that_cannot_be_made_on_the_way_is_the_environments_fault() -> None:
    file = lamps().file
    broken = replace(file, grammar=file.grammar.replace('"You go to {to.name}."', '"#gone#"'))
    native = NativeEngine()
    begun = native.begin(broken)
    with pytest.raises(EnvFault, match="the grammar has no rule #gone#"):
        native.act(broken, begun.world, "go to loft 1")


# -- the released games ------------------------------------------------------------------------------------------------


def test_experts_records_win_with_every_text_the_same() -> None:
    """A spread; all 3,554: `python -m palaestra.envs.alfworld.proof`."""
    chosen = names("train")[::150]
    assert {name.split("/")[0] for name in chosen} == set(TYPES)
    results = list(proof.replays(chosen))
    assert [result for result in results if result.difference is not None] == []
    assert len(results) == len(chosen)


def test_a_record_that_differs_is_told() -> None:
    games = release()
    name = names("train")[0]

    class Altered(type(games)):  # type: ignore[misc]
        def expert(self, name: str) -> object:
            record = games.expert(name)
            assert record is not None
            return record._replace(observations=("It rains.", *record.observations[1:]))

    result = proof.replay(name, Altered(games.folder))
    assert result is not None
    assert result.difference is not None
    assert "recorded 'It rains.'" in result.difference


@pytest.mark.parametrize("split", SPLITS)
def test_whatever_is_listed_is_understood_in_released_games(split: str) -> None:
    """Random commands in games of every type: each is understood, the listing is sorted, and intros name the task."""
    games = release()
    for name in names(split)[:: len(names(split)) // 7]:
        game = compiled(games.file(name))
        draw = random.Random(name)
        assert game.intro().startswith("-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. ")
        assert "\n\nYour task is to: " in game.intro()
        world = game.start
        for _ in range(25):
            commands = game.admissible(world)
            assert list(commands) == sorted(set(commands))
            assert {"look", "inventory"} <= set(commands)
            world, text, valid, _ = game.step(world, draw.choice(commands))
            assert valid
            assert text not in ("", NOTHING)


def test_quirks_of_the_original_are_kept() -> None:
    """What was observed there: locations, lamps, things next to places, the welcome."""
    games = release()
    name = games.name("valid_seen/look_at_obj_in_light-AlarmClock-None-DeskLamp-323/trial_T20190909_044715_250790")
    game = compiled(games.file(name))

    def text(*commands: str) -> str:
        return played(game, *commands)[1]

    assert game.intro().endswith("Your task is to: look at alarmclock under the desklamp.")
    assert text("look").startswith("You are in the middle of a room. Looking quickly around you, you see nothing.")
    assert text("inventory") == "You are not carrying anything."
    arrival = text("go to desk 1")
    assert arrival.startswith("You arrive at loc ")
    assert protocol("eto").observation(arrival).startswith("On the desk 1, you see ")
    assert "go to desk 1" not in game.admissible(played(game, "go to desk 1")[0])
    on = text("go to desk 1", "use desklamp 1")
    assert on == "You turn on the desklamp 1."
    assert text("go to desk 1", "use desklamp 1", "use desklamp 1") == on
    near = text("go to desk 1", "look")
    assert near.startswith("You are facing the ")
    assert near.endswith(". Next to it, you see nothing.")
    there, _, _ = played(game, "go to desk 1")
    take = next(command for command in game.admissible(there) if command.startswith("take alarmclock "))
    clock = take.removeprefix("take ").removesuffix(" from desk 1")
    assert f"examine {clock}" not in game.admissible(there)  # only what is held can be examined
    held, _, won = played(game, "go to desk 1", take)
    assert not won
    assert f"examine {clock}" in game.admissible(held)
    assert not any(command.startswith("take ") for command in game.admissible(held))
    assert game.step(held, "use desklamp 1").won
