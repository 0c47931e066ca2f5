"""What a conversation promises: it is a pure function of the turns, and whatever a model writes can be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import Turn

ACTION = Conversation()
REACT = Conversation(style="react")

lines = st.text(min_size=1).map(str.strip).filter(lambda text: len(text.splitlines()) == 1 and text)


def turns(count: int) -> list[Turn]:
    return [Turn(observation=f"seen {i}", completion=f"act {i}", action=f"act {i}") for i in range(count)]


@given(lines, st.sampled_from([ACTION, REACT]))
def test_what_is_written_for_an_action_is_read_as_that_action(action: str, conversation: Conversation) -> None:
    answer = conversation.read(conversation.write(action))
    assert (answer.action, answer.problem) == (action, None)


@given(lines, lines)
def test_a_thought_comes_back_with_its_action(action: str, thought: str) -> None:
    answer = REACT.read(REACT.write(action, thought))
    assert answer.action == action
    assert answer.thought is not None
    assert answer.thought == thought or thought.lower().startswith("thought")


@given(st.text(), st.sampled_from([ACTION, REACT]))
def test_any_completion_gives_either_an_action_or_a_problem(completion: str, conversation: Conversation) -> None:
    answer = conversation.read(completion)
    assert bool(answer.action) != bool(answer.problem)
    assert len(answer.action.splitlines()) <= 1


@pytest.mark.parametrize(
    ("completion", "action", "thought"),
    [
        ("Thought: it is dark\nAction: light lamp", "light lamp", "it is dark"),
        ("thought: a\nb\n  ACTION:light lamp\nObservation: made up", "light lamp", "a\nb"),
        ("Action: wait", "wait", None),
        ("Action: one\nAction: two", "two", "Action: one"),
    ],
)
def test_react_answers_are_read_in_the_forms_models_write(completion: str, action: str, thought: str | None) -> None:
    answer = REACT.read(completion)
    assert (answer.action, answer.thought) == (action, thought)


def test_a_plain_answer_is_its_first_line() -> None:
    assert ACTION.read("  open door \nThen I will go in.").action == "open door"


def test_all_turns_are_shown_without_a_window() -> None:
    messages = ACTION.opening("Rules.", turns(3), "now")
    assert [message["role"] for message in messages] == ["system", *["user", "assistant"] * 3, "user"]
    assert messages[0]["content"].startswith("Rules.\n")
    assert [message["content"] for message in messages[1:]] == [
        "seen 0", "act 0", "seen 1", "act 1", "seen 2", "act 2", "now",
    ]  # fmt: skip


def test_a_window_shows_the_last_turns_and_says_where_it_forgets() -> None:
    conversation = Conversation(window=2)
    assert [conversation.forgets(step) for step in range(5)] == [True, False, False, True, True]
    assert [message["content"] for message in conversation.opening("", turns(4), "now")][1:] == [
        "seen 2", "act 2", "seen 3", "act 3", "now",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "conversation", [Conversation(), Conversation(window=0), Conversation(window=1), Conversation(window=3)]
)
def test_going_on_equals_opening_wherever_the_conversation_does_not_forget(conversation: Conversation) -> None:
    past = turns(6)
    past[2] = Turn(observation="seen 2", completion="", action="", valid=False)
    for step in range(1, 6):
        opened = conversation.opening("Rules.", past[:step], past[step].observation)
        assert opened[-1] == conversation.newest(past[:step], past[step].observation)
        if not conversation.forgets(step):
            before = conversation.opening("Rules.", past[: step - 1], past[step - 1].observation)
            assert opened[: len(before)] == before
            assert len(opened) == len(before) + 2


def test_admissible_actions_stand_under_the_newest_observation_only_and_so_every_step_starts_anew() -> None:
    conversation = Conversation(actions=2)
    messages = conversation.opening("", turns(2), "now", ["a", "b", "c"])
    assert messages[-1]["content"] == "now\nActions: a; b; and 1 more"
    assert not any("Actions:" in message["content"] for message in messages[:-1])
    assert all(conversation.forgets(step) for step in range(4))
    assert conversation.newest(turns(1), "now")["content"] == "now"


def test_the_agent_is_told_what_was_wrong_with_its_answer_and_the_turn_keeps_the_observation_as_it_was() -> None:
    bad = Turn(observation="seen", completion="I would rather not", action="", valid=False)
    shown = REACT.shown_observation([bad], "You wait.")
    assert shown == "No 'Action:' line was found. " + REACT.opening("", [], "")[0]["content"] + "\nYou wait."
    assert REACT.opening("", [bad, *turns(1)], "now")[2]["content"] == "I would rather not"
    later = REACT.opening("", [bad, Turn(observation="You wait.", completion="Action: go", action="go")], "now")
    assert later[3]["content"] == shown, "what was wrong is still there when the turn is shown again"
    assert later[5]["content"] == "now"


def test_turns_written_in_another_style_are_shown_in_this_one() -> None:
    plain = Turn(observation="seen", completion="go north", action="go north")
    thoughtful = Turn(observation="seen", completion="Thought: hm\nAction: go", action="go", thought="hm")
    assert REACT.opening("", [plain], "now")[2]["content"] == REACT.write("go north")
    assert REACT.problem(plain) is None
    assert ACTION.opening("", [thoughtful], "now")[2]["content"] == "go"
    assert REACT.opening("", [thoughtful], "now")[2]["content"] == thoughtful.completion


@given(st.text(max_size=400), st.integers(1, 60))
def test_a_long_observation_is_cut_in_the_middle_and_the_cut_is_marked(text: str, most: int) -> None:
    shown = Conversation(max_observation=most).observation(text)
    if len(text) <= most:
        assert shown == text
    else:
        kept = shown.replace(f" [... {len(text) - most} characters ...] ", "", 1)
        assert len(kept) == most
        assert text.startswith(kept[: most * 2 // 3])
        assert text.endswith(kept[most * 2 // 3 :])
    assert Conversation(max_observation=most).observation(shown) == shown, "what was cut is not cut again"


def test_settings_that_do_not_exist_are_refused() -> None:
    for wrong in ({"style": "poem"}, {"window": -1}, {"windows": 1}):
        with pytest.raises(ValidationError):
            Conversation.model_validate(wrong)
